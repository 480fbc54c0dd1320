"""Jobs on this machine: failing, trained by others, or stopped; and a whole suite."""

import json
import os
import pickle
import signal
import sys
import threading
import time

import pytest

from tests.zoo.suites.slurm import name_of
from tests.zoo.suites.tiny import JOBS, Project, assert_equal_runs, wait_for
from zoo.evaluation import workers
from zoo.settings.record import RunRecord
from zoo.suites import jobs as jobs_module
from zoo.suites import local
from zoo.suites.jobs import Job
from zoo.suites.local import run_locally
from zoo.suites.suite import Run
from zoo.terminal.errors import Interrupted

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc and sets affinity")
FAKE = """
import json, os, signal, sys, time
from pathlib import Path
folder, outcome = Path(sys.argv[1]), sys.argv[2]
share = {"cores": sorted(os.sched_getaffinity(0)), "threads": os.environ["OMP_NUM_THREADS"]}
share["session"] = os.getsid(0)
share["open"] = [os.path.realpath(file) for file in Path("/proc/self/fd").iterdir()]
(folder / f"{outcome} started").write_text(json.dumps(share))
if outcome == "prints":
    print("o" * 10**6)
    print("e" * 10**6, file=sys.stderr)
if outcome == "killed":
    os.kill(os.getpid(), signal.SIGKILL)
if outcome in ("deaf", "waits"):
    signal.signal(signal.SIGTERM, signal.SIG_IGN if outcome == "deaf" else lambda *_: sys.exit(3))
    (folder / "ready").touch()
    time.sleep(600)
print("the reason", file=sys.stderr)
print("printed at exit")
sys.exit({"fails": 1}.get(outcome, 0))
"""


@pytest.fixture(autouse=True)
def fake_training(tmp_path, monkeypatch):
    (tmp_path / "fake.py").write_text(FAKE)
    monkeypatch.setattr(jobs_module, "TRAIN", tmp_path / "fake.py")
    monkeypatch.setattr(local, "POLL_SECONDS", 0.02)


def make_job(tmp_path, outcome):
    """Return a job that `FAKE` trains, pickled and unpickled as on the way to another machine."""
    words = (str(tmp_path), outcome)
    job = Job(Run(outcome, "some-v0", (0,), outcome), words, RunRecord("fql", "some-v0"), tmp_path)
    return pickle.loads(pickle.dumps(job))


@pytest.mark.parametrize(
    ("outcome", "message"),
    {
        "prints": "done: prints on some-v0, seed 0",
        "fails": "failed: fails on some-v0, seed 0: the reason; see ",
        "killed": "killed by signal 9 after: no message; see ",
    }.items(),
)
def test_it_is_said_how_a_job_has_ended_and_next_one_is_trained(
    tmp_path, outcome, message, caplog, capfd
):
    run_locally([make_job(tmp_path, outcome), make_job(tmp_path, "done")], 1, "cpu")
    assert message in caplog.text
    assert not capfd.readouterr().out
    assert (tmp_path / "done started").exists()


def test_a_container_has_as_many_workers_as_its_quota_allows(tmp_path, monkeypatch):
    monkeypatch.setattr(workers, "CPU_QUOTA", tmp_path / "cpu.max")
    workers.CPU_QUOTA.write_text("50000 100000\n")
    for number, jobs in ((None, 5), (3, 1)):
        (worker,) = local.share_machine(number, jobs, "cpu")
        assert worker == local.Worker([], {"OMP_NUM_THREADS": "1"})  # not pinned


@pytest.mark.parametrize(
    ("device", "gpus"), [("cpu", [None]), ("cuda:1", ["4,5"]), ("auto", ["4", "5"])]
)
def test_workers_share_the_gpus_unless_one_is_requested(device, gpus, monkeypatch):
    monkeypatch.setattr(local, "available_cores", lambda: 1)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5,-1")
    shares = local.share_machine(None, 5, device)
    assert [share.variables.get("CUDA_VISIBLE_DEVICES") for share in shares] == gpus
    assert {share.variables["OMP_NUM_THREADS"] for share in shares} == {"1"}


