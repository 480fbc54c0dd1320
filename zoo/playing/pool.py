"""Environments spread over processes; one message plays whole action chunks and begins the next episodes.

Gymnasium's and SB3's vector environments send one message per environment and step, and cannot begin a chosen episode
in one environment while the others play on. Workers here import no torch, and a whole process is served by one message.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import gymnasium
import numpy as np
from gymnasium.envs.registration import EnvSpec

from zoo.envs.make import find_spec, make_env
from zoo.processes import ServingProcess, available_cores, close_at_exit, wait_for_answers

MOST_MAZES = 64
FEWEST_SCENES = 8
PIPE_BYTES = 8192  # every pipe holds this much; a longer message could wait for an answer that waits for it

Spaces = tuple[gymnasium.spaces.Box, gymnasium.spaces.Box]


class Ending(NamedTuple):
    """The result of a finished episode; ``success`` is that of its last step, or None."""

    episode_return: float
    length: int
    success: int | None


@dataclass
class Progress:
    """What one process or several report.

    :param running: numbers of the environments that are in the middle of an episode now.
    :param observations: what they see, shape (len(running), O).
    :param endings: environment to the episode that it finished; it is idle now.
    """

    running: list[int]
    observations: np.ndarray
    endings: dict[int, Ending]


class EnvGroup:
    """The environments of one process, played one after the other."""

    def __init__(self, spec: EnvSpec, env_kwargs: dict[str, Any], count: int) -> None:
        self._envs = [make_env(spec, **env_kwargs) for _ in range(count)]
        self._totals = [(0.0, 0)] * count  # return and length of the running episode
        self.spaces: Spaces = (self._envs[0].observation_space, self._envs[0].action_space)  # type: ignore[assignment]

    def advance(self, numbers: Sequence[int], chunks: np.ndarray, openings: Mapping[int, int]) -> Progress:
        """Play a chunk in each environment named, and begin episodes in others.

        :param chunks: their actions, shape (len(numbers), H, A); what an episode's end leaves of a chunk is dropped.
        :param openings: environment to the reset seed of the episode that it begins.
        """
        observations: dict[int, np.ndarray] = {}
        endings: dict[int, Ending] = {}
        for number, chunk in zip(numbers, chunks, strict=True):
            observation, ending = self._play(number, chunk)
            if ending is None:
                observations[number] = observation
            else:
                endings[number] = ending
        for number, seed in openings.items():
            observations[number], _ = self._envs[number].reset(seed=seed)
            self._totals[number] = (0.0, 0)
        space = self.spaces[0]
        rows = np.array(list(observations.values()), space.dtype).reshape(-1, *space.shape)
        return Progress(list(observations), rows, endings)

    def close(self) -> None:
        """Close the environments."""
        for env in self._envs:
            env.close()

    def _play(self, number: int, chunk: np.ndarray) -> tuple[np.ndarray, Ending | None]:
        """Execute one chunk open loop and return the last observation and, if the episode ended, its result."""
        env = self._envs[number]
        total, length = self._totals[number]
        ending = None
        for action in chunk:
            observation, reward, terminated, truncated, info = env.step(action)
            total, length = total + float(reward), length + 1
            if terminated or truncated:
                ending = Ending(total, length, info.get("success"))
                break
        self._totals[number] = (total, length)
        return observation, ending


class EnvPool:
    """Environments in one process per processor core; with one or two cores this process is among them.

    With so few cores a further process that sends, receives and plans would take its time from those that play. So this
    one plays its share too, and the other waits while it plans: a step costs less in all. With more cores this process
    does not play, and serves whichever is done.

    Other processes start building at once, in the background; ``spaces`` and ``send`` wait for them, and build what
    this process plays.
    """

    def __init__(self, spec: EnvSpec, env_kwargs: dict[str, Any], n_envs: int) -> None:
        self.n_envs = n_envs
        n_workers = min(n_envs, available_cores())
        counts = [len(range(worker, n_envs, n_workers)) for worker in range(n_workers)]
        builders = [functools.partial(EnvGroup, spec, env_kwargs, count) for count in counts]
        self._plays_too = n_workers <= 2
        here = [_InThisProcess(builders.pop(0))] if self._plays_too else []
        self._workers: list[ServingProcess | _InThisProcess] = [*here, *(_start(build, spec) for build in builders)]
        self._owed = [0] * n_workers  # answers that each process has still to give
        self._spaces: Spaces | None = None
        self._stay_at_exit = close_at_exit(self)

    @property
    def n_processes(self) -> int:
        """How many processes play."""
        return len(self._workers)

    @property
    def spaces(self) -> Spaces:
        """Observation and action space, as soon as every process has built its environments."""
        if self._spaces is None:
            self._spaces = [worker.receive() for worker in self._workers][-1]
        return self._spaces

    def send(self, numbers: Sequence[int], chunks: np.ndarray, openings: Mapping[int, int]) -> None:
        """Make environments play a chunk, and others begin episodes; :meth:`receive` waits for the answers.

        An idle process gets two messages, so that it has work left while its first answer is read, unless this process
        plays too, which reads no answer before it is done.

        :param numbers: environments to play, each from 0 to ``n_envs`` - 1 and in the middle of an episode.
        :param chunks: their actions, shape (len(numbers), H, A).
        :param openings: idle environment to the reset seed of the episode that it begins.
        """
        observation = self.spaces[0]
        row_bytes = min(chunks.itemsize * chunks[:1].size, observation.dtype.itemsize * math.prod(observation.shape))
        n_workers = len(self._workers)
        for worker in range(n_workers):
            rows = [row for row, number in enumerate(numbers) if number % n_workers == worker]
            begun = [number for number in openings if number % n_workers == worker]
            too_long = (len(rows) + len(begun)) * row_bytes > PIPE_BYTES
            messages = 1 if self._plays_too or self._owed[worker] or too_long else 2
            for message in range(messages):
                own, opened = rows[message::messages], begun[message::messages]
                if own or opened:
                    seeds = {number // n_workers: openings[number] for number in opened}
                    self._workers[worker].send([numbers[row] // n_workers for row in own], chunks[own], seeds)
                    self._owed[worker] += 1

    def receive(self, patience: float = 0.0) -> Progress | None:
        """Return what the processes report, as soon as one does; None if none has anything to do.

        If this process plays too, it does so now, and then waits for the other one.

        :param patience: how long to wait for the other processes after one has answered, in seconds.
        :raises WorkerError: if an environment raised in another process, or the process died. In this process it raises
            what it raises.
        """
        asked = [worker for worker, owed in enumerate(self._owed) if owed]
        if not asked:
            return None
        running: list[int] = []
        observations: list[np.ndarray] = []
        endings: dict[int, Ending] = {}
        for worker in self._answering(asked, patience):
            n_workers, answered = len(self._workers), True
            while answered:
                part: Progress = self._workers[worker].receive()
                self._owed[worker] -= 1
                running += [number * n_workers + worker for number in part.running]
                observations.append(part.observations)
                endings |= {number * n_workers + worker: ending for number, ending in part.endings.items()}
                answered = self._owed[worker] > 0 and self._workers[worker].has_answered()
        return Progress(running, np.concatenate(observations), endings)

    def _answering(self, asked: Sequence[int], patience: float) -> list[int]:
        """Return which workers have answered, soon after the first; all of them if this process has yet to play."""
        others = {worker: one for worker in asked if isinstance(one := self._workers[worker], ServingProcess)}
        if len(others) < len(asked):
            return list(asked)
        there = wait_for_answers(list(others.values()), patience)
        return [worker for worker in asked if others[worker] in there]

    def close(self) -> None:
        """End the processes; harmless when repeated."""
        for worker in self._workers:
            worker.hang_up()
        for worker in self._workers:
            worker.close()
        self._workers = []
        self._stay_at_exit()


def _start(build: functools.partial[EnvGroup], spec: EnvSpec) -> ServingProcess:
    simulator = [spec.entry_point.partition(":")[0]] if isinstance(spec.entry_point, str) else []
    preload = ["zoo.playing.preload", *simulator]
    return ServingProcess(build, "advance", what="environment", name=spec.id, preload=preload)


class _InThisProcess:
    """Plays the group here, when its answer is asked for: by then the other processes are at work."""

    def __init__(self, build: functools.partial[EnvGroup]) -> None:
        self._build = build
        self._group: EnvGroup | None = None
        self._asked: tuple[Any, ...] = ()

    def send(self, *arguments: Any) -> None:
        """Remember what to do."""
        self._asked = arguments

    def receive(self) -> Any:
        """Do it and return the answer."""
        if self._group is None:
            self._group = self._build()
            return self._group.spaces
        return self._group.advance(*self._asked)

    def has_answered(self) -> bool:
        """Return False: there is never a second answer."""
        return False

    def hang_up(self) -> None:
        """Nothing to tell."""

    def close(self) -> None:
        """Close the environments."""
        if self._group is not None:
            self._group.close()


def count_environments(env_id: str | EnvSpec, env_kwargs: dict[str, Any], episodes: int) -> int:
    """Return how many environments play some episodes well.

    A message and a plan cost about as much as several steps of a maze. Mazes are cheap to build, so there are enough of
    them to share these costs; a manipulation scene takes seconds and 170 MB, so there are two for a core, or eight.

    """
    entry_point = find_spec(env_id, **env_kwargs).entry_point
    maze = isinstance(entry_point, str) and entry_point.startswith("ogbench.locomaze")
    return min(MOST_MAZES if maze else max(FEWEST_SCENES, 2 * available_cores()), episodes)
