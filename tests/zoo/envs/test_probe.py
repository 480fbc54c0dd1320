"""Environments whose state outlives a reset are refused; others are left alone."""

import logging
import time
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.wrappers import RecordEpisodeStatistics, TimeLimit

import agents
from tests.zoo.envs import toys
from tests.zoo.envs.toys import SpringEnv
from zoo.dataset import main
from zoo.datasets.collect import collect
from zoo.envs.make import RepeatableEnv
from zoo.envs.probe import probe
from zoo.models.agent import Agent
from zoo.playing.evaluate import Evaluator
from zoo.terminal.errors import UsageError
from zoo.watching.stage import Stage

CHANGING = "tests.zoo.envs.test_probe:Changing-v0"


class Spring(SpringEnv):
    """A spring whose episodes may depend on how many there were."""

    def __init__(self, change="", after=1):
        self.change, self.after, self.episodes = change, after, -1

    @property
    def changed(self):
        """Whether it is time to be another one."""
        return self.episodes >= self.after

    def reset(self, **how):
        """Count the episodes."""
        observation, info = super().reset(**how)
        self.episodes, self.steps = self.episodes + 1, 0
        if self.change == "slow":
            time.sleep(0.2)
        elif self.change == "start" and self.changed:
            observation = observation + 0.01
        elif self.change == "trace":
            observation = observation + 1e-9 * self.episodes
        return observation, info | {"episodes": self.episodes}

    def step(self, action):
        """Be another one in some way."""
        observation, reward, *_ = super().step(action)
        self.steps += 1
        over = self.change == "length" and self.steps == 5 + self.episodes
        won = self.change == "success" and self.changed
        if self.change == "reward" and self.changed:
            reward += 1
        elif self.change == "entropy":
            reward += np.random.default_rng().uniform()
        elif self.change == "global":
            observation = observation + np.random.uniform()
        elif self.change == "breaks" and self.changed:
            raise ArithmeticError("the spring broke")
        return (
            observation,
            reward,
            over,
            self.steps == 20,
            {"success": won, "episodes": self.episodes},
        )


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
        (
            lambda: OwnNormalisation(Spring()),
            "got another observation at step 0.*`observation_scale`",
        ),
        (lambda: Spring("start"), "got another observation"),
        (lambda: Spring("reward", after=5), "got another reward at step 1"),
        (lambda: Spring("length"), "got another termination at step 5"),
        (lambda: Spring("success", after=9), "got another success at step 1"),
    ],
)
def test_what_changes_from_episode_to_episode_is_refused(make, text):
    with pytest.raises(UsageError, match=f"(?s)must not depend on those before it, {text}"):
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
        require(lambda: Spring(change))
    assert "is not repeatable: the same reset seed and actions lead to" in caplog.text


def test_a_slow_environment_is_reset_a_few_times_only():
    made = []
    require(lambda: made.append(Spring("slow")) or made[-1])
    assert made[0].episodes <= 4
    assert len(made) == 1


def evaluate():
    Evaluator(CHANGING, episodes=2, n_envs=2, seed=0)


def play_back():
    policy = agents.BC("MlpPolicy", SpringEnv(), net_arch=[4], buffer_size=4, seed=0).policy
    Stage(Agent("bc", policy, Path("model.zip"), CHANGING, episodes=2))


def gather():
    collect("random", CHANGING, {}, episodes=1)


@pytest.mark.parametrize("work", [evaluate, play_back, gather])
def test_work_that_plays_episodes_refuses_it_first(work):
    with pytest.raises(UsageError, match="must not depend on those before it"):
        work()


def test_a_check_of_data_refuses_it(tmp_path, capsys):
    assert main(["check", str(tmp_path / "spring.npz"), "--env", CHANGING]) == 2
    assert "must not depend on those before it" in capsys.readouterr().err
