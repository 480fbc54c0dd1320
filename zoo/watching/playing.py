"""Play an agent's episodes: all at once for a score, or step by step for somebody who looks on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import gymnasium
import numpy as np
import torch

from zoo.baselines import planner_of
from zoo.envs.make import RepeatableEnv, make_env
from zoo.envs.observations import shape_of, stack
from zoo.errors import UsageError, as_usage_error
from zoo.models.agent import Agent
from zoo.models.score import Score
from zoo.playing.episodes import EpisodeResults
from zoo.playing.evaluate import Evaluator, NoiseStock
from zoo.playing.pool import count_environments
from zoo.playing.rows import Rows


def with_protocol(agent: Agent, episodes: int | None, seed: int | None) -> Agent:
    """Return an agent that plays other episodes, where they are given; raise UsageError for numbers that are none."""
    given = {"episodes": episodes, "seed": seed}
    with as_usage_error():
        return replace(agent, **{name: value for name, value in given.items() if value is not None})


def play(agent: Agent, n_envs: int | None = None) -> tuple[EpisodeResults, Score]:
    """Play an agent's episodes and return its score: in the run's own protocol the numbers of the run's evaluation.

    :param n_envs: environments; None takes as many as in training.
    """
    count = n_envs or count_environments(agent.env_id, agent.env_kwargs, agent.episodes)
    with Evaluator(
        agent.env_id, episodes=agent.episodes, n_envs=count, seed=agent.seed, env_kwargs=agent.env_kwargs
    ) as evaluator:
        require_spaces(agent, *evaluator.spaces)
        results = evaluator.evaluate(planner_of(agent.policy), [agent.replica])
    if not results.played[0]:
        raise ArithmeticError(f"{agent.source} planned an action that is NaN or infinite")
    results = agent.scoring.apply(results)
    return results, Score.of(results, agent.scoring)


def describe(agent: Agent, results: EpisodeResults, score: Score) -> dict[str, Any]:
    """Return what came of playing, as the programs that play print it."""
    return {
        "algo": agent.algo,
        "env": agent.env,
        "model": str(agent.source),
        score.kind: score.mean,
        "interval": [score.low, score.high],
        "return": float(results.returns[0].mean()),
        "episodes": score.episodes,
        "seed": agent.seed,
    }


def episode_text(number: int, success: int | None, length: int, total: float) -> str:
    """Return an episode's end in words.

    :param number: from 1.
    """
    ending = "" if success is None else "success, " if success else "failure, "
    return f"episode {number}: {ending}{length} steps, return {total:.1f}"


def require_spaces(agent: Agent, observations: gymnasium.Space[Any], actions: gymnasium.spaces.Box) -> None:
    """Refuse an environment that is not the agent's."""
    own = shape_of(agent.policy.observation_space), agent.policy.action_space.shape
    there = shape_of(observations), actions.shape
    if own != there:
        raise UsageError(
            f"{agent.source} expects observations and actions of shape {own[0]} and {own[1]}, got {agent.env} with "
            f"{there[0]} and {there[1]}; give the environment that it was trained in"
        )


@dataclass
class Lane:
    """An environment in which one episode after another is played, and how far it is.

    :param episode: from 0; None before the first.
    :param chunk: the actions that are being played, (H, A).
    :param used: how many of them were played.
    :param noise: of the plan that gave the chunk: name -> (...).
    """

    env: RepeatableEnv
    episode: int | None = None
    observation: Any = field(default_factory=lambda: np.zeros(0))
    chunk: np.ndarray = field(default_factory=lambda: np.zeros((0, 0)))
    used: int = 0
    noise: dict[str, torch.Tensor] = field(default_factory=dict)
    length: int = 0
    total: float = 0.0
    success: int | None = None
    is_over: bool = True

    @property
    def has_new_chunk(self) -> bool:
        """Whether the chunk was planned just now, and none of it was played."""
        return not self.is_over and self.used == 0


