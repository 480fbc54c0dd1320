"""The training program, end to end on a small generated maze dataset."""

import gc
import json
import re
import shutil
import warnings
from importlib.metadata import version
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch

import agents
from agents.common.files import digest_of
from tests.zoo.envs import toys
from tests.zoo.helpers import (
    ENV,
    OF_RUNS,
    TINY,
    arguments,
    assert_same_run,
    end_of,
    evaluations,
    folder_of,
    progress_of,
)
from tests.zoo.outcomes import config_of, status_of
from zoo.runs.folder import RunFolder
from zoo.train import main
from zoo.training import loop


def test_a_run_leaves_everything_in_its_folder(data, runs):
    finished = folder_of(runs)
    names = {path.name.partition(".tfevents")[0] for path in finished.iterdir()}
    expected = (
        "config.yml command.txt versions.json status.json progress.csv events.out evaluations.npz "
        f"summary.json checkpoint {ENV}.zip best_model.zip run.log lock"
    )
    assert names == set(expected.split())
    assert (finished / "progress.csv").read_text().startswith("time/total_timesteps,")
    config = config_of(finished)
    assert config.items() > {"algo": "qam", "env": ENV, "seed": 3, "seeds": [3, 4]}.items()
    assert config["departures"]["dataset_size"] == [2000, 1_000_000]
    log = log_of(finished)
    assert "warning: dataset of 2000 transitions instead of 1000000" in log
    assert f"CPU threads: {torch.get_num_threads()}" in log
    versions = json.loads((finished / "versions.json").read_text())
    assert versions["data"].items() >= {"mujoco": version("mujoco"), "seed": 0}.items()
    assert versions["dataset_dir"] == str(data)
    assert set(config["settings"]) == set(agents.get("qam").method.declared())
    with np.load(finished / "evaluations.npz") as history:  # in SB3's format
        shapes = {history[name].shape for name in ("results", "ep_lengths", "successes")}
        assert shapes == {(2, 2)}
        assert history["successes"].dtype.kind in "iu"
        names = {
            "results": "mean_reward",
            "ep_lengths": "mean_ep_length",
            "successes": "success_rate",
        }
        logged = progress_of(runs)[[f"eval/{name}" for name in names.values()]].dropna()
        means = [history[name].mean(axis=1) for name in names]
        np.testing.assert_allclose(logged.to_numpy().T, means)


def test_the_same_seeds_give_the_same_runs(data, tmp_path, runs, call):
    result, _ = call(main, *arguments(data, tmp_path, *OF_RUNS, seeds=("--seeds", "3-4")))
    assert result["updates_per_s"] > 0
    assert len(result["runs"]) == 2
    for number, run in enumerate(result["runs"], 1):
        assert (run["seed"], run["episodes"]) == (2 + number, 2)
        assert 0 <= run["success"] <= 1
        assert_same_run(tmp_path, runs, number)


