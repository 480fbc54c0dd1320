"""Evaluate a policy in episodes, or by its losses on held-out trajectories."""

from __future__ import annotations

import itertools
import random
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np
import torch
from gymnasium.envs.registration import EnvSpec
from gymnasium.spaces import Space
from stable_baselines3.common.policies import BasePolicy

from agents.common.batch import Batch
from agents.common.data.arrays import Transitions
from agents.common.data.buffer import SequenceReplayBuffer
from agents.common.nets.mlp import matmul_precision
from agents.common.observations import Array
from agents.common.sb3.policy import FlowPolicy
from agents.common.streams import Purpose, seed_for, torch_generator
from zoo.envs.checks import stack
from zoo.envs.make import find_spec
from zoo.evaluation.pool import EnvGroup, EnvPool, Hook, count_environments
from zoo.runs.scores import UNREPORTED, EpisodeResults
from zoo.terminal.errors import UsageError
from zoo.terminal.messages import log

# number of chunks whose noise is sampled at a time; like the seed, this number affects results
NOISE_PLANS = 16
Job: TypeAlias = tuple[int, int]
"""Index of a replica, and index of an episode."""
Rows: TypeAlias = tuple[Array, ...]
"""Replica and episode indices of some jobs; as an index, they select rows of an array (S, episodes, ...)."""


class ChunkPolicy(Protocol):
    """A policy that samples action chunks for S replicas, the seeds of one algorithm."""

    @property
    def chunk_length(self) -> int:
        """H, the number of actions in a chunk; if the policy has ``executed_length``, only that many are executed."""

    @property
    def num_replicas(self) -> int:
        """S, the number of replicas."""

    def draw_action_noise(self, rows: int, generator: torch.Generator) -> dict[str, torch.Tensor]:
        """Sample the noise of one replica's chunks on the CPU: name -> noise, (rows, ...)."""

    def sample_chunks(self, observations: Array, noise: dict[str, torch.Tensor]) -> Array:
        """Return the action chunk of every row; a row's actions depend only on that row.

        :param observations: shape (S, B, O).
        :param noise: name -> noise, (S, B, ...).
        :return: actions in the environment's units, clipped to its action space, shape (S, B, H, A).
        """


@dataclass
class SingleStepPolicy:
    """Adapter for an SB3 policy: its actions are deterministic, in chunks of length 1."""

    policy: BasePolicy
    chunk_length = 1
    num_replicas = 1

    def draw_action_noise(self, rows: int, generator: torch.Generator) -> dict[str, torch.Tensor]:
        """Return no noise: the policy is deterministic."""
        return {}

    def sample_chunks(self, observations: Array, noise: Mapping[str, torch.Tensor]) -> Array:
        """Return the next action for every row, (1, B, 1, A), given observations (1, B, O)."""
        rows = observations[0]
        normalization = getattr(self.policy, "normalization", None)
        if normalization is not None:
            rows = normalization.observations(rows)
        actions, _ = self.policy.predict(rows, deterministic=True)
        action_space: Any = self.policy.action_space
        # SB3's scaling rounds, so an action may exceed the bounds slightly
        return actions.clip(action_space.low, action_space.high)[None, :, None]


class Evaluator:
    """Runs the same episodes with any policy, in a pool of environments that is kept between evaluations.

    >>> with Evaluator("Pendulum-v1", episodes=10, n_envs=2, seed=0) as evaluator:  # doctest: +SKIP
    ...     results = evaluator.evaluate(agents.load("model.zip").policy)
    >>> results.returns.shape  # doctest: +SKIP
    (1, 10)

    Episode e starts from the same state for every policy and replica. The policy's noise depends only on the seed, the
    replica and e. Episode e is always row e of a batch of ``episodes`` rows, because matrix products round differently
    for other batch sizes. Therefore the number of environments affects only the duration, not the results.

    :param n_envs: number of environments; None for a number that suits this machine.
    :param seed: seed of initial states and noise.
    :param check_in: called repeatedly while waiting for environments; an exception from it ends the evaluation.
    """

    def __init__(
        self,
        env_id: str | EnvSpec,
        *,
        episodes: int,
        n_envs: int | None,
        seed: int,
        env_kwargs: dict[str, Any] | None = None,
        check_in: Hook = lambda: None,
    ) -> None:
        self.episodes = episodes
        self.seed = seed
        env_kwargs = env_kwargs or {}
        spec = find_spec(env_id, **env_kwargs)
        limit = env_kwargs.get("max_episode_steps", spec.max_episode_steps)
        if limit is None and "TimeLimit" not in str(env_kwargs.get("env_wrapper")):
            log.warning(
                "%s has no time limit (`max_episode_steps`), so an episode may never end", spec.id
            )
        n_envs = n_envs or count_environments(spec, episodes)
        self.pool = EnvPool(spec, env_kwargs, n_envs, check_in)

    def __enter__(self) -> Evaluator:
        return self

    def __exit__(self, *exception: object) -> None:
        self.pool.close()

    def evaluate(
        self,
        policy: ChunkPolicy | BasePolicy,
        replicas: Sequence[int] | None = None,
        active: Collection[int] | None = None,
    ) -> EpisodeResults:
        """Run every episode with the active replicas; after an exception, the evaluator cannot be used again.

        A replica that samples NaN or infinity has no results, and does not affect the results of other replicas.

        :param policy: policy that samples chunks, always for all S * episodes rows, or a policy of SB3.
        :param replicas: the numbers that seed the replicas' noise, length S; None for 0 to S - 1. Replica k evaluated
            alone, with ``replicas=[k]``, has the same results, up to rounding, as with other replicas.
        :param active: indices of the replicas to evaluate; None for all.
        """
        # restored below, because the policy may use the global generators
        python_state = random.getstate()
        numpy_state = np.random.get_state()
        torch_state = torch.get_rng_state()
        try:
            return run_episodes(self.pool, policy, self.episodes, self.seed, replicas, active)
        except BaseException:
            self.pool.close()
            raise
        finally:
            random.setstate(python_state)
            np.random.set_state(numpy_state)
            torch.set_rng_state(torch_state)


