"""Adjoint matching beyond the numbers recorded in `tests/parity`: the lean adjoint, and where the loss is zero."""

import torch
from torch.testing import assert_close

from agents.common.maths.adjoint import (
    adjoint_matching_loss,
    lean_adjoint,
    memoryless_sigmas,
    step_times,
)
from agents.common.nets.mlp import vjp_at_points
from tests.common.toys import normals


def smooth_field(size):
    """Return a nonlinear velocity field that couples the coordinates."""
    first, second = normals(size, 16).double(), normals(16, size, seed=1).double()
    return lambda x, t: torch.tanh(x @ first + t) @ second / 4


def test_lean_adjoint_matches_autograd_of_the_base_rollout():
    flow_steps, size, field = 6, 3, smooth_field(3)
    h = 1 / flow_steps

    def onwards(x, first):
        """Return the noiseless map's states from step ``first`` on; the adjoint is the map's derivative."""
        path = [x]
        for i in range(first, flow_steps):
            t = (i + 1) * h
            path.append(path[-1] + h * (2 * field(path[-1], t) - path[-1] / t))
        return path

    start = normals(1, 4, size).double()
    states = torch.stack(onwards(start, 0)[:-1], 1)
    terminal = normals(1, 4, size, seed=1).double()
    times = step_times(flow_steps, states, end_times=True)
    adjoints = lean_adjoint(vjp_at_points(field, states, times), terminal, flow_steps)
    for i in range(flow_steps):
        x = states[:, i].clone().requires_grad_()
        expected = torch.autograd.grad((onwards(x, i)[-1] * terminal).sum(), x)[0]
        assert_close(adjoints[:, i], expected, rtol=1e-10, atol=1e-12)


def test_loss_is_zero_at_half_the_variance_times_the_adjoint():
    base, adjoints = normals(1, 10, 50, 1).double(), normals(1, 10, 50, 1, seed=1).double()
    sigmas = memoryless_sigmas(10, base)
    assert (
        float(adjoint_matching_loss(base - sigmas.square() * adjoints / 2, base, adjoints, sigmas))
        < 1e-24
    )
    assert float(adjoint_matching_loss(base, base, adjoints, sigmas)) > 0.1
