"""Play episodes with a policy in batches, open loop within a chunk; the number of environments changes no result."""

from __future__ import annotations

import itertools
import random
import time
from collections import deque
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Protocol, TypeAlias

import numpy as np
import torch
from gymnasium.envs.registration import EnvSpec

from agents.common.observations import Array
from agents.common.streams import Purpose, seed_for, torch_generator
from zoo.envs.checks import stack
from zoo.envs.make import find_spec, is_ogbench
from zoo.evaluation.pool import EnvPool, EpisodeTotals, Hook, Spaces, count_environments
from zoo.runs.episodes import UNREPORTED, EpisodeResults
from zoo.terminal.messages import log

NOISE_PLANS = 16  # plans whose noise is drawn at a time; part of the result, like the seed
Job: TypeAlias = tuple[int, int]
"""A replica, by position, and the number of an episode that it is to play."""
Rows: TypeAlias = tuple[Array, ...]
"""Replicas and episodes of several jobs, two arrays of the same length, as an index of arrays (S, episodes, ...)."""


class ChunkPolicy(Protocol):
    """A policy that plans chunks of actions for S replicas, the seeds of one algorithm."""

    @property
    def chunk_length(self) -> int:
        """H, the actions in a plan; a policy with an attribute ``played_length`` plays only so many of them."""

    @property
    def num_replicas(self) -> int:
        """S."""

    def draw_action_noise(self, rows: int, generator: torch.Generator) -> dict[str, torch.Tensor]:
        """Return the noise of some plans of one replica, drawn on the CPU: name to noise of shape (rows, ...)."""

    def plan(self, observations: Array, noise: dict[str, torch.Tensor]) -> Array:
        """Return the next H actions in every row; a row's actions depend on that row alone.

        :param observations: shape (S, B, O).
        :param noise: name to noise, each of shape (S, B, ...).
        :return: actions in the environment's units, clipped to its action space, shape (S, B, H, A).
        """


