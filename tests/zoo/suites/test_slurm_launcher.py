"""What is asked of Slurm, and what its answers mean."""

import contextlib
import os
import signal
import threading
from functools import partial
from pathlib import Path

import pytest

from tests.zoo.outcomes import refuses
from zoo.benchmark import main
from zoo.settings.record import RunRecord
from zoo.suites import slurm
from zoo.suites.jobs import Job, JobStore
from zoo.suites.slurm import SlurmTask, make_executor, run_on_slurm
from zoo.suites.suite import Run
from zoo.suites.task import ROOT, JobTask
from zoo.terminal.errors import Interrupted


@pytest.fixture
def bin_folder(tmp_path, monkeypatch):
    """Return a folder with programs that do what Slurm's do when all is well, and nothing else on the PATH but this."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}/usr/bin{os.pathsep}/bin")
    write(folder, "srun", "exit 1")
    write(folder, "sbatch", "echo Submitted batch job 7")
    write(folder, "squeue", "exit 0")
    write(folder, "scancel", f'echo "$@" >> {folder}/cancelled')
    return folder


def write(folder, name, script):
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)


def show(folder, *states):
    """Let squeue say these states of the jobs 7_0, 7_1, ..."""
    lines = "\n".join(f"7_{number} {state}" for number, state in enumerate(states))
    write(folder, "squeue", f"cat <<END\n{lines}\n8_0 RUNNING\n9_N/A PENDING\nEND")


def task(number=0):
    job = Job(Run("fql", f"some{number}-v0", (0,)), (), RunRecord("fql", "some-v0"))
    return JobTask(job, JobStore(Path("logs")), 2)


@pytest.fixture
def run(tmp_path, refusal):
    """Return what runs a suite that is refused, and returns why."""
    suite = tmp_path / "suite.yml"
    env = "pointmaze-medium-navigate-singletask-task1-v0"
    suite.write_text(f"{{algorithms: [fql], environments: [{env}], seeds: 0}}")
    words = f"{suite} -f {tmp_path / 'logs'} --device cpu --launcher slurm"
    return partial(refusal, main, *words.split())


def launch(tmp_path, *resources, is_shown=True):
    """Start two tasks on the stand-in for Slurm."""
    executor = make_executor(tmp_path / "logs" / ".jobs" / "slurm", resources, None)
    rounds = iter(range(3))

    def report():
        if next(rounds, None) is None:
            raise KeyboardInterrupt
        return is_shown

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(slurm, "POLL_SECONDS", 0.0)
        run_on_slurm([task(0), task(1)], executor, report)


def test_without_sbatch_nothing_begins(tmp_path, run, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "sbatch" in run()


@pytest.mark.parametrize(
    "word",
    [
        "slurm_partiton=gpu",
        "timeout_min=long",
        "slurm_setup=module",
        "slurm_additional_parameters=1",
    ],
)
def test_a_wrong_resource_is_refused(bin_folder, run, word):
    assert word.partition("=")[0] in run("--resources", word)


def test_jobs_run_in_this_folder_with_these_modules_and_what_was_asked_for(
    tmp_path, bin_folder, monkeypatch
):
    monkeypatch.setenv("PYTHONPATH", "/my modules")
    monkeypatch.chdir(tmp_path)
    setup, additional = (
        "slurm_setup=[module load cuda]",
        "slurm_additional_parameters={reservation: mine}",
    )
    launch(tmp_path, "slurm_partition=gpu", "timeout_min=30", setup, additional)
    lines = (tmp_path / "logs" / ".jobs" / "slurm" / "7_submission.sh").read_text().splitlines()
    flags = {"partition=gpu", "time=30", "reservation=mine", "requeue"}
    flags |= {"signal=USR2@180", "array=0-1%2"}
    assert {f"#SBATCH --{flag}" for flag in flags} <= set(lines)
    assert lines.index(f"cd {tmp_path}") < lines.index("module load cuda")
    assert f"export PYTHONPATH='{ROOT}:/my modules'" in lines


@pytest.mark.parametrize(
    ("states", "is_over"),
    [
        ("PENDING FAILED", False),
        ("COMPLETING RUNNING", False),
        ("COMPLETED", True),
        ("CANCELLED FAILED", True),
        (None, False),
    ],
)
def test_a_job_counts_until_slurm_says_that_it_has_ended_or_does_not_know_it(
    tmp_path, bin_folder, capsys, states, is_over
):
    if states is None:  # no answer is no end
        write(bin_folder, "squeue", "echo 'unable to contact slurm controller' >&2; exit 1")
    else:
        show(bin_folder, *states.split())
    with contextlib.nullcontext() if is_over else pytest.raises(Interrupted, match="scancel 7"):
        launch(tmp_path)
    assert not (bin_folder / "cancelled").exists()
    messages = capsys.readouterr().err
    assert ("unable to contact slurm controller" in messages) == (states is None)
    assert ("has ended as FAILED" in messages) == ("FAILED" in (states or ""))


def test_slurm_is_asked_no_more_often_than_the_report_is_shown(tmp_path, bin_folder):
    write(bin_folder, "squeue", f"touch {bin_folder}/asked")
    with pytest.raises(Interrupted):
        launch(tmp_path, is_shown=False)
    assert not (bin_folder / "asked").exists()


def test_what_slurm_still_has_of_an_earlier_start_is_not_submitted_again(tmp_path, bin_folder):
    show(bin_folder, "PENDING", "COMPLETED")
    with pytest.raises(Interrupted):
        launch(tmp_path)
    write(bin_folder, "sbatch", "echo Submitted batch job 9")
    with pytest.raises(Interrupted, match="scancel 7 9"):
        launch(tmp_path)
    assert "--array" not in (tmp_path / "logs" / ".jobs" / "slurm" / "9_submission.sh").read_text()
    write(bin_folder, "squeue", "exit 1")
    with refuses("squeue must say"):
        launch(tmp_path)


def test_a_damaged_list_of_submitted_jobs_is_named(tmp_path, bin_folder):
    file = tmp_path / "logs" / ".jobs" / "slurm" / "submitted.json"
    file.parent.mkdir(parents=True)
    file.write_text('{"fql-some0-v0')
    with refuses(r"submitted\.json is damaged"):
        launch(tmp_path)


def test_a_log_folder_whose_name_slurm_would_change_is_refused(tmp_path, bin_folder, run):
    assert "Slurm replaces `%` in names of files" in run("-f", tmp_path / "p%41")


def test_what_slurm_refuses_is_bad_input(tmp_path, bin_folder):
    write(bin_folder, "sbatch", "echo 'controller is down' >&2; exit 1")
    with refuses("controller is down"):
        launch(tmp_path)


class Waiting(JobTask):
    """A task that waits until it is asked to stop."""

    def __call__(self):
        self.blocked = signal.pthread_sigmask(signal.SIG_BLOCK, [])
        while not self.is_stopping:
            threading.Event().wait(0.01)


def test_a_checkpoint_stops_the_task_and_returns_one_that_continues_it(monkeypatch):
    monkeypatch.setattr(signal, "signal", lambda number, handler: None)
    started = SlurmTask(Waiting(task().job, JobStore(Path("logs")), 1))
    thread = threading.Thread(target=started)
    thread.start()
    continued = started.checkpoint().function.task
    thread.join(10)
    assert not thread.is_alive()
    assert continued.job.name == task().job.name
    assert continued.is_stopping is False
    # and in the processes that it starts
    assert {signal.SIGUSR1, signal.SIGUSR2} <= started.task.blocked


def test_sigterm_stops_the_task_which_then_waits_for_its_end(monkeypatch):
    monkeypatch.setattr(slurm, "SECONDS_TO_BE_KILLED", 0.3)
    handler = signal.getsignal(signal.SIGTERM)
    try:
        threading.Timer(0.2, lambda: os.kill(os.getpid(), signal.SIGTERM)).start()
        called = SlurmTask(Waiting(task().job, JobStore(Path("logs")), 1))
        called()
    finally:
        signal.signal(signal.SIGTERM, handler)
    assert called.task.is_stopping
