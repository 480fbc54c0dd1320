"""Environments in worker processes; one message makes a process execute whole action chunks and start episodes.

.. code-block:: text

    main process                          worker 0: environments 0, 2, 4   worker 1: environments 1, 3
    advance(numbers, chunks, openings)  ->  execute a chunk in each environment `numbers`, reset those in `openings`
    observations, endings               <-  observations of running episodes, totals of finished ones

Gymnasium's AsyncVectorEnv and SB3's SubprocVecEnv have one process per environment, and send a message to each process
at every step. With them, evaluating action chunks in a maze on two cores takes three to four times the CPU time of this
pool.
"""

from __future__ import annotations

import contextlib
import functools
import multiprocessing
import multiprocessing.connection
import multiprocessing.util
import os
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import gymnasium
import numpy as np
from gymnasium.envs.registration import EnvSpec
from gymnasium.vector.utils import CloudpickleWrapper

from zoo.envs.checks import RepeatableEnv
from zoo.envs.make import make_env, try_env
from zoo.envs.rendering import VARIABLE
from zoo.evaluation.workers import (
    CLOSE_SECONDS,
    available_cores,
    environment_of_children,
    prepare_child,
    start_server,
)
from zoo.runs.scores import UNREPORTED
from zoo.terminal.errors import EnvironmentFault, UsageError, describe_error

MAX_MAZES = 64
MIN_SCENES = 8
SIMULATORS = ("gymnasium", "gymnasium_robotics", "ogbench", "zoo")
"""Packages of simulators; an environment's module in one of them is imported before processes are forked."""

POLL_SECONDS = 0.25
"""Longest interval between two calls of `check_in` while waiting for answers."""
ANSWER_SECONDS = 600.0
"""Time limit for an answer; it is long, because imports, constructors and steps of an environment may be slow."""

Spaces = tuple[gymnasium.Space[Any], gymnasium.spaces.Box]
Hook = Callable[[], None]
"""Called at each answer, and every `POLL_SECONDS` without one; if the hook raises an exception, the wait ends."""


class WorkerError(RuntimeError):
    """A worker process failed; the message contains the reason."""


class EpisodeTotals(NamedTuple):
    """Return, length and success of a running or a finished episode.

    :param success: success at the last step, or `UNREPORTED`.
    :param any_success: success at any step, or `UNREPORTED`.
    """

    episode_return: float = 0.0
    length: int = 0
    success: int = UNREPORTED
    any_success: int = UNREPORTED

    def after_step(self, reward: float, info: Mapping[str, Any]) -> EpisodeTotals:
        """Return the totals including one more step."""
        success = info.get("success")
        if success is None:
            success = UNREPORTED
        any_success = max(self.any_success, success)
        return EpisodeTotals(self.episode_return + reward, self.length + 1, success, any_success)


Progress = tuple[dict[int, Any], dict[int, EpisodeTotals]]
"""Environment -> observation of its running episode, and environment -> totals of its finished episode."""


def count_environments(spec: EnvSpec, episodes: int) -> int:
    """Return the number of environments for an evaluation.

    Sending a message and sampling chunks take as long as several steps of a maze. Mazes are cheap to create, so many
    of them share these costs. Creating a manipulation scene takes seconds and 170 MB, so outside mazes there are two
    environments per core, but at least eight.
    """
    count = max(MIN_SCENES, 2 * available_cores())
    if str(spec.entry_point).startswith("ogbench.locomaze"):
        count = MAX_MAZES
    return min(count, episodes)


