"""Noise as a table: every random draw of an update has a name, and is an argument of the functions that use it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Noise = Mapping[str, Tensor]
Kind = Literal["normal", "uniform", "integer"]


@dataclass(frozen=True)
class Draw:
    """One named random tensor of an update.

    :param kind: standard normal, uniform in [0, 1), or integers 1..K stored as floats.
    :param axes: letters of the axes after the leading S: B rows, N candidates, K flow steps, D flattened chunk.
    """

    kind: Kind
    axes: str

    def __call__(
        self, sizes: Mapping[str, int], generator: torch.Generator | None, device: torch.device | str
    ) -> Tensor:
        """Draw the tensor.

        :param sizes: size of every axis letter, with ``S``.
        :param generator: on ``device``; None uses PyTorch's global one.
        :param device: where the tensor lives.
        :return: (S, *axes).
        """
        shape = [sizes["S"], *(sizes[letter] for letter in self.axes)]
        if self.kind == "normal":
            return torch.randn(shape, generator=generator, device=device)
        if self.kind == "uniform":
            return torch.rand(shape, generator=generator, device=device)
        return torch.randint(1, sizes["K"] + 1, shape, generator=generator, device=device).float()

    def with_candidates(self) -> Draw:
        """Return the draw for N candidates of every row.

        :return: the same draw with the axis N behind B.
        """
        return Draw(self.kind, self.axes.replace("B", "BN"))


def normal(axes: str = "BD") -> Draw:
    """Return a standard normal draw.

    :param axes: letters of the axes after S.
    :return: the draw.
    """
    return Draw("normal", axes)


def uniform(axes: str = "B") -> Draw:
    """Return a draw of uniform times in [0, 1).

    :param axes: letters of the axes after S.
    :return: the draw.
    """
    return Draw("uniform", axes)


def integers(axes: str = "B") -> Draw:
    """Return a draw of uniform integers in 1..K, stored as floats.

    :param axes: letters of the axes after S.
    :return: the draw.
    """
    return Draw("integer", axes)