class Stage:
    """Environments side by side in this process, in which an agent's episodes are played step by step.

    The results are those of :func:`play`, to the last bit: the same starts, noise and sizes of batches.

    :param lanes: how many environments.
    :param env_kwargs: further arguments of the environments, e.g. the size of their pictures.
    """

    def __init__(self, agent: Agent, lanes: int = 1, env_kwargs: dict[str, Any] | None = None) -> None:
        kwargs = {**agent.env_kwargs, **(env_kwargs or {})}
        self.agent, self._planner = agent, planner_of(agent.policy)
        self.lanes = [Lane(make_env(agent.env_id, **kwargs)) for _ in range(min(lanes, agent.episodes))]
        self._space = self.lanes[0].env.observation_space
        require_spaces(agent, self._space, self.lanes[0].env.action_space)  # type: ignore[arg-type]  # it is a box
        self._to_rows = Rows(self._planner, self._space)
        self._seeds = np.random.SeedSequence(agent.seed).generate_state(agent.episodes)
        self._stock = NoiseStock(self._planner, agent.seed, [agent.replica], agent.episodes)
        self._endings: dict[int, Lane] = {}

    def play(self) -> Iterator[list[Lane]]:
        """Play all episodes; yield the lanes at each moment: chunks that are used up have been replaced already.

        With several lanes, as many episodes begin together, and the next ones when all of them are over.
        """
        for first in range(0, self.agent.episodes, len(self.lanes)):
            playing = self.lanes[: self.agent.episodes - first]
            for offset, lane in enumerate(playing):
                self._begin(lane, first + offset)
            self._plan(playing)
            yield playing
            while not all(lane.is_over for lane in playing):
                for lane in playing:
                    if not lane.is_over:
                        self._step(lane)
                self._plan(playing)
                yield playing

    def results(self) -> EpisodeResults:
        """Return the results of all episodes, once they are over."""
        endings = [self._endings[episode] for episode in range(self.agent.episodes)]
        wins = [ending.success for ending in endings]
        return EpisodeResults(
            successes=None if None in wins else np.array([wins], np.int64),
            returns=np.array([[ending.total for ending in endings]]),
            lengths=np.array([[ending.length for ending in endings]]),
            seeds=self._seeds,
            played=np.array([True]),
        )

    def close(self) -> None:
        """Close the environments."""
        for lane in self.lanes:
            lane.env.close()

    def _begin(self, lane: Lane, episode: int) -> None:
        lane.observation, _ = lane.env.reset(seed=int(self._seeds[episode]))
        lane.episode, lane.length, lane.total, lane.success, lane.is_over = episode, 0, 0.0, None, False
        lane.used = len(lane.chunk)

    def _step(self, lane: Lane) -> None:
        lane.observation, reward, terminated, truncated, info = lane.env.step(lane.chunk[lane.used])
        lane.used, lane.length, lane.total = lane.used + 1, lane.length + 1, lane.total + reward
        lane.is_over = terminated or truncated
        lane.success = self.agent.scoring.success_of(info.get("success"), lane.total)
        if lane.is_over:
            assert lane.episode is not None
            self._endings[lane.episode] = replace(lane)

    def _plan(self, lanes: Sequence[Lane]) -> None:
        """Plan where a chunk is used up, as an evaluation does: each episode has its row of the batch."""
        due = [lane for lane in lanes if not lane.is_over and lane.used == len(lane.chunk)]
        if not due:
            return
        episodes = np.array([lane.episode for lane in due])
        rows = self._to_rows.blank(1, self.agent.episodes)
        rows[0, episodes] = self._to_rows(stack(self._space, [lane.observation for lane in due]))
        noise = self._stock.offer()
        chunks = np.asarray(self._planner.plan(rows, noise))[0, episodes]
        if not np.isfinite(chunks).all():
            raise ArithmeticError(f"{self.agent.source} planned an action that is NaN or infinite")
        self._stock.spend((np.zeros_like(episodes), episodes))
        for lane, episode, chunk in zip(due, episodes, chunks, strict=True):
            lane.chunk, lane.used = chunk, 0
            lane.noise = {name: draw[0, episode] for name, draw in noise.items()}
