"""Environments in worker processes; one message executes whole action chunks and starts the next episodes.

.. code-block:: text

    main process                          worker 0: environments 0, 2, 4   worker 1: environments 1, 3
    advance(running, chunks, openings)  ->  step a chunk in each, reset others
    -> observations, endings            <-  running episodes, finished episodes

Gymnasium's and SB3's vector environments have a process for each environment and send it a message in each step. On two
cores an evaluation of chunks in a maze takes three to four times as much CPU time with them.
"""

from __future__ import annotations

import contextlib
import functools
import multiprocessing
import multiprocessing.connection
import multiprocessing.util
import os
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
from zoo.evaluation.workers import (
    CLOSE_SECONDS,
    available_cores,
    environment_of_children,
    prepare_child,
    start_server,
)
from zoo.runs.scores import UNREPORTED
from zoo.terminal.errors import EnvironmentFault, UsageError

MAX_MAZES = 64
MIN_SCENES = 8
SIMULATORS = ("gymnasium", "gymnasium_robotics", "ogbench", "zoo")
"""Packages whose modules are imported before processes are forked."""

POLL_SECONDS = 0.25
"""Time between two looks at whether the wait is to end."""
ANSWER_SECONDS = 600.0
"""Time limit of an answer: an environment may import, build or take long steps."""

Spaces = tuple[gymnasium.Space[Any], gymnasium.spaces.Box]
Hook = Callable[[], None]
"""Called at each answer and every `POLL_SECONDS`; its exception ends the wait."""


class WorkerError(RuntimeError):
    """A process failed, for the reason in the message."""


class EpisodeTotals(NamedTuple):
    """Return, length and success of an episode, so far or at its end.

    :param success: success of the last step, or `UNREPORTED`.
    :param any_success: success of any step, or `UNREPORTED`.
    """

    episode_return: float = 0.0
    length: int = 0
    success: int = UNREPORTED
    any_success: int = UNREPORTED

    def after_step(self, reward: float, info: Mapping[str, Any]) -> EpisodeTotals:
        """Return the totals with one more step."""
        success = info.get("success")
        if success is None:
            success = UNREPORTED
        any_success = max(self.any_success, success)
        return EpisodeTotals(self.episode_return + reward, self.length + 1, success, any_success)


Progress = tuple[dict[int, Any], dict[int, EpisodeTotals]]
"""Observations by environment of a running episode, and totals by environment of a finished one."""


def count_environments(spec: EnvSpec, episodes: int) -> int:
    """Return the number of environments for an evaluation.

    A message and sampling a chunk cost about as much as several steps of a maze. Mazes are cheap to build, so there are
    enough of them to share these costs; a manipulation scene takes seconds and 170 MB, so there are two for a core, or
    eight.
    """
    count = max(MIN_SCENES, 2 * available_cores())
    if str(spec.entry_point).startswith("ogbench.locomaze"):
        count = MAX_MAZES
    return min(count, episodes)


class EnvPool:
    """Environments in child processes, at most one per processor core; they are built in the background.

    The parent steps no environment, so no environment can stop it. It samples chunks for all environments once every
    process has answered. A process that dies or hangs ends the evaluation.

    :param check_in: called repeatedly during waits; its exception ends the wait.
    """

    def __init__(
        self, spec: EnvSpec, env_kwargs: dict[str, Any], n_envs: int, check_in: Hook
    ) -> None:
        n_workers = min(n_envs, available_cores())
        self._name = spec.id
        self._check_in = check_in
        self._workers: list[Worker] = []
        # closes them also when this object is forgotten, or the program ends without a call of `close`
        self.close = multiprocessing.util.Finalize(
            self, _close_all, args=(self._workers,), exitpriority=10
        )
        for worker in range(n_workers):
            numbers = range(worker, n_envs, n_workers)
            self._workers.append(Worker(spec, env_kwargs, numbers))

    @functools.cached_property
    def spaces(self) -> Spaces:
        """Observation and action space, once every process has built its environments."""
        spaces: Spaces = self._receive(self._workers)[0]
        return spaces

    def advance(
        self, numbers: Sequence[int], chunks: np.ndarray, openings: Mapping[int, int]
    ) -> Progress:
        """Execute a chunk in some environments, and start episodes in idle ones.

        :param numbers: environments with a running episode.
        :param chunks: their actions, shape (len(numbers), H, A).
        :param openings: idle environment to the reset seed of its next episode.
        :raises WorkerError: if an environment raised, or its process died or hung.
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

        :raises WorkerError: if one has ended or hangs.
        """
        waiting = [worker.connection for worker in workers]
        polls = 0  # counted instead of timed, because a clock also counts while the program is suspended
        while waiting:
            answered = multiprocessing.connection.wait(waiting, POLL_SECONDS)
            waiting = [connection for connection in waiting if connection not in answered]
            polls += not answered
            if polls * POLL_SECONDS > ANSWER_SECONDS:
                raise WorkerError(
                    f"the environment process of `{self._name}` hung: it gave no answer for {ANSWER_SECONDS:.0f} s"
                )
            self._check_in()
        return [worker.receive() for worker in workers]


# -- processes --------------------------------------------------------------------------------------------------------