REFUSED = {
    "--env scene-play-singletask-task9-v0": "closest: scene-play-singletask-task",
    "--seeds 0-4000000000": "`--seeds` expects at most 1000 seeds, got 0-4000000000",
    "--seeds 1 1": "`--seeds` expects different seeds",
    "--seeds 3-1": "`--seeds` expects numbers or ranges such as 0-11, got '3-1'",
    "--seeds 4294967296": "<= 4294967295, got 4294967296",
    "--env Pendulum-v1 --offline-steps 5": "has no dataset to train on",
    "--algo sac --env Pendulum-v1 --offline-steps 0 --online-steps 5 --offline-data balanced": "omit --offline-data",
    "--device xpu": "`device` must be one of cpu, cuda, got 'xpu'",
    # an online phase without updates, about which the program warns first
    "-f /dev/null/logs --env Pendulum-v1 --offline-steps 0 --online-steps 5 -params learning_starts=5 --verbose 1": (
        "the online phase will not perform any update: `learning_starts` is 5"
    ),
    "--pretrained-actor CLONE --pretraining-steps 3": "got `pretraining_steps` = 3; set it to 0 (--pretraining-",
    "--pretrained-actor CLONE/config.yml": "cannot be read: File is not a zip file",
    "--pretrained-actor CLONE -params net_arch=[16,8]": "expected `mlp.biases.1` of shape (1, 8), got (1, 16)",
    "--algo sac --seeds 0-1 --offline-steps 0": "`sac` trains one seed at a time, got seeds (0, 1)",
    "--pretrained-actor CLONE --algo sac --offline-steps 0": "`sac` has no behaviour flow to start",
    "--env-kwargs frame_stack=2": "`frame_stack` and `env_wrapper` are settings",
    "--eval-env-kwargs frame_stack=2": "`frame_stack` and `env_wrapper` are settings",
    "--action-range -1,1": "`--action-range` and `--reward-from` apply only to custom datasets",
    "--algo sac --env tests.envs:Pictures-v0 --offline-steps 0 --online-steps 5": "takes only vector observations",
    "--env Pendulum-v1 --offline-steps 0 --online-steps 5 --n-envs 2 -params train_freq=[1,episode]": (
        "`train_freq` = [1, 'episode'] needs one environment, got 2"
    ),
    "--online-steps 5 -params buffer_size=1": "`buffer_size` must be at least 2 for online training",
    "-i nofile.zip": "no saved model at",
    "-i CLONE": "task1-v0.zip is a model of bc, not of QAM;",
    "-i CLONE --algo bc --seeds 1 2": "the number of seeds must be 1 as in",
    "--env Pendulum-v1 --offline-steps 0 --online-steps 5 -params observation_scale=4": "observation_scale=null",
    "--env Pendulum-v1 --offline-steps 0 --online-steps 5 -params encoder=impala_small": "images",
    "--env Pendulum-v1 --offline-steps 0 --online-steps 5 -params random_crop=0.5": "images",
    "--env Toy-v0 --offline-steps 0 --online-steps 9 --seeds 1 2 -params normalize=true": (
        "2 replicas would share the statistics"
    ),
    "--algo sac --env Spring-v0 --offline-steps 0 --online-steps 9 --eval-env-kwargs limit=0.1": (
        "was trained with actions from"
    ),
}


@pytest.mark.parametrize("words", REFUSED)
def test_what_is_wrong_is_refused_before_any_work(data, tmp_path, clone, refusal, words):
    base = arguments(data, tmp_path, seeds=() if "--seeds" in words else ("--seed", "3"))
    if "sac" in words:
        base = base[: base.index("-params")]
    assert REFUSED[words] in refusal(main, *base, *words.replace("CLONE", str(clone)).split())


@pytest.mark.parametrize(
    "words", ["--env a --seed 4 --seeds 5", "--env a --pretrained-actor a -i b", "--env a --no-env"]
)
def test_flags_that_replace_each_other_are_refused_together(capsys, words):
    with pytest.raises(SystemExit, match="2"):
        main(["--algo", "qam", *words.split()])
    assert "not allowed with argument" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("offline_steps", "phases"), [(20, {0: 0, 10: 0, 20: 0, 30: 1}), (0, {0: 1, 10: 1})]
)
def test_the_curve_begins_where_pretraining_ends(data, tmp_path, offline_steps, phases):
    flags = "pretraining_steps=7", "eval_at_start=true", "--online-steps", "10"
    assert main(arguments(data, tmp_path, *flags, steps=offline_steps)) == 0
    history = evaluations(tmp_path)
    assert dict(zip(history["timesteps"], history["phase"], strict=True)) == phases
    assert end_of(tmp_path) == ("done", offline_steps, 10)
    assert status_of(folder_of(tmp_path))["pretraining_step"] == 7


def log_of(folder):
    return re.sub(r"^\S+Z ", "", Path(folder, "run.log").read_text(), flags=re.MULTILINE)


def test_a_runs_log_has_everything_that_was_said(data, tmp_path, call):
    gc.collect()  # release files that other tests left open, so that they are not reported here
    with warnings.catch_warnings(record=True) as left_open:
        warnings.simplefilter("always")
        result, errors = call(main, *arguments(data, tmp_path, verbose=1))
        gc.collect()
    assert not [warning for warning in left_open if str(tmp_path) in str(warning.message)]
    text = log_of(result["run"])
    lines = errors.splitlines()
    assert [line for line in text.splitlines() if line in lines] == lines
    assert errors.count("no state in") == 1


@pytest.mark.parametrize(
    ("error", "code", "state"),
    [(OSError("disk is full"), 1, "failed"), (KeyboardInterrupt("^C"), 3, "interrupted")],
)
def test_what_ends_a_run_before_it_trains_is_in_its_status(
    data, tmp_path, monkeypatch, error, code, state
):
    monkeypatch.setattr("zoo.training.start.ReplicaLogger", mock.Mock(side_effect=error))
    assert main(arguments(data, tmp_path, seeds=("--seeds", "4", "5"))) == code
    for number in (1, 2):
        status = status_of(tmp_path / "qam" / f"{ENV}_{number}")
        assert status["state"] == state
        assert status["reason"] == f"{type(error).__name__}: {error}"


