"""Pessimism beyond the numbers recorded in `tests/parity`."""

import math

import numpy as np
import pytest
import torch

from agents.common.maths.critic import advantage_weight, pessimistic_value
from tests.common.toys import tiny_model, toy_dataset


def test_members_that_agree_exactly_are_climbed_by_their_mean():
    # the square root has no finite derivative at zero spread
    q = torch.tensor([[[1.0, 3.0], [1.0, 5.0]]], requires_grad=True)
    pessimistic_value(q, 0.5).sum().backward()
    assert q.grad[0, :, 0].tolist() == [0.5, 0.5]
    assert q.grad[0, :, 1].tolist() == pytest.approx([0.75, 0.25])


@pytest.mark.parametrize("id", ["rebrac", "iql"])
def test_observations_of_zeros_are_learnt_from(id):
    settings = {"actor_loss": "ddpgbc"} if id == "iql" else {}
    model = tiny_model(id, **settings)
    dataset = toy_dataset()
    zeros = np.zeros_like(dataset["observations"])
    model.learn_offline(2, dataset={**dataset, "observations": zeros, "next_observations": zeros})
    assert not model.find_divergence()


def test_weights_whose_gradients_would_be_denormal_are_zero():
    advantage = torch.tensor([-50.0, -10.0, 0.0, 10.0, math.nan])
    weight = advantage_weight(advantage, 2.0)
    # e^-100 is rounded to 0; e^-20 is not, but changes parameters by less than their rounding
    assert weight[:4].tolist() == pytest.approx([0, math.exp(-20), 1, 100], rel=1e-6, abs=0)
    assert weight[4].isnan()
