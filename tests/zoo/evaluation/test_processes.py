"""Processes: their folder, how training reports a failed process, locks, and recorded versions."""

import errno
import fcntl
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from agents.common.files import WriteError
from tests import ROOT
from tests.zoo.envs.toys import TOY
from zoo.runs import versions
from zoo.runs.locks import HOST, SECONDS_TO_TRY, Lock
from zoo.runs.versions import git_commit
from zoo.train import main

PLAY = """
from zoo.evaluation.evaluator import Evaluator
with Evaluator("Pendulum-v1", episodes=1, n_envs=1, seed=0) as evaluator:
    assert evaluator.pool.spaces[1].shape == (1,)
"""


def test_processes_start_beside_files_of_their_names_and_where_no_socket_fits(tmp_path):
    program, folder = tmp_path / "program.py", tmp_path / ("x" * 100)
    temporary = folder / "temporary"  # its path is too long for a socket
    temporary.mkdir(parents=True)
    # modules that Python, the zoo or multiprocessing import in a new process
    for name in ("random", "gymnasium", "socket", "zoo", "agents", "collections"):
        (folder / f"{name}.py").write_text(f"raise SystemExit('somebody else has a {name}')\n")
    program.write_text(PLAY)
    environment = {**os.environ, "TMPDIR": str(temporary), "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, program], cwd=folder, env=environment, check=True)
    assert not any(temporary.iterdir())


SIMULATED = """
import multiprocessing, os, subprocess, time
import gymnasium, numpy as np

class Simulated(gymnasium.Env):
    observation_space = gymnasium.spaces.Box(-1, 1, (1,), np.float32)
    action_space = gymnasium.spaces.Box(-1, 1, (1,), np.float32)

    def __init__(self):
        self.process = multiprocessing.Process(target=time.sleep, args=(3600,))
        self.process.start()
        self.program = subprocess.Popen(["sleep", "3600"])
        self.note("+")

    def note(self, sign):
        with open(os.environ["NOTES"], "a") as file:
            file.write(f"{sign}{self.program.pid} {sign}{self.process.pid} ")

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(1, np.float32), {}

    def step(self, action):
        return np.zeros(1, np.float32), 0.0, True, False, {}

    def close(self):
        self.note("-")
        for simulator in (self.program, self.process):
            simulator.kill()  # Python loses other signals that arrive while a process is forked

gymnasium.register("Simulated-v0", entry_point="simulated:Simulated", max_episode_steps=3)
"""


def test_each_environment_is_closed_once_with_what_it_started(tmp_path):
    (tmp_path / "simulated.py").write_text(SIMULATED)
    words = (
        f"{ROOT}/zoo/train.py --algo bc --env simulated:Simulated-v0 --online-steps 4 --seed 1 --n-envs 2 "
        f"-f {tmp_path} --eval-episodes 2 --n-eval-envs 2 --eval-freq 4 --score return -params "
        "net_arch=[8] learning_starts=9"
    )
    paths = os.pathsep.join([str(tmp_path), str(ROOT)])
    variables = {**os.environ, "PYTHONPATH": paths, "NOTES": str(tmp_path / "notes")}
    # returns when no started process holds the pipe any more
    subprocess.run([sys.executable, *words.split()], env=variables, check=True, capture_output=True)
    notes = (tmp_path / "notes").read_text().split()
    opened = [note[1:] for note in notes if note.startswith("+")]
    assert sorted(opened) == sorted(note[1:] for note in notes if note.startswith("-"))
    assert len(opened) >= 2 * (1 + 2 + 2)


@pytest.mark.slow
@pytest.mark.parametrize("failure", ["raise", "SIGKILL"])
def test_a_run_whose_environment_process_ends_says_so(tmp_path, capsys, failure):
    (tmp_path / "fail").touch()
    words = (
        f"--algo qam --env {TOY} --online-steps 9 --seed 1 --vec-env subproc --n-envs 2 -f {tmp_path} "
        f"--eval-episodes 1 --env-kwargs failure={failure} failure_file={tmp_path / 'fail'} "
        "--eval-env-kwargs failure_file=/nowhere -params net_arch=[8] ensemble_size=2 learning_starts=4"
    )
    assert main(words.split()) == 1
    assert "the process of a training environment has ended" in capsys.readouterr().err


# -- locks ------------------------------------------------------------------------------------------------------------


TAKE = "import sys; from pathlib import Path; from zoo.runs.locks import Lock; lock = Lock(Path(sys.argv[1])); "


def test_a_lock_is_refused_by_name_and_free_after_a_kill(tmp_path):
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
    assert lock.is_held() is False  # two processes may test the lock at the same time
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


def test_a_full_disk_refuses_a_lock_by_its_path(tmp_path, monkeypatch):
    def refuse(*arguments, **options):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_text", refuse)
    with pytest.raises(WriteError, match="lock could not be written: No space left"):
        Lock(tmp_path / "lock").take()


# -- recorded versions ------------------------------------------------------------------------------------------------


def commit_in(folder):
    """Make a repository with one commit; return its hash."""
    commands = (
        "git init -q && git add . && git -c user.name=A -c user.email=a@b.c commit -q --allow-empty -m first && "
        "git rev-parse HEAD"
    )
    return subprocess.check_output(commands, shell=True, cwd=folder, text=True).strip()


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Make the zoo appear to be installed in another folder, outside a repository."""
    module = tmp_path / "repository" / "site-packages" / "zoo" / "runs" / "versions.py"
    module.parent.mkdir(parents=True)
    module.touch()
    monkeypatch.setattr(versions, "__file__", str(module))
    return module.parents[1]


def test_the_commit_is_that_of_the_zoos_own_checkout(package):
    commit = commit_in(package.parent)
    assert git_commit() == commit
    (package / "runs" / "versions.py").write_text("changed")
    assert git_commit() == f"{commit}-dirty"
