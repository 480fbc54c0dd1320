"""Boxes of integers: actions are rounded, and what is stored is what was played."""

import numpy as np
import pytest
import torch
from gymnasium import spaces
from numpy.testing import assert_array_equal

from agents.common.actions import played_actions, scaled_actions, unscaled_actions
from agents.common.data.arrays import ActionRange
from agents.common.sb3.exporting import ExportedPolicy
from tests.common.toys import tiny_model
from tests.envs import IntegerEnv


def test_integers_are_rounded_and_stay_in_their_box():
    box = spaces.Box(0, 10, (4,), np.int64)
    assert played_actions(np.array([-0.4, 0.6, 9.4, 9.51]), box).tolist() == [0, 1, 9, 10]
    assert played_actions(np.array([9.51]), box).dtype == np.int64


def test_actions_that_are_not_integers_are_played_as_they_are():
    box = spaces.Box(-1, 1, (2,), np.float32)
    assert_array_equal(played_actions(np.array([0.25, 2.0]), box), np.float32([0.25, 1.0]))


def test_an_action_that_is_not_finite_becomes_no_integer():
    with pytest.raises(FloatingPointError, match="must be finite"):
        played_actions(np.array([np.nan]), spaces.Box(0, 10, (1,), np.int64))


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int64])
def test_the_width_of_a_box_is_that_of_its_numbers_not_of_its_dtype(dtype):
    box = spaces.Box(np.iinfo(np.int8).min if dtype != np.uint8 else 0, 127, (1,), dtype)
    ends = np.array([[box.low[0]], [box.high[0]]])
    assert scaled_actions(ends, box).tolist() == [[-1], [1]]
    assert ActionRange.of(box).scaled(ends).tolist() == [[-1], [1]]
    assert unscaled_actions(np.array([[-1.0], [1.0]]), box).tolist() == ends.tolist()


@pytest.mark.parametrize("horizon_length", [1, 3])
def test_a_replay_buffer_holds_the_integers_that_were_played(horizon_length):
    env = IntegerEnv()
    model = tiny_model(env=env, horizon_length=horizon_length, learning_starts=5)
    model.learn(30)
    assert all(action.dtype == np.int64 for action in env.played)
    stored = model.policy.unscale_action(
        model.replay_buffer.actions[:30].numpy().astype(np.float64)
    )
    np.testing.assert_allclose(stored, np.array(env.played), atol=1e-5)


@pytest.mark.parametrize("horizon_length", [1, 3])
def test_predict_returns_the_nearest_integer(monkeypatch, horizon_length):
    policy = tiny_model(env=IntegerEnv(), horizon_length=horizon_length).policy
    scaled = torch.tensor([0.95, -0.95]).repeat(horizon_length)  # 9.75 and 0.25
    monkeypatch.setattr(
        policy.method, "sample_actions", lambda obs, noise, nets: scaled.expand(*obs.shape[:2], -1)
    )
    action, _ = policy.predict(np.zeros(4, np.float32))
    assert action.tolist() == [10, 0]
    exported = ExportedPolicy(policy)(
        torch.zeros(1, 4), *policy.draw_action_noise(1, torch.Generator()).values()
    )
    assert exported[0, 0].tolist() == [10, 0]


def test_a_diverged_policy_of_integers_is_noticed(monkeypatch):
    model = tiny_model(env=IntegerEnv(), learning_starts=0)
    monkeypatch.setattr(
        model.policy.method,
        "sample_actions",
        lambda obs, noise, nets: torch.full((*obs.shape[:2], 6), torch.nan),
    )
    with pytest.raises(FloatingPointError, match="training diverged"):
        model.learn(5)
