"""Batches."""

from __future__ import annotations

import torch

from agents.common.batch import Batch


def test_a_mapped_batch_has_every_tensor_changed_alike() -> None:
    batch = Batch(*(torch.full((1, 2), float(i)) for i in range(7)))
    assert [value.tolist() for value in batch.map(lambda x: x + 1).tensors().values()] == [
        [[i + 1.0] * 2] for i in range(7)
    ]