class EnvPool:
    """Environments in child processes, at most one process per CPU core; environments are created in the background.

    The parent process does not step environments, so no environment can block it. Once every process has answered,
    the parent samples chunks for all environments. If a process dies or hangs, the evaluation fails.

    :param check_in: called repeatedly while waiting; an exception from it ends the wait.
    """

    def __init__(
        self, spec: EnvSpec, env_kwargs: dict[str, Any], n_envs: int, check_in: Hook
    ) -> None:
        self.numbers = range(n_envs)
        n_workers = min(n_envs, available_cores())
        self._name = spec.id
        self._check_in = check_in
        self._workers: list[Worker] = []
        # `Finalize` also closes the processes if this object is deleted or the program ends before `close` is called
        self.close = multiprocessing.util.Finalize(
            self, _close_all, args=(self._workers,), exitpriority=10
        )
        for worker in range(n_workers):
            self._workers.append(Worker(spec, env_kwargs, self.numbers[worker::n_workers]))

    @functools.cached_property
    def spaces(self) -> Spaces:
        """Observation and action space; waits until every process has created its environments."""
        spaces: Spaces = self._receive(self._workers)[0]
        return spaces

    def advance(
        self, numbers: Sequence[int], chunks: np.ndarray, openings: Mapping[int, int]
    ) -> Progress:
        """Execute a chunk in some environments, and start episodes in idle ones.

        :param numbers: environments with a running episode.
        :param chunks: actions for these environments, shape (len(numbers), H, A).
        :param openings: idle environment -> reset seed of its next episode.
        :raises WorkerError: if a process died or hung, or an environment raised an exception; UsageError and
            EnvironmentFault are raised unchanged.
        """
        n_workers = len(self._workers)
        asked = []
        for index, worker in enumerate(self._workers):
            rows = [row for row, number in enumerate(numbers) if number % n_workers == index]
            running = [numbers[row] for row in rows]
            seeds = {
                number: seed for number, seed in openings.items() if number % n_workers == index
            }
            if running or seeds:
                worker.send(running, chunks[rows], seeds)
                asked.append(worker)
        observations: dict[int, Any] = {}
        endings: dict[int, EpisodeTotals] = {}
        for running_part, finished_part in self._receive(asked):
            observations |= running_part
            endings |= finished_part
        return observations, endings

    def _receive(self, workers: Sequence[Worker]) -> list[Any]:
        """Return the next answer of each process, once all have answered.

        :raises WorkerError: if a process has ended or hangs.
        """
        waiting = [worker.connection for worker in workers]
        polls = 0  # count polls instead of using a clock, which continues while the program is suspended
        while waiting:
            answered = multiprocessing.connection.wait(waiting, POLL_SECONDS)
            waiting = [connection for connection in waiting if connection not in answered]
            polls += not answered
            if polls * POLL_SECONDS > ANSWER_SECONDS:
                raise WorkerError(
                    f"the environment process of `{self._name}` hung: it did not answer for {ANSWER_SECONDS:.0f} s"
                )
            self._check_in()
        return [worker.receive() for worker in workers]


# -- processes --------------------------------------------------------------------------------------------------------


class Worker:
    """A process with some environments of a pool; it ends when its parent ends.

    :param numbers: numbers of these environments in the pool.
    """

    def __init__(self, spec: EnvSpec, env_kwargs: dict[str, Any], numbers: range) -> None:
        self._name = spec.id
        entry_point = str(spec.entry_point)
        # fork workers from a server that has imported modules; forks of this process, which has threads, could hang
        context = multiprocessing.get_context("forkserver")
        # the server imports these modules before it forks, which must not start threads or create random generators: a
        # fork loses threads, and copies generators, so that all processes would sample the same numbers
        modules = ["zoo.evaluation.preload"]
        simulator = entry_point.partition(":")[0]
        # with a backend that does not work, MuJoCo's import would end the server
        may_fail = VARIABLE in os.environ and "mujoco" not in sys.modules
        if simulator.partition(".")[0] in SIMULATORS and not may_fail:
            modules.append(simulator)
        context.set_forkserver_preload(modules)
        self.connection, child_end = context.Pipe()
        build = CloudpickleWrapper(functools.partial(_build, spec, env_kwargs, numbers))  # type: ignore[type-var]
        arguments = (child_end, dict(os.environ), build)
        # not a daemon, because daemons may not start processes, but an environment may need some
        self.process = context.Process(target=_serve, args=arguments, daemon=False)
        start_server()
        # do not import the main module, because a script without `if __name__ == "__main__"` would run again;
        # the exception is a script that defines the environment
        with environment_of_children(imports_main=entry_point.startswith("__main__:")):
            self.process.start()
        child_end.close()

    def send(self, *arguments: Any) -> None:
        """Request a call to `EnvGroup.advance`; the previous answer must have been received.

        :raises WorkerError: if the process has ended.
        """
        try:
            self.connection.send(arguments)
        except OSError as error:
            raise self._explain_death() from error

    def receive(self) -> Any:
        """Wait for the next answer and return it: first the spaces, then the result of each call.

        :raises UsageError: if an environment raised a UsageError.
        :raises EnvironmentFault: if an environment raised an EnvironmentFault.
        :raises WorkerError: if the process has ended or raised another exception; the traceback is a note of its cause.
        """
        try:
            answer = self.connection.recv()
        except (EOFError, OSError) as error:
            raise self._explain_death() from error
        if isinstance(answer, WorkerError):
            raise WorkerError(
                f"the environment of `{self._name}` failed in its process: {answer}"
            ) from answer
        if isinstance(answer, Exception):
            raise answer
        return answer

    def _explain_death(self) -> WorkerError:
        """Return the exception for a process that has ended."""
        self.process.join(CLOSE_SECONDS)
        code = self.process.exitcode
        ending = f"ended with exit code {code}"
        if code and code < 0:
            ending = f"was killed by signal {-code}"
        return WorkerError(
            f"the environment process of `{self._name}` {ending}; if memory ran out, use fewer environments"
        )


