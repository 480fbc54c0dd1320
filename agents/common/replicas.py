"""Replicas: which have diverged, and networks of a single one as users see them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn


class DivergedError(FloatingPointError):
    """All replicas have diverged: losses, parameters or planned actions of each are NaN or infinite."""


class OneReplica(nn.Module):
    """A network of one replica as users see it, without the leading axis S.

    :param network: takes observations and other tensors (1, ...), and returns one.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def __getattr__(self, name: str) -> Any:
        """Look up in the network what is not here, e.g. its features extractor."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("network"), name)

    def forward(self, observations: Tensor, *inputs: Tensor) -> Tensor:
        """Return what the network makes of observations (B, ...) and further inputs (B, ...)."""
        rows = observations.reshape(1, len(observations), -1)  # SB3 has a choice as (B,)
        output: Tensor = self.network(rows, *(value.unsqueeze(0) for value in inputs))
        return output.squeeze(0)


def find_divergence(tensors: Mapping[str, Sequence[Tensor]]) -> dict[int, str]:
    """Return which replicas hold a NaN or an infinity, and where, waiting for the device once.

    :param tensors: description -> tensors (S, ...), or none.
    :return: replica -> the first description that applies, e.g. ``parameters of critic are not finite``.
    """
    finite = {}
    for name, group in tensors.items():
        if group:
            rows = [t.detach().isfinite().reshape(len(t), -1).all(1) for t in group]
            finite[name] = torch.stack(rows).all(0)
    names = np.array(list(finite))
    table = torch.stack(list(finite.values())).cpu().numpy()  # (len(names), S)
    diverged = np.flatnonzero(~table.all(0)).tolist()
    return {k: f"{names[~table[:, k]][0]} not finite" for k in diverged}