class Evaluator:
    """Plays the same episodes with any policy, in a pool of environments that stays alive between evaluations.

    Episode e starts from the same state for every policy and replica. Its noise depends only on the seed, the replica
    and e, and it always is row e of a batch of ``episodes`` rows, because a matrix product rounds differently at
    another batch size. So the number of environments changes the time taken and nothing else.

    :param n_envs: environments of the pool; None: as many as play the episodes fastest on this machine.
    :param seed: decides the starts and the noise.
    """

    check_in: Hook = staticmethod(lambda: None)
    """Called again and again during an evaluation; an exception of it ends the evaluation, which can be repeated."""

    def __init__(
        self,
        env_id: str | EnvSpec,
        *,
        episodes: int,
        n_envs: int | None,
        seed: int,
        env_kwargs: dict[str, Any] | None = None,
    ) -> None:
        self.episodes = episodes
        self.seed = seed
        self.episode_seeds = seeds_of_starts(seed, episodes)
        self._env_kwargs = dict(env_kwargs or {})
        self._spec = find_spec(env_id, **self._env_kwargs)
        self.n_envs = n_envs or count_environments(self._spec, episodes)
        has_limit = "TimeLimit" in str(self._env_kwargs.get("env_wrapper"))
        if self._spec.max_episode_steps is None and not has_limit:
            log.warning(
                "%s has no time limit (`max_episode_steps`), so an episode may never end",
                self._spec.id,
            )
        self._pool: EnvPool | None = None
        self._open_pool()
        if self._env_kwargs or not is_ogbench(self._spec):
            _ = self.spaces  # wait: the environment may yet be refused

    def __enter__(self) -> Evaluator:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    @property
    def spaces(self) -> Spaces:
        """Observation and action space; waits until the environments are built."""
        try:
            return self._open_pool().spaces
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End the environments' processes; a later evaluation starts new ones."""
        if self._pool is not None:
            self._pool.close()
            self._pool = None

    def evaluate(
        self,
        policy: ChunkPolicy,
        replicas: Sequence[int] | None = None,
        active: Collection[int] | None = None,
    ) -> EpisodeResults:
        """Play every episode with every replica.

        A replica that plans NaN or infinity ends its part there; the results of the others are the same as without it.

        :param policy: plans the actions; asked only when a chunk is used up, and always for all S * episodes rows.
        :param replicas: the number that stands for each replica in its noise seeds, length S; None is 0 to S - 1. The
            policy of replica k alone, with ``replicas=[k]``, plays the same episodes as together with others.
        :param active: which of the S replicas take part, by position; None: all.
        """
        if replicas is None:
            replicas = range(policy.num_replicas)
        if active is None:
            active = range(len(replicas))
        # the policy may draw from them
        python_state = random.getstate()
        numpy_state = np.random.get_state()
        torch_state = torch.get_rng_state()
        try:
            totals = self._play(policy, replicas, sorted(active))
        except BaseException:
            self.close()  # its episodes are left in the middle
            raise
        finally:
            random.setstate(python_state)
            np.random.set_state(numpy_state)
            torch.set_rng_state(torch_state)
        return results_of(totals, self.episode_seeds)

    def _play(self, policy: ChunkPolicy, names: Sequence[int], players: Sequence[int]) -> Array:
        """Play every episode with every player, and return their totals; any free environment takes the next one.

        A process that reports waits for the others no longer than a plan takes; the late ones get a plan of their own.
        """
        pool = self._open_pool()
        schedule = Schedule(players, (len(names), self.episodes), pool.n_envs)
        planner = BatchPlanner(policy, self.spaces, self.seed, names, self.episodes)
        running: list[int] = []
        chunks = np.empty((0, policy.chunk_length))
        while schedule.players:
            begun = schedule.begin()
            # of the environments' resets, which take Python's integers only
            seeds = {number: int(self.episode_seeds[job[1]]) for number, job in begun.items()}
            # an environment that comes later than a plan takes is better served by its own plan
            progress = pool.advance(running, chunks, seeds, patience=planner.seconds)
            if progress is None:
                return schedule.totals
            schedule.finish(progress.endings)
            running = list(progress.observations)
            if running:
                observations = list(progress.observations.values())
                chunks, diverged = planner.plan(schedule.rows_of(running), observations)
                schedule.drop(diverged)
        self.close()  # its episodes are left in the middle
        return schedule.totals

    def _open_pool(self) -> EnvPool:
        """Return the environments, which begin to be built at the first call."""
        if self._pool is None:
            # looked up at each call, since `check_in` may be assigned later
            self._pool = EnvPool(self._spec, self._env_kwargs, self.n_envs, lambda: self.check_in())
        return self._pool


def results_of(totals: Array, seeds: Array) -> EpisodeResults:
    """Return the results of episodes.

    :param totals: the `EpisodeTotals` of each, (4, S, episodes), zeros where it is missing.
    """
    lengths, at_end, at_any = totals[1:].astype(np.int64)
    is_played = lengths > 0

    def reported(successes: Array) -> Array | None:
        """Return successes, or None where no episode has reported any."""
        if (successes[is_played] == UNREPORTED).all():
            return None
        return successes

    return EpisodeResults(
        successes=reported(at_end),
        returns=totals[0],
        lengths=lengths,
        seeds=seeds,
        played=is_played.all(axis=1),
        any_successes=reported(at_any),
    )


def seeds_of_starts(seed: int, episodes: int) -> Array:
    """Return the reset seeds of an evaluation's episodes, (episodes,); each follows from the seed and its number."""
    return np.array(
        [seed_for(Purpose.EVALUATION_START, seed, episode) for episode in range(episodes)],
        np.uint32,
    )


