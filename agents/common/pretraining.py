"""Pretraining: the behaviour flow is cloned from the data before the algorithm begins.

An algorithm says with the roles of its networks (:class:`NetworkSpec`) which one is cloned and how others start from
it; nothing else about pretraining is in its file.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from agents.common.method import normal, uniform
from agents.common.nets.heads import Networks
from agents.common.nets.specs import NetworkSpec

CLONING_NOISE = {"bc_x0": normal(), "bc_t": uniform()}
"""Every random draw of an update while pretraining."""


def find_behaviour(specs: Mapping[str, NetworkSpec]) -> str | None:
    """Return the name of the behaviour flow.

    :param specs: an algorithm's networks.
    :return: its name; None where the algorithm has none.
    """
    return next((name for name, spec in specs.items() if spec.role == "behaviour"), None)


@torch.no_grad()
def start_from_behaviour(nets: Networks, specs: Mapping[str, NetworkSpec]) -> None:
    """Copy the behaviour flow into the networks that begin at it, and into their moving averages.

    :param nets: the networks.
    :param specs: their specs.
    """
    behaviour = find_behaviour(specs)
    assert behaviour is not None
    for name, spec in specs.items():
        if spec.role == "copy":
            _copy(nets[behaviour], nets[name])
        elif spec.role == "residual":
            network: Any = nets[name]
            network.mlp.weights[-1].zero_()
            network.mlp.biases[-1].zero_()
        if spec.role is not None and spec.target:
            _copy(nets[name], nets[f"{name}_target"])


def _copy(source: torch.nn.Module, copy: torch.nn.Module) -> None:
    torch._foreach_copy_(list(copy.parameters()), list(source.parameters()))
    for own, other in zip(copy.buffers(), source.buffers(), strict=True):  # statistics of a features extractor
        own.copy_(other)


def no_behaviour_message(algorithm: str) -> str:
    """Return why an algorithm cannot be pretrained.

    :param algorithm: its name.
    :return: one sentence.
    """
    return (
        f"{algorithm} has no behaviour flow to pretrain; leave pretraining out (`pretraining_steps` = 0), or take an "
        "algorithm that clones the data with a flow, such as QAM"
    )
