"""The requests that the launcher sends to Slurm, and how it interprets Slurm's answers."""

import contextlib
import os
import signal
import threading
from pathlib import Path

import pytest

from tests.zoo.outcomes import refuses
from tests.zoo.suites.tiny import wait_for
from zoo.benchmark import main
from zoo.settings.record import RunRecord
from zoo.suites import jobs, slurm
from zoo.suites.jobs import ROOT, Job
from zoo.suites.slurm import SlurmTask, run_on_slurm
from zoo.suites.suite import Run
from zoo.terminal.errors import Interrupted


@pytest.fixture
def bin_folder(tmp_path, monkeypatch):
    """Return a folder with programs that act like Slurm's if all goes well; it is the only folder on the PATH."""
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


def show(folder, *jobs):
    """Let squeue list these jobs, and some of other users."""
    lines = "\n".join(jobs)
    write(folder, "squeue", f"cat <<END\n{lines}\n8_0\n6_N/A\nEND")


def make_job(number=0):
    run = Run("fql", f"some{number}-v0", (0,))
    return Job(run, (), RunRecord("fql", "some-v0"), Path("logs"))


def launch(tmp_path, *resources):
    """Start two jobs with the Slurm stand-in; after three queries of its queue, Ctrl-C ends the program."""
    rounds = iter(range(3))

    def wait(seconds):
        if next(rounds, None) is None:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("time.sleep", wait)
        run_on_slurm([make_job(0), make_job(1)], tmp_path / "logs", 1, resources)


@pytest.mark.parametrize(
    ("resource", "message"),
    [
        ("slurm_partiton=gpu", "closest: slurm_partition"),
        ("slurm_setup=ls", "must be a list"),
        ("timeout_min=long", "timeout_min"),
    ],
)
def test_a_wrong_resource_is_refused(tmp_path, bin_folder, refusal, resource, message):
    words = f"mini --algos fql -f {tmp_path / 'logs'} --launcher slurm --resources {resource}"
    assert message in refusal(main, *words.split())


def test_jobs_run_in_this_folder_with_these_modules(tmp_path, bin_folder, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", "/my modules")
    monkeypatch.setenv("SLURM_MEM_PER_NODE", "1")  # set in a job that starts this program
    monkeypatch.setenv("SLURM_CONF", "mine")
    script = f"env > {bin_folder}/variables; echo Submitted batch job 7"
    write(bin_folder, "sbatch", script)
    folder = tmp_path / "my folder"
    folder.mkdir()
    monkeypatch.chdir(folder)
    setup, additional = (
        "slurm_setup=[module load cuda]",
        "slurm_additional_parameters={reservation: mine}",
    )
    launch(tmp_path, "slurm_partition=gpu", "timeout_min=30", setup, additional)
    lines = (tmp_path / "logs" / ".jobs" / "slurm" / "7_submission.sh").read_text().splitlines()
    flags = {"partition=gpu", "time=30", "reservation=mine", "requeue"}
    flags |= {"signal=USR2@180", "array=0-1%1"}
    assert {f"#SBATCH --{flag}" for flag in flags} <= set(lines)
    assert lines.index(f"cd '{folder}'") < lines.index("module load cuda")
    assert f"export PYTHONPATH='{ROOT}:/my modules'" in lines
    variables = (bin_folder / "variables").read_text()
    assert "SLURM_CONF=mine" in variables
    assert "SLURM_MEM_PER_NODE" not in variables


@pytest.mark.parametrize("jobs", ["7_0 7_1", "7_1", "", None])
def test_program_waits_while_slurm_has_job_or_does_not_answer(tmp_path, bin_folder, capsys, jobs):
    if jobs is None:
        write(bin_folder, "squeue", "echo 'unable to contact slurm controller' >&2; exit 1")
    else:
        show(bin_folder, *jobs.split())
    with contextlib.nullcontext() if jobs == "" else pytest.raises(Interrupted, match="scancel 7"):
        launch(tmp_path)
    assert not (bin_folder / "cancelled").exists()
    messages = capsys.readouterr().err
    assert ("unable to contact slurm controller" in messages) == (jobs is None)


def test_what_slurm_still_has_is_not_submitted_again(tmp_path, bin_folder):
    show(bin_folder, "7_0")
    with pytest.raises(Interrupted):
        launch(tmp_path)
    write(bin_folder, "sbatch", "echo Submitted batch job 9")
    show(bin_folder, "7_0", "9_N/A")  # a single job is not an array
    for _ in range(2):  # both programs wait for all submitted jobs
        with pytest.raises(Interrupted, match="scancel 7 9"):
            launch(tmp_path)
    assert "--array" not in (tmp_path / "logs" / ".jobs" / "slurm" / "9_submission.sh").read_text()
    write(bin_folder, "squeue", "exit 1")
    with refuses("no answer from squeue"):
        launch(tmp_path)


def test_what_slurm_refuses_is_bad_input(tmp_path, bin_folder, monkeypatch):
    files = tmp_path / "logs" / ".jobs" / "slurm"
    # at the same time, another program submits jobs
    script = f"touch {files}/8_0_submitted.pkl; echo 'controller is down' >&2; exit 1"
    write(bin_folder, "sbatch", script)
    with refuses("controller is down"):
        launch(tmp_path)
    assert (files / "8_0_submitted.pkl").exists()
    monkeypatch.setenv("PATH", "")
    with refuses("srun"):
        launch(tmp_path)


FAKE = """
import signal, sys, time
from pathlib import Path
signal.signal(signal.SIGTERM, lambda *_: sys.exit(3))
blocked = set(map(int, signal.pthread_sigmask(signal.SIG_BLOCK, [])))
Path("new").write_text(str(blocked))
Path("new").rename("blocked")
time.sleep(600)
"""


@pytest.fixture
def started(tmp_path, monkeypatch):
    """Return a task whose process trains until SIGTERM, in a separate folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "fake.py").write_text(FAKE)
    monkeypatch.setattr(jobs, "TRAIN", tmp_path / "fake.py")
    monkeypatch.setattr(slurm, "SECONDS_TO_BE_KILLED", 0.0)
    return SlurmTask(make_job())


def in_a_while(action):
    """Call a function in the main thread after the training process has started."""

    def send():
        wait_for(Path("blocked").exists, pause=0.02)
        os.kill(os.getpid(), signal.SIGUSR2)

    def handle(number, frame):
        action()

    thread = threading.Thread(target=send)
    previous = signal.signal(signal.SIGUSR2, handle)
    thread.start()
    return lambda: (thread.join(), signal.signal(signal.SIGUSR2, previous))


def test_a_checkpoint_stops_training_and_returns_its_task(started):
    class Left(BaseException):
        """Ends the task in the same way as submitit."""

    continued = []

    def leave():
        continued.append(started.checkpoint().function)
        with pytest.raises(ProcessLookupError):
            os.kill(started.process.pid, 0)
        raise Left

    end = in_a_while(leave)
    with pytest.raises(Left):
        started()
    end()
    assert continued == [SlurmTask(started.job)]  # without its process, which cannot be pickled
    # Slurm also sends the signal to the training process.
    blocked = set(Path("blocked").read_text().strip("{}").split(", "))
    assert {str(int(signal.SIGUSR1)), str(int(signal.SIGUSR2))} <= blocked


def test_a_stopped_task_may_go_back_to_the_queue(started):
    end = in_a_while(lambda: started.process.terminate())
    with pytest.raises(RuntimeError, match="exit code 3"):
        started()
    end()
    assert started.checkpoint().function.job.name == make_job().name
