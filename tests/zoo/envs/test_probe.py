"""Environments whose state outlives a reset are refused; others are left alone."""

import logging
import math
import time
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.wrappers import RecordEpisodeStatistics, TimeLimit

from tests.zoo.envs import toys
from tests.zoo.envs.toys import SpringEnv
from tests.zoo.outcomes import refuses
from zoo.envs.probe import probe
from zoo.envs.repeatable import RepeatableEnv
from zoo.evaluation.evaluator import Evaluator

CHANGING = "tests.zoo.envs.test_probe:Changing-v0"


class Spring(SpringEnv):
    """A spring whose episodes may depend on how many there were."""

    def __init__(self, change="", first_changed=1):
        self.change, self.first_changed, self.episodes = change, first_changed, -1

    def reset(self, **options):
        """Count the episodes."""
        observation, info = super().reset(**options)
        self.episodes, self.steps = self.episodes + 1, 0
        self.changed = self.change if self.episodes >= self.first_changed else ""
        if self.change == "slow":
            time.sleep(0.2)
        observation += {"start": 0.01, "trace": 1e-9 * self.episodes}.get(self.changed, 0)
        return observation, info | {"episodes": self.episodes}

    def step(self, action):
        """Be another one in some way."""
        observation, reward, *_ = super().step(action)
        self.steps += 1
        is_over = self.change == "length" and self.steps == 5 + self.episodes
        if self.change == "global":
            observation = observation + np.random.uniform()
        if self.changed == "breaks":
            raise ArithmeticError("the spring broke")
        noise = np.random.default_rng().uniform()  # of the system's entropy
        reward += {"reward": 1, "entropy": noise}.get(self.changed, 0)
        info = {"success": self.changed == "success", "episodes": self.episodes}
        return observation, reward, is_over, self.steps == 20, info


class OwnNormalisation(gymnasium.ObservationWrapper[Any, Any, Any]):
    """Divides by the largest number that was seen so far."""

    largest = 1.0

    def observation(self, observation):
        """Scale."""
        self.largest = max(self.largest, float(np.abs(observation).max()))
        return observation / self.largest


gymnasium.register("Changing-v0", lambda: Spring("start"), max_episode_steps=20)


def require(make):
    def repeatable():
        return RepeatableEnv(TimeLimit(make(), 20), keep_info=True)

    probe(repeatable(), repeatable)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (toys.normalized, "another step 0.*`observation_scale`"),
        (lambda: OwnNormalisation(Spring()), "another step 0.*`observation_scale`"),
        (lambda: Spring("reward", first_changed=5), "another step 1"),
        (lambda: Spring("length"), "another step 5"),
        (lambda: Spring("success", first_changed=9), "another step 1"),
    ],
)
def test_what_changes_from_episode_to_episode_is_refused(make, text, monkeypatch):
    # ten episodes, also where another program takes the processor meanwhile
    monkeypatch.setattr("zoo.envs.probe.SECONDS", math.inf)
    with refuses(f"(?s)must not depend on those before it, got {text}"):
        require(make)


@pytest.mark.parametrize(
    "make",
    [
        Spring,  # counts its episodes in its infos
        lambda: toys.normalized(is_frozen=True),
        lambda: RecordEpisodeStatistics(Spring()),
        lambda: Spring("trace"),  # as simulators leave them
        lambda: Spring("breaks"),
    ],
)
def test_what_no_episode_depends_on_is_left_alone(make, caplog):
    require(make)
    assert caplog.messages == []


@pytest.mark.parametrize("change", ["entropy", "global"])
def test_what_is_not_repeatable_at_all_is_said_and_not_refused(change, caplog):
    with caplog.at_level(logging.WARNING):
        require(lambda: Spring(change, first_changed=0))
    assert "is not deterministic: " in caplog.text


def test_an_evaluation_refuses_it_first():
    with (
        refuses("must not depend on those before it"),
        Evaluator(CHANGING, episodes=2, n_envs=2, seed=0) as evaluator,
    ):
        _ = evaluator.spaces
