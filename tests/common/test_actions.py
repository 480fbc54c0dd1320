"""Boxes of integers: actions are rounded, and what is stored is what was played."""

from functools import partial

import numpy as np
import pytest
import torch
from gymnasium import spaces

from agents.common.actions import scaled_actions, unscaled_actions
from agents.common.data.arrays import ActionRange
from agents.common.sb3.exporting import ExportedPolicy
from tests.common.toys import always_sample, refuses, tiny_model
from tests.envs import IntegerEnv
from zoo.algorithms.baselines import SAC


@pytest.mark.parametrize(("low", "dtype"), [(-128, np.int8), (0, np.uint8), (-128, np.int64)])
def test_the_width_of_a_box_is_that_of_its_numbers_not_of_its_dtype(low, dtype):
    box = spaces.Box(low, 127, (1,), dtype)
    ends = np.array([[low], [127]])
    for scaled in (scaled_actions(ends, box), ActionRange.of(box).scaled(ends)):
        assert scaled.tolist() == [[-1], [1]]
        assert unscaled_actions(scaled, box).tolist() == ends.tolist()


def model_of_sac(env):
    return SAC("MlpPolicy", env, noise_std=0.3, learning_starts=5, seeds=[0], device="cpu")


@pytest.mark.parametrize("make", [tiny_model, partial(tiny_model, horizon_length=1), model_of_sac])
def test_a_replay_buffer_holds_the_integers_that_were_played(make):
    env = IntegerEnv()
    model = make(env=env).learn(30)
    assert all(action.dtype == np.int64 for action in env.played)
    stored = model.policy.unscale_action(model.replay_buffer.actions[:30].double().numpy())
    np.testing.assert_allclose(stored, env.played, atol=1e-5)


@pytest.mark.parametrize("horizon_length", [1, 3])
def test_predict_returns_the_nearest_integer(monkeypatch, horizon_length):
    policy = tiny_model(env=IntegerEnv(), horizon_length=horizon_length).policy
    scaled = torch.tensor([0.95, -0.95]).repeat(horizon_length)  # 9.75 and 0.25
    always_sample(monkeypatch, policy, scaled)
    assert policy.predict(np.zeros(4, np.float32))[0].tolist() == [10, 0]
    draws = policy.draw_action_noise(1, torch.Generator())
    exported = ExportedPolicy(policy)(torch.zeros(1, 4), *draws.values())
    assert exported[0, 0].tolist() == [10, 0]


def test_a_diverged_policy_of_integers_is_noticed(monkeypatch):
    model = tiny_model(env=IntegerEnv(), learning_starts=0)
    always_sample(monkeypatch, model.policy, torch.full((6,), torch.nan))
    with refuses("training diverged", FloatingPointError):
        model.learn(5)
