"""Objects shared by the checks: the algorithm, its small models, data with known values, and an environment."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from functools import cache, cached_property
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3.common.logger import Logger

from agents.common.method import Method
from agents.common.sb3.environments import DataOnly
from agents.common.sb3.model import FlowAlgorithm
from agents.models import model_class
from agents.testing.habits import find_habits

STATES = 4
CONSTANT, FIRST, SECOND, CHOICE = range(STATES)
"""States of the dataset, as one-hot observations. FIRST leads to SECOND; all states but FIRST are terminal."""
GAMMA = 0.5
MODE = 0.7
"""In CONSTANT, half of the actions are +MODE and half -MODE; in other states, they are uniform in [-1, 1]."""
SLOPE = 30.0
"""In CHOICE, the reward is SLOPE times the action."""
ROUNDS = 200
"""Number of passes through all states in the dataset; each pass visits CHOICE twice."""


def make_dataset(space: Any) -> dict[str, NDArray[np.float32]]:
    """Return transitions with one-dimensional actions, in OGBench's regular layout.

    For any action, the values are 1 in CONSTANT and SECOND, and GAMMA in FIRST; in CHOICE the value is SLOPE times the
    action. Trajectories have ten steps, so they contain whole chunks and terminal steps.

    :param space: action space; the actions are in its units.
    :return: array name -> array.
    """
    modes = np.where(np.arange(ROUNDS) % 2, MODE, -MODE)
    choices, randoms = np.random.default_rng(0).uniform([0, -1], 1, (ROUNDS, 2)).T
    states = np.tile([CONSTANT, FIRST, SECOND, CHOICE, CHOICE], ROUNDS)
    # pairs of opposite actions, so that the mean action is exactly 0
    actions = np.stack([modes, randoms, -randoms, choices, -choices], 1).reshape(-1, 1)
    rewards = np.where(states == CHOICE, SLOPE * actions[:, 0], states != FIRST)
    one_hot = np.eye(STATES)
    arrays = {
        "observations": one_hot[states],
        "next_observations": one_hot[np.roll(states, -1)],
        "actions": space.low + (actions + 1) / 2 * (space.high - space.low),
        "rewards": rewards,
        "masks": states == FIRST,
        "terminals": np.arange(len(states)) % 10 == 9,
    }
    return {name: array.astype(np.float32) for name, array in arrays.items()}


class ProbeEnv(DataOnly):
    """Random observations, episodes that end at random, and a reward that decreases with the action's magnitude."""

    def __init__(self, actions: int = 1) -> None:
        # not [-1, 1], so that actions in the wrong units are noticed
        space = spaces.Box(-3.0, 2.0, (actions,))
        super().__init__(spaces.Box(-np.inf, np.inf, (STATES,), seed=0), space)

    def step(self, action: NDArray[Any]) -> Any:
        """Return a random observation and the reward of an action."""
        observation = self.observation_space.sample()
        reward = -float(np.square(action).sum())
        return observation, reward, False, bool(observation[0] > 1), {}


ROWS = 16
TINY: dict[str, Any] = {
    "net_arch": [16, 16],
    "ensemble_size": 2,
    "flow_steps": 3,
    # every chunk of the data contains a terminal state, so its TD target has no next value
    "horizon_length": 1,
    "batch_size": ROWS,
    "buffer_size": 200,
    "learning_starts": 10,
    "compile": "off",
}
LEARNING: dict[str, Any] = {
    "net_arch": [32, 32],
    "flow_steps": 5,
    "batch_size": 128,
    "gamma": GAMMA,
    "learning_rate": "lin_3e-3",
    # large, so that target networks converge in few updates
    "tau": 0.05,
    # 0, since pessimism would lower the learnt values
    "rho": 0.0,
}
UPDATES = 600
SIZES: tuple[dict[str, Any], ...] = (
    {"horizon_length": 5},
    {"horizon_length": 1},
    {"horizon_length": 5, "action_chunking": False},
)
"""Chunks of five actions, single actions, and single actions with 5-step returns."""


class ViolationError(Exception):
    """Raised by a check that fails; the message has the measurement and the remedy."""


class NotApplicable(Exception):
    """Raised by a check that does not apply to the algorithm; the message has the reason."""


class Subject:
    """An algorithm under test.

    :param method: the algorithm.
    :param settings: settings that override the checks' own, e.g. if the algorithm learns too slowly by default.
    """

    def __init__(self, method: type[Method], settings: Mapping[str, Any]) -> None:
        self.method = method
        self.settings = dict(settings)
        # cached, because two checks use the model, and training it takes longer than everything else
        self.learnt = cache(lambda seed: self.make_model(seed, **LEARNING).learn_offline(UPDATES))
        """Return a model trained on the data with known values; the argument is the seed of its weights and batches."""

    def make_model(self, seed: int = 0, **settings: Any) -> FlowAlgorithm:
        """Return a small model on the CPU, with the dataset loaded and without log files.

        :param seed: seed of the model's weights and batches.
        :param settings: settings that override the small ones; the user's settings override both.
        :return: the model.
        """
        chosen = {**TINY, **settings, **self.settings}
        model = model_class(self.method)(  # type: ignore[arg-type]  # mypy: a class has no hash
            "MlpPolicy", ProbeEnv(), **chosen, seed=seed, device="cpu"
        )
        # not `configure`, which creates a folder for each logger
        model.set_logger(Logger(None, []))
        model.load_dataset(make_dataset(model.action_space))
        return model

    def example(self, **settings: Any) -> tuple[Method, spaces.Space[Any], spaces.Space[Any]]:
        """Return the algorithm with small settings, and the spaces of an environment.

        :param settings: settings that override the small ones; the user's settings override both.
        :return: the algorithm, the observation space and the action space.
        """
        env = ProbeEnv(actions=2)
        method = self.method(**{**TINY, **self.accepted_sizes()[0], **settings, **self.settings})
        return method, env.observation_space, env.action_space

    @cached_property
    def findings(self) -> dict[str, list[str]]:
        """Check -> mistakes in the hooks, found before any training."""
        # two candidates, so that targets call `score`
        return find_habits(*self.example(best_of_n=1 + self.can_score))

    @property
    def can_score(self) -> bool:
        """Whether the algorithm learns a value; plain cloning does not."""
        return self.method(**self.settings).can_score

    def accepted_sizes(self) -> list[dict[str, Any]]:
        """Return the SIZES that the algorithm accepts with the user's settings."""
        accepted = []
        for sizes in SIZES:
            with suppress(ValueError):
                self.method(**{**sizes, **self.settings})
                accepted.append(sizes)
        # contradictory settings, whose error the first check reports
        return accepted or [{}]
