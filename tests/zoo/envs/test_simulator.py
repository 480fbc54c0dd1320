"""The pinned MuJoCo simulates robots like the version used for the papers' data and scores."""

import gymnasium
import numpy as np
import ogbench  # noqa: F401 - registers its environments
import pytest

from tests import needs_pinned
from zoo.datasets.files import dataset_file, recorded_origin
from zoo.runs import versions

ANT = [0, 0, 0.55, 1, 0, 0, 0, 0, 1, 0, -1, 0, -1, 0, 1]
"""The ant's position, orientation and joint angles, a few centimetres above the ground."""


@pytest.mark.parametrize(
    ("origin", "here", "is_told"),
    [
        ("MuJoCo 4.0.0, seed 3", "3.4.0", True),
        ("MuJoCo 3.4.0 or older", "3.5.0", True),
        ("MuJoCo 3.5.0, seed 3", "4.0.0", False),
        ("", "4.0.0", False),
    ],
)
def test_data_of_a_simulator_that_moves_robot_otherwise_are_told(
    origin, here, is_told, tmp_path, monkeypatch, capsys
):
    file = tmp_path / "cube-single-play-v0.npz"
    with dataset_file(file, origin) as temporary:
        temporary.touch()
    monkeypatch.setattr(versions, "version", lambda package: here)
    made_in = recorded_origin(file, None).get("mujoco")
    for environment in ("cube-single-play-singletask-task1-v0", "pointmaze-medium-navigate-v0"):
        versions.warn_of_simulator(environment, "the data", made_in)
    assert capsys.readouterr().err.count("simulates this robot differently") == is_told


@needs_pinned("mujoco")
def test_an_ant_walks_as_in_mujoco_3_4():
    env = gymnasium.make("antmaze-medium-v0").unwrapped
    env.reset(seed=0)
    env.set_state(np.array(ANT, float), np.zeros(14))
    for _ in range(5):
        env.step(np.array([1, 1, -1, -1, 1, 1, -1, -1], np.float32))
    # 3.1.6 agrees; from 3.5.0 on, the result differs by 14 cm
    assert env.data.qpos[:3] == pytest.approx([0, -0.066929, 0.484254], abs=1e-4)
