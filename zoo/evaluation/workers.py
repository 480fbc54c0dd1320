"""Child processes that play environments; they end with the process that started them."""

import contextlib
import multiprocessing
import multiprocessing.connection
import multiprocessing.forkserver
import multiprocessing.util
import os
import signal
import sys
import tempfile
import threading
import time
import traceback
import types
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

from gymnasium.vector.utils import CloudpickleWrapper

from zoo.terminal.errors import STOP_SIGNALS, EnvironmentFault, UsageError

CLOSE_SECONDS = 2.0  # a process in the middle of its work gets this long to end by itself

# a socket's path has 103 letters on macOS and 107 on Linux; multiprocessing adds 32
MAX_TEMP_PATH = 70

POLL_SECONDS = 0.25
"""Time between two checks whether a process is alive."""
ANSWER_SECONDS = 600.0
"""How long a process may take to answer: an environment may import, build or take long steps."""

Hook = Callable[[], None]
"""Called every `POLL_SECONDS` during a wait; an exception of it ends the wait."""


def keep_waiting() -> None:
    """Do nothing: the wait continues."""


class WorkerError(RuntimeError):
    """A process failed; the message says how."""


class Served(Protocol):
    """An object that a process builds and serves."""

    spaces: Any

    def advance(self, *arguments: Any) -> Any:
        """Answer a request."""

    def close(self) -> None:
        """End what the object has started."""


def temp_folder() -> str:
    """Return multiprocessing's temporary folder, which it removes when the main process ends.

    :raises UsageError: if ``TMPDIR`` is too long for a socket's path, and there is no ``/tmp``.
    """
    if len(tempfile.gettempdir()) <= MAX_TEMP_PATH:
        return multiprocessing.util.get_temp_dir()
    configured = tempfile.tempdir
    tempfile.tempdir = "/tmp"
    try:
        return multiprocessing.util.get_temp_dir()
    except OSError as error:
        raise UsageError(
            f"`TMPDIR` must be at most {MAX_TEMP_PATH} letters long, as it holds the sockets of processes, got "
            f"{configured}; set a shorter one"
        ) from error
    finally:
        tempfile.tempdir = configured


