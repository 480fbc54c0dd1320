"""Run an object in a child process and call its methods; the child ends with the process that started it."""

import atexit
import contextlib
import functools
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
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from multiprocessing.reduction import ForkingPickler
from typing import Any, Protocol

from gymnasium.vector.utils import CloudpickleWrapper

from zoo.terminal.errors import STOP_SIGNALS, EnvironmentFault, UsageError
from zoo.terminal.messages import log

CLOSE_SECONDS = 2.0  # a process in the middle of its work gets this long to end by itself
MAX_RESTARTS = 2  # of a process in an evaluation
PIPE_BYTES = 8192  # every pipe holds this much, so that sending it does not wait for the other side

# a socket's path has 103 letters on macOS and 107 on Linux; multiprocessing adds 32
MAX_TEMP_PATH = 70

POLL_SECONDS = 0.25
"""Time between two checks whether a process is alive."""
ANSWER_SECONDS = 600.0
"""How long a watched process may take to answer: an environment may import, build or take long steps."""

Hook = Callable[[], None]
"""Called every `POLL_SECONDS` during a wait; an exception of it ends the wait."""


def keep_waiting() -> None:
    """Do nothing: the wait goes on."""


class WorkerError(RuntimeError):
    """A process failed; the message says how."""


class WorkerLost(WorkerError):
    """A process died or hung; a new one can repeat its work."""


class Closable(Protocol):
    """An object with a `close` method."""

    def close(self) -> None:
        """End what the object has started."""
        ...


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


def close_at_exit(owner: Closable) -> Callable[[], None]:
    """Close the owner of processes when this one ends, unless it was garbage collected before.

    Handlers run in reverse order, so this one runs before multiprocessing's own. That sends a SIGTERM, which these
    processes ignore, and then waits for them.

    :return: function that removes the handler.
    """
    reference = weakref.WeakMethod(owner.close)

    def close() -> None:
        close_owner = reference()
        if close_owner is not None:
            close_owner()

    atexit.register(close)
    return functools.partial(atexit.unregister, close)


@dataclass(eq=False)
class WorkerProcess:
    """A process that builds an object and then calls one of its methods on demand.

    It ignores the signals of `STOP_SIGNALS`, which its parent handles, and ends with its parent, however that one ends.

    :param method: name of the method that answers.
    :param noun: ``"environment"`` or the like, for messages.
    :param preload: modules to import in the server that processes are forked from; only the first process decides.
    :param imports_main: whether to import the caller's main module, whose classes later arguments may need. Without
        that, a script needs no ``if __name__ == "__main__"``.
    :param is_watched: whether the process is ended as one that hangs when it gives no answer for `ANSWER_SECONDS`.
    :param first: attribute of the object that is the first answer.
    :param variables: environment variables that libraries read when they are imported. The process then starts from
        nothing, because the server that others are forked from has imported them.
    """

    build: Callable[[], Closable]
    method: str
    _: KW_ONLY
    noun: str
    name: str
    preload: Sequence[str] = ()
    imports_main: bool = True
    is_watched: bool = False
    first: str = "spaces"
    variables: Mapping[str, str] = field(default_factory=dict)
    losses = 0
    """How often it was lost in the evaluation under way."""

    def __post_init__(self) -> None:
        # forked from a server that has the imports, never from this process's threads
        self._context = multiprocessing.get_context("spawn" if self.variables else "forkserver")
        self._context.set_forkserver_preload(list(self.preload))
        self._start()

    def _start(self) -> None:
        """Start the process, which owes the first answer at once."""
        self._owed = 1
        self._has_hung = False
        self._quiet = 0.0
        self._connection, child_end = self._context.Pipe()
        build = CloudpickleWrapper(self.build)  # type: ignore[type-var]
        arguments = (child_end, {**os.environ, **self.variables}, build, self.method, self.first)
        self._process = self._context.Process(target=_serve, args=arguments, daemon=True)  # type: ignore[attr-defined]
        if not self.variables:
            start_server()
        with _environment_of_children(self.variables, self.imports_main):
            self._process.start()
        child_end.close()

    def replace(self, error: WorkerLost, purpose: str) -> None:
        """Replace a lost process by a new one, which builds the object again and owes the first answer.

        :param purpose: the work that the new process repeats, for the log.
        :raises WorkerError: if the process has been lost too often.
        """
        self.losses += 1
        if self.losses > MAX_RESTARTS:
            raise WorkerError(
                f"{error}; this happened {self.losses} times in one evaluation"
            ) from error
        log.warning("%s; %s (%d of %d times)", error, purpose, self.losses, MAX_RESTARTS)
        self.kill()
        self.close()
        self._start()

    def send(self, *arguments: Any, check_in: Hook = keep_waiting) -> None:
        """Ask for a call of the method.

        :param check_in: called while the process is slow to take the arguments.
        :raises WorkerLost: if the process is gone, or hangs.
        """
        content = ForkingPickler.dumps(arguments)
        failures = list[OSError]()
        self._owed += 1

        def write() -> None:
            try:
                self._connection.send_bytes(content)
            except OSError as error:
                failures.append(error)

        if len(content) <= PIPE_BYTES:
            write()
        else:  # from a thread: a full pipe blocks the sender while the process hangs
            writer = threading.Thread(target=write, daemon=True)
            writer.start()
            while writer.is_alive():
                writer.join(POLL_SECONDS)
                self.check_alive()
                check_in()
        if failures:
            raise self._explain_death() from failures[0]

    def check_alive(self) -> None:
        """End the process if it has been quiet for too many polls; :meth:`receive` then says so.

        Polls are counted and no clock is read, since the whole machine may have been suspended.
        """
        if not self.is_watched or not self._owed or self._has_hung or self._connection.poll():
            return
        self._quiet += POLL_SECONDS
        if self._quiet > ANSWER_SECONDS:
            self._has_hung = True
            self.kill()

    def fileno(self) -> int:
        """Return the pipe, which becomes readable with an answer or when the process ends."""
        return self._connection.fileno()

    def has_answered(self) -> bool:
        """Return whether :meth:`receive` would not wait."""
        try:
            return self._has_hung or self._connection.poll()
        except OSError:
            return True  # receive says what happened

    def receive(self, check_in: Hook = keep_waiting) -> Any:
        """Return the next answer: first the object's attribute (None if it has none), then one for each call.

        :param check_in: called while there is none; if it raises, a later call gets the answer.
        :raises UsageError: if it raised one.
        :raises EnvironmentFault: if it raised one.
        :raises WorkerLost: if the process is gone, or hung.
        :raises WorkerError: if it raised anything else, with its traceback.
        """
        try:
            while not self._has_hung and not self._connection.poll(POLL_SECONDS):
                self.check_alive()
                check_in()
            if self._has_hung:
                raise EOFError
            answer = self._connection.recv()
        except (EOFError, OSError) as error:
            raise self._explain_death() from error
        self._owed -= 1
        self._quiet = 0.0
        if isinstance(answer, WorkerError):
            raise WorkerError(f"the {self.noun} of `{self.name}` failed in its process:\n{answer}")
        if isinstance(answer, Exception):
            raise answer
        return answer

    def kill(self) -> None:
        """End the process in the middle of its work."""
        self._process.kill()

    def close(self, seconds: float = CLOSE_SECONDS) -> None:
        """Tell the process to end, wait for that, and enforce it.

        :param seconds: how long to wait.
        """
        self._connection.close()
        self._process.join(seconds)
        if self._process.is_alive():
            self._process.kill()
            self._process.join(CLOSE_SECONDS)
        with contextlib.suppress(ValueError):  # a busy system is still ending it
            self._process.close()

    def _explain_death(self) -> WorkerLost:
        """Return the exception for a process that is gone, or that hung."""
        process = f"the {self.noun} process of `{self.name}`"
        if self._has_hung:
            return WorkerLost(f"{process} hung: it gave no answer for {self._quiet:.0f} s")
        self._process.join(CLOSE_SECONDS)
        code = self._process.exitcode
        ending = f"ended with exit code {code}"
        if code is not None and code < 0:
            ending = f"was killed by signal {-code}"
        return WorkerLost(
            f"{process} {ending} while it was needed; if memory ran out, use fewer of them"
        )


