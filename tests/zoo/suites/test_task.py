"""Tasks: what they do about jobs that fail, are trained by others, or are stopped."""

import json
import os
import pickle
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import pytest

from tests.zoo.outcomes import refuses
from tests.zoo.suites.tiny import wait_for
from zoo.processes.locks import Lock
from zoo.runs.folder import RunFolder
from zoo.runs.resume import StoredRun
from zoo.settings.record import RunRecord
from zoo.suites import task as task_module
from zoo.suites.jobs import JOBS, Attempt, Job, JobStore
from zoo.suites.suite import Run
from zoo.suites.task import JobTask, run_locally
from zoo.terminal.errors import Interrupted, UsageError

FAKE = """
import os, signal, sys, time
from pathlib import Path
folder, outcome = Path(sys.argv[1]), sys.argv[2]
with open(folder / "starts", "a") as file:
    file.write(outcome + "\\n")
if outcome == "prints":
    print("o" * 10**6)
    print("e" * 10**6, file=sys.stderr)
if outcome == "quits":
    os._exit(0)
if outcome == "killed":
    os.kill(os.getpid(), signal.SIGKILL)
if outcome in ("deaf", "waits"):
    signal.signal(signal.SIGTERM, signal.SIG_IGN if outcome == "deaf" else lambda *_: sys.exit(3))
    (folder / "ready").touch()
    time.sleep(60)
is_first = len((folder / "starts").read_text().splitlines()) == 1
code = {"refused": 2, "fails": 1, "once": int(is_first)}.get(outcome, 0)
if code == 0:
    (folder / "done").touch()
print("the reason", file=sys.stderr)
print("printed at exit")
sys.exit(code)
"""


class FakeStore(JobStore):
    """A store whose jobs are trained by `FAKE`, and are done once that has said so."""

    def _runs(self, job):
        state = "done" if (self.log_folder / "done").exists() else "interrupted"
        return [StoredRun([RunFolder(self.log_folder)], job.config, [{"state": state}])]


@pytest.fixture(autouse=True)
def fake_training(tmp_path, monkeypatch):
    (tmp_path / "fake.py").write_text(FAKE)
    monkeypatch.setattr(task_module, "TRAIN", tmp_path / "fake.py")
    monkeypatch.setattr(task_module, "POLL_SECONDS", 0.02)
    monkeypatch.setattr(task_module, "LOCK_POLL_SECONDS", 0.05)


def make_task(tmp_path, outcome):
    logs = tmp_path / "logs"
    logs.mkdir(exist_ok=True)
    job = Job(Run("fql", "some-v0", (0,)), (str(logs), outcome), RunRecord("fql", "some-v0"))
    return JobTask(job, FakeStore(logs), 2)


def attempt_of(task):
    return task.store.attempt(task.job)


def starts(tmp_path):
    return len((tmp_path / "logs" / "starts").read_text().splitlines())


def test_a_job_is_trained_once_on_whatever_machine_and_a_record_says_how_that_ended(tmp_path):
    task = pickle.loads(pickle.dumps(make_task(tmp_path, "done")))
    (tmp_path / "logs" / JOBS).mkdir()
    task.store.write_attempt(task.job, Attempt("failed", seconds=100.0))
    task()
    task()  # nothing is left
    assert starts(tmp_path) == 1
    attempt = attempt_of(task)
    assert (attempt.outcome, attempt.exit_code) == ("done", 0)
    assert attempt.seconds > 100  # of all attempts
    assert task.store.log(task.job).read_text() == "the reason\n"


def test_a_damaged_record_is_named(tmp_path):
    task = make_task(tmp_path, "done")
    file = tmp_path / "logs" / JOBS / f"{task.job.name}.json"
    file.parent.mkdir()
    file.write_text('{"outcome"')
    with refuses(rf"{file} is damaged"):
        attempt_of(task)


@pytest.mark.parametrize(
    ("outcome", "times", "state", "reason"),
    [
        ("prints", 1, "done", ""),
        ("once", 2, "done", ""),
        ("fails", 3, "failed", "the reason"),
        ("refused", 1, "failed", "the reason"),
        ("killed", 3, "failed", "killed by signal 9"),
        ("quits", 3, "failed", "ended with exit code 0 before the run was done"),
    ],
)
def test_what_failed_is_tried_again_up_to_the_limit_and_bad_input_never(
    tmp_path, outcome, times, state, reason, caplog
):
    task = make_task(tmp_path, outcome)
    task()
    assert starts(tmp_path) == times
    attempt = attempt_of(task)
    assert (attempt.outcome, attempt.reason) == (state, reason)
    assert caplog.text.count("; see ") == times


def begin(task):
    """Let a task begin in a thread."""
    return ThreadPoolExecutor(1).submit(task)


def test_what_another_process_trains_is_waited_for(tmp_path, caplog):
    task = make_task(tmp_path, "done")
    lock = task.store.lock(task.job)
    with lock:
        ended = begin(task)
        wait_for(lambda: "is already being trained by process" in caplog.text, pause=0.02)
        assert not (tmp_path / "logs" / "starts").exists()
    ended.result(30)
    assert starts(tmp_path) == 1


