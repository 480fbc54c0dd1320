"""Locks: who has one, that looking does not disturb, and storage that has none."""

import errno
import fcntl
import os
import signal
import subprocess
import sys
import threading

import pytest

from zoo.processes.locks import HOST, SECONDS_TO_TRY, Lock

TAKE = "import sys; from pathlib import Path; from zoo.processes.locks import Lock; lock = Lock(Path(sys.argv[1])); "


def test_the_lock_of_another_process_is_refused_with_its_name_and_free_when_that_is_killed(
    tmp_path,
):
    lock = Lock(tmp_path / "lock")
    code = f"{TAKE}print(lock.take(), flush=True); input()"
    command = [sys.executable, "-c", code, str(lock.path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"True\n"
        assert not lock.take()
        assert lock.is_held()
        assert lock.describe_holder().startswith(f"process {process.pid} on {HOST}, since 2")
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert lock.is_held() is False
    assert lock.take()


def test_looking_at_a_lock_does_not_keep_it_from_being_taken(tmp_path):
    lock = Lock(tmp_path / "lock")
    with lock:
        pass
    looking = os.open(lock.path, os.O_RDONLY)
    fcntl.flock(looking, fcntl.LOCK_SH)
    assert lock.is_held() is False  # two may look at once
    threading.Timer(SECONDS_TO_TRY / 4, os.close, [looking]).start()
    assert lock.take()


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_storage_without_locks_is_worked_on_with_a_warning(tmp_path, monkeypatch, caplog, number):
    def refuse(*arguments):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    for _ in range(2):
        assert Lock(tmp_path / "lock").take()
    assert Lock(tmp_path / "lock").is_held() is None
    assert caplog.text.count(f"{tmp_path} has no locks") == 1


@pytest.mark.slow
def test_processes_that_ask_at_once_never_hold_a_lock_together(tmp_path):
    code = (
        f"{TAKE}import os\n"
        "for _ in range(200):\n"
        "    with lock:\n"
        "        os.close(os.open(sys.argv[1] + '.alone', os.O_CREAT | os.O_EXCL))\n"  # fails if another holds it
        "        os.unlink(sys.argv[1] + '.alone')\n"
    )
    command = [sys.executable, "-c", code, tmp_path / "lock"]
    processes = [subprocess.Popen(command) for _ in range(3)]
    assert [process.wait() for process in processes] == [0, 0, 0]
