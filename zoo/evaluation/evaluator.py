"""Evaluate a policy by episodes or by losses on held-out trajectories."""

from __future__ import annotations

import itertools
import random
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeAlias

import numpy as np
import torch
from gymnasium.envs.registration import EnvSpec
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
from zoo.evaluation.pool import EnvPool, Hook, Spaces, count_environments
from zoo.runs.scores import UNREPORTED, EpisodeResults
from zoo.terminal.errors import UsageError
from zoo.terminal.messages import log

NOISE_PLANS = 16  # chunks whose noise is sampled at a time; part of the result, like the seed
Job: TypeAlias = tuple[int, int]
"""Index of a replica, and number of an episode."""
Rows: TypeAlias = tuple[Array, ...]
"""Replicas and episodes of several jobs, two arrays of the same length, as an index of arrays (S, episodes, ...)."""


class ChunkPolicy(Protocol):
    """A policy that samples action chunks for S replicas, the seeds of one algorithm."""

    @property
    def chunk_length(self) -> int:
        """H, the actions in a chunk; of these, ``executed_length`` are executed if the policy has that attribute."""

    @property
    def num_replicas(self) -> int:
        """S."""

    def draw_action_noise(self, rows: int, generator: torch.Generator) -> dict[str, torch.Tensor]:
        """Sample the noise of chunks of one replica on the CPU: name to noise of shape (rows, ...)."""

    def sample_chunks(self, observations: Array, noise: dict[str, torch.Tensor]) -> Array:
        """Return the action chunk of every row; a row's actions depend on that row alone.

        :param observations: shape (S, B, O).
        :param noise: name to noise, each of shape (S, B, ...).
        :return: actions in the environment's units, clipped to its action space, shape (S, B, H, A).
        """


@dataclass
class SingleStepPolicy:
    """Samples single actions from an SB3 policy, deterministically."""

    policy: BasePolicy
    chunk_length = 1
    num_replicas = 1

    def draw_action_noise(self, rows: int, generator: torch.Generator) -> dict[str, torch.Tensor]:
        """Return no noise: the policy is deterministic."""
        return {}

    def sample_chunks(self, observations: Array, noise: Mapping[str, torch.Tensor]) -> Array:
        """Return the next action in every row, (1, B, 1, A), for observations (1, B, O)."""
        rows = observations[0]
        normalization = getattr(self.policy, "normalization", None)
        if normalization is not None:
            rows = normalization.observations(rows)
        actions, _ = self.policy.predict(rows, deterministic=True)
        action_space: Any = self.policy.action_space
        # SB3's scaling rounds, so a scaled action may exceed the bounds
        return actions.clip(action_space.low, action_space.high).astype(action_space.dtype)[
            None, :, None
        ]


def as_chunk_policy(policy: BasePolicy) -> FlowPolicy | SingleStepPolicy:
    """Return a policy of this zoo as it is, and another one wrapped as a :class:`SingleStepPolicy`."""
    return policy if isinstance(policy, FlowPolicy) else SingleStepPolicy(policy)