def test_a_training_process_gets_its_share_and_its_lock(tmp_path, monkeypatch):
    # with a quota, jobs are not pinned
    monkeypatch.setattr(workers, "CPU_QUOTA", tmp_path / "none")
    monkeypatch.setenv("OMP_NUM_THREADS", "99")
    names = ("one", "two")
    run_locally([make_job(tmp_path, name) for name in names], 3, "cpu")
    shares = [json.loads((tmp_path / f"{name} started").read_text()) for name in names]
    for name, share in zip(names, shares, strict=True):
        assert share["threads"] == str(len(share["cores"]))
        assert share["session"] != os.getsid(0)  # Ctrl-C does not reach it
        assert str(make_job(tmp_path, name).make_lock().path.resolve()) in share["open"]
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) > 1:
        assert sorted(shares[0]["cores"] + shares[1]["cores"]) == cores


def test_what_another_process_trains_is_waited_for(tmp_path):
    held, free = make_job(tmp_path, "held"), make_job(tmp_path, "free")
    with held.make_lock():
        thread = threading.Thread(target=local.run_locally, args=([held, free, free], 1, "cpu"))
        # only the main thread receives signals
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("zoo.terminal.errors.STOP_SIGNALS", ())
            thread.start()
            wait_for((tmp_path / "free started").exists, pause=0.02)
        assert not (tmp_path / "held started").exists()
    thread.join(30)
    assert (tmp_path / "held started").exists()
    assert free.log_file.read_text() == 2 * "the reason\n"


@pytest.mark.parametrize(
    ("outcome", "seconds", "signals", "error"),
    [
        ("waits", 30.0, [signal.SIGTERM], Interrupted),
        ("deaf", 0.2, [signal.SIGTERM], Interrupted),
        ("deaf", 30.0, [signal.SIGINT, signal.SIGINT], KeyboardInterrupt),
    ],
)
def test_a_signal_lets_a_run_write_a_checkpoint(
    tmp_path, outcome, seconds, signals, error, monkeypatch, caplog
):
    monkeypatch.setattr(local, "STOP_SECONDS", seconds)
    jobs = [make_job(tmp_path, outcome), make_job(tmp_path, "done")]

    def send_signal():
        wait_for((tmp_path / "ready").exists, pause=0.02)
        for number in signals:
            os.kill(os.getpid(), number)
            time.sleep(0.1)

    thread = threading.Thread(target=send_signal)
    thread.start()
    with pytest.raises(error):
        run_locally(jobs, 1, "cpu")
    thread.join()
    share = json.loads((tmp_path / f"{outcome} started").read_text())
    wait_for(lambda: not name_of(share["session"]))
    assert ("are killed" in caplog.text) == (seconds == 0.2)
    assert not (tmp_path / "done started").exists()


def test_an_error_stops_what_runs(tmp_path, monkeypatch):
    def refuse(pid, cores):
        pids.append(pid)
        raise OSError("a core is gone")

    pids = []
    monkeypatch.setattr(workers, "CPU_QUOTA", tmp_path / "none")
    monkeypatch.setattr(os, "sched_setaffinity", refuse)
    with pytest.raises(OSError, match="a core is gone"):
        run_locally([make_job(tmp_path, "waits")], 1, "cpu")
    with pytest.raises(ProcessLookupError):
        os.kill(pids[0], 0)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_every_run_ends_once_with_undisturbed_scores(data, tmp_path, reference, monkeypatch):
    project = Project(tmp_path / "project", data, seconds=0.05)
    words = ("--workers", "2")
    with project.started(*words) as driver:
        project.wait_for_training()
        driver.send_signal(signal.SIGINT)
        assert driver.wait(120) == 3
    assert "start the same command again to continue" in project.messages()
    assert "interrupted" in project.states()
    with project.started(*words):
        # then kill the program; the processes that it has started continue
        wait_for(project.training, 120)
    with project.started(*words) as driver:
        with project.started(*words):  # two programs work on the jobs of one suite
            wait_for(lambda: "is being trained by process" in project.messages(), 60)
        project.update_takes(0.0)
        assert project.finish(driver)["done"] == JOBS
    assert_equal_runs(project, reference, monkeypatch)
