"""Which observation spaces, action spaces and devices flow policies are built for."""

from __future__ import annotations

from typing import Any

import torch
from gymnasium import spaces
from stable_baselines3.common.utils import get_device

from agents.common.observations import PARTS


class UnsupportedSpaceError(NotImplementedError, AssertionError):
    """An observation or action space that flow policies are not built for; SB3 raises AssertionError there."""


def check_spaces(observations: spaces.Space[Any], actions: spaces.Space[Any]) -> None:
    """Refuse spaces that flow policies are not built for, by name.

    :param observations: must be a Box, Discrete, MultiDiscrete or MultiBinary space, or a Dict of such spaces.
    :param actions: must be a bounded Box.
    :raises UnsupportedSpaceError: if they are not.
    """
    parts = list(observations.spaces.values()) if isinstance(observations, spaces.Dict) else [observations]
    tables = [part for part in parts if isinstance(part, spaces.MultiDiscrete) and len(part.shape) > 1]
    wrong = [part for part in parts if not isinstance(part, PARTS)] or tables
    if wrong or not parts:
        raise UnsupportedSpaceError(
            "flow policies support Box, Discrete, MultiDiscrete and MultiBinary observations and Dicts of these, got "
            f"{wrong[0] if wrong else 'nothing'} in {observations}; "
            "flatten it with gymnasium.wrappers.FlattenObservation"
        )
    if not isinstance(actions, spaces.Box) or not actions.is_bounded():
        kind = "an unbounded" if isinstance(actions, spaces.Box) else f"a {type(actions).__name__}"
        raise UnsupportedSpaceError(
            f"flow policies support bounded Box actions, got {kind} space {actions}; "
            "use an environment with continuous actions between finite bounds"
        )


def available_device(device: torch.device | str) -> torch.device:
    """Return a device, refusing one that is not there.

    :param device: ``"auto"``, ``"cpu"``, ``"cuda"``, ``"cuda:1"``, ...
    :return: the device.
    :raises ValueError: if the name is not a device, or CUDA is asked for and PyTorch finds none.
    """
    chosen = get_device(device)
    wanted = torch.device(device) if device != "auto" else chosen
    if wanted.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"`device` is {device!r}, but PyTorch finds no CUDA device here; use `device='cpu'` or 'auto'")
    return chosen