class Evaluator:
    """Runs the same episodes with any policy, in a pool of environments that stays alive between evaluations.

    >>> with Evaluator("Pendulum-v1", episodes=10, n_envs=2, seed=0) as evaluator:  # doctest: +SKIP
    ...     results = evaluator.evaluate(agents.load("model.zip").policy)
    >>> results.returns.shape  # doctest: +SKIP
    (1, 10)

    Episode e starts from the same state for every policy and replica. Its noise depends only on the seed, the replica
    and e, and it always is row e of a batch of ``episodes`` rows, because a matrix product rounds differently at
    another batch size. So the number of environments changes the time taken and nothing else.

    :param n_envs: environments of the pool; None: the fastest number on this machine.
    :param seed: seed of initial states and noise.
    :param check_in: called repeatedly during waits for environments; its exception ends the evaluation.
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
        self.episode_seeds = seeds_of_starts(seed, episodes)
        env_kwargs = env_kwargs or {}
        spec = find_spec(env_id, **env_kwargs)
        has_limit = "TimeLimit" in str(env_kwargs.get("env_wrapper"))
        if spec.max_episode_steps is None and not has_limit:
            log.warning(
                "%s has no time limit (`max_episode_steps`), so an episode may never end", spec.id
            )
        self.n_envs = n_envs or count_environments(spec, episodes)
        self.pool = EnvPool(spec, env_kwargs, self.n_envs, check_in)

    def __enter__(self) -> Evaluator:
        return self

    def __exit__(self, *exception: object) -> None:
        self.pool.close()

    def evaluate(
        self,
        policy: ChunkPolicy,
        replicas: Sequence[int] | None = None,
        active: Collection[int] | None = None,
    ) -> EpisodeResults:
        """Run every episode with every replica; no evaluation can follow one that raises.

        A replica that samples NaN or infinity has no results; the results of other replicas do not depend on it.

        :param policy: samples a chunk when the last one is used up, always for all S * episodes rows.
        :param replicas: number of each replica in its noise seeds, length S; None is 0 to S - 1. Replica k alone, with
            ``replicas=[k]``, has the same results as together with other replicas.
        :param active: indices of the replicas to evaluate; None: all.
        """
        if replicas is None:
            replicas = range(policy.num_replicas)
        if active is None:
            active = range(len(replicas))
        # the policy may use these generators
        python_state = random.getstate()
        numpy_state = np.random.get_state()
        torch_state = torch.get_rng_state()
        try:
            totals = self._run(policy, replicas, sorted(active))
        except BaseException:
            self.pool.close()
            raise
        finally:
            random.setstate(python_state)
            np.random.set_state(numpy_state)
            torch.set_rng_state(torch_state)
        return results_of(totals, self.episode_seeds)

    def _run(self, policy: ChunkPolicy, names: Sequence[int], active: Sequence[int]) -> Array:
        """Run every episode with every active replica; any idle environment takes the next one.

        :return: the `EpisodeTotals` of each episode, (4, S, episodes); zeros for replicas without results.
        """
        totals = np.zeros((4, len(names), self.episodes))
        sampler = BatchSampler(policy, self.pool.spaces, self.seed, names, self.episodes)
        queue = list(itertools.product(active, range(self.episodes)))
        running: dict[int, Job] = {}  # by number of the environment
        due: list[int] = []  # environments that need a chunk
        chunks = np.empty((0, policy.chunk_length))
        diverged: set[int] = set()
        while queue or running:
            idle = [number for number in range(self.n_envs) if number not in running]
            started = dict(zip(idle, queue, strict=False))
            queue = queue[len(started) :]
            running |= started
            # `reset` takes Python's integers only
            seeds = {number: int(self.episode_seeds[job[1]]) for number, job in started.items()}
            observations, endings = self.pool.advance(due, chunks, seeds)
            for number, ending in endings.items():
                totals[:, *running.pop(number)] = ending
            due = list(observations)
            if due:
                rows = tuple(np.array([running[number] for number in due]).T)
                chunks, not_finite = sampler.sample_chunks(rows, list(observations.values()))
                diverged |= not_finite  # their running episodes are finished
                queue = [job for job in queue if job[0] not in diverged]
        totals[:, list(diverged)] = 0
        return totals


def results_of(totals: Array, seeds: Array) -> EpisodeResults:
    """Return the results of episodes.

    :param totals: the `EpisodeTotals` of each episode, (4, S, episodes), zeros for missing ones.
    """
    lengths, *flags = totals[1:].astype(np.int64)
    is_run = lengths > 0
    # None if no episode has reported any
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
    """Return the reset seed of each episode, (episodes,), a function of the seed and the episode's number."""
    return np.array(
        [seed_for(Purpose.EVALUATION_START, seed, episode) for episode in range(episodes)],
        np.uint32,
    )


class BatchSampler:
    """Samples chunks for some rows, always in a batch of all S * episodes rows: rounding depends on the batch size.

    The noise of an episode comes from its generator, for a few chunks in advance.

    :param spaces: observation and action space.
    :param seed: seed of the noise, together with `names`, the number of each replica.
    """

    def __init__(
        self, policy: ChunkPolicy, spaces: Spaces, seed: int, names: Sequence[int], episodes: int
    ) -> None:
        self._policy = policy
        self._executed_length = getattr(policy, "executed_length", policy.chunk_length)
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

    def sample_chunks(self, rows: Rows, observations: Sequence[Any]) -> tuple[Array, set[int]]:
        """Sample the chunks of some rows.

        :param observations: one of each row, as environments return them.
        :return: actions to execute, (len(rows), `executed_length`, A), the centre of the action space in place of NaN
            and infinity; and the replicas that sampled these.
        """
        policy = self._policy
        space = self._observation_space
        if len(space.shape or ()) == 1:
            batch = np.stack(observations)
        else:  # a layout flattens images, scalars and Dicts into rows
            batch = policy.layout.flatten(stack(space, observations))  # type: ignore[attr-defined]
        if self._rows is None:
            # rows that are not due are sampled too: they need a real observation, as zeros may be outside the space
            self._rows = np.broadcast_to(batch[0], (*self._shape, *batch.shape[1:])).copy()
        self._rows[rows] = batch
        # rows that are not due keep their noise
        draws = (*np.indices(self._shape), self._used)
        noise = {name: torch.from_numpy(stock[draws]) for name, stock in self._stock.items()}
        self._used[rows] += 1
        for replica, episode in np.argwhere(self._used == NOISE_PLANS):
            self._fill(replica, episode)
        sampled = np.asarray(policy.sample_chunks(self._rows, noise))
        chunks = sampled[rows][:, : self._executed_length]
        is_bad = ~np.isfinite(chunks).all(axis=(1, 2))
        chunks[is_bad] = np.mean([self._action_space.low, self._action_space.high], axis=0)
        return chunks, set(rows[0][is_bad].tolist())

    def _fill(self, replica: int, episode: int) -> None:
        """Sample an episode's noise of the next chunks."""
        noise = self._policy.draw_action_noise(NOISE_PLANS, self._generators[replica, episode])
        for name, draws in noise.items():
            if name not in self._stock:
                self._stock[name] = np.zeros((*self._shape, *draws.shape), draws.numpy().dtype)
            self._stock[name][replica, episode] = draws.numpy()
        self._used[replica, episode] = 0


