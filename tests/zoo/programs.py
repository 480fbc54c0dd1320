"""Starts the zoo's programs quickly, by forking a process that has imported everything, and kills them on demand."""

import functools
import importlib
import json
import multiprocessing
import os
import resource
import signal
import sys
import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path
from pydoc import locate

import pytest
import torch

from tests import ROOT

LONGEST = 240
"""Seconds after which a program counts as hanging; the slowest takes about ten on a free core."""
EVENTS = {
    "update": "agents.common.engine.trainer.Trainer.update",
    "step": "stable_baselines3.common.vec_env.dummy_vec_env.DummyVecEnv.step_wait",
    "write": "agents.common.files.sync",  # several times in each checkpoint
    "evaluation": "zoo.runs.folder.RunFolder.write_evaluations",
    "play": "zoo.evaluation.pool.EnvPool.advance",  # called for each chunk of an evaluation
    "status": "zoo.training.logs.Replicas.write_status",
    "model": "zoo.training.recorder.Recorder._save_model",
}
"""Events at which a program can be killed."""


@dataclass(frozen=True)
class Ended:
    """How a program ended: its exit code (-9 after a kill) and its output."""

    code: int
    out: str
    err: str

    @property
    def result(self):
        """The last line of the output, parsed as JSON."""
        return dict(json.loads(self.out.splitlines()[-1]))


def run_program(program, arguments, *, kill=None, by="SIGKILL", limits=None, folder=ROOT):
    """Run a program to its end.

    :param kill: one of `EVENTS` and a count: the program gets a signal at that occurrence of the event.
    :param by: name of the signal.
    :param limits: resource limits, by their name in `resource`.
    :param folder: the program's current folder.
    """
    with tempfile.TemporaryDirectory() as name:
        files = [Path(name, stream) for stream in ("out", "err")]
        job = (
            program,
            list(map(str, arguments)),
            files,
            kill and (*kill, by),
            limits or {},
            folder,
        )
        # forked from the server in tests/zoo/conftest.py
        process = multiprocessing.get_context("forkserver").Process(target=_run, args=job)
        process.start()
        process.join()
        return Ended(process.exitcode, *(file.read_text(errors="replace") for file in files))


def _run(program, arguments, files, kill, limits, folder):
    """Run a program in this process, in a new session; exit with the program's code."""
    os.setsid()
    signal.alarm(LONGEST)
    os.chdir(folder)
    for number, file in enumerate((os.devnull, *files)):
        os.dup2(os.open(file, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600), number)
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    if kill is not None:
        _kill_at(*kill)
    for name, limit in limits.items():
        resource.setrlimit(getattr(resource, name), (limit, limit))
    sys.exit(importlib.import_module(f"zoo.{program}").main(arguments))


def _kill_at(event, count, by):
    """Send this process a signal after an event has happened for the count-th time."""
    call, happened = locate(EVENTS[event]), 0

    @functools.wraps(call)
    def counted(*args, **kwargs):
        nonlocal happened
        result = call(*args, **kwargs)
        happened += event != "write" or "checkpoint" in str(args[0])
        if happened == count:
            os.kill(os.getpid(), getattr(signal, by))
        return result

    pytest.MonkeyPatch().setattr(EVENTS[event], counted)