def test_what_a_killed_task_has_started_keeps_the_job(tmp_path):
    code = (
        "import sys; from pathlib import Path; from zoo.processes.locks import Lock; import subprocess\n"
        "lock = Lock(Path(sys.argv[1])); lock.take()\n"
        "subprocess.Popen(['sh', '-c', 'read line'], pass_fds=lock.descriptors, stdout=subprocess.DEVNULL)\n"
        "import os; os._exit(0)\n"
    )
    lock = Lock(tmp_path / "lock")
    with subprocess.Popen(
        [sys.executable, "-c", code, str(lock.path)], stdin=subprocess.PIPE
    ) as program:
        assert program.wait() == 0
        assert not lock.take()
    wait_for(lock.take, pause=0.02)


@pytest.mark.parametrize("outcome", ["waits", "deaf"])
def test_a_task_that_is_stopped_lets_its_run_write_a_checkpoint_or_kills_it(
    tmp_path, outcome, monkeypatch
):
    monkeypatch.setattr(task_module, "STOP_SECONDS", 0.2 if outcome == "deaf" else 30.0)
    task = make_task(tmp_path, outcome)
    ended = begin(task)
    wait_for((tmp_path / "logs" / "ready").exists, pause=0.02)
    task.stop()
    ended.result(30)
    attempt = attempt_of(task)
    assert attempt.outcome == "interrupted"
    assert attempt.exit_code == (3 if outcome == "waits" else -9)


def test_a_training_process_gets_its_share_of_the_machine_and_the_lock_of_its_job(tmp_path):
    (tmp_path / "fake.py").write_text(
        "import json, os, sys; from pathlib import Path\n"
        "share = {'cores': sorted(os.sched_getaffinity(0)), 'gpu': os.environ['CUDA_VISIBLE_DEVICES']}\n"
        "share['open'] = [os.path.realpath(file) for file in Path('/proc/self/fd').iterdir()]\n"
        "(Path(sys.argv[1]) / 'done').write_text(json.dumps(share))\n"
    )
    task = make_task(tmp_path, "done")
    core = min(os.sched_getaffinity(0))
    task.cores, task.variables = [core], {"CUDA_VISIBLE_DEVICES": "3"}
    task()
    share = json.loads((tmp_path / "logs" / "done").read_text())
    assert share["cores"] == [core]
    assert share["gpu"] == "3"
    assert str(task.store.lock(task.job).path.resolve()) in share["open"]


def raise_error():
    raise UsageError("a record is damaged")  # so the state of the jobs cannot be shown


def send_signal():
    signal.raise_signal(signal.SIGTERM)


@pytest.mark.parametrize(("end", "error"), [(send_signal, Interrupted), (raise_error, UsageError)])
def test_a_signal_or_an_error_stops_what_runs_here_with_checkpoints(tmp_path, end, error):
    tasks = [make_task(tmp_path, "waits"), make_task(tmp_path, "done")]

    def report():
        wait_for((tmp_path / "logs" / "ready").exists, pause=0.02)
        end()

    with pytest.raises(error):
        run_locally(tasks, 1, "cpu", report)
    assert starts(tmp_path) == 1
    assert attempt_of(tasks[0]).outcome == "interrupted"


@dataclass
class RaisingTask(JobTask):
    """A task that fails before it has started anything, as on a full disk."""

    def __call__(self):
        raise OSError("no space left on device")


def test_a_task_that_raises_leaves_its_share_to_the_next_and_is_named_at_the_end(tmp_path):
    task = make_task(tmp_path, "done")
    tasks = [RaisingTask(task.job, task.store, 0), task]
    with pytest.raises(OSError, match="no space left"):
        run_locally(tasks, 1, "cpu", lambda: None)
    assert attempt_of(tasks[1]).outcome == "done"


def test_a_training_process_that_cannot_be_watched_is_ended(tmp_path, monkeypatch):
    task = make_task(tmp_path, "waits")
    task.cores = [0]
    started = []

    def refuse(pid, cores):
        started.append(pid)
        raise OSError("a core is gone")

    monkeypatch.setattr(os, "sched_setaffinity", refuse)
    with pytest.raises(OSError, match="a core is gone"):
        task()
    with pytest.raises(ProcessLookupError):
        os.kill(started[0], 0)


class EditedStore(FakeStore):
    """A store whose run folders are of settings that a file had later."""

    def _runs(self, job):
        config = replace(job.config, settings={"gamma": 0.5})
        return [StoredRun([RunFolder(self.log_folder)], config, [{"state": "done"}])]


def test_a_job_whose_settings_file_was_edited_meanwhile_fails_with_the_difference(tmp_path):
    task = make_task(tmp_path, "done")
    job = replace(task.job, config=replace(task.job.config, settings={"gamma": 0.99}))
    task = JobTask(job, EditedStore(tmp_path / "logs"), 0)
    task()
    attempt = attempt_of(task)
    assert attempt.outcome == "failed"
    assert "differs in gamma: 0.5 there, 0.99 now; start the suite again" in attempt.reason


def test_the_files_of_a_job_have_names_that_a_file_system_takes(tmp_path):
    run = Run("fql", f"module:ns/{'E' * 100}-v0", (0,), label="方 '" + "法" * 60)
    named = replace(make_task(tmp_path, "done").job, run=run)
    log_file = JobStore(tmp_path).log(named)
    log_file.parent.mkdir()
    log_file.touch()
    assert named.name.startswith("方__法法")
