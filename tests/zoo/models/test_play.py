"""Playing an agent's episodes for a score."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.zoo.models.conftest import ENV
from zoo.errors import UsageError
from zoo.models.agent import Agent, agent_of_file, agent_of_run, find_run
from zoo.models.play import play
from zoo.watching.stage import Stage


@pytest.fixture
def agent(logs: Path) -> Agent:
    return agent_of_run(find_run(logs, "qam", ENV))


def test_an_agent_plays_no_other_spaces(agent: Agent) -> None:
    moved = replace(agent, env="Pendulum-v1", env_kwargs={})
    for start in (play, Stage):
        with pytest.raises(UsageError, match="got Pendulum-v1 with"):
            start(moved)


def test_an_agent_that_plans_nan_has_no_score(agent: Agent, policy_file: Path) -> None:
    broken = replace(agent, policy=agent_of_file(policy_file, None).policy)
    with torch.no_grad():
        next(iter(broken.policy.nets.fine_tuned.parameters())).fill_(torch.nan)  # type: ignore[union-attr]
    with pytest.raises(ArithmeticError, match="planned an action that is NaN or infinite"):
        play(broken, n_envs=1)
    with pytest.raises(ArithmeticError, match="planned an action that is NaN or infinite"):
        next(Stage(broken).play())
