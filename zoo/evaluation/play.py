"""Run the episodes of an agent's protocol, for a score, for a video, or in a window."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gymnasium.error import DependencyNotInstalled

from agents.common.validation import count
from zoo.envs.make import find_spec, is_ogbench, observes_images
from zoo.envs.rendering import REMEDY, prepare_drawing
from zoo.evaluation.evaluator import Evaluator, run_episodes
from zoo.evaluation.pool import EnvGroup, EnvPool
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
        return _play_in(evaluator.pool, agent)


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
    with _group_of_one(agent) as group:
        has_window = "human" in group.envs[0].metadata.get("render_modes", ())
    # in a window, an environment would not render the images that the policy observes
    spec = find_spec(agent.env_id, **agent.env_kwargs)
    if not has_window or observes_images(spec, agent.env_kwargs):
        raise UsageError(f"{agent.env} does not open a window; record a video with --video FILE")
    with _group_of_one(agent, render_mode="human") as group:
        return _play_in(group, agent)


def record(agent: Agent, path: Path, can_draw: bool = True) -> EpisodeResults:
    """Run an agent's episodes and record them as a video.

    :param path: path of an .mp4 or .gif file.
    :param can_draw: whether MuJoCo can render in this process.
    :raises UsageError: if the environment needs MuJoCo for rendering, but MuJoCo cannot render.
    """
    camera: dict[str, Any] = {"render_mode": "rgb_array"}
    spec = find_spec(agent.env_id, **agent.env_kwargs)
    if observes_images(spec, agent.env_kwargs):
        camera = {}  # keep the image size that the policy was trained with
    elif is_ogbench(spec):
        camera |= {"width": VIDEO_SIZE, "height": VIDEO_SIZE}
    with _group_of_one(agent, **camera) as group, open_video(path) as add:
        env = group.envs[0]
        classes = type(env.unwrapped).__mro__
        if not can_draw and any(kind.__module__.startswith(MUJOCO_MODULES) for kind in classes):
            raise UsageError(f"MuJoCo cannot render {agent.env} here; {REMEDY}")
        steps = itertools.count()

        def add_frame() -> None:
            if next(steps) % STEPS_BETWEEN[path.suffix] == 0:
                # OGBench's scenes have a MuJoCo model only after their first reset
                prepare_drawing(env.unwrapped)
                add(env.render())

        group.after_step = add_frame
        return _play_in(group, agent)


@contextlib.contextmanager
def _group_of_one(agent: Agent, **camera: Any) -> Iterator[EnvGroup]:
    """Yield an agent's environment with rendering options; a missing package raises UsageError."""
    env_kwargs = {**agent.env_kwargs, **camera}
    with as_usage_error(DependencyNotInstalled):
        group = EnvGroup(find_spec(agent.env_id, **env_kwargs), env_kwargs, range(1))
        with contextlib.closing(group):
            yield group


def _play_in(pool: EnvPool | EnvGroup, agent: Agent) -> EpisodeResults:
    """Run an agent's episodes; the number of environments does not affect the results."""
    agent.check_spaces(pool.spaces)
    results = run_episodes(pool, agent.policy, agent.episodes, agent.seed, [agent.replica])
    if not results.played[0]:
        raise ArithmeticError(f"{agent.source} sampled an action that is NaN or infinite")
    return agent.scoring.apply(results)