def run_episodes(
    pool: EnvPool | EnvGroup,
    policy: ChunkPolicy | BasePolicy,
    episodes: int,
    seed: int,
    replicas: Sequence[int] | None = None,
    active: Collection[int] | None = None,
) -> EpisodeResults:
    """Run every episode with the active replicas; an idle environment runs the next episode.

    For the arguments see :class:`Evaluator` and :meth:`Evaluator.evaluate`.
    """
    chunk_policy: Any = policy
    if not hasattr(policy, "sample_chunks"):
        chunk_policy = SingleStepPolicy(policy)  # type: ignore[arg-type]  # a policy of SB3
    if replicas is None:
        replicas = range(chunk_policy.num_replicas)
    if active is None:
        active = range(len(replicas))
    sampler = BatchSampler(chunk_policy, pool.spaces[0], seed, replicas, episodes)
    starts = seeds_of_starts(seed, episodes)
    totals = np.zeros((4, len(replicas), episodes))
    queue = list(itertools.product(sorted(active), range(episodes)))
    running: dict[int, Job] = {}  # number of an environment -> its job
    observations: dict[int, Any] = {}
    diverged: set[int] = set()
    while queue or running:
        chunks = np.empty(0)
        if running:
            rows = tuple(np.array(list(running.values())).T)
            due = [observations[number] for number in running]
            chunks, not_finite = sampler.sample_chunks(rows, due)
            diverged |= not_finite  # their episodes end here, also without a time limit
            queue = [job for job in queue if job[0] not in diverged]
            running = {number: job for number, job in running.items() if job[0] not in diverged}
            chunks = chunks[~np.isin(rows[0], list(diverged))]
        continued = list(running)
        idle = [number for number in pool.numbers if number not in running]
        started = dict(zip(idle, queue, strict=False))
        queue = queue[len(started) :]
        running |= started
        # `reset` accepts only Python integers
        seeds = {number: int(starts[job[1]]) for number, job in started.items()}
        observations, endings = pool.advance(continued, chunks, seeds)
        for number, ending in endings.items():
            totals[:, *running.pop(number)] = ending
    totals[:, list(diverged)] = 0
    return results_of(totals, starts)


def results_of(totals: Array, seeds: Array) -> EpisodeResults:
    """Return the results of episodes.

    :param totals: the `EpisodeTotals` of each episode, (4, S, episodes), zeros for episodes that were not run.
    """
    lengths, *flags = totals[1:].astype(np.int64)
    is_run = lengths > 0
    # None if no episode has reported success or failure
    at_end, at_any = (
        None if (successes[is_run] == UNREPORTED).all() else successes for successes in flags
    )
    return EpisodeResults(
        successes=at_end,
        returns=totals[0],
        lengths=lengths,
        seeds=seeds,
        played=is_run.all(axis=1),
        any_successes=at_any,
    )


def seeds_of_starts(seed: int, episodes: int) -> Array:
    """Return the reset seed of each episode, (episodes,); it depends only on ``seed`` and the episode's index."""
    return np.array(
        [seed_for(Purpose.EVALUATION_START, seed, episode) for episode in range(episodes)],
        np.uint32,
    )


