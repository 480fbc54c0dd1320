"""How a study goes on, with functions in place of training runs."""

from __future__ import annotations

import functools
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import optuna
import pandas as pd
import pytest

from tests.zoo.outcomes import Call
from tests.zoo.tuning.fakes import ENV, Objective, near_three, words
from zoo.errors import UsageError
from zoo.processes.serving import WorkerError
from zoo.runs.folder import RunFolder
from zoo.settings.config import load_config
from zoo.train import main as train
from zoo.training.arguments import make_parser
from zoo.tune import main
from zoo.tuning.journal import Workers, open_journal
from zoo.tuning.trial import COMPLETE, FAILED, INTERRUPTED, PRUNED, Job, Outcome, read_trial, tell_of_other_settings

Use = Callable[[Objective], None]


def folder(logs: Path) -> Path:
    return logs / "studies" / "s"


def journal(logs: Path) -> Path:
    return folder(logs) / "journal.log"


def trials(logs: Path) -> list[optuna.trial.FrozenTrial]:
    return optuna.load_study(study_name="s", storage=open_journal(journal(logs))).trials


def states(logs: Path) -> list[str]:
    return pd.read_csv(folder(logs) / "trials.csv")["state"].tolist()


@pytest.fixture
def tune(call: Call) -> Call:
    """Return what runs the program, and returns its exit code, its result and what it said."""
    return functools.partial(call, main)


@pytest.mark.slow
def test_the_total_counts_the_trials_of_all_calls_and_what_one_draws_depends_on_its_number_alone(
    objective: Use, tmp_path: Path, tune: Call
) -> None:
    once, again = tmp_path / "once", tmp_path / "again"
    assert tune(*words(once, "--n-trials", "4"))[1]["trials"] == {"complete": 4}
    for total, count in ((None, 1), (None, 2), ("4", 4), ("4", 4)):
        more = ["--max-total-trials", total] if total else []
        code, result, _ = tune(*words(again, "--n-trials", "1", *more))
        assert (code, result["trials"]) == (0, {"complete": count})
    assert [trial.params for trial in trials(once)] == [trial.params for trial in trials(again)]
    assert trials(once)[0].user_attrs["settings"] == {"inverse_temperature": 0.3}


@pytest.mark.parametrize("sampler", ["tpe", "random", "qmc"])
def test_every_sampler_proposes_different_settings(objective: Use, tmp_path: Path, sampler: str) -> None:
    assert main(words(tmp_path, "--n-trials", "5", "--sampler", sampler, "--n-startup-trials", "2")) == 0
    assert len({trial.params["inverse_temperature"] for trial in trials(tmp_path)}) == 5


def test_the_results_are_a_table_a_settings_file_and_figures(objective: Use, tmp_path: Path, tune: Call) -> None:
    tau = "per_network.critic.tau=0.01:0.1"
    command = words(tmp_path, "--n-trials", "12", "--search", "inverse_temperature", "flow_steps=[2, 5]", tau)
    code, result, _ = tune(*command)
    assert code == 0
    table = pd.read_csv(result["folder"] + "/trials.csv")
    best = result["best"]
    assert table["score"].max() == best["score"] == sum(best["scores"]) / 2
    assert table["score"].idxmax() == best["trial"]
    assert np.allclose(table["seed 7"] / 2, table["seed 8"])
    assert set(table["flow_steps"]) == {2, 5}
    config = load_config("qam", ENV, "pointmaze-medium-navigate", conf=result["best_conf"])
    assert config.settings["per_network"]["critic"]["tau"] == best["settings"].pop("per_network.critic.tau")
    assert {name: config.settings[name] for name in best["settings"]} == best["settings"]
    assert "tuned here" in config.sources[-1]
    assert [Path(path).name for path in result["figures"]] == ["history.png", "slices.png", "importances.png"]
    assert all(Path(path).read_bytes().startswith(b"\x89PNG") for path in result["figures"])


