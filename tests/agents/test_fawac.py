from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tests.agents.oracles import (
    Behaviour,
    Field,
    Quadratic,
    bandit_actions,
    bandit_model,
    bare,
    learn_bandit,
    networks,
    rows_of,
)


def weights_of(actions: Tensor, inverse_temperature: float) -> Tensor:
    """Return the weights of data actions (B, 1) where Q(a) = a and V = 0."""
    model = bare("fawac", inverse_temperature=inverse_temperature, flow_steps=1)
    critic = Quadratic(1.0)
    nets = networks(
        critic=critic,
        critic_target=critic,
        value=lambda observations: observations[..., 0],
        flow=Field(lambda x, t: x),
    )
    batch = rows_of(actions)
    return model.targets(batch, {"td_action": batch.actions.unsqueeze(0)[0]}, nets, {})["weight"][0]


def test_weights_are_capped() -> None:
    assert weights_of(torch.tensor([[10.0], [0.0]]), 6.4).tolist() == [100.0, 1.0]


@pytest.mark.slow
def test_learnt_flow_samples_the_tilt() -> None:
    model = bandit_model("fawac", 2, inverse_temperature=6.4)
    exact = Quadratic(torch.tensor([1.0, 0.5]))
    learn_bandit(model, Behaviour(0.2, [[0.0, 0.0]]), 1_500, critic=exact, critic_target=exact)
    actions = bandit_actions(model)
    # the tilt's mean tau s^2 g, and the 10-step sampler's spread of a Gaussian with standard deviation 0.2
    torch.testing.assert_close(actions.mean(0), torch.tensor([0.256, 0.128]), atol=0.02, rtol=0)
    torch.testing.assert_close(actions.std(0), torch.tensor([0.154, 0.154]), atol=0.02, rtol=0)
