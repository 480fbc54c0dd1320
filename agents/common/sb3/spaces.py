"""Which observation spaces, action spaces and devices flow policies are built for."""

from __future__ import annotations

from typing import Any

import torch
from gymnasium import spaces
from stable_baselines3.common.preprocessing import is_image_space
from stable_baselines3.common.utils import get_device


class UnsupportedSpaceError(NotImplementedError, AssertionError):
    """An observation or action space that flow policies are not built for; SB3 raises AssertionError there."""


def check_spaces(observations: spaces.Space[Any], actions: spaces.Space[Any]) -> None:
    """Refuse spaces that flow policies are not built for, by name.

    :param observations: must be a flat Box.
    :param actions: must be a bounded Box.
    :raises UnsupportedSpaceError: if they are not.
    """
    if not isinstance(observations, spaces.Box) or is_image_space(observations):
        kind = "an image" if isinstance(observations, spaces.Box) else f"a {type(observations).__name__}"
        raise UnsupportedSpaceError(
            f"flow policies support flat Box observations, got {kind} space {observations}; "
            "flatten it with gymnasium.wrappers.FlattenObservation or use a state-based version of the environment"
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
