"""Run the episodes of an agent's protocol, for a score, for a video, or in a window."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium.error import DependencyNotInstalled

from agents.common.validation import count
from zoo.envs.checks import RepeatableEnv
from zoo.envs.make import find_spec, is_ogbench, make_env, observes_images
from zoo.envs.rendering import REMEDY, prepare_drawing
from zoo.evaluation.evaluator import (
    BatchSampler,
    Evaluator,
    as_chunk_policy,
    results_of,
    seeds_of_starts,
)
from zoo.evaluation.pool import EpisodeTotals
from zoo.evaluation.video import STEPS_BETWEEN, open_video
from zoo.models.agent import Agent
from zoo.models.score import Score
from zoo.runs.scores import EpisodeResults
from zoo.terminal.errors import UsageError, as_usage_error

VIDEO_SIZE = 480
"""Width and height of videos of OGBench's environments, in pixels."""
MUJOCO_MODULES = ("ogbench.", "gymnasium.envs.mujoco", "zoo.envs.robomimic")


def play(agent: Agent) -> EpisodeResults:
    """Run an agent's episodes in child processes."""
    with Evaluator(
        agent.env_id,
        episodes=agent.episodes,
        n_envs=None,
        seed=agent.seed,
        env_kwargs=agent.env_kwargs,
    ) as evaluator:
        agent.check_spaces(evaluator.pool.spaces)
        results = evaluator.evaluate(as_chunk_policy(agent.policy), [agent.replica])
    if not results.played[0]:  # an action was not finite, so episodes are missing
        raise _diverged(agent)
    return agent.scoring.apply(results)


def describe(agent: Agent, results: EpisodeResults, score: Score) -> dict[str, Any]:
    """Return results and score as the JSON object that `zoo evaluate` and `zoo enjoy` print."""
    return {
        "algo": agent.algo,
        "env": agent.env,
        "model": str(agent.source),
        score.kind: score.mean,
        "interval": score.interval,
        "return": float(results.returns[0].mean()),
        "episodes": score.episodes,
        "seed": agent.seed,
    }


def describe_episodes(results: EpisodeResults) -> list[str]:
    """Return a line of text for each episode of the first replica."""
    lines = []
    for episode, length in enumerate(results.lengths[0].tolist()):
        ending = ""
        if results.successes is not None:
            ending = "success, " if results.successes[0, episode] else "failure, "
        total = results.returns[0, episode]
        lines.append(f"episode {episode + 1}: {ending}{count(length, 'step')}, return {total:.1f}")
    return lines


# -- windows and videos -----------------------------------------------------------------------------------------------


def show(agent: Agent) -> EpisodeResults:
    """Run an agent's episodes in the window of its environment.

    :raises UsageError: if the environment has no window, or the policy observes images.
    """
    with _drawn_env(agent) as env:
        has_window = "human" in env.metadata.get("render_modes", ())
    # in a window, an environment would not render the images that the policy observes
    if not has_window or observes_images(find_spec(agent.env_id), agent.env_kwargs):
        raise UsageError(f"{agent.env} does not open a window; record a video with --video FILE")
    with _drawn_env(agent, render_mode="human") as env:
        return _run_step_by_step(agent, env, lambda: None)


def record(agent: Agent, path: Path, can_draw: bool = True) -> EpisodeResults:
    """Run an agent's episodes and record them as a video.

    :param path: path of an .mp4 or .gif file.
    :param can_draw: whether MuJoCo can render in this process.
    :raises UsageError: if the environment needs MuJoCo for rendering, but MuJoCo cannot render.
    """
    spec = find_spec(agent.env_id)
    camera: dict[str, Any] = {"render_mode": "rgb_array"}
    if observes_images(spec, agent.env_kwargs):
        camera = {}  # keep the image size that the policy was trained with
    elif is_ogbench(spec):
        camera |= {"width": VIDEO_SIZE, "height": VIDEO_SIZE}
    with _drawn_env(agent, **camera) as env, open_video(path) as add:
        classes = type(env.unwrapped).__mro__
        if not can_draw and any(kind.__module__.startswith(MUJOCO_MODULES) for kind in classes):
            raise UsageError(f"MuJoCo cannot render {agent.env} here; {REMEDY}")
        steps = itertools.count()

        def add_frame() -> None:
            if next(steps) % STEPS_BETWEEN[path.suffix] == 0:
                # OGBench's scenes have a MuJoCo model only after their first reset
                prepare_drawing(env.unwrapped)
                add(env.render())

        return _run_step_by_step(agent, env, add_frame)


@contextlib.contextmanager
def _drawn_env(agent: Agent, **camera: Any) -> Iterator[RepeatableEnv]:
    """Yield an agent's environment with rendering options; a missing package raises UsageError."""
    with (
        as_usage_error(DependencyNotInstalled),
        contextlib.closing(make_env(agent.env_id, **{**agent.env_kwargs, **camera})) as env,
    ):
        agent.check_spaces((env.observation_space, env.action_space))
        yield env


def _run_step_by_step(
    agent: Agent, env: RepeatableEnv, after_step: Callable[[], None]
) -> EpisodeResults:
    """Run all episodes one after the other in this process; results are bitwise identical to those of :func:`play`.

    :param after_step: called after each reset and step.
    """
    spaces: Any = env.observation_space, env.action_space
    policy = as_chunk_policy(agent.policy)
    sampler = BatchSampler(policy, spaces, agent.seed, [agent.replica], agent.episodes)
    seeds = seeds_of_starts(agent.seed, agent.episodes)
    totals = np.zeros((4, 1, agent.episodes))
    for number, seed in enumerate(seeds.tolist()):
        observation, _ = env.reset(seed=seed)
        episode = EpisodeTotals()
        is_over = False
        after_step()
        while not is_over:
            rows = np.array([0]), np.array([number])
            chunks, diverged = sampler.sample_chunks(rows, [observation])
            if diverged:
                raise _diverged(agent)
            for action in chunks[0]:
                observation, reward, terminated, truncated, info = env.step(action)
                episode = episode.after_step(reward, info)
                is_over = terminated or truncated
                after_step()
                if is_over:
                    break
        totals[:, 0, number] = episode
    return agent.scoring.apply(results_of(totals, seeds))


def _diverged(agent: Agent) -> ArithmeticError:
    return ArithmeticError(f"{agent.source} sampled an action that is NaN or infinite")
