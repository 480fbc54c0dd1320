"""The algorithm under test, with what the checks share: small models of it, a batch, and one trained model."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache, cached_property
from typing import Any

import torch
from gymnasium import spaces
from stable_baselines3.common.logger import configure
from torch import Tensor

from agents.common.batch import Batch
from agents.common.method import Method
from agents.common.sb3.first_update import random_batch
from agents.common.sb3.model import FlowQLearning
from agents.models import model_class
from agents.testing.habits import Finding, find_habits
from agents.testing.probe import GAMMA, ProbeEnv, make_dataset

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
    "tau": 0.05,
    "rho": 0.0,
}
UPDATES = 600
SIZES = ({"horizon_length": 5}, {"horizon_length": 1}, {"horizon_length": 5, "action_chunking": False})
"""Chunks of five actions, single actions, and single actions with returns of five steps."""


class Violation(Exception):
    """What a check asks for does not hold; the message says what was found and what to do."""


class Differs(Violation):
    """Numbers are not what is asked for with these weights and this batch, which rounding or chance may explain."""


class Unknown(Exception):
    """A check has shown neither that it holds nor that it does not; the message says what was tried."""


class NotApplicable(Exception):
    """A check has nothing to ask of this algorithm; the message says why."""


class Subject:
    """An algorithm under test.

    :param method: the algorithm.
    :param settings: over those of the checks, e.g. where the algorithm's defaults learn too slowly for a probe.
    """

    def __init__(self, method: type[Method], settings: Mapping[str, Any]) -> None:
        self.method, self.settings = method, dict(settings)
        self.learnt = cache(self._learn)
        """A model after it has learnt from the dataset of known values, by the seed of its weights and batches."""

    def make_model(self, actions: int = 2, seeds: list[int] | None = None, **settings: Any) -> FlowQLearning:
        """Return a small model on the CPU that writes no logs.

        :param actions: number of actions of its environment.
        :param seeds: of its replicas; None: a single one with seed 0.
        :param settings: over the tiny ones; those of the user are over these.
        :return: the model.
        """
        chosen = {**TINY, **settings, **self.settings}
        seeded: dict[str, Any] = {"seed": 0} if seeds is None else {"seeds": seeds}
        model = model_class(self.method)("MlpPolicy", ProbeEnv(actions), **chosen, **seeded, device="cpu")
        model.set_logger(configure(None, []))
        return model

    @property
    def rates_actions(self) -> bool:
        """Whether it has a value; plain cloning has none."""
        return self.method(**self.settings).rates_actions

    def refusal(self, settings: Mapping[str, Any]) -> str:
        """Return why the algorithm's own check of its settings refuses some; empty if it takes them.

        :param settings: the settings.
        :return: the message.
        """
        try:
            self.method(**settings)
        except ValueError as error:
            return str(error)
        return ""

    @cached_property
    def findings(self) -> list[Finding]:
        """Bad habits of the hooks with chunks, found before any training."""
        return find_habits(*self.example(horizon_length=5))

    def example(self, **settings: Any) -> tuple[Method, spaces.Space[Any], spaces.Space[Any]]:
        """Return the algorithm with small settings, and the spaces of an environment.

        :param settings: over the small ones; those of the user are over these.
        :return: the algorithm, the space of observations and that of actions.
        """
        env = ProbeEnv()
        return self.method(**{**TINY, **settings, **self.settings}), env.observation_space, env.action_space

    def _learn(self, seed: int) -> FlowQLearning:
        model = self.make_model(actions=1, seeds=[seed], **LEARNING)
        low, high = model.action_space.low, model.action_space.high  # type: ignore[attr-defined]
        dataset = make_dataset()
        dataset["actions"] = low + (dataset["actions"] + 1) / 2 * (high - low)
        return model.learn_offline(UPDATES, dataset=dataset)


def make_batch(model: FlowQLearning, seed: int = 0, rows: int = ROWS) -> Batch:
    """Return a random batch of a model's sizes.

    :param model: the model.
    :param seed: of the numbers.
    :param rows: B.
    :return: the batch.
    """
    return random_batch(model.policy, rows, torch.Generator().manual_seed(seed))


def make_noise(model: FlowQLearning, seed: int = 0, acting: bool = False, rows: int = ROWS) -> dict[str, Tensor]:
    """Return all draws of one update, or of one choice of actions.

    :param model: the model.
    :param seed: of the numbers.
    :param acting: whether to draw what :meth:`Method.act` asks for.
    :param rows: B.
    :return: name -> draw.
    """
    sizes = model.method.noise_sizes(model.policy.num_replicas, rows, model.policy.chunk_size, model.policy.layout.size)
    table = model.method.action_noise_table() if acting else model.method.update_noise()
    generator = torch.Generator().manual_seed(seed)
    return {name: draw(sizes, generator, "cpu") for name, draw in table.items()}


def parameters_of(model: FlowQLearning) -> dict[str, Tensor]:
    """Return copies of all parameters and buffers of the policy.

    :param model: the model.
    :return: name -> tensor.
    """
    return {name: value.detach().clone() for name, value in model.policy.state_dict().items()}


def first_difference(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> str | None:
    """Return the name of the first tensor that differs in a bit, or None.

    :param first: name -> tensor.
    :param second: the same names.
    :return: the name.
    """
    return next((name for name in first if not torch.equal(first[name], second[name])), None)
