"""A model that is used without the zoo does not blame training for an environment's NaN."""

from __future__ import annotations

import numpy as np
import pytest

from tests.common.toys import tiny_model
from tests.zoo.envs.toys import ToyEnv


class BrokenEnv(ToyEnv):
    """Observes a wrong number from its fifth step on."""

    steps = 0

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict]:
        observation, *others = super().step(action)
        self.steps += 1
        if self.steps >= 5:
            observation[2] = self.wrong
        return observation, *others


@pytest.mark.parametrize(("wrong", "found"), [(np.nan, "nan"), (1e300, r"1e\+300")])
def test_the_environment_and_the_observation_are_named(wrong: float, found: str) -> None:
    model = tiny_model(env=BrokenEnv(wrong=wrong), learning_starts=0)
    with pytest.raises(
        ValueError, match=rf"got observation\[2\] = {found} from environment 0 at step \d+; this is a fault of"
    ):
        model.learn(60)
