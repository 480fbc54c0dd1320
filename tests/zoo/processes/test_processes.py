"""Processes: what fails in them, and how long one may take to answer."""

import contextlib
import os
import subprocess
import sys
import time

import pytest

from tests import ROOT
from tests.zoo.envs.toys import TOY
from zoo.processes import serving
from zoo.processes.serving import WorkerLost, WorkerProcess
from zoo.train import main

PROCESS = (
    "from zoo.processes.serving import WorkerProcess\n"
    "process = WorkerProcess(dict, 'get', noun='mapping', name='a'"
)


def test_what_lies_in_the_current_folder_is_not_imported(tmp_path):
    program, folder = tmp_path / "program.py", tmp_path / "folder"
    folder.mkdir()
    for name in ("random", "gymnasium", "socket", "zoo", "agents", "collections"):
        (folder / f"{name}.py").write_text(f"raise SystemExit('somebody else has a {name}')\n")
    program.write_text(
        f"{PROCESS}, preload=['zoo', 'random'], imports_main=False)\n"
        "process.receive(); process.send('x'); assert process.receive() is None; process.close()\n"
    )
    subprocess.run([sys.executable, program], cwd=folder, check=True)


def test_processes_start_where_the_temporary_folder_has_too_long_a_path_for_a_socket(tmp_path):
    folder = tmp_path / ("x" * 100)
    folder.mkdir()
    code = f"{PROCESS}, imports_main=False)\nprocess.receive(); process.close()\n"
    environment = {**os.environ, "TMPDIR": str(folder), "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)
    assert list(folder.iterdir()) == []


class Sleeper:
    """Sleeps when it is asked to."""

    def sleep(self, seconds):
        time.sleep(seconds)
        return seconds

    def close(self):
        """Nothing was opened."""


def test_a_process_hangs_once_it_has_not_answered_for_long(monkeypatch):
    monkeypatch.setattr(serving, "POLL_SECONDS", 0.02)
    with contextlib.closing(
        WorkerProcess(Sleeper, "sleep", noun="sleep", name="a", is_watched=True)
    ) as process:
        process.receive()
        monkeypatch.setattr(serving, "ANSWER_SECONDS", 0.3)
        for _ in range(4):  # each answer begins the time anew
            process.send(0.1)
            assert process.receive() == 0.1
        process.send(60.0)
        with pytest.raises(WorkerLost, match="hung: it gave no answer for 0 s"):
            process.receive()


@pytest.mark.slow
@pytest.mark.parametrize("failure", ["raise", "SIGKILL"])
def test_a_run_whose_training_environment_ends_in_its_process_says_so(tmp_path, capsys, failure):
    (tmp_path / "fail").touch()
    words = (
        f"--algo qam --env {TOY} --online-steps 9 --seed 1 --vec-env subproc --n-envs 2 -f {tmp_path} "
        f"--eval-episodes 1 --env-kwargs failure={failure} failure_file={tmp_path / 'fail'} "
        "--eval-env-kwargs failure_file=/nowhere -params net_arch=[8] ensemble_size=2 learning_starts=4"
    )
    assert main(words.split()) == 1
    assert "the process of a training environment has ended" in capsys.readouterr().err