class BatchSampler:
    """Samples chunks for some rows, always in a batch of all S * episodes rows, because rounding depends on batch size.

    Each episode has its own generator, which samples the noise of `NOISE_PLANS` chunks at a time.

    :param space: observation space.
    :param seed: seed of the noise.
    :param names: the numbers that seed the replicas' noise, length S.
    """

    def __init__(
        self, policy: ChunkPolicy, space: Space[Any], seed: int, names: Sequence[int], episodes: int
    ) -> None:
        self._policy = policy
        self._executed_length = getattr(policy, "executed_length", policy.chunk_length)
        self._space = space
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

    def sample_chunks(self, rows: Rows, observations: Sequence[Any]) -> tuple[Array, set[int]]:
        """Sample the chunks of some rows.

        :param observations: one observation for each row, as returned by an environment.
        :return: the actions to execute, (len(rows), `executed_length`, A), and the replicas that sampled NaN or
            infinity.
        """
        policy = self._policy
        space = self._space
        if len(space.shape or ()) == 1:
            batch = np.stack(observations)
        else:  # the policy's layout flattens images, scalars and Dicts into rows
            batch = policy.layout.flatten(stack(space, observations))  # type: ignore[attr-defined]
        if self._rows is None:
            # all rows are sampled, so rows without an observation need a valid one; zeros may be outside the space
            self._rows = np.broadcast_to(batch[0], (*self._shape, *batch.shape[1:])).copy()
        self._rows[rows] = batch
        # all rows need noise, but only the requested rows use theirs up
        draws = (*np.indices(self._shape), self._used)
        noise = {name: torch.from_numpy(stock[draws]) for name, stock in self._stock.items()}
        self._used[rows] += 1
        for replica, episode in np.argwhere(self._used == NOISE_PLANS):
            self._fill(replica, episode)
        sampled = policy.sample_chunks(self._rows, noise)
        chunks = sampled[rows][:, : self._executed_length]
        is_bad = ~np.isfinite(chunks).all(axis=(1, 2))
        return chunks, set(rows[0][is_bad].tolist())

    def _fill(self, replica: int, episode: int) -> None:
        """Sample the noise of an episode's next chunks."""
        noise = self._policy.draw_action_noise(NOISE_PLANS, self._generators[replica, episode])
        for name, draws in noise.items():
            if name not in self._stock:
                self._stock[name] = np.zeros((*self._shape, *draws.shape), draws.numpy().dtype)
            self._stock[name][replica, episode] = draws.numpy()
        self._used[replica, episode] = 0


# -- held-out losses, for training without an environment ------------------------------------------------------------

HELD_OUT = 10
"""Every tenth trajectory is held out, starting with the first."""
ROWS = 512  # number of held-out sequences whose losses are computed


def hold_out(data: Transitions, seed: int) -> tuple[Transitions, HeldOutLosses]:
    """Return the trajectories to train on, and the losses on the held-out trajectories.

    :param seed: seed of :class:`HeldOutLosses`.
    :raises UsageError: if there is only one trajectory.
    """
    count = len(data.final_observations)
    if count == 1:
        raise UsageError(
            "`--no-env` holds out a tenth of the trajectories, at least one, and trains on the rest; got only one "
            "trajectory: mark the ends of trajectories (docs/data.md), or add more"
        )
    # every tenth, not the last tenth: recordings often change over time
    is_held_out = np.arange(count) % HELD_OUT == 0
    return data.keep(~is_held_out), HeldOutLosses(data.keep(is_held_out), seed=seed)


class HeldOutLosses:
    """Losses of the algorithm on a fixed batch of held-out transitions, without an optimiser step.

    :param data: held-out trajectories; actions are in the units of the action space.
    :param seed: seed of the sampled transitions and of the noise, which are shared by all replicas.
    """

    def __init__(self, data: Transitions, *, seed: int) -> None:
        self._data = data
        self._seed = seed

    def draw(self, policy: FlowPolicy) -> Batch:
        """Return the batch of held-out transitions, on the policy's device.

        :raises UsageError: if no sequence fits in a held-out trajectory.
        """
        method = policy.method
        buffer = SequenceReplayBuffer(
            1,
            policy.observation_space,
            policy.action_space,
            device=policy.device,
            **method.sequence_settings(),
        )
        try:
            buffer.load_dataset(self._data)
        except ValueError as error:
            raise UsageError(f"held-out trajectories (every tenth): {error}") from error
        generator = torch_generator(Purpose.EVALUATION_START, self._seed, device=policy.device)
        return buffer.draw(ROWS, generator=generator).with_observations(policy.preprocess)

    def losses(self, policy: FlowPolicy) -> dict[str, Array]:
        """Return name -> loss, (S,), e.g. ``held_out_td_loss``, including the weighted total ``held_out_loss``."""
        policy.set_training_mode(False)  # no dropout, no batch statistics
        method = policy.method
        generator = torch_generator(Purpose.EVALUATION_NOISE, self._seed)
        sizes = policy.noise_sizes(1, ROWS)

        def for_all(values: torch.Tensor) -> torch.Tensor:
            """Repeat the values of one replica for all replicas."""
            return values.to(policy.device).expand(policy.num_replicas, *values.shape[1:])

        batch = self.draw(policy).map(for_all)
        noise = {}
        for name, draw in method.update_noise().items():
            noise[name] = for_all(draw(sizes, generator, "cpu"))
        with matmul_precision(method.precision, policy.device):
            with torch.no_grad():
                targets = method.targets(batch, noise, policy.nets, {})
            # with gradients enabled, because some losses need them
            losses = method.losses(batch, targets, noise, policy.nets, {})
        weights = method.loss_weights()
        total = sum(weights.get(name, 1.0) * loss for name, loss in losses.items())
        named = {"loss": total, **{f"{name}_loss": loss for name, loss in losses.items()}}
        arrays = {}
        for name, loss in named.items():
            arrays[f"held_out_{name}"] = torch.as_tensor(loss).detach().cpu().double().numpy()
        return arrays
