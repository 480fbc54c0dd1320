"""Observations of several environments in one array, and what policies call their spaces.

Nothing here imports PyTorch, since the processes of environments do without it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium import spaces

from agents.common.frames import is_image


def policy_name(space: spaces.Space[Any]) -> str:
    """Return SB3's name of the policy for observations of a space."""
    if isinstance(space, spaces.Dict):
        return "MultiInputPolicy"
    return "CnnPolicy" if is_image(space) else "MlpPolicy"


def stack(space: spaces.Space[Any], observations: Sequence[Any]) -> Any:
    """Return observations as one array (N, ...), or as one of each part."""
    if isinstance(space, spaces.Dict):
        stacked = {}
        for key, part in space.spaces.items():
            stacked[key] = stack(part, [observation[key] for observation in observations])
        return stacked
    return np.array(observations, space.dtype).reshape(-1, *(space.shape or ()))


def join(parts: Sequence[Any]) -> Any:
    """Return several results of :func:`stack` as one."""
    if isinstance(parts[0], dict):
        return {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
    return np.concatenate(parts)
