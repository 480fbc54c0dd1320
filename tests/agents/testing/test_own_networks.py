"""Networks of one's own learn as in plain PyTorch, whatever the strides of their weights and gradients."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from torch import nn

from tests.agents.testing.helpers import PAGE, Imitation
from tests.common.toys import tiny_model, toy_batch

UPDATES = 150


class Transposed(PAGE["Actor"]):
    """Holds its weights transposed, so that they are not contiguous."""

    def __init__(self, *sizes):
        super().__init__(*sizes)
        for name in ("first", "last"):
            weight = getattr(self, name)
            setattr(self, name, nn.Parameter(weight.detach().mT.contiguous().mT))


@pytest.mark.parametrize("network", [PAGE["Actor"], Transposed])
@pytest.mark.parametrize("settings", [{}, {"max_grad_norm": 1e3}, {"seeds": [0, 1]}], ids=str)
@pytest.mark.few(6)
@pytest.mark.parametrize("compile", ["off", "on"])
def test_a_network_with_other_strides_learns_as_in_plain_pytorch(network, settings, compile):
    method = type("Mine", (Imitation,), {"network": network})
    model = tiny_model(method, learning_rate=3e-3, compile=compile, **settings)
    batch = toy_batch(model)
    batch = replace(
        batch,
        actions=torch.tanh(batch.observations.repeat(1, 1, 3)[..., : batch.actions.shape[-1]]),
    )
    plain = copy.deepcopy(model.policy.nets)
    optimizer = torch.optim.Adam(plain.parameters(), 3e-3, foreach=False, fused=False)
    for _ in range(UPDATES):
        loss = model.trainer.update_on(batch, {})["error_loss"]
        optimizer.zero_grad()
        expected = model.method.losses(batch, {}, {}, plain, {})["error"]
        expected.sum().backward()
        optimizer.step()
    torch.testing.assert_close(loss, expected.detach(), rtol=0.01, atol=1e-6)
    assert expected.max() < 0.02