class Schedule:
    """The job that each environment plays, the waiting jobs, and the results of finished ones.

    :param players: the replicas that take part; those that diverge are taken out.
    :param shape: replicas and episodes.
    """

    def __init__(self, players: Sequence[int], shape: tuple[int, int], n_envs: int) -> None:
        self.players = set(players)
        self.totals = np.zeros((4, *shape))
        self._n_envs = n_envs
        self._waiting = deque(itertools.product(players, range(shape[1])))
        self._playing: dict[int, Job] = {}  # by number of the environment

    def begin(self) -> dict[int, Job]:
        """Give each idle environment the next job; return these environments and their jobs."""
        begun = {}
        for number in range(self._n_envs):
            if self._waiting and number not in self._playing:
                begun[number] = self._playing[number] = self._waiting.popleft()
        return begun

    def finish(self, endings: Mapping[int, EpisodeTotals]) -> None:
        """Note the results of episodes that have ended, by environment."""
        for number, ending in endings.items():
            job = self._playing.pop(number)
            if job[0] in self.players:
                self.totals[:, *job] = ending

    def rows_of(self, numbers: Sequence[int]) -> Rows:
        """Return the rows of the batch that environments play."""
        return tuple(np.array([self._playing[number] for number in numbers]).T)

    def drop(self, replicas: set[int]) -> None:
        """Leave out the episodes of replicas that have diverged; those under way are played to their ends."""
        if replicas:
            self.players -= replicas
            self._waiting = deque(job for job in self._waiting if job[0] in self.players)
            self.totals[:, list(replicas)] = 0


class BatchPlanner:
    """Plans for some rows of a batch of all S * episodes rows, since a product rounds differently at another size.

    The noise of every episode is drawn a few plans ahead, from the episode's own generator.

    :param spaces: observation and action space.
    :param seed: decides the noise, with `names`, the number that stands for each replica.
    """

    seconds = 0.0
    """How long the last plan took."""

    def __init__(
        self, policy: ChunkPolicy, spaces: Spaces, seed: int, names: Sequence[int], episodes: int
    ) -> None:
        self._policy = policy
        self._played_length = getattr(policy, "played_length", policy.chunk_length)
        self._observation_space, self._action_space = spaces
        self._rows: Array | None = None  # the last observation of each episode, (S, episodes, O)
        self._shape = (len(names), episodes)
        self._generators = np.empty(self._shape, object)
        self._used = np.zeros(self._shape, np.int64)
        self._stock: dict[str, Array] = {}  # (S, episodes, NOISE_PLANS, ...)
        for job in np.ndindex(self._shape):
            self._generators[job] = torch_generator(
                Purpose.EVALUATION_NOISE, seed, names[job[0]], job[1]
            )
            self._fill(*job)

    def plan(self, rows: Rows, observations: Sequence[Any]) -> tuple[Array, set[int]]:
        """Plan a chunk in some rows.

        :param observations: of these rows, as environments return them.
        :return: actions as they are played, (len(rows), `played_length`, A); and the replicas that planned NaN or
            infinity, in whose rows stands the middle of the action space.
        """
        policy = self._policy
        space = self._observation_space
        if len(space.shape or ()) == 1:
            batch = np.stack(observations)
        else:  # a layout makes rows of pictures, numbers and Dicts
            batch = policy.layout.flatten(stack(space, observations))  # type: ignore[attr-defined]
        if self._rows is None:
            # rows that are not due are planned for too: they hold a real observation, as zeros may be no choice
            self._rows = np.broadcast_to(batch[0], (*self._shape, *batch.shape[1:])).copy()
        self._rows[rows] = batch
        begin = time.perf_counter()
        # rows that are not due get the same noise again
        draws = (*np.indices(self._shape), self._used)
        noise = {name: torch.from_numpy(stock[draws]) for name, stock in self._stock.items()}
        self._used[rows] += 1
        for replica, episode in np.argwhere(self._used == NOISE_PLANS):
            self._fill(replica, episode)
        plans = np.asarray(policy.plan(self._rows, noise))
        chunks = plans[rows][:, : self._played_length]
        self.seconds = time.perf_counter() - begin
        is_bad = ~np.isfinite(chunks).all(axis=(1, 2))
        chunks[is_bad] = np.mean([self._action_space.low, self._action_space.high], axis=0)
        return chunks, set(rows[0][is_bad].tolist())

    def _fill(self, replica: int, episode: int) -> None:
        """Draw an episode's noise of the next plans."""
        noise = self._policy.draw_action_noise(NOISE_PLANS, self._generators[replica, episode])
        for name, draws in noise.items():
            if name not in self._stock:
                self._stock[name] = np.zeros((*self._shape, *draws.shape), draws.numpy().dtype)
            self._stock[name][replica, episode] = draws.numpy()
        self._used[replica, episode] = 0
