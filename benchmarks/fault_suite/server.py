"""Runs programs in forked processes, and kills them where it is told to. Everything is imported once, for all of them.

Reads one JSON object a line. ``{"start": job}`` forks a process and answers with its id; ``{"reap": id}`` waits for its
end and answers with exit code (-9 is a kill), processor seconds and the most memory that it had, in kB.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import importlib
import json
import os
import resource
import signal
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

import agents.common.engine.trainer
import agents.common.files
import zoo.benchmark
import zoo.compare
import zoo.dataset
import zoo.enjoy
import zoo.envs.snapshot
import zoo.evaluate
import zoo.export
import zoo.monitor
import zoo.playing.pool
import zoo.push_to_hub
import zoo.runs.folder
import zoo.train
import zoo.training.callbacks
import zoo.training.replicas
import zoo.tune
from agents.common.model_file import encode_attributes, read_model_file
from agents.common.sb3.policy import FlowPolicy

EVENTS = {
    "update": (agents.common.engine.trainer.Trainer, "update"),
    "step": (zoo.envs.snapshot.ResumableEnv, "step"),
    "write": (agents.common.files, "sync"),  # counted in checkpoints, several times in each
    "evaluation": (zoo.runs.folder.RunFolder, "write_evaluations"),
    "play": (zoo.playing.pool.EnvPool, "receive"),  # chunks of an evaluation
    "status": (zoo.training.replicas.Replicas, "write_status"),
    "model": (zoo.training.callbacks, "save_model"),
}

PRELOADED = (
    "matplotlib.pyplot", "torch.utils.tensorboard", "zoo.report.compute", "zoo.report.page.report",
    "zoo.training.start",
)  # fmt: skip
"""What programs import on the way."""


def load_model(arguments: Sequence[str]) -> int:
    """Load a saved model, by its algorithm's own class where that is named, and print a sum of all that it holds."""
    path, *algorithm = arguments

    def body() -> dict[str, Any]:
        load = getattr(agents, algorithm[0]).load if algorithm else agents.load
        model = load(path, device="cpu")
        attributes = json.dumps(encode_attributes(read_model_file(path).attributes), sort_keys=True, default=str)
        return {"sum": _sum_of(model.get_parameters(), attributes)}

    return _run_library(body)


def load_buffer(arguments: Sequence[str]) -> int:
    """Load a replay buffer into a saved model, and print a sum of all that it holds."""
    model_path, path = arguments

    def body() -> dict[str, Any]:
        model = agents.load(model_path, device="cpu")
        model.load_replay_buffer(path)
        return {"sum": _sum_of(model.replay_buffer.__getstate__())}

    return _run_library(body)


def load_policy(arguments: Sequence[str]) -> int:
    """Load a policy that was saved by itself, and print a sum of all that it holds."""

    def body() -> dict[str, Any]:
        return {"sum": _sum_of(FlowPolicy.load(arguments[0], device="cpu").state_dict())}

    return _run_library(body)


def _run_library(body: Callable[[], dict[str, Any]]) -> int:
    """Print what calls of the library return; a ValueError is how it refuses a file, and nothing else is."""
    try:
        result = body()
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    print(json.dumps(result))
    return 0


def _sum_of(*values: Any) -> str:
    """Return a sum of nested values and tensors, which differs where one bit of one differs."""
    found = hashlib.sha256()

    def add(value: Any) -> None:
        if isinstance(value, torch.Tensor):
            value = value.detach().cpu().numpy()
        if isinstance(value, np.ndarray):
            found.update(f"{value.dtype} {value.shape}".encode() + value.tobytes())
        elif isinstance(value, dict):
            for name, inner in value.items():
                found.update(repr(name).encode())
                add(inner)
        elif isinstance(value, list | tuple):
            for inner in value:
                add(inner)
        elif dataclasses.is_dataclass(value):
            add(vars(value))
        else:
            found.update(repr(value).encode())

    add(values)
    return found.hexdigest()


PROGRAMS: dict[str, Callable[[Sequence[str]], int]] = {
    "train": zoo.train.main,
    "compare": zoo.compare.main,
    "benchmark": zoo.benchmark.main,
    "monitor": zoo.monitor.main,
    "enjoy": zoo.enjoy.main,
    "evaluate": zoo.evaluate.main,
    "export": zoo.export.main,
    "push-to-hub": zoo.push_to_hub.main,
    "dataset": zoo.dataset.main,
    "tune": zoo.tune.main,
    "load": load_model,
    "load buffer": load_buffer,
    "load policy": load_policy,
}


def kill_at(event: str, count: int, by: str) -> None:
    """Send this process a signal right after an event has happened for the count-th time."""
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


def start(job: dict[str, Any]) -> int:
    """Start a program in a session of its own and return its process id."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            code = _serve(job)
        except SystemExit as error:
            code = error.code if isinstance(error.code, int) else 1
        except BaseException:
            sys.excepthook(*sys.exc_info())
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    return child


def _serve(job: dict[str, Any]) -> int:
    os.setsid()
    os.chdir(job["folder"])
    for number, file in ((0, os.devnull), (1, job["out"]), (2, job["err"])):
        os.dup2(os.open(file, os.O_RDONLY if number == 0 else os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), number)
    for name, value in job["constants"].items():
        module, _, constant = name.partition(":")
        setattr(importlib.import_module(module), constant, value)
    if job["kill"] is not None:
        kill_at(*job["kill"])
    for name, most in job["limits"].items():
        resource.setrlimit(getattr(resource, name), (most, most))
    return PROGRAMS[job["program"]](job["arguments"])


def reap(process: int) -> dict[str, Any]:
    """Wait for a process and return how it ended and what it took."""
    _, status, used = os.wait4(process, 0)
    return {
        "code": os.waitstatus_to_exitcode(status),
        "cpu": used.ru_utime + used.ru_stime,
        "memory": used.ru_maxrss,
    }


def main() -> None:
    """Answer until the other side hangs up."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    for module in PRELOADED:
        importlib.import_module(module)
    for line in sys.stdin:
        request = json.loads(line)
        answer = start(request["start"]) if "start" in request else reap(request["reap"])
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
