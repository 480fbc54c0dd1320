"""Adjoint matching against closed forms: schedule, rollout, lean adjoint, and where it ends without any learning."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from agents.common.maths.adjoint import (
    adjoint_matching_loss,
    lean_adjoint,
    memoryless_sigma,
    memoryless_sigmas,
    terminal_adjoint,
)
from agents.common.nets.heads import Velocity
from tests.common.closed_forms import (
    FixedPoint,
    Gaussian,
    Quadratic,
    memoryless_rollout,
    noise_basis,
    sampled_moments,
    simulated_moments,
)

# K = 10, m = 0.3, s = 0.5, unit gradient of tau Q, six decimals
GOLDEN = Gaussian(0.3, 0.5)
SIGMA_SQUARED = [22, 10, 6, 4, 2.8, 2, 1.428571, 1, 0.666667, 0.4]
ROLLOUT = [1, -0.14, 0.026615, 0.085448, 0.125196, 0.158858, 0.190256, 0.221025, 0.2521, 0.284089, 0.314918]
GAINS = [-0.003115, 0.014460, 0.053710, 0.127045, 0.254089, 0.453731, 0.716417, 0.968791, 1.107190, 1.1]
SIX_DECIMALS = 6e-7


def random_states(flow_steps: int, rows: int = 3, size: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(1, flow_steps, rows, size, generator=generator, dtype=torch.float64)


def smooth_field(size: int) -> Velocity:
    """Return a nonlinear velocity field that couples the coordinates."""
    generator = torch.Generator().manual_seed(1)
    first = torch.randn(size, 16, generator=generator, dtype=torch.float64)
    second = torch.randn(16, size, generator=generator, dtype=torch.float64)
    return lambda x, t: torch.tanh(x @ first + t) @ second / 4


# -- schedule and rollout ---------------------------------------------------------------------------------------------


def test_noise_scales_follow_the_memoryless_schedule() -> None:
    got = [memoryless_sigma(i, 10) ** 2 for i in range(10)]
    np.testing.assert_allclose(got, SIGMA_SQUARED, atol=SIX_DECIMALS)


def test_rollout_without_noise_follows_the_golden_trace() -> None:
    x_0 = torch.ones(1, 1, 1, dtype=torch.float64)
    states = memoryless_rollout(GOLDEN, GOLDEN, x_0, torch.zeros(1, 10, 1, 1, dtype=torch.float64))
    np.testing.assert_allclose(states.flatten(), ROLLOUT, atol=SIX_DECIMALS)


# -- adjoints ---------------------------------------------------------------------------------------------------------


def test_lean_adjoint_of_a_unit_gradient_is_the_golden_gain() -> None:
    states = random_states(10)
    adjoints = lean_adjoint(GOLDEN, states, -torch.ones_like(states[:, 0]))  # of Q(x) = x
    np.testing.assert_allclose(-adjoints[0, :, :, 0], np.repeat(np.array(GAINS)[:, None], 3, 1), atol=SIX_DECIMALS)


def test_lean_adjoint_matches_autograd_of_the_base_rollout() -> None:
    flow_steps, size, field = 6, 3, smooth_field(3)
    h = 1 / flow_steps

    def onwards(x: Tensor, first: int) -> list[Tensor]:
        """Return the states from step ``first`` on of the noiseless map whose derivative the adjoint carries back."""
        path = [x]
        for i in range(first, flow_steps):
            t = (i + 1) * h
            path.append(path[-1] + h * (2 * field(path[-1], t) - path[-1] / t))
        return path

    start = random_states(1, rows=4, size=size)[:, 0]
    states = torch.stack(onwards(start, 0)[:-1], 1)
    terminal = random_states(1, rows=4, size=size).flip(2)[:, 0]
    adjoints = lean_adjoint(field, states, terminal)
    for i in range(flow_steps):
        x = states[:, i].clone().requires_grad_()
        expected = torch.autograd.grad((onwards(x, i)[-1] * terminal).sum(), x)[0]
        torch.testing.assert_close(adjoints[:, i], expected, rtol=1e-10, atol=1e-12)


def test_terminal_adjoint_is_minus_the_gradient_of_the_value_and_vanishes_outside_the_box_only_with_clipping() -> None:
    got = terminal_adjoint(lambda y: (y**2).sum(-1) + y[..., 0], torch.tensor([[[0.5, -0.25]]]))
    torch.testing.assert_close(got, torch.tensor([[[-2.0, 0.5]]]))
    x = torch.tensor([[[1.5, 0.5, -1.01]]])
    torch.testing.assert_close(terminal_adjoint(lambda y: y.sum(-1), x), torch.tensor([[[0.0, -1.0, 0.0]]]))
    torch.testing.assert_close(terminal_adjoint(lambda y: y.sum(-1), x, clip=False), -torch.ones(1, 1, 3))


# -- the fixed point --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("flow_steps", [1, 10, 20])
def test_loss_is_zero_at_the_fixed_point_of_a_linear_value(flow_steps: int) -> None:
    value = Quadratic(g=0.7, tau=2.0)
    fixed = FixedPoint(GOLDEN, value, flow_steps)
    generator = torch.Generator().manual_seed(0)
    x_0 = torch.randn(1, 50, 1, generator=generator, dtype=torch.float64)
    noise = torch.randn(1, flow_steps, 50, 1, generator=generator, dtype=torch.float64)
    states = memoryless_rollout(fixed, GOLDEN, x_0, noise)
    adjoints = lean_adjoint(GOLDEN, states[:, :-1], value.tau * terminal_adjoint(value, states[:, -1], clip=False))

    def loss(velocity: Velocity) -> float:
        times = [i / flow_steps for i in range(flow_steps)]
        policy = torch.stack([velocity(states[:, i], t) for i, t in enumerate(times)], 1)
        base = torch.stack([GOLDEN(states[:, i], t) for i, t in enumerate(times)], 1)
        return float(adjoint_matching_loss(policy, base, adjoints, memoryless_sigmas(flow_steps, states)))

    assert loss(fixed) < 1e-24
    assert loss(GOLDEN) > 0.1


def test_linear_value_moves_samples_and_simulation_to_the_golden_moments() -> None:
    fixed = FixedPoint(GOLDEN, Quadratic(g=1.0), 10)
    assert sampled_moments(fixed, 10) == pytest.approx((0.561689, 0.430783), abs=SIX_DECIMALS)
    assert simulated_moments(fixed, GOLDEN, 10) == pytest.approx((0.632087, 0.561869), abs=SIX_DECIMALS)


# (m, s, tau, g, p) -> sampled mean and std at K = 10, 20, 100, simulated mean and std and path KL at K = 10
QUADRATIC = {
    (0.2, 0.5, 3, 0.5, 1): ((0.3262, 0.3136), (0.3239, 0.3460), (0.3264, 0.3716), (0.3516, 0.4355), 0.154),
    (0.0, 0.2, 10, 0.5, 5): ((0.1052, 0.0124), (0.0716, 0.0816), (0.0661, 0.1110), (0.0697, 0.2227), 3.15),
}


def quadratic_case(case: tuple[float, ...], flow_steps: int) -> FixedPoint:
    m, s, tau, g, p = case
    return FixedPoint(Gaussian(m, s), Quadratic(g, p, tau), flow_steps)


@pytest.mark.parametrize("case", QUADRATIC, ids=str)
def test_quadratic_value_gives_the_known_moments(case: tuple[float, ...]) -> None:
    *sampled, simulated, _ = QUADRATIC[case]
    for flow_steps, expected in zip((10, 20, 100), sampled, strict=True):
        assert sampled_moments(quadratic_case(case, flow_steps), flow_steps) == pytest.approx(expected, abs=6e-5), (
            flow_steps
        )
    fixed = quadratic_case(case, 10)
    assert simulated_moments(fixed, fixed.behaviour, 10) == pytest.approx(simulated, abs=6e-5)


@pytest.mark.parametrize("case", QUADRATIC, ids=str)
def test_expected_adjoint_at_the_fixed_point_is_the_gap_to_the_behaviour(case: tuple[float, ...]) -> None:
    fixed = quadratic_case(case, 10)
    behaviour = fixed.behaviour
    states = memoryless_rollout(fixed, behaviour, *noise_basis(10))
    terminal = fixed.value.tau * terminal_adjoint(fixed.value, states[:, -1], clip=False)
    adjoints = lean_adjoint(behaviour, states[:, :-1], terminal)
    path_kl = 0.0
    for i in range(10):
        x, a = states[0, i, :, 0], adjoints[0, i, :, 0]
        # both are affine in the same noise, so E[a | x] is the exact regression line
        x_noise, a_noise = x[1:] - x[0], a[1:] - a[0]
        slope = (a_noise @ x_noise) / (x_noise @ x_noise)
        expected_adjoint = a[0] + slope * (x - x[0])
        gap = (fixed(x, i / 10) - behaviour(x, i / 10)).double()
        torch.testing.assert_close(gap, -fixed.sigma_squared[i] / 2 * expected_adjoint, rtol=1e-9, atol=1e-9)
        path_kl += 2 * 0.1 / fixed.sigma_squared[i] * float(gap[0] ** 2 + (gap[1:] - gap[0]).square().sum())
    assert path_kl == pytest.approx(QUADRATIC[case][-1], rel=5e-3)
