"""Kernels between the samples of a state."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

SELF_DISTANCE = 1e6  # so that a sample has no weight for itself


def kernel_weights(
    samples: Tensor, kernel: Literal["laplace", "gaussian"], width: float, scale: float = 1.0
) -> Tensor:
    r"""Return the weights of each sample's others, a softmax of :math:`-d/\tau` (Laplace) or :math:`-d^2/2\tau^2`.

    :param samples: (S, B, M, D), without gradient: that of equal samples is infinite.
    :param kernel: of the distances d.
    :param width: tau.
    :param scale: d is the Euclidean distance over it.
    :return: (S, B, M, M); each row sums to 1, and the diagonal is 0.
    """
    itself = torch.eye(samples.shape[-2], dtype=torch.bool, device=samples.device)
    distance = torch.cdist(samples, samples).masked_fill(itself, SELF_DISTANCE) / scale
    if kernel == "laplace":
        return (-distance / width).softmax(-1)
    return (-distance.square() / (2 * width**2)).softmax(-1)