class Worker:
    """A process with some environments of a pool; it never outlives its parent.

    :param numbers: numbers of the environments.
    """

    def __init__(self, spec: EnvSpec, env_kwargs: dict[str, Any], numbers: range) -> None:
        self._name = spec.id
        entry_point = spec.entry_point if isinstance(spec.entry_point, str) else ""
        # forked from a server that has the imports, never from this process's threads
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(modules_to_preload(entry_point))
        self.connection, child_end = context.Pipe()
        build = CloudpickleWrapper(functools.partial(EnvGroup, spec, env_kwargs, numbers))  # type: ignore[type-var]
        arguments = (child_end, dict(os.environ), build)
        # not a daemon, because an environment may start processes
        self.process = context.Process(target=_serve, args=arguments, daemon=False)
        start_server()
        # a script without `if __name__ == "__main__"` must not run again, unless it defines the environment
        with environment_of_children(imports_main=entry_point.startswith("__main__:")):
            self.process.start()
        child_end.close()

    def send(self, *arguments: Any) -> None:
        """Request a call of `EnvGroup.advance`, after the previous answer was received.

        :raises WorkerError: if the process has ended.
        """
        try:
            self.connection.send(arguments)
        except OSError as error:
            raise self._explain_death() from error

    def receive(self) -> Any:
        """Return the next answer, waiting for it: first the spaces, then one for each call.

        :raises UsageError: if an environment raised one.
        :raises EnvironmentFault: if an environment raised one.
        :raises WorkerError: if the process has ended, or raised anything else, with its traceback.
        """
        try:
            answer = self.connection.recv()
        except (EOFError, OSError) as error:
            raise self._explain_death() from error
        if isinstance(answer, WorkerError):
            raise WorkerError(f"the environment of `{self._name}` failed in its process:\n{answer}")
        if isinstance(answer, Exception):
            raise answer
        return answer

    def _explain_death(self) -> WorkerError:
        """Return the exception for a process that has ended."""
        self.process.join(CLOSE_SECONDS)
        code = self.process.exitcode
        ending = f"ended with exit code {code}"
        if code is not None and code < 0:
            ending = f"was killed by signal {-code}"
        return WorkerError(
            f"the environment process of `{self._name}` {ending}; if memory ran out, use fewer environments"
        )


def _close_all(workers: list[Worker]) -> None:
    """Close the connections of processes, wait for all of them together, and kill any that remain."""
    for worker in workers:
        worker.connection.close()
    end = time.monotonic() + CLOSE_SECONDS
    for worker in workers:
        worker.process.join(max(end - time.monotonic(), 0.0))
        if worker.process.is_alive():
            worker.process.kill()
            worker.process.join(CLOSE_SECONDS)
        with contextlib.suppress(ValueError):  # a busy system is still ending it
            worker.process.close()
    workers.clear()


def modules_to_preload(entry_point: str) -> list[str]:
    """Return the modules that the server imports before it forks the processes of environments.

    Only modules that start no threads and make no random generators when they are imported: a fork would copy the
    generators, so that all processes draw the same numbers, and would lose the threads. Others are imported after it.

    :param entry_point: entry point of the environment.
    """
    modules = ["zoo.evaluation.preload"]
    module = entry_point.partition(":")[0]
    if module.partition(".")[0] in SIMULATORS:
        modules.append(module)
    return modules


# -- in a child process -----------------------------------------------------------------------------------------------


class EnvGroup:
    """The environments of one process, stepped one after the other.

    :param numbers: numbers of the environments in the pool; the process of number 0 tries the environment for all.
    :raises UsageError: if the trial rejects it.
    """

    def __init__(self, spec: EnvSpec, env_kwargs: dict[str, Any], numbers: range) -> None:
        np.random.seed()  # seeded anew, because all processes were forked with the same global generator
        self._envs: dict[int, RepeatableEnv] = {}
        # each is closed once, even if a later one cannot be created or closed
        with contextlib.ExitStack() as stack:
            for number in numbers:
                env = make_env(spec, **env_kwargs)
                stack.callback(env.close)
                env.set_name(f"evaluation environment {number}")
                self._envs[number] = env
            first = self._envs[numbers[0]]
            if numbers[0] == 0:
                try_env(first)
            self.close = stack.pop_all().close
        self._totals = dict.fromkeys(numbers, EpisodeTotals())
        self.spaces: Spaces = (first.observation_space, first.action_space)  # type: ignore[assignment]

    def advance(
        self, numbers: Sequence[int], chunks: np.ndarray, openings: Mapping[int, int]
    ) -> Progress:
        """Execute a chunk open loop in some environments, and start episodes in other ones.

        :param numbers: environments with a running episode.
        :param chunks: their actions, (len(numbers), H, A); actions after an episode's end are dropped.
        :param openings: idle environment to the reset seed of its next episode.
        """
        observations: dict[int, Any] = {}
        endings: dict[int, EpisodeTotals] = {}
        for number, chunk in zip(numbers, chunks, strict=True):
            for action in chunk:
                observation, reward, terminated, truncated, info = self._envs[number].step(action)
                self._totals[number] = self._totals[number].after_step(reward, info)
                if terminated or truncated:
                    endings[number] = self._totals[number]
                    break
            else:  # the episode has not ended
                observations[number] = observation
        for number, seed in openings.items():
            observations[number], _ = self._envs[number].reset(seed=seed)
            self._totals[number] = EpisodeTotals()
        return observations, endings


def _serve(
    connection: multiprocessing.connection.Connection,
    variables: dict[str, str],
    build: Callable[[], EnvGroup],
) -> None:
    """Run a process: build the environments, then answer until the connection is closed."""
    os.environ.clear()
    os.environ.update(variables)  # the server has others, see `start_server`
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
    """Return a result, or the exception in a form that can be pickled."""
    try:
        return function(*arguments)
    except (UsageError, EnvironmentFault) as error:
        return type(error)(str(error))
    except (Exception, SystemExit):
        return WorkerError(traceback.format_exc())
