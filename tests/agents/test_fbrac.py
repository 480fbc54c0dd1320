"""FBRAC: cloning and the critic's gradient through all Euler steps balance in one flow."""

from __future__ import annotations

import torch

from tests.agents.oracles import (
    Field,
    Quadratic,
    bare,
    networks,
    rows_of,
)

ROWS = 512


def test_clipped_actions_send_no_gradient() -> None:
    model = bare("fbrac", flow_steps=4)
    bias = torch.tensor(9.0, requires_grad=True)
    nets = networks(critic=Quadratic(1.0), critic_target=Quadratic(1.0), flow=Field(lambda x, t: 0 * x + bias))
    zeros = torch.zeros(1, 4, 1)
    draws = {"bc_x0": zeros, "bc_t": torch.zeros(1, 4), "q_z": zeros}
    losses = model.losses(rows_of(torch.zeros(4, 1)), {"td": torch.zeros(1, 4)}, draws, nets, {})
    assert float(torch.autograd.grad(losses["q"].sum(), bias)[0]) == 0
