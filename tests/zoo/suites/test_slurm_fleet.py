"""What is asked of Slurm, and what its answers mean, with programs in the place of Slurm's."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path
from typing import Any

import pytest

from zoo.benchmark import main
from zoo.errors import BAD_INPUT, Interrupted
from zoo.suites.launchers import slurm
from zoo.suites.launchers.fleet import ROOT
from zoo.suites.launchers.slurm import SlurmFleet, SlurmWorker
from zoo.suites.worker import Plan, Worker


@pytest.fixture
def bin_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder with programs that do what Slurm's do when all is well, and nothing else on the PATH but this."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}/usr/bin{os.pathsep}/bin")
    write(folder, "srun", "exit 1")
    write(folder, "sbatch", "echo Submitted batch job 7")
    write(folder, "squeue", "exit 0")
    write(folder, "scancel", f'echo "$@" >> {folder}/cancelled')
    return folder


def write(folder: Path, name: str, script: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)


def show(folder: Path, **states: str) -> None:
    """Let squeue say this, with ``_7_0="RUNNING"`` for the job ``7_0``."""
    lines = "\n".join(f"{job.removeprefix('_')} {state}" for job, state in states.items())
    write(folder, "squeue", f"cat <<END\n{lines}\n8_0 RUNNING\n9_N/A PENDING\nEND")


def worker(number: int = 0) -> Worker:
    return Worker(Plan(None, (), None, "launch"), f"launch/{number}", waits=False)  # type: ignore[arg-type]


def make_fleet(tmp_path: Path, **parameters: Any) -> SlurmFleet:
    return SlurmFleet(tmp_path / "logs" / ".slurm", parameters)


def script_of(tmp_path: Path) -> str:
    return (tmp_path / "logs" / ".slurm" / "7_submission.sh").read_text()


def run(tmp_path: Path, *words: str) -> int:
    suite = tmp_path / "suite.yml"
    suite.write_text("{algorithms: [fql], environments: [pointmaze-medium-navigate-singletask-task1-v0], seeds: 0}")
    return main([str(suite), "-f", str(tmp_path / "logs"), "--device", "cpu", "--launcher", "slurm", *words])


def test_without_sbatch_nothing_begins(
    tmp_path: Path, bin_folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "empty").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    assert run(tmp_path) == BAD_INPUT
    assert "sbatch" in capsys.readouterr().err
    assert not list(tmp_path.glob("logs/*"))


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("slurm_partiton=gpu", "slurm_partiton"),
        ("timeout_min=long", "timeout_min"),
        ("slurm_setup=module", "slurm_setup"),
        ("slurm_additional_parameters=1", "slurm_additional_parameters"),
    ],
)
def test_a_wrong_resource_is_refused(
    tmp_path: Path, bin_folder: Path, capsys: pytest.CaptureFixture[str], word: str, message: str
) -> None:
    assert run(tmp_path, "--resources", word) == BAD_INPUT
    assert message in capsys.readouterr().err


def test_jobs_run_in_this_folder_with_these_modules_and_what_was_asked_for(
    tmp_path: Path, bin_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", "/my modules")
    monkeypatch.chdir(tmp_path)
    resources = {"slurm_partition": "gpu", "slurm_setup": ["module load cuda"], "timeout_min": 30}
    make_fleet(tmp_path, **resources, slurm_additional_parameters={"reservation": "mine"}).start([worker(), worker(1)])
    script = script_of(tmp_path)
    lines = script.splitlines()
    for flag in ("partition=gpu", "time=30", "reservation=mine", "requeue", "signal=USR2@180", "array=0-1%2"):
        assert f"#SBATCH --{flag}" in lines
    assert lines.index(f"cd {tmp_path}") < lines.index("module load cuda")
    assert f"export PYTHONPATH='{ROOT}:/my modules'" in lines


def test_a_job_counts_until_slurm_says_that_it_has_ended_or_does_not_know_it(tmp_path: Path, bin_folder: Path) -> None:
    there = make_fleet(tmp_path)
    there.start([worker(number) for number in range(4)])
    show(bin_folder, _7_0="RUNNING", _7_1="PENDING", _7_2="COMPLETING", _7_3="FAILED")
    assert there.living() == 3
    show(bin_folder, _7_0="RUNNING", _7_2="COMPLETED")
    assert there.living() == 1


def test_no_answer_from_slurm_is_no_end_of_the_jobs(
    tmp_path: Path, bin_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    there = make_fleet(tmp_path)
    there.start([worker(), worker(1)])
    write(bin_folder, "squeue", "echo 'unable to contact slurm controller' >&2; exit 1")
    assert there.living() == 2
    assert "unable to contact slurm controller" in capsys.readouterr().err


def test_cancelled_jobs_are_not_replaced(tmp_path: Path, bin_folder: Path) -> None:
    there = make_fleet(tmp_path)
    there.start([worker(), worker(1)])
    show(bin_folder, _7_0="CANCELLED", _7_1="RUNNING")
    assert there.living() == 2
    show(bin_folder, _7_0="CANCELLED", _7_1="CANCELLED")
    assert there.living() == 0
    with pytest.raises(Interrupted, match="7_0, 7_1"):
        there.start([worker(2)])


def test_slurm_that_refuses_a_replacement_is_asked_again(
    tmp_path: Path, bin_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    there = make_fleet(tmp_path)
    there.start([worker()])
    write(bin_folder, "sbatch", "echo 'controller is down' >&2; exit 1")
    assert run(tmp_path) == BAD_INPUT  # at first it is an error
    there.start([worker(1)])
    assert "in the place of lost ones: controller is down" in capsys.readouterr().err
    assert there.arrays == ["7"]


def test_ctrl_c_leaves_the_jobs_and_says_how_to_stop_them(
    tmp_path: Path, bin_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run_until_ctrl_c(driver: Any) -> None:
        driver.fleet.start([worker()])
        raise KeyboardInterrupt

    monkeypatch.setattr(slurm.Driver, "__init__", lambda self, plan, fleet, workers: setattr(self, "fleet", fleet))
    monkeypatch.setattr(slurm.Driver, "run", run_until_ctrl_c)
    plan: Any = type("", (), {"machine": type("", (), {"log_folder": tmp_path})})
    with pytest.raises(Interrupted, match="scancel 7"):
        slurm.run_on_slurm(plan, None, [])
    assert not (bin_folder / "cancelled").exists()


class Waiting(Worker):
    """A worker that waits until it is asked to stop."""

    def __call__(self) -> None:
        self.blocked = signal.pthread_sigmask(signal.SIG_BLOCK, [])
        while not self.is_stopping:
            threading.Event().wait(0.01)


def test_a_checkpoint_stops_the_worker_and_returns_one_of_the_same_owner(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signal, "signal", lambda number, handler: None)
    started = SlurmWorker(Waiting(worker().plan, "launch/3", waits=False))
    thread = threading.Thread(target=started)
    thread.start()
    continued = started.checkpoint().function.worker
    thread.join(10)
    assert not thread.is_alive()
    assert (continued.owner, continued.is_stopping, continued.waits) == ("launch/3", False, False)
    assert {signal.SIGUSR1, signal.SIGUSR2} <= started.worker.blocked  # and in the processes that it starts


def test_sigterm_stops_the_worker_which_then_waits_for_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slurm, "SECONDS_TO_BE_KILLED", 0.3)
    handler = signal.getsignal(signal.SIGTERM)
    try:
        timer = threading.Timer(0.2, lambda: os.kill(os.getpid(), signal.SIGTERM))
        timer.start()
        called = SlurmWorker(Waiting(worker().plan, "launch/3", waits=False))
        called()
    finally:
        signal.signal(signal.SIGTERM, handler)
    assert called.worker.is_stopping
