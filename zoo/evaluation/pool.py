"""Environments spread over worker processes; one message plays whole action chunks and begins the next episodes.

.. code-block:: text

    main process                          worker 0: environments 0, 2, 4   worker 1: environments 1, 3
    send(running, chunks, openings)   ->  step a chunk in each, reset others
    receive() -> Progress             <-  who still runs, observations, endings

Gymnasium's and SB3's vector environments have a process for each environment and send it a message in each step. On two
cores an evaluation of chunks in a maze takes three to four times as much processor time with them.
"""

from __future__ import annotations

import functools
import multiprocessing.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import gymnasium
import numpy as np
from gymnasium.envs.registration import EnvSpec

from zoo.envs.make import make_env
from zoo.envs.probe import probe
from zoo.envs.repeatable import RepeatableEnv
from zoo.evaluation.workers import (
    Hook,
    WorkerProcess,
    available_cores,
    close_all,
    wait_for_answers,
)
from zoo.runs.episodes import UNREPORTED

MAX_MAZES = 64
MIN_SCENES = 8
SIMULATORS = ("gymnasium", "gymnasium_robotics", "ogbench", "zoo")
"""Packages whose modules are imported before processes are forked."""

Spaces = tuple[gymnasium.Space[Any], gymnasium.spaces.Box]


class EpisodeTotals(NamedTuple):
    """Return, length and success of an episode, so far or at its end.

    :param success: that of its last step, or `UNREPORTED`.
    :param any_success: the same of any of its steps.
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


@dataclass
class Progress:
    """The report of one process or several.

    :param observations: environment in the middle of an episode -> its observation.
    :param endings: environment -> the episode that it finished; it is idle now.
    """

    observations: dict[int, Any]
    endings: dict[int, EpisodeTotals]


def modules_to_preload(entry_point: str) -> list[str]:
    """Return the modules that the server imports before it forks the processes of environments.

    Only modules that start no threads and make no random generators when they are imported: a fork would copy the
    generators, so that all processes draw the same numbers, and would lose the threads. Others are imported after it.

    :param entry_point: of the environment.
    """
    modules = ["zoo.evaluation.preload"]
    module = entry_point.partition(":")[0]
    if module.partition(".")[0] in SIMULATORS:
        modules.append(module)
    return modules


class EnvGroup:
    """The environments of one process, played one after the other.

    :param numbers: of the environments in the pool; the process of number 0 probes it (`zoo.envs.probe`) for all.
    :raises UsageError: if the probe refuses it.
    """

    def __init__(self, spec: EnvSpec, env_kwargs: dict[str, Any], numbers: range) -> None:
        np.random.seed()  # anew: all processes were forked with the same global generator
        self._envs: dict[int, RepeatableEnv] = {}
        for number in numbers:
            self._envs[number] = make_env(spec, **env_kwargs)
            self._envs[number].set_name(f"evaluation environment {number}")
        first = self._envs[numbers[0]]
        if numbers[0] == 0:
            probe(first, lambda: make_env(spec, **env_kwargs))
        self._totals = dict.fromkeys(numbers, EpisodeTotals())
        self.spaces: Spaces = (first.observation_space, first.action_space)  # type: ignore[assignment]

    def advance(
        self, numbers: Sequence[int], chunks: np.ndarray, openings: Mapping[int, int]
    ) -> Progress:
        """Play a chunk open loop in some environments, and begin episodes in others.

        :param numbers: of the environments to play.
        :param chunks: their actions, (len(numbers), H, A); actions after an episode's end are dropped.
        :param openings: environment -> the reset seed of the episode that it begins.
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
            else:  # the episode goes on
                observations[number] = observation
        for number, seed in openings.items():
            observations[number], _ = self._envs[number].reset(seed=seed)
            self._totals[number] = EpisodeTotals()
        return Progress(observations, endings)

    def close(self) -> None:
        """Close the environments."""
        for env in self._envs.values():
            env.close()