def test_the_training_runs_get_what_the_command_line_says(objective: Use, tmp_path: Path) -> None:
    jobs: list[Job] = []
    objective(lambda job: jobs.append(job) or near_three(job))
    more = ("--quick", "--n-evaluations", "4", "--offline-steps", "1000", "--n-trials", "1", "--eval-episodes", "3")
    assert main(words(tmp_path, *more, "-params", "rho=0.1")) == 0
    args = jobs[0].args
    assert (args.seeds, args.eval_seed, args.quick, args.eval_freq, args.eval_episodes) == (
        ["7", "8"], 1_000_000, True, 250, 3,
    )  # fmt: skip
    assert (args.hyperparams, args.storage, args.resume) == (["rho=0.1"], "auto", False)
    assert args.trial == {"settings": {"inverse_temperature": 3.0}, "source": "study s, trial 0"}
    assert args.log_folder == folder(tmp_path) / "trial_0"


def test_seeds_are_apart_from_those_of_a_report(objective: Use, tmp_path: Path, tune: Call) -> None:
    jobs: list[Job] = []
    objective(lambda job: jobs.append(job) or Outcome(COMPLETE, [0.5]))
    arguments = ["--algo", "qam", "--env", ENV, "-f", str(tmp_path), "--n-trials", "1"]
    _, result, errors = tune(*arguments)
    assert jobs[0].args.seed == jobs[0].args.eval_seed == 1_000_000
    assert (result["study"], result["best"]["seeds"]) == (f"qam_{ENV}", [1_000_000])
    assert "usually those of a report" not in errors
    assert "usually those of a report" in tune(*arguments, "--seed", "3", "--study-name", "other")[2]


def test_a_trial_that_fails_is_recorded_and_the_study_goes_on(objective: Use, tmp_path: Path, tune: Call) -> None:
    def fail_first(job: Job) -> Outcome:
        if job.args.trial["source"].endswith("trial 0"):
            raise WorkerError("was killed by signal 9")
        if job.args.trial["source"].endswith("trial 1"):
            return Outcome(FAILED, reason="RuntimeError: no memory")
        return Outcome(PRUNED, reason="score 1") if job.args.trial["source"][-1] == "2" else near_three(job)

    objective(fail_first)
    code, result, _ = tune(*words(tmp_path, "--n-trials", "4"))
    assert (code, result["trials"]) == (0, {"failed": 2, "pruned": 1, "complete": 1})
    table = pd.read_csv(folder(tmp_path) / "trials.csv")
    assert table["reason"].tolist()[:2] == ["was killed by signal 9", "RuntimeError: no memory"]


def test_bad_input_that_a_trial_finds_ends_the_study(objective: Use, tmp_path: Path, tune: Call) -> None:
    def refuse(job: Job) -> Outcome:
        raise UsageError("`--dataset` has no such file")

    objective(refuse)
    code, _, errors = tune(*words(tmp_path))
    assert code == 2
    assert errors.strip().endswith("`--dataset` has no such file")
    assert states(tmp_path) == ["failed"]


def test_other_settings_are_another_study(objective: Use, tmp_path: Path, tune: Call) -> None:
    tune(*words(tmp_path, "--n-trials", "1"))
    for more, difference in (
        (["-params", "rho=0"], "rho: 0.5 there, 0.0 now"),
        (["--search", "inverse_temperature=1:2"], "'inverse_temperature': '1.0:2.0'"),
    ):
        code, _, errors = tune(*words(tmp_path, "--n-trials", "1", *more))
        assert code == 2
        assert difference in errors
    assert len(trials(tmp_path)) == 1


# -- workers that stop ------------------------------------------------------------------------------------------------


def test_a_stopped_trial_is_tried_again_by_the_next_call(objective: Use, tmp_path: Path, tune: Call) -> None:
    def stop(job: Job) -> Outcome:
        os.kill(os.getpid(), signal.SIGTERM)
        return Outcome(INTERRUPTED, reason="stopped by a signal")

    objective(stop)
    code, _, errors = tune(*words(tmp_path, "--max-total-trials", "1"))
    assert code == 3
    assert "the same command continues the study" in errors
    assert states(tmp_path) == ["retried", "waiting"]

    jobs: list[Job] = []
    objective(lambda job: jobs.append(job) or near_three(job))
    code, result, _ = tune(*words(tmp_path, "--max-total-trials", "1"))
    assert (code, result["trials"]) == (0, {"retried": 1, "complete": 1})
    assert jobs[0].args.resume
    assert jobs[0].args.log_folder == folder(tmp_path) / "trial_0"
    first, second = trials(tmp_path)
    assert first.params == second.params


