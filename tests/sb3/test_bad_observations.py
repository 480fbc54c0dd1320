"""A model that is used without the zoo does not blame training for an environment's NaN."""

from __future__ import annotations

import numpy as np
import pytest

from tests.common.toys import tiny_model
from tests.zoo.envs.toys import ToyEnv


class BrokenEnv(ToyEnv):
    """Observes NaN from its fifth step on."""

    steps = 0

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict]:
        observation, *others = super().step(action)
        self.steps += 1
        if self.steps >= 5:
            observation[2] = np.nan
        return observation, *others


def test_the_environment_and_the_observation_are_named():
    model = tiny_model(env=BrokenEnv(), learning_starts=0)
    with pytest.raises(
        ValueError, match=r"got observation\[2\] = nan from environment 0 at step \d+; this is a fault of"
    ):
        model.learn(60)
