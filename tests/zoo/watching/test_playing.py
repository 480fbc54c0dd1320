"""Episodes that somebody looks at are those of an evaluation."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.zoo.models.conftest import ENV, maze_model
from zoo.config import MOST_EPISODES
from zoo.errors import UsageError
from zoo.models.agent import Agent, Choice, agent_of_file, agent_of_run, find_run
from zoo.watching.playing import Lane, Stage, episode_text, play, with_protocol


@pytest.fixture
def agent(logs: Path) -> Agent:
    return agent_of_run(find_run(logs, "qam", ENV), Choice())


@pytest.mark.parametrize("lanes", [1, 3, 9])
def test_step_by_step_has_the_results_of_an_evaluation(agent: Agent, lanes: int) -> None:
    stage = Stage(agent, lanes)
    assert len(stage.lanes) == min(lanes, 4)
    for _ in stage.play():
        pass
    expected, _ = play(agent, n_envs=1)
    for name in ("returns", "lengths", "successes", "seeds"):
        np.testing.assert_array_equal(getattr(stage.results(), name), getattr(expected, name))
    stage.close()


def test_several_candidates_are_played_as_in_an_evaluation(agent: Agent) -> None:
    several = replace(agent, policy=maze_model("ifql", best_of_n=3).policy, episodes=2)
    stage = Stage(several)
    for _ in stage.play():
        pass
    np.testing.assert_array_equal(stage.results().returns, play(several, n_envs=1)[0].returns)
    stage.close()


def test_every_moment_is_shown_with_its_chunk(agent: Agent) -> None:
    stage = Stage(with_protocol(agent, 2, None))
    lengths, new = [], []
    for lanes in stage.play():
        (lane,) = lanes
        lengths.append(lane.length)
        new.append(lane.has_new_chunk)
        assert lane.is_over or lane.used < len(lane.chunk)
    stage.close()
    assert lengths == [*range(13), *range(13)]  # the moment before the first step, and 12 steps
    assert new == [length % 3 == 0 and length < 12 for length in lengths]  # chunks of 3


def test_the_seed_decides_the_episodes(agent: Agent) -> None:
    first, _ = play(with_protocol(agent, 3, 1), n_envs=1)
    again, _ = play(with_protocol(agent, 3, 1), n_envs=1)
    other, _ = play(with_protocol(agent, 3, 2), n_envs=1)
    np.testing.assert_array_equal(first.seeds, again.seeds)
    assert (first.seeds != other.seeds).all()


def test_the_first_episodes_are_those_of_longer_evaluations(agent: Agent) -> None:
    few, _ = play(with_protocol(agent, 2, None), n_envs=1)
    many, _ = play(agent, n_envs=1)
    np.testing.assert_array_equal(few.seeds, many.seeds[:2])


def test_an_agent_plays_no_other_spaces(agent: Agent) -> None:
    moved = replace(agent, env="Pendulum-v1", env_kwargs={})
    for start in (play, Stage):
        with pytest.raises(UsageError, match="got Pendulum-v1 with"):
            start(moved)


@pytest.mark.parametrize(
    ("name", "how"),
    [
        ("episodes", {"episodes": 0, "seed": 0}),
        ("seed", {"episodes": 3, "seed": -1}),
        ("episodes", {"episodes": MOST_EPISODES + 1, "seed": 0}),
    ],
)
def test_no_episodes_too_many_and_no_seed_are_refused(agent: Agent, name: str, how: dict[str, int]) -> None:
    with pytest.raises(UsageError, match=f"`{name}` must be"):
        with_protocol(agent, **how)


def test_an_agent_that_plans_nan_has_no_score(agent: Agent, policy_file: Path) -> None:
    broken = replace(agent, policy=agent_of_file(policy_file, None).policy)
    with torch.no_grad():
        next(iter(broken.policy.nets.fine_tuned.parameters())).fill_(torch.nan)  # type: ignore[union-attr]
    with pytest.raises(ArithmeticError, match="planned an action that is NaN or infinite"):
        play(broken, n_envs=1)
    with pytest.raises(ArithmeticError, match="planned an action that is NaN or infinite"):
        next(Stage(broken).play())


def test_a_lane_without_an_episode_has_no_chunk(agent: Agent) -> None:
    assert not Lane(env=None).has_new_chunk  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("success", "text"),
    [
        (1, "episode 2: success, 30 steps, return -29.5"),
        (0, "episode 2: failure, 30 steps, return -29.5"),
        (None, "episode 2: 30 steps, return -29.5"),
    ],
)
def test_an_episodes_end_in_words(success: int | None, text: str) -> None:
    assert episode_text(2, success, 30, -29.5) == text
