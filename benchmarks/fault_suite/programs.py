"""Starts the zoo's programs quickly, watches them, and says how they ended."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

ROOT = Path(__file__).resolve().parents[2]
LONGEST = 240.0
"""Seconds after which a program hangs; the slowest takes some ten on a free core."""


@dataclass(frozen=True)
class Ended:
    """How a program ended.

    :param code: exit code; -9 is a kill.
    :param seconds: wall-clock time.
    :param memory: the most that it had, in kB, with what it shared with the process that it was forked from.
    """

    code: int
    out: str
    err: str
    seconds: float
    cpu: float
    memory: int
    hung: bool

    @property
    def result(self) -> dict[str, Any]:
        """The last line of the output, which is JSON."""
        return dict(json.loads(self.out.splitlines()[-1]))


class Running:
    """A program that has been started."""

    def __init__(self, programs: Programs, pid: int, out: Path, err: Path) -> None:
        self._programs, self.pid, self._out, self._err = programs, pid, out, err
        self._begin = time.monotonic()
        self._handle = os.pidfd_open(pid)  # stays valid until it is reaped

    def has_ended(self, seconds: float = 0.0) -> bool:
        """Wait for its end, at most so many seconds; return whether it has ended."""
        waiting = select.poll()  # unlike `select.select`, it takes handles of any number
        waiting.register(self._handle, select.POLLIN)
        return bool(waiting.poll(max(seconds, 0.0) * 1000))

    def send(self, by: str) -> None:
        """Send a signal to the program alone."""
        signal.pidfd_send_signal(self._handle, getattr(signal, by))

    def message(self) -> str:
        """Return what it has written to standard error so far."""
        return self._err.read_text(errors="replace")

    def wait(self, seconds: float = LONGEST) -> Ended:
        """Wait for its end; kill it, with what it has started, if that takes too long."""
        hung = not self.has_ended(seconds)
        took = time.monotonic() - self._begin
        if hung:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
        os.close(self._handle)
        used = self._programs.ask({"reap": self.pid})
        out, err = self._out.read_text(errors="replace"), self._err.read_text(errors="replace")
        self._out.unlink()
        self._err.unlink()
        return Ended(out=out, err=err, seconds=took, hung=hung, **used)


class Programs:
    """A process that programs are forked from. Use as a context manager."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="programs-")
        self._numbers = itertools.count()
        fixed = {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.fault_suite.server"],
            cwd=ROOT,
            env={**os.environ, **fixed},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._process.kill()
        self._process.wait()
        self._folder.cleanup()

    def ask(self, request: dict[str, Any]) -> Any:
        """Send the process a request and return its answer."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def start(
        self,
        program: str,
        arguments: Sequence[str | Path],
        *,
        kill: tuple[str, int] | None = None,
        by: str = "SIGKILL",
        limits: Mapping[str, int] | None = None,
        constants: Mapping[str, Any] | None = None,
        folder: Path = ROOT,
    ) -> Running:
        """Start a program.

        :param kill: an event of the server and its count, where the program gets a signal.
        :param by: that signal.
        :param limits: of `resource`, by name.
        :param constants: values by ``module:NAME`` that a program takes in the place of its own.
        :param folder: in which it starts.
        """
        number = next(self._numbers)
        out, err = Path(self._folder.name, f"{number}.out"), Path(self._folder.name, f"{number}.err")
        for file in (out, err):
            file.touch()
        job = {
            "program": program,
            "arguments": [str(word) for word in arguments],
            "kill": kill and [*kill, by],
            "limits": dict(limits or {}),
            "constants": dict(constants or {}),
            "folder": str(folder),
            "out": str(out),
            "err": str(err),
        }
        return Running(self, self.ask({"start": job}), out, err)

    def run(self, program: str, arguments: Sequence[str | Path], *, after: float | None = None, **how: Any) -> Ended:
        """Run a program to its end.

        :param after: seconds after which it is killed.
        :param how: see :meth:`start`.
        """
        running = self.start(program, arguments, **how)
        if after is not None and not running.has_ended(after):
            running.send("SIGKILL")
        return running.wait()
