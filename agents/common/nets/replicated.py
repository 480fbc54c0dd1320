"""Features extractors that hold several replicas."""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import nn


class ReplicatedExtractor(nn.Module):
    """A features extractor each of whose parameters and buffers has the leading axis S of the replicas.

    It is made with an argument ``replicas``, S, and gets the rows of all replicas one after the other, (S * N, ...).
    """

    @abstractmethod
    def initialise(self, replica: int, generator: torch.Generator) -> None:
        """Draw one replica's weights from a CPU generator."""
