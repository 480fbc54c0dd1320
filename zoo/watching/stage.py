"""Episodes played step by step, and what a flow policy thinks in them.

Thoughts are chunks that it could play from here, how they came from noise, and what they are worth.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import mujoco
import numpy as np
import torch
from torch import Tensor

from agents.common.nets.precision import matmul_precision
from agents.common.nets.views import WatchedNetworks
from agents.common.sb3.policy import FlowPolicy
from agents.common.streams import Purpose, torch_generator
from zoo.algorithms.baselines import as_chunk_policy
from zoo.envs.border import check_same_spaces
from zoo.envs.make import RepeatableEnv, global_numpy_seed, make_env
from zoo.envs.observations import stack
from zoo.envs.probe import probe
from zoo.models.agent import Agent
from zoo.playing.evaluate import BatchPlanner, NoiseStock, seeds_of_starts
from zoo.playing.pool import at_any_step
from zoo.runs.episodes import EpisodeResults, as_reported

FAN = 16
"""Least number of chunks that are sampled in a state."""


@dataclass
class RunningEpisode:
    """An episode that is played step by step.

    :param env: where it is played; the next episode has the same.
    :param episode: its number, from 0.
    :param chunk: the actions that are being played, (H, A).
    :param used: how many of them were played.
    :param noise: of the plan that gave the chunk: name -> (...).
    :param reported: the success that the last step reported, if any, and `any_reported` any step until now.
    :param success: whether it is one until now, by the agent's rule.
    """

    env: RepeatableEnv
    episode: int
    observation: Any
    chunk: np.ndarray = field(default_factory=lambda: np.zeros((0, 0)))
    used: int = 0
    noise: dict[str, torch.Tensor] = field(default_factory=dict)
    length: int = 0
    total: float = 0.0
    reported: int | None = None
    any_reported: int | None = None
    success: int | None = None
    is_over: bool = False

    @property
    def has_new_chunk(self) -> bool:
        """Whether the chunk was planned just now, and none of it was played."""
        return not self.is_over and self.used == 0


class Stage:
    """Environments side by side in this process, in which an agent's episodes are played step by step.

    The results are those of :func:`play`, to the last bit: the same starts, noise and sizes of batches.

    :param lanes: how many episodes are played side by side.
    :param env_kwargs: further arguments of the environments, e.g. the size of their pictures.
    """

    def __init__(self, agent: Agent, lanes: int = 1, env_kwargs: dict[str, Any] | None = None) -> None:
        kwargs = {**agent.env_kwargs, **(env_kwargs or {})}
        self.agent = agent
        self.envs = [make_env(agent.env_id, **kwargs) for _ in range(min(lanes, agent.episodes))]
        spaces: Any = self.envs[0].observation_space, self.envs[0].action_space
        check_same_spaces(agent.source, agent.spaces, agent.env, spaces)
        probe(self.envs[0], lambda: make_env(agent.env_id, **kwargs))
        self._seeds = seeds_of_starts(agent.seed, agent.episodes)
        policy = as_chunk_policy(agent.policy)
        self._planner = BatchPlanner(policy, spaces, NoiseStock(policy, agent.seed, [agent.replica], agent.episodes))
        self._lanes: list[RunningEpisode] = []

    def play(self) -> Iterator[list[RunningEpisode]]:
        """Play all episodes; yield their lanes at each moment: chunks that are used up have been replaced already.

        With several environments, as many episodes begin together, and the next ones when all of them are over.
        """
        for first in range(0, self.agent.episodes, len(self.envs)):
            seeds = self._seeds[first : first + len(self.envs)]
            playing = [
                RunningEpisode(env, episode, env.reset(seed=int(seed))[0])
                for episode, (env, seed) in enumerate(zip(self.envs, seeds, strict=False), start=first)
            ]
            self._lanes += playing
            active = playing
            while active:
                self._plan(active)
                yield playing
                for lane in active:
                    self._step(lane)
                active = [lane for lane in playing if not lane.is_over]
            yield playing

    def results(self) -> EpisodeResults:
        """Return the results of all episodes, once they are over."""
        results = EpisodeResults(
            successes=as_reported([lane.reported for lane in self._lanes]),
            returns=np.array([[lane.total for lane in self._lanes]]),
            lengths=np.array([[lane.length for lane in self._lanes]]),
            seeds=self._seeds,
            played=np.array([True]),
            any_successes=as_reported([lane.any_reported for lane in self._lanes]),
        )
        return self.agent.scoring.apply(results)

    def close(self) -> None:
        """Close the environments."""
        for env in self.envs:
            env.close()

    def _step(self, lane: RunningEpisode) -> None:
        lane.observation, reward, terminated, truncated, info = lane.env.step(lane.chunk[lane.used])
        lane.used, lane.length, lane.total = lane.used + 1, lane.length + 1, lane.total + reward
        lane.is_over = terminated or truncated
        lane.reported = info.get("success")
        lane.any_reported = at_any_step(lane.any_reported, lane.reported)
        lane.success = self.agent.scoring.success_of(lane.reported, lane.any_reported, lane.total)

    def _plan(self, lanes: Sequence[RunningEpisode]) -> None:
        """Plan for episodes whose chunk is used up; each has its row of the batch, as in an evaluation."""
        due = [lane for lane in lanes if lane.used == len(lane.chunk)]
        if not due:
            return
        episodes = np.array([lane.episode for lane in due])
        observations = stack(self.envs[0].observation_space, [lane.observation for lane in due])
        chunks, diverged = self._planner.plan((np.zeros_like(episodes), episodes), observations)
        if diverged:
            raise ArithmeticError(f"{self.agent.source} planned an action that is NaN or infinite")
        for lane, episode, chunk in zip(due, episodes, chunks, strict=True):
            lane.chunk, lane.used = chunk, 0
            lane.noise = {name: draw[0, episode] for name, draw in self._planner.last_noise.items()}


@dataclass(frozen=True)
class Thoughts:
    """F chunks that a policy could play in a state; those from which it chooses come first.

    :param chunks: in the environment's units, (F, H, A).
    :param stages: their way from noise (first) to action (last) in [-1, 1], the first action of the chunk only, each
        (F, A); one stage where the policy has no noise that becomes an action.
    :param values: what the algorithm's critic says of them, (F,); None where there is no critic.
    :param played: which one is played.
    """

    chunks: np.ndarray
    stages: list[np.ndarray]
    values: np.ndarray | None
    played: int


class PolicyInspector:
    """Reads the thoughts of a policy along an episode.

    The chunk that is played comes from the noise of the evaluation. The others come from noise that stays the same in
    an episode, so that what changes between two pictures is the state and not the sample.

    :param policy: of one replica.
    """

    def __init__(self, policy: FlowPolicy) -> None:
        self._policy = policy
        self._method = copy.copy(policy.method)
        self._method.best_of_n = 1  # every candidate is shown, and not only the best
        self._draws = self._method.candidate_noise()

    def think(self, lane: RunningEpisode) -> Thoughts:
        """Return what the policy thinks in the state of a lane."""
        policy, noise = self._policy, self._noise(lane)
        count = len(next(iter(noise.values())))
        row = policy.layout.flatten(stack(lane.env.observation_space, [lane.observation]))
        rows = torch.as_tensor(np.repeat(row, count, 0)[None], dtype=policy.layout.dtype)
        seen = policy.preprocess_raw(rows.to(policy.device))
        placed = self._method.with_rows_in_place({name: draw[None].to(policy.device) for name, draw in noise.items()})
        watched = WatchedNetworks(policy.nets)
        with torch.no_grad(), matmul_precision(policy.method.precision, policy.device):
            actions = self._method.act(seen, placed, watched).clamp(-1, 1)  # type: ignore[arg-type]
            values = policy.method.score(seen, actions, policy.nets)[0] if policy.method.rates_actions else None
        of_first = slice(policy.action_size)
        stages, times = [], set()
        for evaluation in watched.evaluations:  # once for each time: several networks may be asked at the same state
            time = None if evaluation.t is None else float(torch.as_tensor(evaluation.t).flatten()[0])
            if evaluation.x.shape == actions.shape and time not in times:
                times.add(time)
                stages.append(evaluation.x[0, :, of_first])
        candidates = policy.method.best_of_n
        return Thoughts(
            chunks=policy.unscale_chunks(actions[0].cpu().numpy()),
            stages=[stage.cpu().numpy() for stage in [*stages, actions[0, :, of_first]]],
            values=None if values is None else values.cpu().numpy(),
            played=0 if values is None else int(values[:candidates].argmax()),
        )

    def _noise(self, lane: RunningEpisode) -> dict[str, Tensor]:
        """Return the noise of F plans: name -> (F, ...)."""
        policy, method = self._policy, self._policy.method
        generator = torch_generator(Purpose.PICTURED_NOISE, 0, lane.episode)
        count = max(FAN - method.best_of_n, 0)
        sizes = method.noise_sizes(1, count, policy.chunk_size, policy.layout.size)
        found = {}
        for name, draw in self._draws.items():  # of plans without a choice among candidates
            more = draw(sizes, generator, "cpu")[0].movedim(draw.axes.index("B"), 0)
            own = lane.noise[name][None]
            if method.best_of_n > 1:  # the candidates of the plan become the rows
                axes = method.candidate_noise()[name].axes.replace("B", "")
                own = lane.noise[name].movedim(axes.index("N"), 0)
            found[name] = torch.cat([own, more])
        return found


class RolloutSimulator:
    """A copy of a maze's simulator, in which chunks are played that the agent only thinks of."""

    def __init__(self, agent: Agent) -> None:
        self._env = make_env(agent.env_id, **agent.env_kwargs)
        self._env.reset(seed=0)

    def paths(self, env: RepeatableEnv, chunks: np.ndarray) -> np.ndarray:
        """Return where chunks would lead from an environment's present state, (F, H + 1, 2); it stays as it is.

        :param chunks: in the environment's units, (F, H, A).
        """
        there: Any = env.env.unwrapped
        here: Any = self._env.env.unwrapped
        kind = mujoco.mjtState.mjSTATE_INTEGRATION
        state = np.empty(mujoco.mj_stateSize(there.model, kind))
        mujoco.mj_getState(there.model, there.data, state, kind)
        paths = np.empty((len(chunks), chunks.shape[1] + 1, 2))
        with global_numpy_seed(0):  # teleports are drawn from it
            for path, chunk in zip(paths, chunks, strict=True):
                mujoco.mj_setState(here.model, here.data, state, kind)
                mujoco.mj_forward(here.model, here.data)
                path[0] = here.get_xy()
                for step, action in enumerate(chunk, start=1):
                    here.step(action)
                    path[step] = here.get_xy()
        return paths

    def close(self) -> None:
        """Close the copy."""
        self._env.close()
