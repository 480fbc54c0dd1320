"""The algorithm under test, with what the checks share: small models of it, data of known values, an environment."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import cache, cached_property
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3.common.logger import Logger
from torch import Tensor

from agents.common.batch import Batch
from agents.common.method import Method
from agents.common.sb3.first_update import random_batch
from agents.common.sb3.model import FlowAlgorithm
from agents.models import model_class
from agents.testing.habits import find_habits

STATES = 4
CONSTANT, FIRST, SECOND, CHOICE = range(STATES)
"""States of the dataset, as one-hot observations. An episode is CONSTANT, or FIRST and then SECOND, or CHOICE."""
GAMMA = 0.5
MODE = 0.7
"""In CONSTANT half of the actions are +MODE and half -MODE; elsewhere they are uniform in [-1, 1]."""
SLOPE = 30.0
"""In CHOICE the reward is SLOPE times the action."""
EPISODES = 200
"""Rounds of episodes: each adds one of every kind, and of CHOICE two."""


def make_dataset() -> dict[str, NDArray[np.float32]]:
    """Return transitions of one action, in OGBench's regular layout.

    The values are 1 in CONSTANT and SECOND, whatever the action, GAMMA in FIRST, and SLOPE times the action in CHOICE.

    :return: array name -> array.
    """
    modes = np.where(np.arange(EPISODES) % 2, MODE, -MODE)
    choices, randoms = np.random.default_rng(0).uniform([0, -1], 1, (EPISODES, 2)).T
    states = np.tile([CONSTANT, FIRST, SECOND, CHOICE, CHOICE], EPISODES)
    # of opposite actions, so that their mean is exactly 0
    actions = np.stack([modes, randoms, -randoms, choices, -choices], 1).reshape(-1, 1)
    rewards = np.where(states == CHOICE, SLOPE * actions[:, 0], states != FIRST)
    one_hot = np.eye(STATES, dtype=np.float32)
    masks = (states == FIRST).astype(np.float32)
    return {
        "observations": one_hot[states],
        "next_observations": one_hot[np.where(states == FIRST, SECOND, states)],
        "actions": actions.astype(np.float32),
        "rewards": rewards.astype(np.float32),
        "masks": masks,
        "terminals": 1 - masks,
    }


def make_trajectories(actions: Any) -> dict[str, NDArray[np.float32]]:
    """Return trajectories of random numbers that fit :class:`ProbeEnv`, in OGBench's regular layout.

    :param actions: the action box, as a model has it.
    :return: array name -> array.
    """
    draw = np.random.default_rng(1)
    rows = 8 * 12  # trajectories, and transitions of each
    states = draw.standard_normal((rows + 1, STATES))
    arrays = {
        "observations": states[:-1],
        "next_observations": states[1:],
        "actions": draw.uniform(actions.low, actions.high, (rows, *actions.shape)),
        "rewards": draw.standard_normal(rows),
        "masks": draw.random(rows) > 0.1,
        "terminals": np.arange(rows) % 12 == 11,
    }
    return {name: array.astype(np.float32) for name, array in arrays.items()}


class ProbeEnv(gymnasium.Env[NDArray[np.float32], NDArray[np.float32]]):
    """Episodes of five random observations.

    :param actions: number of actions.
    """

    EPISODE = 5

    def __init__(self, actions: int = 2) -> None:
        self.observation_space = spaces.Box(-np.inf, np.inf, (STATES,), np.float32)
        # not [-1, 1], so that an action in the wrong units shows
        low = np.linspace(-3, -1, actions)
        high = np.linspace(2, 5, actions)
        self.action_space = spaces.Box(low.astype(np.float32), high.astype(np.float32))
        self.elapsed = 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Begin an episode."""
        super().reset(seed=seed)
        self.elapsed = 0
        return self._observe(), {}

    def step(
        self, action: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        """Take a step; the reward falls with the size of the action."""
        self.elapsed += 1
        return (
            self._observe(),
            -float(np.square(action).sum()),
            False,
            self.elapsed >= self.EPISODE,
            {},
        )

    def _observe(self) -> NDArray[np.float32]:
        return self.np_random.standard_normal(STATES).astype(np.float32)


ROWS = 16
TINY: dict[str, Any] = {
    "net_arch": [16, 16],
    "ensemble_size": 2,
    "flow_steps": 3,
    "horizon_length": 5,
    "batch_size": ROWS,
    "buffer_size": 200,
    "learning_starts": 10,
    "compile": "off",
}
LEARNING: dict[str, Any] = {
    "net_arch": [32, 32],
    "flow_steps": 5,
    "horizon_length": 1,
    "batch_size": 128,
    "gamma": GAMMA,
    "learning_rate": "lin_3e-3",
    # targets must arrive within so few updates
    "tau": 0.05,
    # pessimism would lower the known values
    "rho": 0.0,
}
UPDATES = 600
SIZES = (
    {"horizon_length": 5},
    {"horizon_length": 1},
    {"horizon_length": 5, "action_chunking": False},
)
"""Chunks of five actions, single actions, and single actions with returns of five steps."""


class ViolationError(Exception):
    """A check fails; the message says what was measured and what to do."""


class NotApplicable(Exception):
    """A check does not apply to this algorithm; the message says why."""


class Subject:
    """An algorithm under test.

    :param method: the algorithm.
    :param settings: over those of the checks, e.g. where the algorithm's defaults learn too slowly for a probe.
    """

    def __init__(self, method: type[Method], settings: Mapping[str, Any]) -> None:
        self.method = method
        self.settings = dict(settings)
        # two checks read the same model, and training it takes longest
        self.learnt = cache(self._learn)
        """A model after it has learnt from the dataset of known values, by the seed of its weights and batches."""

    def make_model(
        self, actions: int = 2, seeds: list[int] | None = None, **settings: Any
    ) -> FlowAlgorithm:
        """Return a small model on the CPU that writes no logs.

        :param actions: number of actions of its environment.
        :param seeds: of its replicas; None: a single one with seed 0.
        :param settings: over the tiny ones; those of the user are over these.
        :return: the model.
        """
        chosen = {**TINY, **settings, **self.settings}
        seeded: dict[str, Any] = {"seed": 0} if seeds is None else {"seeds": seeds}
        model = model_class(self.method)(  # type: ignore[arg-type]  # mypy: a class has no hash
            "MlpPolicy", ProbeEnv(actions), **chosen, **seeded, device="cpu"
        )
        # not `configure`, which makes a folder for each logger
        model.set_logger(Logger(None, []))
        return model

    def make_loaded_model(self, **settings: Any) -> FlowAlgorithm:
        """Return a small model with trajectories of random numbers."""
        model = self.make_model(**settings)
        model.load_dataset(make_trajectories(model.action_space))
        return model

    @property
    def rates_actions(self) -> bool:
        """Whether it has a value; plain cloning has none."""
        return self.method(**self.settings).rates_actions

    def try_settings(self, run: Callable[..., str], choices: Iterable[Mapping[str, Any]]) -> str:
        """Run a check with each of several settings that the algorithm accepts.

        :param run: the check; takes settings and returns its result in words.
        :param choices: of settings.
        :return: a clause for each: the result, or why the algorithm refuses the settings.
        """
        outcomes = []
        for settings in choices:
            try:
                self.method(**settings)
            except ValueError as error:
                text = f"refused by the algorithm ({error})"
            else:
                text = run(**settings)
            shown = ", ".join(f"{name}={value}" for name, value in settings.items())
            outcomes.append(f"{shown}: {text}")
        return "; ".join(outcomes)

    @cached_property
    def findings(self) -> dict[str, list[str]]:
        """Bad habits of the hooks with chunks by kind, found before any training."""
        return find_habits(*self.example(horizon_length=5))

    def example(self, **settings: Any) -> tuple[Method, spaces.Space[Any], spaces.Space[Any]]:
        """Return the algorithm with small settings, and the spaces of an environment.

        :param settings: over the small ones; those of the user are over these.
        :return: the algorithm, the space of observations and that of actions.
        """
        env = ProbeEnv()
        return (
            self.method(**{**TINY, **settings, **self.settings}),
            env.observation_space,
            env.action_space,
        )

    def _learn(self, seed: int) -> FlowAlgorithm:
        model = self.make_model(actions=1, seeds=[seed], **LEARNING)
        low, high = model.action_space.low, model.action_space.high  # type: ignore[attr-defined]
        dataset = make_dataset()
        # in the environment's units, where the box is not [-1, 1]
        dataset["actions"] = low + (dataset["actions"] + 1) / 2 * (high - low)
        return model.learn_offline(UPDATES, dataset=dataset)


def make_batch(model: FlowAlgorithm, seed: int = 0) -> Batch:
    """Return a random batch of a model's sizes.

    :param model: the model.
    :param seed: of the numbers.
    :return: the batch.
    """
    return random_batch(model.policy, ROWS, torch.Generator().manual_seed(seed))


def make_noise(model: FlowAlgorithm, seed: int = 0, acting: bool = False) -> dict[str, Tensor]:
    """Return all draws of one update, or of one choice of actions.

    :param model: the model.
    :param seed: of the numbers.
    :param acting: whether to draw what :meth:`Method.act` asks for.
    :return: name -> draw.
    """
    method = model.method
    table = method.action_noise_table() if acting else method.update_noise() | method.crop_noise()
    return model.policy.draw_noise(table, ROWS, torch.Generator().manual_seed(seed))
