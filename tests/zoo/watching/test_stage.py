"""Episodes played step by step are those of an evaluation, and what is shown of a policy's thoughts is what it does."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.zoo.models.conftest import ENV, STEPS, maze_model
from zoo.models.agent import Agent, agent_of_run, find_run
from zoo.models.play import play
from zoo.watching.stage import FAN, Imagination, Lane, Mind, Stage, Thoughts


def agent_of(id: str, **settings: Any) -> Agent:
    policy = maze_model(id, seed=3, **settings).policy
    return Agent(algo=id, policy=policy, source=Path("here"), env=ENV, env_kwargs=STEPS, episodes=2)


def thoughts_of(agent: Agent) -> tuple[Thoughts, Lane]:
    stage = Stage(agent)
    (lane,) = next(stage.play())
    return Mind(agent.policy).think(lane), lane  # type: ignore[arg-type]


@pytest.mark.parametrize("lanes", [1, 3, 9])
def test_step_by_step_has_the_results_of_an_evaluation(logs: Path, lanes: int) -> None:
    agent = agent_of_run(find_run(logs, "qam", ENV))
    stage, moments = Stage(agent, lanes), []
    assert len(stage.lanes) == min(lanes, 4)
    for shown in stage.play():
        moments.append((shown[0].length, shown[0].has_new_chunk))
    assert moments[:13] == [(length, length % 3 == 0 and length < 12) for length in range(13)]  # chunks of 3
    expected, _ = play(agent, n_envs=1)
    for name in ("returns", "lengths", "successes", "seeds"):
        np.testing.assert_array_equal(getattr(stage.results(), name), getattr(expected, name))
    stage.close()


@pytest.mark.parametrize(
    ("id", "settings", "stages"),
    [
        ("qam", {"flow_steps": 3}, 4),
        ("qam_e", {"flow_steps": 3}, 4),
        ("fql", {}, 2),
        ("qgf", {"flow_steps": 3}, 4),
        ("rebrac", {}, 1),
        ("bc", {"flow_steps": 3}, 4),
    ],
)
def test_the_played_chunk_is_among_the_thoughts(id: str, settings: dict[str, Any], stages: int) -> None:
    thoughts, lane = thoughts_of(agent_of(id, **settings))
    np.testing.assert_allclose(thoughts.chunks[thoughts.played], lane.chunk, atol=1e-5)
    assert thoughts.chunks.shape == (FAN, 3, 2)
    assert len(thoughts.stages) == stages
    assert all(stage.shape == (FAN, 2) for stage in thoughts.stages)
    assert (thoughts.values is None) == (id == "bc")


def test_the_best_candidate_is_played_and_all_are_shown() -> None:
    thoughts, lane = thoughts_of(agent_of("ifql", best_of_n=20))
    assert thoughts.values is not None
    assert thoughts.values.shape == (20,)
    assert thoughts.played == thoughts.values.argmax()
    np.testing.assert_allclose(thoughts.chunks[thoughts.played], lane.chunk, atol=1e-5)


def test_noise_becomes_an_action_in_euler_steps() -> None:
    agent = agent_of("qam", flow_steps=3)
    thoughts, lane = thoughts_of(agent)
    x, nets = lane.noise["action"][None, None].clone(), agent.policy.nets  # type: ignore[union-attr]
    rows = torch.as_tensor(lane.observation, dtype=torch.float32)[None, None]
    with torch.no_grad():
        for step, stage in enumerate(thoughts.stages[:-1]):
            np.testing.assert_allclose(stage[0], x[0, 0, :2], atol=1e-5)
            x = x + 1 / 3 * nets.fine_tuned(rows, x, step / 3)
    np.testing.assert_allclose(thoughts.stages[-1][0], x.clamp(-1, 1)[0, 0, :2], atol=1e-5)


def test_values_are_the_critics() -> None:
    agent = agent_of("qam")
    thoughts, lane = thoughts_of(agent)
    rows = torch.as_tensor(lane.observation, dtype=torch.float32).expand(1, FAN, -1)
    flat = torch.as_tensor(thoughts.chunks.reshape(1, FAN, -1))  # the maze's actions are in [-1, 1]
    with torch.no_grad():
        expected = agent.policy.nets.critic(rows, flat).mean(1)[0]  # type: ignore[union-attr]
    assert thoughts.values is not None
    np.testing.assert_allclose(thoughts.values, expected, atol=1e-4)


def test_thinking_changes_no_episode() -> None:
    agent = agent_of("qam")
    returns = []
    for thinks in (True, False):
        stage, mind = Stage(agent), Mind(agent.policy)  # type: ignore[arg-type]
        imagination = Imagination(agent)
        for lanes in stage.play():
            if thinks and not lanes[0].is_over:
                imagination.paths(lanes[0].env, mind.think(lanes[0]).chunks)
        returns.append((stage.results().returns, lanes[0].observation))
        imagination.close()
    for with_thoughts, without in zip(*returns, strict=True):
        np.testing.assert_array_equal(with_thoughts, without)


def test_the_imagined_path_of_the_played_chunk_is_the_one_that_is_taken() -> None:
    agent = replace(agent_of("qam"), episodes=1)
    stage, imagination, taken = Stage(agent), Imagination(agent), []
    for lanes in stage.play():
        if lanes[0].has_new_chunk and not taken:
            path = imagination.paths(lanes[0].env, lanes[0].chunk[None])[0]
        taken.append(np.array(lanes[0].env.env.unwrapped.get_xy()))  # type: ignore[attr-defined]
    np.testing.assert_allclose(path, taken[: len(path)], atol=1e-9)
    assert np.abs(path - path[0]).max() > 0.01
