"""Play an agent's episodes for a score."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import gymnasium

from zoo.baselines import planner_of
from zoo.envs.observations import shape_of
from zoo.errors import UsageError, as_usage_error
from zoo.models.agent import Agent
from zoo.models.score import Score
from zoo.playing.episodes import EpisodeResults
from zoo.playing.evaluate import Evaluator
from zoo.playing.pool import count_environments


def with_protocol(agent: Agent, episodes: int | None, seed: int | None) -> Agent:
    """Return an agent that plays other episodes, where they are given; raise UsageError for numbers that are none."""
    given: dict[str, Any] = {"episodes": episodes, "seed": seed}
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
    return results, Score.of(results.returns[0], results.successes_of(0), agent.scoring)


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
