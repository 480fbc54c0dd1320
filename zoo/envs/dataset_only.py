"""Environments that stand for data without an environment: they have spaces, and cannot be stepped."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box

from agents.common.data.arrays import Transitions
from zoo.settings.layers import read_yaml
from zoo.terminal.errors import UsageError


def dataset_only_id(name: str) -> str:
    """Return the id of what stands for the environment of the data with a name."""
    return re.sub(r"[^\w.-]", "-", f"data-{name}")


def register_dataset_only_env(
    env_id: str,
    content: Transitions,
    limits: tuple[float, float] | None,
    spaces: Path | None = None,
) -> None:
    """Register what stands for the environment of some data.

    :param content: these data.
    :param limits: the lowest and the highest action; None takes -1 and 1 if all actions are inside, else what each
        coordinate of the data reaches.
    :param spaces: a YAML file with the limits of observations and actions, which override the others.
    :raises UsageError: for images, and for limits that do not fit the data.
    """
    # Limits are known from the data alone, since nothing else describes what recorded them.
    observations = content.arrays["observations"]
    actions = content.arrays["actions"].astype(np.float32)
    if observations.ndim > 2:
        raise UsageError(
            "`--no-env` takes vectors as observations, got images; train with an environment, or embed them"
        )
    ends: Any = limits or (-1, 1)
    if not limits and np.abs(actions).max() > 1:
        # 0, no motion, is an action too.
        ends = np.minimum(actions.min(0), 0), np.maximum(actions.max(0), 0)
    low, high = (np.full(actions.shape[1:], end, np.float32) for end in ends)
    high = np.where(high > low, high, low + 1)  # of a coordinate that never changes
    boxes: dict[str, Box] = {
        "observations": Box(-np.inf, np.inf, observations.shape[1:]),
        "actions": Box(low, high),
    }
    if spaces is not None:
        boxes |= _read_spaces(spaces, boxes)
    box = boxes["observations"]
    rows = np.concatenate([observations, content.final_observations])
    if ((rows < box.low) | (rows > box.high)).any():
        raise UsageError(
            f"{spaces} must give `observations` limits that hold in the data; widen or leave them out"
        )
    # The same data may come again with other limits in one process, which Gymnasium would warn of.
    gymnasium.registry.pop(env_id, None)
    gymnasium.register(
        env_id,
        entry_point="agents.common.sb3.environments:DataOnly",
        kwargs={"observation_space": boxes["observations"], "action_space": boxes["actions"]},
        max_episode_steps=1,
        disable_env_checker=True,
    )


def _read_spaces(path: Path, boxes: Mapping[str, Box]) -> dict[str, Box]:
    """Return the boxes whose limits a YAML file gives.

    :param boxes: those of observations and actions.
    """
    content = read_yaml(path, "`--spaces`")
    limited: dict[str, Box] = {}
    try:
        for name, limits in content.items():
            shape = boxes[name].shape
            ends = []
            for limit in (limits["low"], limits["high"]):
                values = np.array(limit)
                # `false` would be 0, and a list of one would be repeated.
                if values.dtype.kind not in "iuf" or values.shape not in ((), shape):
                    raise ValueError
                ends.append(np.broadcast_to(values.astype(np.float32), shape))
            low, high = ends
            if not (low < high).all():
                raise ValueError
            limited[name] = Box(low, high)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UsageError(
            f"{path} must give `observations` or `actions` a `low` below a `high`, each a number or a list of as many "
            f"as in the data, got {content}; write e.g. `actions: {{low: [-1, 0], high: [1, 50]}}`"
        ) from error
    return limited
