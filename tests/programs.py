"""Starts the zoo's programs quickly, by forking a process that has imported everything, and kills them on demand.

``python -m tests.programs`` is that process: it reads one JSON object a line, and answers with an exit code.
"""

import functools
import importlib
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path

from tests import ROOT

LONGEST = 240.0
"""Seconds after which a program hangs; the slowest takes some ten on a free core."""
EVENTS = {
    "update": "agents.common.engine.trainer:Trainer.update",
    "step": "zoo.envs.snapshot:ResumableEnv.step",
    "write": "agents.common.files:sync",  # counted in checkpoints, several times in each
    "evaluation": "zoo.runs.folder:RunFolder.write_evaluations",
    "play": "zoo.playing.pool:EnvPool.receive",  # chunks of an evaluation
    "status": "zoo.training.logs:Replicas.write_status",
    "model": "zoo.training.callbacks:save_model",
}
"""Where a program can be killed."""
PRELOADED = ("matplotlib.pyplot", "torch.utils.tensorboard", "zoo.training.start", "zoo.train")
"""What training needs, which most tests start."""


@dataclass(frozen=True)
class Ended:
    """How a program ended: its exit code, which is -9 after a kill, and what it wrote."""

    code: int
    out: str
    err: str

    @property
    def result(self):
        """The last line of the output, which is JSON."""
        return dict(json.loads(self.out.splitlines()[-1]))


class Programs:
    """The process that programs are forked from. Use as a context manager."""

    def __enter__(self):
        self._server = subprocess.Popen(
            [sys.executable, "-m", __name__],
            cwd=ROOT,
            env={**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        return self

    def __exit__(self, *exception):
        self._server.kill()
        self._server.wait()

    def run(self, program, arguments, *, kill=None, by="SIGKILL", limits=None, folder=ROOT):
        """Run a program to its end.

        :param kill: one of `EVENTS` and its count, after which the program gets a signal.
        :param by: that signal.
        :param limits: of `resource`, by name.
        :param folder: in which it starts.
        """
        with tempfile.TemporaryDirectory() as name:
            files = [str(Path(name, stream)) for stream in ("out", "err")]
            job = {"program": program, "arguments": arguments, "folder": folder, "files": files}
            job |= {"kill": kill and [*kill, by], "limits": limits or {}}
            self._server.stdin.write(json.dumps(job, default=str) + "\n")
            self._server.stdin.flush()
            code = int(self._server.stdout.readline())
            return Ended(code, *(Path(file).read_text(errors="replace") for file in files))


def kill_at(event, count, by):
    """Send this process a signal right after an event has happened for the count-th time."""
    module, _, path = EVENTS[event].partition(":")
    *owners, name = path.split(".")
    owner = functools.reduce(getattr, owners, importlib.import_module(module))
    call = getattr(owner, name)
    happened = 0

    @functools.wraps(call)
    def counted(*args, **kwargs):
        nonlocal happened
        result = call(*args, **kwargs)
        happened += event != "write" or "checkpoint" in str(args[0])
        if happened == count:
            os.kill(os.getpid(), getattr(signal, by))
        return result

    setattr(owner, name, counted)


def run_forked(job):
    """Run a program in a process and a session of its own, and return its exit code."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.setsid()
            signal.alarm(int(LONGEST))
            os.chdir(job["folder"])
            for number, file in enumerate((os.devnull, *job["files"])):
                os.dup2(os.open(file, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600), number)
            if job["kill"] is not None:
                kill_at(*job["kill"])
            for name, limit in job["limits"].items():
                resource.setrlimit(getattr(resource, name), (limit, limit))
            words = list(map(str, job["arguments"]))
            code = importlib.import_module(f"zoo.{job['program']}").main(words)
        except SystemExit as error:
            code = error.code if isinstance(error.code, int) else 1
        except BaseException:
            sys.excepthook(*sys.exc_info())
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def main():
    """Answer until the other side hangs up."""
    import torch

    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    for module in PRELOADED:
        importlib.import_module(module)
    for line in sys.stdin:
        print(run_forked(json.loads(line)), flush=True)


if __name__ == "__main__":
    main()
