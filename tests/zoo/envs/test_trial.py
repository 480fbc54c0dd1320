"""Environments whose state survives a reset are rejected; others are accepted."""

import gymnasium
import numpy as np
import pytest
from gymnasium.wrappers import RecordEpisodeStatistics, TimeLimit

from tests.zoo.envs import toys
from tests.zoo.envs.toys import SpringEnv
from tests.zoo.outcomes import refuses
from zoo.envs.checks import RepeatableEnv
from zoo.envs.make import try_env
from zoo.evaluation.evaluator import Evaluator

CHANGING = "tests.zoo.envs.test_trial:Changing-v0"


class Spring(SpringEnv):
    """A spring whose episodes may depend on the number of earlier episodes."""

    def __init__(self, change="", first_changed=1):
        self.change, self.first_changed, self.episodes = change, first_changed, -1

    def reset(self, **options):
        """Count the episode."""
        observation, info = super().reset(**options)
        self.episodes, self.steps = self.episodes + 1, 0
        self.changed = self.change if self.episodes >= self.first_changed else ""
        observation += {"start": 0.01, "trace": 1e-9 * self.episodes}.get(self.changed, 0)
        return observation, info | {"episodes": self.episodes}

    def step(self, action):
        """Change the result in one of several ways."""
        observation, reward, *_ = super().step(action)
        self.steps += 1
        is_over = self.change == "length" and self.steps == 5 + self.episodes
        if self.change == "global":
            observation = observation + np.random.uniform()
        if self.changed == "breaks":
            raise ArithmeticError("the spring broke")
        reward += self.changed == "reward"
        info = {"success": self.changed == "success", "episodes": self.episodes}
        return observation, reward, is_over, self.steps == 20, info


gymnasium.register("Changing-v0", lambda: Spring("start"), max_episode_steps=20)


gymnasium.register("Noisy-v0", lambda: Spring("global", 0), nondeterministic=True)


def require(make):
    try_env(RepeatableEnv(TimeLimit(make(), 20), keep_info=True))


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (toys.normalized, "step 0 differed.*`observation_scale`"),
        (lambda: Spring("reward"), "step 1 differed"),
        (lambda: Spring("length"), "step 5 differed"),
        (lambda: Spring("success"), "step 1 differed"),
        (lambda: Spring("global", first_changed=0), "step 1 differed"),
    ],
)
def test_what_changes_from_episode_to_episode_is_refused(make, text):
    with refuses(f"(?s)must depend only on its reset seed and actions, but {text}"):
        require(make)


@pytest.mark.parametrize(
    "make",
    [
        Spring,  # counts episodes in its infos
        lambda: toys.normalized(is_frozen=True),
        lambda: RecordEpisodeStatistics(Spring()),
        lambda: Spring("trace"),  # keeps a trace, as simulators do
        lambda: Spring("breaks"),
        lambda: gymnasium.make("Noisy-v0"),
    ],
)
def test_what_no_episode_depends_on_is_left_alone(make):
    require(make)


def test_an_evaluation_refuses_it_first():
    with (
        refuses("must depend only on its reset seed"),
        Evaluator(CHANGING, episodes=2, n_envs=2, seed=0) as evaluator,
    ):
        _ = evaluator.pool.spaces
