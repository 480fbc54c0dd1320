"""What is special about single algorithms with a flow or diffusion, and is in no recorded number of `tests/parity`."""

import math
from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

from agents.common.maths.critic import action_gradient
from agents.common.maths.denoising import NoiseSchedule
from agents.common.maths.flow import integrate_flow
from agents.driftql import DriftQL
from tests.agents.oracles import (
    Field,
    Quadratic,
    bare,
    networks,
    rows_of,
    small_model,
    weights,
    zero_noise,
)
from tests.common.closed_forms import Gaussian
from tests.common.toys import step, toy_batch, toy_noise

# -- flows that clone, teach or climb ---------------------------------------------------------------------------------


def test_bc_has_loss_and_actions_of_the_behaviour_flow_of_qam():
    clone = small_model("bc")
    qam = small_model("qam", inverse_temperature=0.0)
    clone.policy.nets.behaviour.load_state_dict(qam.policy.nets.behaviour.state_dict())
    batch = toy_batch(qam)
    noise = toy_noise(qam)
    total, info = clone.trainer.losses(batch, noise)
    _, expected = qam.trainer.losses(batch, noise)
    assert torch.equal(info["bc_flow_loss"], expected["bc_flow_loss"])
    assert torch.equal(total, info["bc_flow_loss"])
    inputs = batch.observations, {"action": noise["td_action"]}
    with torch.no_grad():
        actions = clone.act(*inputs, clone.policy.nets)
        assert torch.equal(actions, qam.act(*inputs, qam.policy.nets))


def test_fbracs_clipped_actions_send_no_gradient():
    model = bare("fbrac", flow_steps=4)
    bias = torch.tensor(9.0, requires_grad=True)
    flow = Field(lambda x, t: 0 * x + bias)
    nets = networks(critic=Quadratic(1.0), flow=flow)
    batch = rows_of(torch.zeros(4, 1))
    losses = model.losses(batch, {"td": batch.rewards}, zero_noise(model, 4), nets, {})
    assert float(torch.autograd.grad(losses["q"].sum(), bias)[0]) == 0


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(
    ("id", "setting", "loss"),
    [("ifql", "mask_value", "value_loss"), ("qgf", "mask_cloning", "bc_flow_loss")],
)
def test_a_loss_counts_crossing_sequences_as_the_authors_do_unless_masked(
    id, setting, loss, masked
):
    model = small_model(id, **{setting: masked})
    batch = toy_batch(model)
    batch = replace(batch, valid=torch.zeros_like(batch.valid))
    _, info = model.trainer.losses(batch, toy_noise(model))
    counted = {name for name in ("td_loss", "bc_flow_loss", "value_loss") if float(info[name]) > 0}
    assert counted == (set() if masked else {loss})


def test_mean_flows_targets_are_bounded():
    x = torch.ones(1, 4, 1)
    target = bare("meanflowql").mean_flow_target(x, x, x, 100 * x)
    assert (target == -5).all()


def test_rqls_moving_average_acts_and_follows_at_its_own_pace():
    model = small_model("rql", policy_tau=1.0, tau=0.0)
    nets = model.policy.nets
    step(model)
    old_weights = weights(nets.flow)
    step(model, seed=1)
    assert torch.equal(weights(nets.flow_target), old_weights)
    state = toy_batch(model).observations
    noise = toy_noise(model)["bc_x0"]
    with torch.no_grad():
        expected = integrate_flow(nets.flow_target.at(state), noise, 3).clamp(-1, 1)
        assert torch.equal(model.act(state, {"action": noise}, nets), expected)


# -- Value Flows ------------------------------------------------------------------------------------------------------


def test_following_a_gaussians_flow_scales_and_shifts_the_noise():
    model = bare("value_flows", flow_steps=1000)
    flow = Gaussian(-3.0, 0.5)
    z = torch.linspace(-2, 2, 5).view(1, 1, 5)

    def follow(z):
        return model.follow(lambda x, t: flow(x, t.unsqueeze(1)), z, torch.ones(1, 5))

    slope = action_gradient(follow, z)
    assert_close(follow(z), flow.m + flow.s * z, rtol=0, atol=0.01)
    assert_close(slope, torch.full_like(slope, flow.s), rtol=0, atol=0.01)


@pytest.mark.parametrize(
    ("bounds", "lowest"), [({}, -12.0), ({"reward_min": -1.0, "reward_max": 0.0}, -2.0)]
)
def test_bounds_hold_returns_but_not_their_derivative(bounds, lowest):
    model = bare("value_flows", gamma=0.5, **bounds)
    z = torch.tensor([[[-2.0, 2.0]]])
    end = torch.ones(1, 2)
    returns = model.follow(lambda x, t: 0 * x - 10, z, end)
    assert float(returns.min()) == pytest.approx(lowest, abs=1e-5)
    slope = action_gradient(lambda at: model.follow(lambda x, t: 0.3 * x - 10, at, end), z)
    assert_close(slope, torch.full_like(slope, (1 + 0.03) ** 10))


# -- the drift of DriftQL's samples -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kernel", ["laplace", "gaussian"])
def test_two_samples_push_each_other_away_by_their_distance(kernel):
    # a sample has one other, so the softmax has one weight, whatever the kernel
    samples = torch.tensor([[[[-0.3, 0.0], [0.5, 0.0]]]])  # of one state, (1, 1, 2, 2)
    expected = torch.tensor([[[[0.8, 0.0], [-0.8, 0.0]]]])
    assert_close(DriftQL(kernel=kernel).repulsion(samples), expected)


@pytest.mark.parametrize(
    ("kernel", "scaled", "expected"),
    [
        ("laplace", False, lambda d: math.exp(-d / 0.5)),
        ("laplace", True, lambda d: math.exp(-d / math.sqrt(2) / 0.5)),
        ("gaussian", False, lambda d: math.exp(-(d**2) / (2 * 0.5**2))),
    ],
)
def test_nearer_samples_weigh_more_as_the_kernel_says(kernel, scaled, expected):
    samples = torch.tensor([[[[0.0, 0.0], [0.4, 0.0], [-1.0, 0.0]]]])
    method = DriftQL(kernel=kernel, scale_distances=scaled, drift_temperature=0.5)
    near, far = expected(0.4), expected(1.0)
    mean = (near * 0.4 - far * 1.0) / (near + far)
    assert method.repulsion(samples)[0, 0, 0, 0].item() == pytest.approx(mean, abs=1e-6)


def test_the_drift_vanishes_where_samples_surround_the_action_as_far_as_each_other():
    # attraction by -0.4 and 0.4 to the action between them, and repulsion by twice as much
    samples = torch.tensor([[[[-0.4], [0.4]]]])
    action = torch.zeros(1, 1, 1)
    assert_close(DriftQL().drift(samples, action), samples)
    equal = samples.abs()  # two equal samples repel nothing
    assert_close(DriftQL().drift(equal, action), -equal)


def test_a_normalised_drift_has_a_mean_square_of_one():
    samples = torch.randn(2, 3, 8, 4, generator=torch.Generator().manual_seed(0)).clamp(-1, 1)
    drift = DriftQL(normalize_drift=True).drift(samples, torch.zeros(2, 3, 4))
    assert_close(drift.square().mean((2, 3)), torch.ones(2, 3))


# -- diffusion policies -----------------------------------------------------------------------------------------------


def test_the_schedule_travels_with_a_replica():
    single = small_model("qsm", seeds=[1, 2], beta_schedule="cosine").replica(1)
    assert single.policy.nets.schedule.table.tolist() == [NoiseSchedule(1, 3, "cosine").alpha_bars]
