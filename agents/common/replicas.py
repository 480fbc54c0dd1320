"""Replicas one by one: their own values in a log, and which of them have diverged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor


class DivergedError(FloatingPointError):
    """All replicas have diverged: losses, parameters or planned actions of each are NaN or infinite."""


class PerReplica(float):
    """One value per replica, (S,), that acts as their mean: SB3's loggers write it as a number."""

    values: NDArray[np.float64]

    def __new__(cls, values: ArrayLike) -> PerReplica:
        """Make the mean, which keeps the values."""
        replica_values = np.asarray(values, dtype=np.float64)
        mean = super().__new__(cls, replica_values.mean())
        mean.values = replica_values
        return mean

    def __getnewargs__(self) -> tuple[Any]:  # pickled by its values
        return (self.values,)


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