class EnvPool:
    """Environments in child processes, at most one per processor core; they are built in the background.

    The planning process steps no environment, so no environment can stop it. With one or two child processes it plans
    once for all environments, after both have reported, since a plan takes processor time from those that play. With
    more processes it plans for those that have reported.

    A process that dies or hangs ends the evaluation.

    :param check_in: called again and again during waits; an exception of it ends the wait.
    """

    def __init__(
        self, spec: EnvSpec, env_kwargs: dict[str, Any], n_envs: int, check_in: Hook
    ) -> None:
        self.n_envs = n_envs
        n_workers = min(n_envs, available_cores())
        self._check_in = check_in
        self._spaces: Spaces | None = None
        entry_point = spec.entry_point if isinstance(spec.entry_point, str) else ""
        self._workers: list[WorkerProcess] = []
        # closes them also when this object is forgotten, or the program ends without a call of `close`
        self.close = multiprocessing.util.Finalize(
            self, close_all, args=(self._workers,), exitpriority=10
        )
        for worker in range(n_workers):
            numbers = range(worker, n_envs, n_workers)
            self._workers.append(
                WorkerProcess(
                    functools.partial(EnvGroup, spec, env_kwargs, numbers),
                    spec.id,
                    modules_to_preload(entry_point),
                    # a script without `if __name__ == "__main__"` must not run again, unless it defines the environment
                    imports_main=entry_point.startswith("__main__:"),
                )
            )
        self._busy: list[WorkerProcess] = []  # those that owe an answer

    @property
    def spaces(self) -> Spaces:
        """Observation and action space, as soon as every process has built its environments."""
        if self._spaces is None:
            needed = len(self._workers)
            answered = wait_for_answers(self._workers, needed, 0.0, self._check_in)
            # each process's answer must be taken before it gets work
            self._spaces, *_ = [worker.receive() for worker in answered]
        return self._spaces

    def send(self, numbers: Sequence[int], chunks: np.ndarray, openings: Mapping[int, int]) -> None:
        """Make environments play a chunk, and others begin episodes; :meth:`receive` waits for the answers.

        :param numbers: environments to play, each from 0 to ``n_envs`` - 1 and in the middle of an episode.
        :param chunks: their actions, shape (len(numbers), H, A).
        :param openings: idle environment to the reset seed of the episode that it begins.
        """
        n_workers = len(self._workers)
        for index, worker in enumerate(self._workers):
            rows = [row for row, number in enumerate(numbers) if number % n_workers == index]
            running = [numbers[row] for row in rows]
            seeds = {
                number: seed for number, seed in openings.items() if number % n_workers == index
            }
            if running or seeds:
                worker.send(running, chunks[rows], seeds)
                self._busy.append(worker)

    def receive(self, patience: float = 0.0) -> Progress | None:
        """Return the reports of processes, as soon as there is one; None if no process has work.

        :param patience: how long to wait for the other processes after one has answered, in seconds, if there are more
            than two.
        :raises WorkerError: if an environment raised, or its process died or hung.
        """
        if not self._busy:
            return None
        needed = len(self._busy) if len(self._workers) <= 2 else 1
        progress = Progress({}, {})
        # in the order of the processes, whichever has answered first
        for worker in wait_for_answers(self._workers_at_work(), needed, patience, self._check_in):
            part: Progress = worker.receive()
            self._busy.remove(worker)
            progress.observations |= part.observations
            progress.endings |= part.endings
        return progress

    def _workers_at_work(self) -> list[WorkerProcess]:
        return [worker for worker in self._workers if worker in self._busy]


def count_environments(spec: EnvSpec, episodes: int) -> int:
    """Return the number of environments to play some episodes in.

    A message and a plan cost about as much as several steps of a maze. Mazes are cheap to build, so there are enough of
    them to share these costs; a manipulation scene takes seconds and 170 MB, so there are two for a core, or eight.
    """
    count = max(MIN_SCENES, 2 * available_cores())
    if str(spec.entry_point).startswith("ogbench.locomaze"):
        count = MAX_MAZES
    return min(count, episodes)
