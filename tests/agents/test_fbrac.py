"""FBRAC: cloning and the critic's gradient through all Euler steps balance in one flow."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import agents
from tests.agents.oracles import (
    Field,
    Quadratic,
    assert_stacked_equals_single,
    bare,
    networks,
    normal_quantiles,
    random_batch,
    random_noise,
    routes,
    rows_of,
    small_model,
)
from tests.common.closed_forms import Gaussian

ROWS = 512


def total_loss(bias: Tensor, s: float, weight: float, size: int, start: float = 0.3) -> tuple[Tensor, Tensor]:
    """Return the policy's loss and the mean of its actions for the flow v + bias, with noise that cancels in pairs."""
    model = bare("fbrac", bc_weight=weight, flow_steps=10)
    behaviour = Gaussian(0.0, s)
    z = normal_quantiles(ROWS).view(1, -1, 1).expand(1, -1, size)
    data = s * torch.randn(ROWS // 2, size, generator=torch.Generator().manual_seed(0))
    noise = torch.randn(1, ROWS // 2, size, generator=torch.Generator().manual_seed(1))
    times = torch.rand(1, ROWS // 2, generator=torch.Generator().manual_seed(2))
    draws = {
        "bc_x0": torch.cat([noise, -noise], 1),
        "bc_t": torch.cat([times, times], 1),
        "q_z": start * z,
        "td_action": z,
    }
    nets = networks(
        critic=Quadratic(1.0), critic_target=Quadratic(1.0), flow=Field(lambda x, t: behaviour(x, t) + bias)
    )
    losses = model.losses(rows_of(torch.cat([data, -data])), {"td": torch.zeros(1, ROWS)}, draws, nets, {})
    actions = model.sample_flow(torch.zeros(1, ROWS, 1), draws["q_z"], nets)
    return losses["bc_flow"] + model.loss_weights()["q"] * losses["q"], actions.mean()


@pytest.mark.parametrize(("s", "gain"), [(0.2, 0.44707), (0.5, 0.81124), (1.0, 1.17412)])
@pytest.mark.parametrize(("weight", "size"), [(10.0, 2), (30.0, 3)])
def test_constant_shift_of_the_flow_is_optimal_where_predicted(s: float, gain: float, weight: float, size: int) -> None:
    expected = size * gain / (2 * weight)  # b = D M g / (2 w), the samples move by M b
    bias = torch.full((size,), expected, requires_grad=True)
    loss, _ = total_loss(bias, s, weight, size)
    gradient = torch.autograd.grad(loss.sum(), bias)[0]
    torch.testing.assert_close(gradient, torch.zeros(size), rtol=0, atol=2e-6)


def test_samples_move_by_the_predicted_shift() -> None:
    with torch.no_grad():
        moved, still = (total_loss(torch.full((2,), bias), 0.5, 10.0, 2)[1] for bias in (0.08112, 0.0))
    assert float(moved - still) == pytest.approx(0.06581, abs=1e-5)


def test_clipped_actions_send_no_gradient() -> None:
    model = bare("fbrac", flow_steps=4)
    bias = torch.tensor(9.0, requires_grad=True)
    nets = networks(critic=Quadratic(1.0), critic_target=Quadratic(1.0), flow=Field(lambda x, t: 0 * x + bias))
    zeros = torch.zeros(1, 4, 1)
    draws = {"bc_x0": zeros, "bc_t": torch.zeros(1, 4), "q_z": zeros}
    losses = model.losses(rows_of(torch.zeros(4, 1)), {"td": torch.zeros(1, 4)}, draws, nets, {})
    assert float(torch.autograd.grad(losses["q"].sum(), bias)[0]) == 0


def test_large_weight_is_pure_cloning() -> None:
    model = small_model("fbrac", bc_weight=1e9)
    batch, noise = random_batch(model), random_noise(model)
    parameters = list(model.policy.nets.flow.parameters())
    total, _ = model.compute_losses(batch, noise)
    clone = small_model("bc")
    clone.policy.nets.behaviour.load_state_dict(model.policy.nets.flow.state_dict())
    cloning, _ = clone.compute_losses(batch, noise)
    ours = torch.autograd.grad(total.sum(), parameters)
    theirs = torch.autograd.grad(cloning.sum(), list(clone.policy.nets.behaviour.parameters()))
    for got, expected in zip(ours, theirs, strict=True):
        torch.testing.assert_close(got, expected, rtol=0, atol=1e-7)


def test_cloning_and_value_train_the_flow() -> None:
    assert routes(small_model("fbrac")) == {"td": {"critic"}, "bc_flow": {"flow"}, "q": {"flow"}}


def test_stacked_replicas_equal_single_runs() -> None:
    assert_stacked_equals_single("fbrac")


def test_bptt_is_another_name() -> None:
    assert agents.get("bptt") == agents.get("fbrac")


def test_bc_weight_must_be_positive() -> None:
    with pytest.raises(ValueError, match="`bc_weight` must be a finite number > 0, got 0"):
        small_model("fbrac", bc_weight=0)