def available_cores() -> int:
    """Return how many processor cores this process may use."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class WorkerProcess:
    """A process that builds an object, and calls its method ``advance`` on demand.

    It ignores the signals of `STOP_SIGNALS`, which its parent handles, and ends with its parent, however that one ends.

    :param build: makes the object, in the process.
    :param name: of the environment, for messages.
    :param preload: modules to import in the server that processes are forked from; only the first process decides.
    :param imports_main: whether to import the caller's main module, whose classes `build` may need. Without that, a
        script needs no ``if __name__ == "__main__"``.
    """

    def __init__(
        self,
        build: Callable[[], Served],
        name: str,
        preload: Sequence[str] = (),
        imports_main: bool = True,
    ) -> None:
        self._name = name
        self._seconds_quiet = 0.0
        self._has_hung = False
        # forked from a server that has the imports, never from this process's threads
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(list(preload))
        self._connection, child_end = context.Pipe()
        arguments = (child_end, dict(os.environ), CloudpickleWrapper(build))  # type: ignore[type-var]
        self._process = context.Process(target=_serve, args=arguments, daemon=True)
        start_server()
        with environment_of_children(imports_main):
            self._process.start()
        child_end.close()

    def send(self, *arguments: Any) -> None:
        """Ask for a call of the method, once the previous answer was received.

        :raises WorkerError: if the process is gone.
        """
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
            return self._has_hung or self._connection.poll()
        except OSError:
            return True  # receive raises the reason

    def note_silence(self) -> None:
        """Note that the process has given no answer for another `POLL_SECONDS`; end it if that is too long.

        No clock is read, since the whole program may have been suspended.
        """
        self._seconds_quiet += POLL_SECONDS
        if self._seconds_quiet > ANSWER_SECONDS:
            self._has_hung = True
            self._process.kill()

    def receive(self) -> Any:
        """Return the next answer, waiting for it: first the object's spaces, then one for each call.

        :raises UsageError: if the object raised one.
        :raises EnvironmentFault: if the object raised one.
        :raises WorkerError: if the process is gone, hung, or raised anything else, with its traceback.
        """
        try:
            if self._has_hung:
                raise EOFError
            answer = self._connection.recv()
        except (EOFError, OSError) as error:
            raise self._explain_death() from error
        self._seconds_quiet = 0.0
        if isinstance(answer, WorkerError):
            raise WorkerError(f"the environment of `{self._name}` failed in its process:\n{answer}")
        if isinstance(answer, Exception):
            raise answer
        return answer

    def hang_up(self) -> None:
        """Tell the process to end."""
        self._connection.close()

    def close(self, seconds: float) -> None:
        """Wait until the process has ended, and enforce it after some seconds."""
        self._process.join(seconds)
        if self._process.is_alive():
            self._process.kill()
            self._process.join(CLOSE_SECONDS)
        with contextlib.suppress(ValueError):  # a busy system is still ending it
            self._process.close()

    def _explain_death(self) -> WorkerError:
        """Return the exception for a process that is gone, or that hung."""
        process = f"the environment process of `{self._name}`"
        if self._has_hung:
            return WorkerError(f"{process} hung: it gave no answer for {self._seconds_quiet:.0f} s")
        self._process.join(CLOSE_SECONDS)
        code = self._process.exitcode
        ending = f"ended with exit code {code}"
        if code is not None and code < 0:
            ending = f"was killed by signal {-code}"
        return WorkerError(f"{process} {ending}; if memory ran out, use fewer environments")


def close_all(processes: list[WorkerProcess]) -> None:
    """Tell processes to end, wait for all of them together, and enforce it."""
    for process in processes:
        process.hang_up()
    end = time.monotonic() + CLOSE_SECONDS
    for process in processes:
        process.close(max(end - time.monotonic(), 0.0))
    processes.clear()


def wait_for_answers(
    processes: Sequence[WorkerProcess], needed: int, patience: float, check_in: Hook
) -> list[WorkerProcess]:
    """Return the processes that have answered, or that are gone.

    :param needed: how many to wait for.
    :param patience: how long to wait for the others after these, in seconds.
    :param check_in: called during the wait for those that are needed.
    """
    late = [process for process in processes if not process.has_answered()]
    while len(processes) - len(late) < needed:
        begin = time.monotonic()
        multiprocessing.connection.wait(late, POLL_SECONDS)  # type: ignore[arg-type]
        late = [process for process in late if not process.has_answered()]
        if time.monotonic() - begin >= POLL_SECONDS:
            for process in late:
                process.note_silence()
        check_in()
    end = time.monotonic() + patience
    while late and time.monotonic() < end:
        multiprocessing.connection.wait(late, end - time.monotonic())  # type: ignore[arg-type]
        late = [process for process in late if not process.has_answered()]
    return [process for process in processes if process not in late]


def _serve(
    connection: multiprocessing.connection.Connection,
    variables: dict[str, str],
    build: CloudpickleWrapper,
) -> None:
    """Run a process: build the object, then answer until the other side hangs up."""
    os.environ.clear()
    os.environ.update(variables)  # the server has others, see `start_server`
    prepare_child()
    served = _attempt(build)
    is_built = not isinstance(served, Exception)
    answer = served.spaces if is_built else served
    while True:
        try:
            connection.send(answer)
            arguments = connection.recv()
        except (EOFError, OSError):
            break
        answer = _attempt(served.advance, *arguments)
    if is_built:
        served.close()


def _attempt(function: Callable[..., Any], *arguments: Any) -> Any:
    """Return a result, or why there is none, as an exception that survives the pipe."""
    try:
        return function(*arguments)
    except (UsageError, EnvironmentFault) as error:
        return type(error)(str(error))
    except (Exception, SystemExit):
        return WorkerError(traceback.format_exc())


def prepare_child() -> None:
    """Ignore the signals that the parent handles, and end with the parent, however that one ends."""
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    # a parent that is killed cannot end its children, which would work on for hours
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """End this process, even while it works, when the process that started it is gone."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    multiprocessing.connection.wait([parent.sentinel])
    os._exit(1)  # `sys.exit` would end this thread only


def start_server() -> None:
    """Start the server that processes are forked from, unless it runs."""
    with environment_of_children():
        multiprocessing.forkserver.ensure_running()


@contextlib.contextmanager
def environment_of_children(imports_main: bool = True, **variables: str) -> Iterator[None]:
    """Let the processes that are started in the block import from where this one does.

    Python starts them with ``-c``, which would import from the current folder first, whatever lies there.

    :param imports_main: whether multiprocessing has them import the main module of this process.
    :param variables: further environment variables of theirs.
    """
    temp_folder()  # children use it too; one that is killed would leave its own behind
    path = os.pathsep.join(filter(None, sys.path))
    changed = {"PYTHONSAFEPATH": "1", "PYTHONPATH": path, **variables}
    previous = {name: os.environ[name] for name in changed if name in os.environ}
    os.environ.update(changed)
    main = sys.modules["__main__"]
    if not imports_main:
        sys.modules["__main__"] = types.ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main
        for name in changed:
            del os.environ[name]
        os.environ.update(previous)
