"""What the kit trains on: a dataset whose values and best actions are known, and an environment that can be saved."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

STATES = 4
CONSTANT, FIRST, SECOND, CHOICE = range(STATES)
"""States of the dataset, as one-hot observations. An episode is CONSTANT, or FIRST and then SECOND, or CHOICE."""
GAMMA = 0.5
MODE = 0.7
"""In CONSTANT half of the actions are +MODE and half -MODE; elsewhere they are uniform in [-1, 1]."""
SLOPE = 30.0
"""In CHOICE the reward is SLOPE times the action."""
EPISODES = 200
"""Of each kind."""


def make_dataset() -> dict[str, NDArray[np.float32]]:
    """Return transitions of one action, in OGBench's regular layout.

    The values are 1 in CONSTANT and SECOND, whatever the action, GAMMA in FIRST, and SLOPE times the action in CHOICE.

    :return: array name -> array.
    """
    draw = np.random.default_rng(0)
    rows: list[tuple[int, float, float, int, bool]] = []  # state, action, reward, next state, whether it goes on
    for episode in range(EPISODES):
        mode = MODE if episode % 2 else -MODE
        choice, other = draw.uniform(0, 1), draw.uniform(-1, 1)
        rows += [
            (CONSTANT, mode, 1.0, CONSTANT, False),
            (FIRST, other, 0.0, SECOND, True),
            (SECOND, -other, 1.0, SECOND, False),
            (CHOICE, choice, SLOPE * choice, CHOICE, False),
            (CHOICE, -choice, -SLOPE * choice, CHOICE, False),
        ]
    one_hot = np.eye(STATES, dtype=np.float32)
    states, actions, rewards, next_states, goes_on = map(np.array, zip(*rows, strict=True))
    masks = goes_on.astype(np.float32)
    return {
        "observations": one_hot[states],
        "next_observations": one_hot[next_states],
        "actions": actions[:, None].astype(np.float32),
        "rewards": rewards.astype(np.float32),
        "masks": masks,
        "terminals": 1 - masks,
    }


def make_trajectories(actions: Any, length: int = 12, count: int = 8) -> dict[str, NDArray[np.float32]]:
    """Return trajectories of random numbers that fit :class:`ProbeEnv`, in OGBench's regular layout.

    :param actions: the action box, as a model has it.
    :param length: transitions of each trajectory.
    :param count: trajectories.
    :return: array name -> array.
    """
    draw = np.random.default_rng(1)
    states = draw.standard_normal((count, length + 1, STATES)).astype(np.float32)
    ends = np.zeros((count, length), np.float32)
    ends[:, -1] = 1
    rows = count * length
    return {
        "observations": states[:, :-1].reshape(rows, STATES),
        "next_observations": states[:, 1:].reshape(rows, STATES),
        "actions": draw.uniform(actions.low, actions.high, (rows, *actions.shape)).astype(np.float32),
        "rewards": draw.standard_normal(rows).astype(np.float32),
        "masks": (draw.random(rows) > 0.1).astype(np.float32),
        "terminals": ends.reshape(rows),
    }


class ProbeEnv(gymnasium.Env[NDArray[np.float32], NDArray[np.float32]]):
    """Episodes of five random observations; its state can be saved in the middle of one.

    :param actions: number of actions.
    """

    obstacle = ""
    """Why its state cannot be saved: never."""
    EPISODE = 5

    def __init__(self, actions: int = 2) -> None:
        self.observation_space = spaces.Box(-np.inf, np.inf, (STATES,), np.float32)
        # not [-1, 1], so that an action in the wrong units shows
        low, high = np.linspace(-3, -1, actions), np.linspace(2, 5, actions)
        self.action_space = spaces.Box(low.astype(np.float32), high.astype(np.float32))
        self.elapsed = 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Begin an episode."""
        super().reset(seed=seed)
        self.elapsed = 0
        return self._observe(), {}

    def step(self, action: NDArray[np.float32]) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        """Take a step; the reward falls with the size of the action."""
        self.elapsed += 1
        return self._observe(), -float(np.square(action).sum()), False, self.elapsed >= self.EPISODE, {}

    def snapshot(self) -> dict[str, Any]:
        """Return the state as plain values."""
        return {"elapsed": self.elapsed, "random": self.np_random.bit_generator.state}

    def restore(self, state: dict[str, Any]) -> None:
        """Put a state back; return None, which says that nothing is in the way."""
        self.elapsed = state["elapsed"]
        self.np_random.bit_generator.state = state["random"]

    def _observe(self) -> NDArray[np.float32]:
        return self.np_random.standard_normal(STATES).astype(np.float32)