# -- losses, in training without an environment ----------------------------------------------------------------------

HELD_OUT = 10
"""One in ten trajectories is held out, the first among them."""
ROWS = 512  # held-out sequences whose losses are computed


def hold_out(data: Transitions, seed: int) -> tuple[Transitions, HeldOutLosses]:
    """Split data into trajectories to train on, and the losses on the others.

    :param seed: seed of :class:`HeldOutLosses`.
    :raises UsageError: for a single trajectory.
    """
    count = len(data.final_observations)
    if count == 1:
        raise UsageError(
            "`--no-env` holds out a tenth of the trajectories, at least one, and needs another to train on; got one "
            "trajectory: mark its ends (docs/datasets.md), or add more"
        )
    # every tenth, not the last tenth: recordings often change over time
    is_held_out = np.arange(count) % HELD_OUT == 0
    return data.keep(~is_held_out), HeldOutLosses(data.keep(is_held_out), seed=seed)


class HeldOutLosses:
    """Losses of an update on fixed held-out transitions, without an optimiser step.

    :param data: held-out trajectories, actions in the units of the action space.
    :param seed: seed of the sampled transitions and the noise, which are the same for all replicas.
    """

    def __init__(self, data: Transitions, *, seed: int) -> None:
        self._data = data
        self._seed = seed

    def draw(self, policy: FlowPolicy) -> Batch:
        """Return the batch, on the policy's device.

        :raises UsageError: if no sequence fits in a held-out trajectory.
        """
        method = policy.method
        buffer = SequenceReplayBuffer(
            1,
            policy.observation_space,
            policy.action_space,
            device=policy.device,
            gamma=method.gamma,
            horizon_length=method.chunk_length,
            action_chunking=method.action_chunking,
            frame_stack=method.frame_stack,
        )
        buffer.with_steps = method.step_observations
        try:
            buffer.load_dataset(self._data)
        except ValueError as error:
            raise UsageError(f"of the held-out trajectories, every tenth: {error}") from error
        generator = torch_generator(Purpose.EVALUATION_START, self._seed, device=policy.device)
        return buffer.draw(ROWS, generator=generator).with_observations(policy.preprocess)

    def losses(self, policy: FlowPolicy) -> dict[str, Array]:
        """Return losses by name, e.g. ``held_out_td_loss``, and their weighted total ``held_out_loss``, each (S,)."""
        policy.set_training_mode(False)  # dropout and batch statistics would depend on the batch
        method = policy.method
        generator = torch_generator(Purpose.EVALUATION_NOISE, self._seed)
        sizes = policy.noise_sizes(1, ROWS)

        def for_all(values: torch.Tensor) -> torch.Tensor:
            """Return the same values for every replica."""
            return values.to(policy.device).expand(policy.num_replicas, *values.shape[1:])

        batch = self.draw(policy).map(for_all)
        noise = {}
        for name, draw in method.update_noise().items():
            noise[name] = for_all(draw(sizes, generator, "cpu"))
        # schedules of losses do not advance here, so that the same loss is compared at different steps
        batch = replace(batch, updates=torch.zeros(policy.num_replicas, device=policy.device))
        with matmul_precision(method.precision, policy.device):
            with torch.no_grad():
                targets = method.targets(batch, noise, policy.nets, {})
            # with gradients, which some losses need
            losses = method.losses(batch, targets, noise, policy.nets, {})
        weights = method.loss_weights()
        total = sum(weights.get(name, 1.0) * loss for name, loss in losses.items())
        named = {"loss": total, **{f"{name}_loss": loss for name, loss in losses.items()}}
        arrays = {}
        for name, loss in named.items():
            arrays[f"held_out_{name}"] = torch.as_tensor(loss).detach().cpu().double().numpy()
        return arrays
