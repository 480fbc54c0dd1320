"""Environments whose state outlives a reset are found and refused; others are left alone."""

import logging
import re
import time
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.wrappers import NormalizeReward, RecordEpisodeStatistics, TimeLimit

import agents
from tests.zoo.envs import toys
from tests.zoo.envs.toys import SpringEnv
from zoo.datasets.collect import collect
from zoo.datasets.own import check_own
from zoo.envs.lasting import find_lasting_state
from zoo.envs.make import RepeatableEnv
from zoo.errors import UsageError
from zoo.models.agent import Agent
from zoo.playing.evaluate import Evaluator
from zoo.train import main
from zoo.watching.stage import Stage

NORMALIZED = "tests.zoo.envs.toys:Normalized-v0"


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
        return observation, reward, over, self.steps == 20, {"success": won, "episodes": self.episodes}


class Sparse(Spring):
    """A spring without rewards, whose normalisation shows only later."""

    def step(self, action):
        """Step without a reward."""
        observation, _, *rest = super().step(action)
        return observation, 0.0, *rest


class OwnNormalisation(gymnasium.ObservationWrapper[Any, Any, Any]):
    """Divides by the largest number that was seen so far."""

    largest = 1.0

    def observation(self, observation):
        """Scale."""
        self.largest = max(self.largest, float(np.abs(observation).max()))
        return observation / self.largest


def find(make):
    def repeatable():
        return RepeatableEnv(TimeLimit(make(), 20), keep_info=True)

    return find_lasting_state(repeatable(), repeatable)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (toys.normalized, "got the wrapper NormalizeObservation, whose statistics go on"),
        (lambda: RecordEpisodeStatistics(NormalizeReward(Sparse())), "got the wrapper NormalizeReward"),
        (lambda: OwnNormalisation(Spring()), "got the observation .* at step 0"),
        (lambda: Spring("start"), "got the observation"),
        (lambda: Spring("reward", after=5), r"got the reward -.* and then -.* at step 1"),
        (lambda: Spring("length"), "got the termination 1 and then 0 at step 5"),
        (lambda: Spring("success", after=9), "got the success 0 and then 1 at step 1"),
    ],
)
def test_what_changes_from_episode_to_episode_is_found(make, text):
    found = find(make)
    assert re.search(text, found), found
    assert "must not depend on those before it" in found
    assert "`observation_scale`" in found


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
    assert find(make) is None
    assert not caplog.messages


@pytest.mark.parametrize("change", ["entropy", "global"])
def test_what_is_not_repeatable_at_all_is_said_and_not_refused(change, caplog):
    with caplog.at_level(logging.WARNING):
        assert find(lambda: Spring(change)) is None
    assert "is not repeatable: the same reset seed and actions lead to" in caplog.text


def test_a_slow_environment_is_reset_a_few_times_only():
    made = []
    assert find(lambda: made.append(Spring("slow")) or made[-1]) is None
    assert made[0].episodes <= 4
    assert len(made) == 1


# -- where it is asked ------------------------------------------------------------------------------------------------


def refused():
    return pytest.raises(UsageError, match="NormalizeObservation")


def test_an_evaluation_refuses_it():
    with refused():
        Evaluator(NORMALIZED, episodes=2, n_envs=2, seed=0)


def test_playback_refuses_it():
    policy = agents.BC("MlpPolicy", SpringEnv(), net_arch=[4], buffer_size=4, seed=0).policy
    with refused():
        Stage(Agent("bc", policy, Path("model.zip"), NORMALIZED, episodes=2))


def test_collecting_refuses_it_and_a_check_finds_it(tmp_path):
    with refused():
        collect("random", NORMALIZED, {}, episodes=1)
    arrays, _ = collect("random", "tests.zoo.envs.toys:Spring-v0", {}, episodes=2)
    np.savez(tmp_path / "spring.npz", **arrays)
    _, (finding, *_) = check_own(tmp_path / "spring.npz", NORMALIZED, {})
    assert finding.severity == "error"
    assert "NormalizeObservation" in finding.message


@pytest.mark.parametrize("more", ["", "--eval-env-kwargs is_frozen=true"])
def test_training_refuses_it_before_a_folder_is_made(more, tmp_path, capsys):
    words = f"--algo sac --env {NORMALIZED} --online-steps 9 --eval-episodes 1 {more}".split()
    assert main([*words, "-f", str(tmp_path / "logs")]) == 2
    assert "got the wrapper NormalizeObservation" in capsys.readouterr().err
    assert not list(tmp_path.glob("logs/sac*"))
