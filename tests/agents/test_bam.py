"""BAM: the rollout's control problem in closed form, and what its optimum depends on."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from agents.common.maths.flow import integrate_flow
from agents.common.nets.heads import Time
from tests.agents.oracles import (
    Field,
    Quadratic,
    bare,
    networks,
    random_batch,
    random_noise,
    rows_of,
    small_model,
)
from tests.common.closed_forms import Gaussian


def optimal_shifts(s: float, flow_steps: int, tau: float) -> Tensor:
    """Return b_i = tau sigma_i^2 D_i g / 4 with D_i the effect of b_i on the end of the rollout; 0 at the last step."""
    behaviour, h = Gaussian(0.0, s), 1 / flow_steps
    times = [i * h for i in range(flow_steps)]
    factors = [1 + h * (2 * behaviour.slope(t) - 1 / (t + h)) for t in times]
    shifts = [0.0] * flow_steps
    effect = 2 * h * (1 + h * behaviour.slope(times[-1]))
    for i in reversed(range(flow_steps - 1)):
        shifts[i] = tau * 2 * (1 - times[i] + h) / (times[i] + h) * effect / 4
        effect *= factors[i]
    return torch.tensor(shifts)


def shifted(behaviour: Gaussian, shifts: Tensor) -> Field:
    """Return the behaviour's flow with a constant of its own added at every grid time."""

    def velocity(x: Tensor, t: Time) -> Tensor:
        return behaviour(x, t) + shifts[round(float(t) * len(shifts))]

    return Field(velocity)


def control(shifts: Tensor, s: float, tau: float, **settings: float) -> tuple[Tensor, Tensor]:
    """Return BAM's loss and its control cost for a linear value of slope 1."""
    model = bare("bam", inverse_temperature=tau, flow_steps=len(shifts), **settings)
    behaviour = Field(Gaussian(0.0, s))
    nets = networks(
        critic=Quadratic(1.0),
        critic_target=Quadratic(1.0),
        behaviour=behaviour,
        behaviour_target=behaviour,
        fine_tuned=shifted(Gaussian(0.0, s), shifts),
    )
    zeros = torch.zeros(1, 2, 1)
    noise = torch.tensor([1.0, -1.0]).view(1, 1, 2, 1).expand(1, len(shifts), 2, 1)  # cancels: the mean is exact
    draws = {"bc_x0": zeros, "bc_t": torch.zeros(1, 2), "am_x0": zeros, "am_eps": noise}
    info: dict[str, Tensor] = {}
    losses = model.losses(rows_of(torch.zeros(2, 1)), {"td": torch.zeros(1, 2)}, draws, nets, info)
    return losses["bam"], info["bam_control_loss"]


@pytest.mark.parametrize(("s", "flow_steps"), [(0.5, 10), (0.2, 10), (0.5, 20), (0.5, 3)])
def test_predicted_shifts_are_stationary(s: float, flow_steps: int) -> None:
    shifts = optimal_shifts(s, flow_steps, tau=10.0).requires_grad_()
    loss, _ = control(shifts, s, tau=10.0)
    gradient = torch.autograd.grad(loss.sum(), shifts)[0]
    torch.testing.assert_close(gradient, torch.zeros(flow_steps), rtol=0, atol=1e-5)


def test_cost_scaled_by_the_step_size_makes_the_temperature_independent_of_flow_steps() -> None:
    shifts = optimal_shifts(0.5, 10, tau=10.0).requires_grad_()  # of temperature 10 h = 1 with the path KL as cost
    loss, _ = control(shifts, 0.5, tau=1.0, kl_scale=0.1)
    gradient = torch.autograd.grad(loss.sum(), shifts)[0]
    torch.testing.assert_close(gradient, torch.zeros(10), rtol=0, atol=1e-6)


def test_residual_is_added_to_the_prior_in_the_rollout_and_to_the_online_flow_in_the_sampler() -> None:
    model = small_model("bam", residual=True)
    nets, batch, noise = model.policy.nets, random_batch(model), random_noise(model)
    with torch.no_grad():
        for parameter in nets.fine_tuned.parameters():
            parameter.zero_()  # a residual of zero: prior and policy coincide
        nets.behaviour_target.mlp.biases[-1].add_(0.5)
        _, info = model.trainer.losses(batch, noise)
        acted = model.act(batch.observations, {"action": noise["td_action"]}, nets)
        online = integrate_flow(nets.behaviour.at(batch.observations), noise["td_action"], 3).clamp(-1, 1)
    assert float(info["bam_control_loss"]) == 0
    torch.testing.assert_close(acted, online)


def test_one_flow_step_has_no_control_cost() -> None:
    model = small_model("bam", flow_steps=1)
    info = model.trainer.update_on(random_batch(model), random_noise(model))
    assert float(info["bam_control_loss"]) == 0
