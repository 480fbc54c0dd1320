"""Pessimism beyond the recorded numbers of `tests/parity`."""

import pytest
import torch

from agents.common.maths.critic import pessimistic_value


def test_members_that_agree_exactly_are_climbed_by_their_mean():
    # a square root has no slope at no spread
    q = torch.tensor([[[1.0, 3.0], [1.0, 5.0]]], requires_grad=True)
    pessimistic_value(q, 0.5).sum().backward()
    assert q.grad[0, :, 0].tolist() == [0.5, 0.5]
    assert q.grad[0, :, 1].tolist() == pytest.approx([0.75, 0.25])
