"""Batches."""

from __future__ import annotations

import dataclasses

import torch

from agents.common.batch import Batch


def test_a_mapped_batch_has_every_tensor_changed_alike() -> None:
    batch = Batch(*(torch.full((1, 2), float(i)) for i in range(7)))
    assert [value.tolist() for value in vars(batch.map(lambda x: x + 1)).values()] == [
        [[i + 1.0] * 2] for i in range(7)
    ]


def test_actions_count_as_their_sequence_does_where_nothing_else_is_said() -> None:
    batch = Batch(*(torch.full((1, 2), float(i)) for i in range(5)), valid=torch.tensor([[1.0, 0.0]]))
    batch = dataclasses.replace(batch, actions=torch.zeros(1, 2, 3))
    assert batch.action_valid.tolist() == [[[1] * 3, [0] * 3]]