def leave_running(logs: Path, worker: str | None) -> RunFolder:
    """Leave a trial as a killed worker does: running, with a run folder that says so too."""
    study = optuna.load_study(study_name="s", storage=open_journal(journal(logs)))
    trial = study.ask()
    if worker is not None:
        trial.set_user_attr("worker", worker)
        value = trial.suggest_float("inverse_temperature", 0.1, 100.0, log=True)
        trial.set_user_attr("settings", {"inverse_temperature": value})
    run = RunFolder.create(folder(logs) / f"trial_{trial.number}", "qam", ENV, 7)
    run.write_status("running", 7, 5, 0)
    run.lock.release()
    return run


def test_a_trial_of_a_killed_worker_is_tried_again(objective: Use, tmp_path: Path) -> None:
    assert main(words(tmp_path, "--n-trials", "1")) == 0
    run = leave_running(tmp_path, "host-1-gone")
    assert main(words(tmp_path, "--n-trials", "1")) == 0
    assert states(tmp_path) == ["complete", "retried", "complete"]
    killed, again = trials(tmp_path)[1:]
    assert killed.params == again.params
    assert again.user_attrs["retry_of"] == 1
    status = json.loads(run.status.read_text())
    assert (status["state"], status["reason"]) == ("interrupted", "its worker host-1-gone was killed")


@pytest.mark.few(1)
@pytest.mark.parametrize("name", ["worker", "retry_of", "folder"])
def test_a_path_in_a_journal_is_neither_written_to_nor_removed(objective: Use, tmp_path: Path, name: str) -> None:
    assert main(words(tmp_path, "--n-trials", "1")) == 0
    outside = RunFolder.create(tmp_path / "outside", "qam", ENV, 7)
    outside.write_status("running", 7, 5, 0)
    outside.lock.release()
    status = outside.status.read_text()
    path = str(outside.status) if name == "worker" else str(tmp_path / "outside")
    trial = optuna.load_study(study_name="s", storage=open_journal(journal(tmp_path))).ask()
    for key, value in {"worker": "host-1-gone", name: path}.items():  # whose checksums fit
        trial.set_user_attr(key, value)
    assert main(words(tmp_path, "--n-trials", "1")) == (0 if name == "folder" else 2)
    assert outside.status.read_text() == status


def test_a_journal_that_has_lost_its_last_trials_is_refused(objective: Use, tmp_path: Path, tune: Call) -> None:
    def train(job: Job) -> Outcome:
        job.args.log_folder.mkdir()
        return near_three(job)

    objective(train)
    assert main(words(tmp_path, "--n-trials", "2")) == 0
    lines = journal(tmp_path).read_bytes().splitlines(keepends=True)
    for count in (0, 5):
        journal(tmp_path).write_bytes(b"".join(lines[:count]))
        code, _, errors = tune(*words(tmp_path, "--n-trials", "1"))
        assert (code, str(journal(tmp_path)) in errors) == (2, True)
        assert journal(tmp_path).read_bytes() == b"".join(lines[:count])


def test_a_trial_of_a_living_worker_is_left_alone(objective: Use, tmp_path: Path) -> None:
    assert main(words(tmp_path, "--n-trials", "1")) == 0
    with Workers(journal(tmp_path)) as other:
        leave_running(tmp_path, other.name)
        assert main(words(tmp_path, "--max-total-trials", "3")) == 0
        assert states(tmp_path) == ["complete", "running", "complete"]


