"""Which run ``--resume`` continues, and what it logs."""

import re
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from tests.zoo.outcomes import refuses
from zoo.runs.folder import RunFolder
from zoo.runs.resume import (
    StoredRun,
    closest_run,
    find_run,
    matching_runs,
    result_of_done,
)
from zoo.settings.record import RunRecord
from zoo.settings.request import TrainRequest
from zoo.training.start import make_folders

ENTRIES = {
    "format": 1,
    "algo": "qam",
    "env": "some-v0",
    "seed": 3,
    "offline_steps": 20,
    "online_steps": 10,
}
SETTINGS = {"gamma": 0.9, "net_arch": [16, 16], "pretraining_steps": 0}


def record(**entries):
    return RunRecord.read({**ENTRIES, "settings": SETTINGS, **entries})


RECORD = record()


def written(logs, state, seed=3, **entries):
    """Write a run folder whose lock no process holds."""
    folder = RunFolder.create(logs, "qam", "some-v0")
    folder.write_config(record(seed=seed, **entries))
    folder.write_status(state, 0, 0)
    folder.lock.release()
    return folder


def add_checkpoint(folder):
    (folder.path / "checkpoint" / "step_000000010.0").mkdir(parents=True)


def stack(logs, *states):
    """Write the folders of seeds 1, 2, ..., trained together."""
    seeds = list(range(1, len(states) + 1))
    together = {"seeds": seeds, "folders": [f"some-v0_{seed}" for seed in seeds]}
    return [written(logs, states[seed - 1], seed, **together) for seed in seeds]


def names(run):
    return [folder.path.name for folder in run.folders]


# -- the decision -----------------------------------------------------------------------------------------------------


def stored(name, tau, seed, *states):
    config = record(settings=SETTINGS | {"tau": tau}, seed=seed)
    return StoredRun([RunFolder(Path(name))], config, [{"state": state} for state in states])


def test_the_nearest_run_differs_in_the_fewest_settings():
    runs = [
        stored("d", 0.1, 4, "done"),
        stored("c", 0.2, 4, "running"),
        stored("b", 0.3, 3, "running"),
        stored("a", 0.4, 3, "done"),
    ]
    settings = record(settings=SETTINGS | {"pretraining_steps": 7}, pretraining_steps=7).identity()
    assert matching_runs(settings, [3], runs) == []
    text = "b differs in pretraining_steps: 0 (stored), 7 (now); tau: 0.3 (stored), not set (now)"
    assert closest_run(settings, [3], runs[1:]) == text


# -- the folders ------------------------------------------------------------------------------------------------------


def test_the_newest_unfinished_run_is_found(tmp_path):
    for state in (*["done"] * 8, "running", "failed", "done"):
        written(tmp_path, state)
    assert names(find_run(tmp_path, RECORD, [3])) == ["some-v0_10"]


def test_a_stack_is_finished_when_those_not_failed_are(tmp_path):
    *_, last = stack(tmp_path, "failed", "done", "running")
    for is_done in (False, True):
        run = find_run(tmp_path, RECORD, [1, 2, 3])
        assert run.is_done == is_done
        assert {folder.lock.is_held() for folder in run.folders} == {not is_done}
        assert ["reason" in result for result in result_of_done(run)["runs"]][:2] == [True, False]
        for folder in run.folders:
            folder.lock.release()
        last.write_status("done", 0, 0)


def test_a_start_that_was_killed_leaves_no_run_to_resume(tmp_path, monkeypatch):
    """It would lack a seed."""
    write = RunFolder.write_config
    written_seeds = []

    def write_once(folder, config):
        if written_seeds:
            raise KeyboardInterrupt
        written_seeds.append(config.seed)
        write(folder, config)

    monkeypatch.setattr(RunFolder, "write_config", write_once)
    model = SimpleNamespace(device=torch.device("cpu"))
    request = TrainRequest(algo="qam", env="some-v0", log_folder=tmp_path)
    with pytest.raises(KeyboardInterrupt):
        make_folders([], RECORD, [1, 2], model, None, request)
    assert find_run(tmp_path, RECORD, [1, 2]) is None


def test_a_run_that_another_process_is_at_is_refused(tmp_path):
    folder = written(tmp_path, "running")
    assert folder.lock.take()
    with refuses(r"some-v0_1 is being trained by process \d+ on .*; wait"):
        find_run(tmp_path, RECORD, [3])


@pytest.mark.parametrize("name", ["config.yml", "status.json"])
def test_a_run_with_checkpoints_is_not_passed_over_in_silence(tmp_path, name):
    folder = written(tmp_path, "running")
    add_checkpoint(folder)
    (folder.path / name).write_text("{")
    with refuses(f"{folder.path / name} .*; its folder contains checkpoints"):
        find_run(tmp_path, RECORD, [3])
    sound = written(tmp_path, "running")
    assert names(find_run(tmp_path, RECORD, [3])) == [sound.path.name]


def test_a_stack_of_which_a_folder_was_renamed_is_refused(tmp_path):
    first, _ = stack(tmp_path, "done", "done")
    add_checkpoint(first)
    first.path.rename(tmp_path / "qam" / "some-v0_9")
    with refuses(r"some-v0_1/config\.yml is missing"):
        find_run(tmp_path, RECORD, [1, 2])
    written(tmp_path, "done").path.rename(first.path)
    with refuses("names some-v0_1, which contains another run"):
        find_run(tmp_path, RECORD, [1, 2])


@pytest.mark.parametrize(
    ("text", "warning"),
    {
        "[" * 5000: "(?s)^(?!.*changed)",  # damaged
        '{"packages": {"mujoco": "2.0"}}': "package versions changed .* mujoco: 2.0[^;]+\n",
    }.items(),
)
def test_other_software_is_named(tmp_path, capsys, text, warning):
    folder = written(tmp_path, "running")
    (folder.path / "versions.json").write_text(text)
    assert find_run(tmp_path, RECORD, [3]) is not None
    assert re.search(warning, capsys.readouterr().err)


def test_other_code_of_an_algorithm_of_ones_own_is_told(tmp_path, capsys):
    current = record(agent={"class": "mine:Mine", "code": "1"})
    for code in ("1", "2"):
        written(tmp_path / code, "done", agent={"class": "mine:Mine", "code": code})
        assert find_run(tmp_path / code, current, [3]) is not None
        warning = "another version of the algorithm's file"
        assert (warning in capsys.readouterr().err) == (code == "2")


# -- the result of a finished run -------------------------------------------------------------------------------------


def test_a_result_that_cannot_be_read_is_unknown(tmp_path, capsys):
    folder = written(tmp_path, "done")
    (folder.path / "evaluations.npz").write_bytes(b"PK")
    result = result_of_done(find_run(tmp_path, RECORD, [3]))
    assert result.items() > {"success": None, "return": None, "already_done": True}.items()
    assert "evaluations.npz cannot be read" in capsys.readouterr().err
