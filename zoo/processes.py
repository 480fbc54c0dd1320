"""Run an object in a child process and call its methods; the child ends with the process that started it."""

from __future__ import annotations

import atexit
import contextlib
import functools
import multiprocessing
import multiprocessing.connection
import os
import signal
import sys
import threading
import time
import traceback
import types
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

from gymnasium.vector.utils import CloudpickleWrapper

from zoo.errors import UsageError

CLOSE_SECONDS = 2.0  # a process in the middle of its work gets this long to end by itself


class WorkerError(RuntimeError):
    """A process failed; the message says how."""


class Closable(Protocol):
    """What can be closed."""

    def close(self) -> None:
        """End what the object has started."""
        ...


def available_cores() -> int:
    """Return how many processor cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def close_at_exit(owner: Closable) -> Callable[[], None]:
    """Close the owner of processes when this one ends, if somebody still holds it then.

    This happens before multiprocessing's own exit handler, which sends a SIGTERM that these processes ignore, and then
    waits for them.

    :return: function that cancels this.
    """
    reference = weakref.ref(owner)

    def close() -> None:
        held = reference()
        if held is not None:
            held.close()

    atexit.register(close)
    return functools.partial(atexit.unregister, close)


class ServingProcess:
    """A process that builds an object and then calls one of its methods on demand.

    It ignores SIGINT and SIGTERM, which its parent handles, and ends with its parent, however that one ends.

    :param method: name of the method that answers.
    :param what: ``"environment"`` or the like, for messages.
    :param preload: modules to import in the server that processes are forked from; only the first process decides.
    :param has_children: whether the object starts processes itself.
    :param imports_main: whether to import the caller's main module, whose classes later arguments may need. Without
        that, a script needs no ``if __name__ == "__main__"``.
    """

    def __init__(
        self,
        build: Callable[[], Closable],
        method: str,
        *,
        what: str,
        name: str,
        preload: Sequence[str] = (),
        has_children: bool = False,
        imports_main: bool = True,
    ) -> None:
        self._what, self._name = what, name
        context = _context(preload)
        self._connection, theirs = context.Pipe()
        arguments = (theirs, CloudpickleWrapper(build), method)
        self._process = context.Process(target=_serve, args=arguments, daemon=not has_children)  # type: ignore[attr-defined, type-var]
        with contextlib.nullcontext() if imports_main else _main_module_hidden():
            self._process.start()
        theirs.close()

    def send(self, *arguments: Any) -> None:
        """Ask for a call of the method; raise WorkerError if the process is gone."""
        try:
            self._connection.send(arguments)
        except OSError as error:
            raise self._explain_death() from error

    def fileno(self) -> int:
        """Return the pipe, which becomes readable with an answer or when the process ends."""
        return self._connection.fileno()

    def has_answered(self) -> bool:
        """Return whether :meth:`receive` would not wait."""
        try:
            return self._connection.poll()
        except OSError:
            return True  # receive says what happened

    def receive(self) -> Any:
        """Return the next answer: first the object's ``spaces`` (None if it has none), then one for each call.

        :raises UsageError: if it raised one.
        :raises WorkerError: if it raised anything else, with its traceback, or if the process is gone.
        """
        try:
            kind, answer = self._connection.recv()
        except (EOFError, OSError) as error:
            raise self._explain_death() from error
        if kind == "refused":
            raise UsageError(answer)
        if kind == "failed":
            raise WorkerError(f"an {self._what} of `{self._name}` failed in its process:\n{answer}")
        return answer

    def hang_up(self) -> None:
        """Tell the process to end."""
        self._connection.close()

    def interrupt(self) -> None:
        """Send SIGTERM, which the object may handle."""
        self._process.terminate()

    def kill(self) -> None:
        """End the process in the middle of its work."""
        self._process.kill()

    def close(self) -> None:
        """Tell the process to end, wait for that, and enforce it."""
        self.hang_up()
        self._process.join(CLOSE_SECONDS)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        self._process.close()

    def _explain_death(self) -> WorkerError:
        """Return the exception for a process that is gone."""
        self._process.join(CLOSE_SECONDS)
        code = self._process.exitcode
        article = "an" if self._what[0] in "aeiou" else "a"
        how = f"was killed by signal {-code}" if code is not None and code < 0 else f"ended with exit code {code}"
        return WorkerError(
            f"{article} {self._what} process of `{self._name}` {how} while it was needed; if memory ran out, use fewer "
            "of them"
        )


def wait_for_answers(asked: Sequence[ServingProcess], patience: float) -> list[ServingProcess]:
    """Return those that have answered, or that are gone; at least one.

    :param patience: how long to wait for the rest after the first, in seconds.
    """

    def still_out(late: Sequence[ServingProcess], seconds: float | None) -> list[ServingProcess]:
        there = multiprocessing.connection.wait(late, seconds)  # type: ignore[arg-type]
        return [one for one in late if one not in there]

    late = still_out(asked, None)
    end = time.monotonic() + patience
    while late and (left := end - time.monotonic()) > 0:
        late = still_out(late, left)
    return [one for one in asked if one not in late]


def _serve(connection: multiprocessing.connection.Connection, build: CloudpickleWrapper, method: str) -> None:
    """Run a process: build the object, then answer until the other side hangs up."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    kind, served = _attempt(build)
    answer = _attempt(getattr, served, "spaces", None) if kind == "done" else (kind, served)
    while True:
        try:
            connection.send(answer)
            arguments = connection.recv()
        except (EOFError, OSError):
            break
        answer = _attempt(getattr(served, method), *arguments)
    if kind == "done":
        served.close()


def _attempt(function: Callable[..., Any], *arguments: Any) -> tuple[str, Any]:
    """Return ("done", result), or why there is none, in words that survive the pipe."""
    try:
        return "done", function(*arguments)
    except UsageError as error:
        return "refused", str(error)
    except Exception:
        return "failed", traceback.format_exc()


def _end_with_parent() -> None:
    """End this process, even while it works, when the process that started it is gone."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    multiprocessing.connection.wait([parent.sentinel])
    os._exit(1)


@contextlib.contextmanager
def _main_module_hidden() -> Iterator[None]:
    """Keep multiprocessing from having a new process import the main module of this one."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = types.ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


def _context(preload: Sequence[str]) -> multiprocessing.context.BaseContext:
    """Return how processes start: forked from a server that has the imports, never from this process's threads."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(preload))
    return context
