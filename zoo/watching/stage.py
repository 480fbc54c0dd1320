"""Episodes played step by step, and the chunks that a flow policy could play in them."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import mujoco
import numpy as np
import torch
from torch import Tensor

from agents.common.nets.mlp import matmul_precision
from agents.common.nets.views import WatchedNetworks
from agents.common.sb3.policy import FlowPolicy
from agents.common.streams import Purpose, torch_generator
from zoo.algorithms.baselines import as_chunk_policy
from zoo.envs.checks import stack
from zoo.envs.make import make_env
from zoo.envs.probe import probe
from zoo.envs.repeatable import RepeatableEnv, global_numpy_seed
from zoo.evaluation.evaluator import BatchPlanner, results_of, seeds_of_starts
from zoo.evaluation.pool import EpisodeTotals
from zoo.models.agent import Agent, episode_text
from zoo.runs.episodes import EpisodeResults
from zoo.terminal.messages import log

MIN_SAMPLES = 16
"""Least number of chunks that are sampled in a state."""


@dataclass(frozen=True)
class SampledPlans:
    """N chunks that a policy could play in a state; those from which it chooses come first.

    :param chunks: in the environment's units, (N, H, A).
    :param stages: their way from noise (first) to action (last) in [-1, 1], the first action of the chunk only, each
        (N, A); one stage where the policy has no noise that becomes an action.
    :param values: what the algorithm's critic says of them, (N,); None where there is no critic.
    :param played: which one is played.
    """

    chunks: np.ndarray
    stages: list[np.ndarray]
    values: np.ndarray | None
    played: int


@dataclass
class RunningEpisode:
    """An episode that is played step by step.

    :param env: where it is played; the next episode has the same.
    :param number: from 0.
    :param chunk: the actions that are being played, (H, A).
    :param used: how many of them were played.
    :param noise: of the plan that gave the chunk: name -> (...).
    :param totals: its return, length and success until now.
    :param success: whether it was one by the agent's rule, once it is over; None for another score.
    :param trail: positions of the agent, x and y; it and what follows are there where they are drawn.
    :param values: of the sampled chunks at each step, (N,).
    :param planned: step at which a chunk was planned -> its value.
    :param plans: at the last plan.
    :param paths: where the sampled chunks of the last plan lead, (N, H + 1, 2).
    """

    env: RepeatableEnv
    number: int
    observation: Any
    chunk: np.ndarray = field(default_factory=lambda: np.zeros((0, 0)))
    used: int = 0
    noise: dict[str, torch.Tensor] = field(default_factory=dict)
    totals: EpisodeTotals = field(default_factory=EpisodeTotals)
    success: int | None = None
    is_over: bool = False
    trail: list[np.ndarray] = field(default_factory=list)
    values: list[np.ndarray] = field(default_factory=list)
    planned: dict[int, float] = field(default_factory=dict)
    plans: SampledPlans | None = None
    paths: np.ndarray | None = None

    @property
    def has_new_chunk(self) -> bool:
        """Whether the chunk was planned just now, and none of it was played."""
        return not self.is_over and self.used == 0


class Stage:
    """Environments side by side in this process, in which an agent's episodes are played step by step.

    The results are those of :func:`play`, to the last bit: the same starts, noise and sizes of batches.

    :param n_envs: how many episodes are played side by side.
    :param env_kwargs: further arguments of the environments, e.g. the size of their pictures.
    """

    def __init__(
        self, agent: Agent, n_envs: int = 1, env_kwargs: dict[str, Any] | None = None
    ) -> None:
        kwargs = {**agent.env_kwargs, **(env_kwargs or {})}
        self.agent = agent
        self.envs = [make_env(agent.env_id, **kwargs) for _ in range(min(n_envs, agent.episodes))]
        spaces: Any = self.envs[0].observation_space, self.envs[0].action_space
        agent.check_spaces(spaces)
        probe(self.envs[0], lambda: make_env(agent.env_id, **kwargs))
        self._seeds = seeds_of_starts(agent.seed, agent.episodes)
        policy = as_chunk_policy(agent.policy)
        self._planner = BatchPlanner(policy, spaces, agent.seed, [agent.replica], agent.episodes)
        self.episodes: list[RunningEpisode] = []

    def play(self) -> Iterator[list[RunningEpisode]]:
        """Play all episodes; yield those side by side at each moment, after used-up chunks have been replaced.

        With several environments, as many episodes begin together, and the next ones when all of them are over.
        """
        for first in range(0, self.agent.episodes, len(self.envs)):
            seeds = self._seeds[first : first + len(self.envs)]
            side_by_side = []
            for number, (env, seed) in enumerate(zip(self.envs, seeds, strict=False), start=first):
                observation, _ = env.reset(seed=int(seed))
                side_by_side.append(RunningEpisode(env, number, observation))
            self.episodes += side_by_side
            active = side_by_side
            while active:
                self._plan(active)
                yield side_by_side
                for episode in active:
                    self._step(episode)
                active = [episode for episode in active if not episode.is_over]
            yield side_by_side

    def results(self) -> EpisodeResults:
        """Return the results of all episodes, once they are over."""
        return self._results_of(self.episodes, self._seeds)

    def _results_of(self, episodes: Sequence[RunningEpisode], seeds: np.ndarray) -> EpisodeResults:
        totals = np.array([episode.totals for episode in episodes]).T[:, None]
        return self.agent.scoring.apply(results_of(totals, seeds))

    def close(self) -> None:
        """Close the environments."""
        for env in self.envs:
            env.close()

    def _step(self, episode: RunningEpisode) -> None:
        action = episode.chunk[episode.used]
        episode.observation, reward, terminated, truncated, info = episode.env.step(action)
        episode.used += 1
        episode.totals = episode.totals.after_step(reward, info)
        episode.is_over = terminated or truncated
        if episode.is_over:
            successes = self._results_of([episode], self._seeds[:1]).successes_of(0)
            episode.success = None if successes is None else int(successes[0])
            total, length, *_ = episode.totals
            log.info(episode_text(episode.number + 1, episode.success, length, total))

    def _plan(self, episodes: Sequence[RunningEpisode]) -> None:
        """Plan for episodes whose chunk is used up; each has its row of the batch, as in an evaluation."""
        due = [episode for episode in episodes if episode.used == len(episode.chunk)]
        if not due:
            return
        numbers = np.array([episode.number for episode in due])
        observations = [episode.observation for episode in due]
        chunks, diverged = self._planner.plan((np.zeros_like(numbers), numbers), observations)
        if diverged:
            raise ArithmeticError(f"{self.agent.source} planned an action that is NaN or infinite")
        for episode, chunk in zip(due, chunks, strict=True):
            episode.chunk = chunk
            episode.used = 0
            episode.noise = {
                name: draw[0, episode.number] for name, draw in self._planner.last_noise.items()
            }


class PolicyInspector:
    """Samples the plans of a policy along an episode, with the critic's values.

    The chunk that is played comes from the noise of the evaluation. The others come from noise that stays the same in
    an episode, so that what changes between two pictures is the state and not the sample.

    :param policy: of one replica.
    """

    def __init__(self, policy: FlowPolicy) -> None:
        self._policy = policy
        self._method = copy.copy(policy.method)  # the policy goes on choosing among its candidates
        self._method.best_of_n = 1  # every candidate is shown, and not only the best
        self._draws = self._method.candidate_noise()

    def sample(self, episode: RunningEpisode) -> SampledPlans:
        """Return plans in the present state of an episode."""
        policy = self._policy
        noise = self._noise(episode)
        row = policy.layout.flatten(stack(episode.env.observation_space, [episode.observation]))
        # all plans start from the same observation
        rows = np.repeat(row, len(next(iter(noise.values()))), axis=0)[None]
        observations = policy.preprocess_raw(
            torch.as_tensor(rows, dtype=policy.layout.dtype, device=policy.device)
        )
        noise = {name: draw[None].to(policy.device) for name, draw in noise.items()}
        networks = WatchedNetworks(policy.nets)  # records where velocity fields are evaluated
        values = None
        with torch.no_grad(), matmul_precision(policy.method.precision, policy.device):
            draws = self._method.with_rows_in_place(noise)
            actions = self._method.act(observations, draws, networks)  # type: ignore[arg-type]  # views
            actions = actions.clamp(-1, 1)
            if policy.method.rates_actions:
                values = policy.method.score(observations, actions, policy.nets)[0].cpu().numpy()
        played = 0
        # the first `best_of_n` are the candidates, of which the policy plays the best
        if values is not None:
            played = int(values[: policy.method.best_of_n].argmax())
        return SampledPlans(
            chunks=policy.unscale_chunks(actions[0].cpu().numpy()),
            stages=self._stages(networks, actions),
            values=values,
            played=played,
        )

    def _stages(self, networks: WatchedNetworks, actions: Tensor) -> list[np.ndarray]:
        """Return the first action of each chunk at each time of the flow, (N, A)."""
        first_action = slice(self._policy.action_size)
        stages = []
        times = set()
        for evaluation in networks.evaluations:
            time = None
            if evaluation.t is not None:
                time = float(torch.as_tensor(evaluation.t).flatten()[0])
            # several networks may be evaluated at the same state, such as a prior and its correction
            if evaluation.x.shape == actions.shape and time not in times:
                times.add(time)
                stages.append(evaluation.x[0, :, first_action].cpu().numpy())
        return [*stages, actions[0, :, first_action].cpu().numpy()]

    def _noise(self, episode: RunningEpisode) -> dict[str, Tensor]:
        """Return the noise of N plans: name -> (N, ...)."""
        policy = self._policy
        method = policy.method
        generator = torch_generator(Purpose.PICTURED_NOISE, 0, episode.number)
        count = max(MIN_SAMPLES - method.best_of_n, 0)  # beside the candidates
        sizes = policy.noise_sizes(1, count)
        noise = {}
        for name, draw in self._draws.items():
            sampled = draw(sizes, generator, "cpu").movedim(draw.row_axis, 1)[0]
            planned = episode.noise[name][None]
            if method.best_of_n > 1:  # the candidates of the plan become rows of their own
                axes = method.candidate_noise()[name].axes.replace("B", "")
                planned = episode.noise[name].movedim(axes.index("N"), 0)
            noise[name] = torch.cat([planned, sampled])
        return noise


class RolloutSimulator:
    """A copy of a maze's simulator, to play sampled chunks without moving the agent."""

    def __init__(self, agent: Agent) -> None:
        self._env = make_env(agent.env_id, **agent.env_kwargs)
        self._env.reset(seed=0)  # some mazes are built by their first reset

    def paths(self, env: RepeatableEnv, chunks: np.ndarray) -> np.ndarray:
        """Return the positions that chunks would lead to from an environment's present state, (N, H + 1, 2).

        The environment stays as it is.

        :param chunks: in the environment's units, (N, H, A).
        """
        maze: Any = env.env.unwrapped
        copied: Any = self._env.env.unwrapped
        everything = mujoco.mjtState.mjSTATE_INTEGRATION  # all that the next physics step reads
        state = np.empty(mujoco.mj_stateSize(maze.model, everything))
        mujoco.mj_getState(maze.model, maze.data, state, everything)
        paths = np.empty((len(chunks), chunks.shape[1] + 1, 2))
        with global_numpy_seed(0):  # teleports are drawn from it
            for path, chunk in zip(paths, chunks, strict=True):
                mujoco.mj_setState(copied.model, copied.data, state, everything)
                # the state has no positions of bodies, which `get_xy` reads
                mujoco.mj_forward(copied.model, copied.data)
                path[0] = copied.get_xy()
                for step, action in enumerate(chunk, start=1):
                    copied.step(action)
                    path[step] = copied.get_xy()
        return paths

    def close(self) -> None:
        """Close the copy."""
        self._env.close()