def close_all(processes: Sequence[WorkerProcess]) -> None:
    """Tell processes to end, wait for all of them together, and enforce it."""
    for process in processes:
        process._connection.close()
    end = time.monotonic() + CLOSE_SECONDS
    for process in processes:
        process.close(max(end - time.monotonic(), 0.0))


def wait_for_answers(
    processes: Sequence[WorkerProcess], patience: float, check_in: Hook = keep_waiting
) -> list[WorkerProcess]:
    """Return the processes that have answered, or that are gone; at least one.

    :param patience: how long to wait for the rest after the first, in seconds.
    :param check_in: called while none has answered.
    """
    late = [process for process in processes if not process.has_answered()]
    while late and len(late) == len(processes):
        multiprocessing.connection.wait(late, POLL_SECONDS)  # type: ignore[arg-type]
        late = [process for process in late if not process.has_answered()]
        for process in late:
            process.check_alive()
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
    method: str,
    first: str,
) -> None:
    """Run a process: build the object, then answer until the other side hangs up."""
    os.environ.clear()
    os.environ.update(variables)  # the server has others, see `start_server`
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    served = _attempt(build)
    is_built = not isinstance(served, Exception)
    answer = served
    if is_built:
        answer = _attempt(getattr, served, first, None)
    while True:
        try:
            connection.send(answer)
            arguments = connection.recv()
        except (EOFError, OSError):
            break
        answer = _attempt(getattr(served, method), *arguments)
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


def _end_with_parent() -> None:
    """End this process, even while it works, when the process that started it is gone."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    multiprocessing.connection.wait([parent.sentinel])
    os._exit(1)  # `sys.exit` would end this thread only


def start_server() -> None:
    """Start the server that processes are forked from, unless it runs."""
    with _environment_of_children({}):
        multiprocessing.forkserver.ensure_running()


@contextlib.contextmanager
def _environment_of_children(
    variables: Mapping[str, str], imports_main: bool = True
) -> Iterator[None]:
    """Set environment variables for the processes that are started in the block; they import from where this one does.

    Python starts them with ``-c``, which would import from the current folder first, whatever lies there.

    :param imports_main: whether multiprocessing has them import the main module of this process.
    """
    temp_folder()  # children use it too; one that is killed would leave its own behind
    changed = {
        "PYTHONSAFEPATH": "1",
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        **variables,
    }
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