@pytest.mark.slow
def test_settings_that_kill_their_worker_again_and_again_are_given_up(objective: Use, tmp_path: Path) -> None:
    assert main(words(tmp_path, "--n-trials", "1")) == 0
    for kill in (1, 2, 3):
        leave_running(tmp_path, f"host-{kill}-gone")
        assert main(words(tmp_path, "--timeout", "0")) == 0
        assert states(tmp_path).count("waiting") == (kill < 3)
    assert states(tmp_path) == ["complete", "retried", "retried", "failed"]


@pytest.mark.slow
def test_two_programs_at_once_share_a_study(objective: Use, tmp_path: Path) -> None:
    code = (
        "import sys; from tests.zoo.tuning import fakes; from zoo.tuning import study; from zoo.tune import main\n"
        "fakes.FakeProcess.objective = staticmethod(fakes.near_three); study.ServingProcess = fakes.FakeProcess\n"
        "sys.exit(main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", code, *words(tmp_path, "--max-total-trials", "9")]
    programs = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(2)]
    outputs = [program.communicate(timeout=200) for program in programs]
    assert [program.returncode for program in programs] == [0, 0], outputs
    found = trials(tmp_path)
    assert [trial.state.name for trial in found] == ["COMPLETE"] * 9
    assert len({trial.params["inverse_temperature"] for trial in found}) == 9


# -- training with the settings of a trial -----------------------------------------------------------------------------


@pytest.fixture
def logs(objective: object, tmp_path: Path) -> Path:
    """Return a log folder with a study of four trials."""
    assert main(words(tmp_path, "--n-trials", "4")) == 0
    return tmp_path


def test_a_trial_is_found_by_number_and_the_best_by_its_score(logs: Path) -> None:
    first = read_trial("s", "0", logs, "qam")
    assert first["settings"] == {"inverse_temperature": 0.3}
    assert first["source"].startswith("study s, trial 0 (score 0.")
    scores = [read_trial("s", str(number), logs, "qam")["source"] for number in range(4)]
    best = max(scores, key=lambda text: float(text.split("score ")[1].rstrip(")")))
    assert read_trial("s", "best", logs, "qam")["source"] == best


def test_what_a_run_changes_besides_its_seeds_is_told_where_it_begins_with_a_trial(
    logs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--algo", "qam", "--env", ENV, "--study", "s", "--trial-id", "best"]
    told = (
        "settings of study s, trial .* were tuned otherwise: offline_steps: 1000000 there, 5 now; env_kwargs: not set"
    )
    for more, message in ([], ""), (["--offline-steps", "5", "--env-kwargs", "k=1"], told):
        args = make_parser().parse_args([*words, *more])
        args.trial = read_trial("s", "best", logs, "qam")
        tell_of_other_settings(args)
        assert re.search(message, said := capsys.readouterr().err)
        assert bool(said) == bool(message)


def test_a_study_is_named_by_its_file_too(logs: Path) -> None:
    file = str(logs / "studies" / "s" / "journal.log")
    for study in (file, f"{file}:s"):
        assert read_trial(study, "0", Path("elsewhere"), "qam")["settings"] == {"inverse_temperature": 0.3}


@pytest.mark.parametrize(
    ("study", "trial", "algo", "message"),
    [("t", "0", "qam", "there are: s"), ("s", "9", "qam", "0, 1, 2, 3; or best"), ("s", "0", "fql", "tuned qam")],
)
def test_what_is_not_there_is_named_with_what_is(logs: Path, study: str, trial: str, algo: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        read_trial(study, trial, logs, algo)


def test_a_journal_of_several_studies_asks_for_one(logs: Path) -> None:
    file = logs / "studies" / "s" / "journal.log"
    assert main([*words(logs, "--n-trials", "1", "--storage", str(file)), "--study-name", "t"]) == 0
    with pytest.raises(UsageError, match="s, t"):
        read_trial(str(file), "0", logs, "qam")
    assert read_trial(f"{file}:t", "0", logs, "qam")["source"].startswith("study t, trial 0")


def test_study_and_trial_belong_together(capsys: pytest.CaptureFixture[str]) -> None:
    assert train(["--algo", "qam", "--env", ENV, "--study", "s"]) == 2
    assert "--trial-id" in capsys.readouterr().err
