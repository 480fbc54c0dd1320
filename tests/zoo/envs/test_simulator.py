"""The pinned MuJoCo moves robots as the one in which the papers' data and scores were made."""

import gymnasium
import numpy as np
import ogbench  # noqa: F401 - registers its environments
import pytest

from tests import needs_pinned

ARM = [-1.298, -1.329, 1.402, -1.644, -1.571, -1.169]
"""Angles of its joints, in radians."""
ANT = [0, 0, 0.55, 1, 0, 0, 0, 0, 1, 0, -1, 0, -1, 0, 1]
"""Position, orientation and angles of its joints, a few centimetres above the ground."""


@needs_pinned("mujoco")
def test_an_arm_moves_as_in_mujoco_3_4():
    env = gymnasium.make("cube-single-v0").unwrapped
    np.random.seed(0)  # places the cube
    env.reset(seed=0)
    env._data.qpos[: len(ARM)] = ARM
    env._data.qvel[:] = 0
    for action in (
        [1, 1, 0, 1, 0],
        [1, 1, -1, 1, 0],
        [-1, 1, -1, -1, 1],
        [-1, -1, 1, -1, 1],
        [-1, -1, 1, 1, -1],
    ):
        info = env.step(np.array(action, float))[-1]
    # 3.3.1 agrees; from 3.5.0 on it is 5 mm away
    expected = [0.520744, 0.298519, 0.270339]
    assert info["proprio/effector_pos"] == pytest.approx(expected, abs=1e-4)


@needs_pinned("mujoco")
def test_an_ant_walks_as_in_mujoco_3_4():
    env = gymnasium.make("antmaze-medium-v0").unwrapped
    env.reset(seed=0)
    env.set_state(np.array(ANT, float), np.zeros(14))
    for _ in range(5):
        env.step(np.array([1, 1, -1, -1, 1, 1, -1, -1], np.float32))
    # 3.1.6 agrees; from 3.5.0 on it is 14 cm away
    assert env.data.qpos[:3] == pytest.approx([0, -0.066929, 0.484254], abs=1e-4)