def _close_all(workers: list[Worker]) -> None:
    """Close the connections of all processes, wait for the processes to end, and kill those that do not."""
    for worker in workers:
        worker.connection.close()
    end = time.monotonic() + CLOSE_SECONDS
    for worker in workers:
        worker.process.join(max(end - time.monotonic(), 0.0))
        if worker.process.is_alive():
            worker.process.kill()
            worker.process.join(CLOSE_SECONDS)
        # on a busy system, a killed process may take longer to end, and `close` then raises
        with contextlib.suppress(ValueError):
            worker.process.close()


# -- the environments of a process ------------------------------------------------------------------------------------


class EnvGroup:
    """The environments of one process, stepped one after the other; for windows and videos, in the main process.

    :param numbers: numbers of the environments in the pool.
    """

    def __init__(self, spec: EnvSpec, env_kwargs: dict[str, Any], numbers: range) -> None:
        self.numbers = numbers
        self.after_step: Hook = lambda: None
        """Called after each reset and step."""
        self.envs: dict[int, RepeatableEnv] = {}
        # close each environment once, even if another cannot be created or closed
        with contextlib.ExitStack() as stack:
            for number in numbers:
                env = make_env(spec, **env_kwargs)
                stack.callback(env.close)
                self.envs[number] = env
            self.close = stack.pop_all().close
        first = self.envs[numbers[0]]
        self._totals = dict.fromkeys(numbers, EpisodeTotals())
        self.spaces: Spaces = (first.observation_space, first.action_space)  # type: ignore[assignment]

    def advance(
        self, numbers: Sequence[int], chunks: np.ndarray, openings: Mapping[int, int]
    ) -> Progress:
        """Execute a chunk open loop in some environments, and start episodes in others.

        :param numbers: environments with a running episode.
        :param chunks: actions for these environments, (len(numbers), H, A); actions after an episode's end are dropped.
        :param openings: idle environment -> reset seed of its next episode.
        """
        observations: dict[int, Any] = {}
        endings: dict[int, EpisodeTotals] = {}
        for number, chunk in zip(numbers, chunks, strict=True):
            for action in chunk:
                observation, reward, terminated, truncated, info = self.envs[number].step(action)
                self.after_step()
                self._totals[number] = self._totals[number].after_step(reward, info)
                if terminated or truncated:
                    endings[number] = self._totals[number]
                    break
            else:  # the episode has not ended
                observations[number] = observation
        for number, seed in openings.items():
            observations[number], _ = self.envs[number].reset(seed=seed)
            self.after_step()
            self._totals[number] = EpisodeTotals()
        return observations, endings


def _build(spec: EnvSpec, env_kwargs: dict[str, Any], numbers: range) -> EnvGroup:
    """Return the environments of a worker process; only the process with environment 0 calls `try_env`.

    :raises UsageError: if `try_env` rejects the environment.
    """
    np.random.seed()  # reseed, because all processes were forked with the same global generator
    group = EnvGroup(spec, env_kwargs, numbers)
    with contextlib.ExitStack() as stack:
        stack.callback(group.close)
        if 0 in numbers:
            try_env(group.envs[0])
        stack.pop_all()
    return group


def _serve(
    connection: multiprocessing.connection.Connection,
    variables: dict[str, str],
    build: Callable[[], EnvGroup],
) -> None:
    """Run a worker process: create the environments, then answer requests until the connection is closed."""
    os.environ.clear()
    os.environ.update(variables)  # the fork server's variables differ, see `start_server`
    prepare_child()
    group = _attempt(build)
    is_built = isinstance(group, EnvGroup)
    answer = group.spaces if is_built else group
    while True:
        try:
            connection.send(answer)
            arguments = connection.recv()
        except (EOFError, OSError):
            break
        answer = _attempt(group.advance, *arguments)
    if is_built:
        group.close()


def _attempt(function: Callable[..., Any], *arguments: Any) -> Any:
    """Return the result of a function, or its exception in a form that can be pickled."""
    try:
        return function(*arguments)
    except (UsageError, EnvironmentFault) as error:
        return type(error)(str(error))
    except (Exception, SystemExit) as error:
        failure = WorkerError(describe_error(error))
        # pickling an exception keeps its notes, but no traceback
        failure.add_note(traceback.format_exc())
        return failure
