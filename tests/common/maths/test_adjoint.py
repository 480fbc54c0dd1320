"""Adjoint matching against closed forms: schedule, rollout, lean adjoint, and where its loss is zero."""

import numpy as np
import torch
from numpy.testing import assert_allclose
from torch.testing import assert_close

from agents.common.maths.adjoint import (
    adjoint_matching_loss,
    lean_adjoint,
    memoryless_rollout,
    memoryless_sigma,
    memoryless_sigmas,
    terminal_adjoint,
)
from tests.common.closed_forms import Gaussian

# K = 10, m = 0.3, s = 0.5, unit gradient of tau Q, six decimals
GOLDEN = Gaussian(0.3, 0.5)
SIGMA_SQUARED = [22, 10, 6, 4, 2.8, 2, 1.428571, 1, 0.666667, 0.4]
ROLLOUT = [1, -0.14, 0.026615, 0.085448, 0.125196, 0.158858, 0.190256, 0.221025, 0.2521, 0.284089, 0.314918]
GAINS = [-0.003115, 0.014460, 0.053710, 0.127045, 0.254089, 0.453731, 0.716417, 0.968791, 1.107190, 1.1]
SIX_DECIMALS = 6e-7


def random_states(flow_steps, rows=3, size=1):
    generator = torch.Generator().manual_seed(0)
    return torch.randn(1, flow_steps, rows, size, generator=generator, dtype=torch.float64)


def smooth_field(size):
    """Return a nonlinear velocity field that couples the coordinates."""
    generator = torch.Generator().manual_seed(1)
    first = torch.randn(size, 16, generator=generator, dtype=torch.float64)
    second = torch.randn(16, size, generator=generator, dtype=torch.float64)
    return lambda x, t: torch.tanh(x @ first + t) @ second / 4


# -- schedule and rollout ---------------------------------------------------------------------------------------------


def test_noise_scales_follow_the_memoryless_schedule():
    got = [memoryless_sigma(i, 10) ** 2 for i in range(10)]
    assert_allclose(got, SIGMA_SQUARED, atol=SIX_DECIMALS)


def test_rollout_without_noise_follows_the_golden_trace():
    x_0 = torch.ones(1, 1, 1, dtype=torch.float64)
    states, _, end = memoryless_rollout(GOLDEN, GOLDEN, x_0, torch.zeros(1, 10, 1, 1, dtype=torch.float64))
    assert_allclose([*states.flatten(), end.item()], ROLLOUT, atol=SIX_DECIMALS)


# -- adjoints ---------------------------------------------------------------------------------------------------------


def test_lean_adjoint_of_a_unit_gradient_is_the_golden_gain():
    states = random_states(10)
    adjoints = lean_adjoint(GOLDEN, states, -torch.ones_like(states[:, 0]))  # of Q(x) = x
    assert_allclose(-adjoints[0, :, :, 0], np.repeat(np.array(GAINS)[:, None], 3, 1), atol=SIX_DECIMALS)


def test_lean_adjoint_matches_autograd_of_the_base_rollout():
    flow_steps, size, field = 6, 3, smooth_field(3)
    h = 1 / flow_steps

    def onwards(x, first):
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
        assert_close(adjoints[:, i], expected, rtol=1e-10, atol=1e-12)


def test_terminal_adjoint_is_minus_the_gradient_of_the_value_and_vanishes_outside_the_box_only_with_clipping():
    got = terminal_adjoint(lambda y: (y**2).sum(-1) + y[..., 0], torch.tensor([[[0.5, -0.25]]]))
    assert_close(got, torch.tensor([[[-2.0, 0.5]]]))
    x = torch.tensor([[[1.5, 0.5, -1.01]]])
    assert_close(terminal_adjoint(lambda y: y.sum(-1), x), torch.tensor([[[0.0, -1.0, 0.0]]]))
    assert_close(terminal_adjoint(lambda y: y.sum(-1), x, clip=False), -torch.ones(1, 1, 3))


def test_loss_is_zero_where_the_policy_has_moved_by_half_the_variance_times_the_adjoint():
    base, adjoints = random_states(10, 50), random_states(10, 50).flip(2)
    sigmas = memoryless_sigmas(10, base)
    assert float(adjoint_matching_loss(base - sigmas.square() * adjoints / 2, base, adjoints, sigmas)) < 1e-24
    assert float(adjoint_matching_loss(base, base, adjoints, sigmas)) > 0.1