def test_a_finished_run_is_named_and_not_built_again(data, tmp_path, call, monkeypatch):
    words = [*arguments(data, tmp_path, verbose=1), "--resume"]
    first, errors = call(main, *words)
    assert "no unfinished run of this algorithm and environment" in errors
    # not the folder of the algorithm, in which the check of permissions writes for a moment
    times = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.*")}
    for name in ("Evaluator", "make_model", "make_folders"):
        monkeypatch.delattr(f"zoo.training.start.{name}")
    second, errors = call(main, *words)
    assert f"{tmp_path}/qam/{ENV}_1 (seed 3) has finished already" in errors
    of_this_time = {name: second[name] for name in ("updates_per_s", "wall_s", "already_done")}
    assert second == first | of_this_time
    assert (second["already_done"], second["updates_per_s"]) == (True, None)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.*")} == times


@pytest.fixture(scope="module")
def clone(data, tmp_path_factory):
    """Return the folder of a finished behaviour-cloning run."""
    logs = tmp_path_factory.mktemp("clone")
    assert main(arguments(data, logs, "--algo", "bc")) == 0
    return logs / "bc" / f"{ENV}_1"


def flow_of(path, name):
    algorithm = agents.BC if path.parts[-3] == "bc" else agents.QAM
    return list(algorithm.load(path, device="cpu").policy.nets[name].parameters())


def test_a_run_can_begin_with_the_clone_of_another(data, tmp_path, clone):
    words = arguments(data, tmp_path, steps=1, seeds=("--seeds", "4", "5"))
    assert main([*words, "--pretrained-actor", str(clone)]) == 0
    final = clone / f"{ENV}.zip"
    recorded = {"path": str(final), "updates": 20, "fingerprint": digest_of(final)}
    for number in (1, 2):
        folder = tmp_path / "qam" / f"{ENV}_{number}"
        assert config_of(folder)["pretrained_actor"] == recorded
        # the target network tracks the weights before the step, which are the clone's weights
        pair = flow_of(folder / f"{ENV}.zip", "behaviour_target"), flow_of(final, "behaviour")
        torch.testing.assert_close(*pair, rtol=0, atol=1e-7)


@pytest.mark.parametrize("start", ["--pretrained-actor", "--trained-agent"])
def test_a_run_resumes_with_the_same_model_to_begin_with_only(data, tmp_path, clone, call, start):
    algo = "bc" if start == "--trained-agent" else "qam"
    words = arguments(data, tmp_path, "--algo", algo, steps=1, verbose=1)
    words += ["--resume", start, tmp_path / "start.zip"]
    for name, is_same in ((ENV, False), (ENV, True), ("best_model", False)):
        shutil.copy(clone / f"{name}.zip", tmp_path / "start.zip")
        _, errors = call(main, *words)
        assert ("has finished already" in errors) == is_same


def test_a_run_begins_with_no_model_of_other_action_limits(tmp_path, refusal):
    start = tmp_path / "start.zip"
    agents.BC("MlpPolicy", toys.SpringEnv(), net_arch=[8], buffer_size=4).save(start)
    words = (
        f"--algo bc --env Spring-v0 --online-steps 9 -f {tmp_path} --seed 1 --env-kwargs limit=4 -i {start} "
        "-params net_arch=[8]"
    )
    assert "was trained with actions from [-2" in refusal(main, *words.split())


@pytest.mark.parametrize(
    ("owner", "name"), [(RunFolder, "write_evaluations"), (loop, "save_checkpoint")]
)
def test_a_folder_that_is_deleted_under_a_run_is_named(tmp_path, monkeypatch, call, owner, name):
    original = getattr(owner, name)

    def delete_and_write(*args, **kwargs):
        shutil.rmtree(tmp_path / "logs")
        return original(*args, **kwargs)

    monkeypatch.setattr(owner, name, delete_and_write)
    words = (
        f"--algo qam --env Toy-v0 --offline-steps 0 --online-steps 9 --seed 1 --eval-episodes 1 --n-eval-envs 1 "
        f"-f {tmp_path / 'logs'} --verbose 0 -params learning_starts=3"
    )
    _, errors = call(main, *words.split(), *TINY, code=1)
    assert f"its folder {tmp_path / 'logs' / 'qam' / 'Toy-v0_1'} is missing" in errors
    assert not (tmp_path / "logs").exists()
