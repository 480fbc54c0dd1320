"""Runs training programs one after the other in forked processes, and kills them where it is told to.

Reads one JSON object a line, ``{"arguments": [...], "kill": [event, count, signal], "after": seconds}``, where the last
two may be null, and answers with the exit code; -9 is a kill. Everything is imported once, so a run starts at once.
"""

from __future__ import annotations

import functools
import json
import os
import signal
import sys
import warnings
from typing import Any

import matplotlib.pyplot  # noqa: F401  imported once, for all children
import torch
import torch.utils.tensorboard  # noqa: F401

import agents.common.files
import agents.common.sb3.model
import zoo.envs.snapshot
import zoo.playing.pool
import zoo.runs.folder
import zoo.train
import zoo.training.callbacks
import zoo.training.replicas
import zoo.training.start  # noqa: F401

EVENTS = {
    "update": (agents.common.sb3.model.FlowQLearning, "sample_and_update"),
    "step": (zoo.envs.snapshot.ResumableEnv, "step"),
    "write": (agents.common.files, "sync"),  # counted in checkpoints, several times in each
    "evaluation": (zoo.runs.folder.RunFolder, "write_evaluations"),
    "play": (zoo.playing.pool.EnvGroup, "_play"),  # a chunk of an evaluation in the training process
    "status": (zoo.training.replicas.Replicas, "write_status"),
    "model": (zoo.training.callbacks, "save_model"),
}


def kill_at(event: str, count: int, by: str) -> None:
    """Let this process get a signal right after an event has happened for the count-th time."""
    owner, name = EVENTS[event]
    call = getattr(owner, name)
    happened = 0

    @functools.wraps(call)
    def counted(*args: Any, **kwargs: Any) -> Any:
        nonlocal happened
        result = call(*args, **kwargs)
        happened += event != "write" or "checkpoint" in str(args[0])
        if happened == count:
            os.kill(os.getpid(), getattr(signal, by))
        return result

    setattr(owner, name, counted)


def run(job: dict[str, Any]) -> int:
    """Run a training program in a child and return its exit code."""
    child = os.fork()
    if child == 0:
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
        if job["kill"] is not None:
            kill_at(*job["kill"])
        if job["after"] is not None:
            signal.signal(signal.SIGALRM, lambda *_: os.kill(os.getpid(), signal.SIGKILL))
            signal.setitimer(signal.ITIMER_REAL, job["after"])
        os._exit(zoo.train.main(job["arguments"]))
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    for line in sys.stdin:
        print(run(json.loads(line)), flush=True)
