"""Environments that stand for data without an environment: they have spaces, and cannot be stepped."""

import re
from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box

from agents.common.data.arrays import Transitions
from zoo.terminal.errors import UsageError


def dataset_only_id(name: str) -> str:
    """Return the id of what stands for the environment of the data with a name."""
    return re.sub(r"[^\w.-]", "-", f"data-{name}")


def register_dataset_only_env(
    env_id: str,
    content: Transitions,
    limits: tuple[float, float] | None,
) -> None:
    """Register what stands for the environment of some data.

    :param content: these data.
    :param limits: the lowest and the highest action; None takes -1 and 1 if all actions are inside, else what each
        coordinate of the data reaches.
    :raises UsageError: for images.
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
    # The same data may come again with other limits in one process, which Gymnasium would warn of.
    gymnasium.registry.pop(env_id, None)
    gymnasium.register(
        env_id,
        entry_point="agents.common.sb3.environments:DataOnly",
        kwargs={
            "observation_space": Box(-np.inf, np.inf, observations.shape[1:]),
            "action_space": Box(low, high),
        },
        max_episode_steps=1,
        disable_env_checker=True,
    )
