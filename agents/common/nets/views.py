"""A view of networks that records how they are called."""

from __future__ import annotations

from typing import Any, NamedTuple

from torch import Tensor

from agents.common.batch import Time, Velocity
from agents.common.nets.networks import (
    Networks,
    NetworkViews,
    NoisePredictor,
    VelocityField,
)


class Evaluation(NamedTuple):
    """A state at which a velocity field, a noise predictor or a one-step map was evaluated.

    :param network: its name.
    :param x: the state, (S, B, D).
    :param t: the time that it was given; None for a one-step map.
    """

    network: str
    x: Tensor
    t: Time | None


class WatchedNetworks(NetworkViews):
    """View of networks that acts as they do, and records what is done with them.

    :param nets: the networks.
    """

    def __init__(self, nets: Networks) -> None:
        self._networks = nets
        self.with_extractor = nets.with_extractor
        self.used: set[str] = set()
        """Names of the networks that were asked for."""
        self.evaluations: list[Evaluation] = []
        """In the order of the evaluations; the same state may come several times."""

    def __getattr__(self, name: str) -> Any:
        if name not in self._networks:  # what asks for all of them at once, e.g. `items`
            self.used |= set(self._networks)
            return getattr(self._networks, name)
        self.used.add(name)
        return _WatchedNetwork(name, self._networks[name], self.evaluations)

    __getitem__ = __getattr__


class _WatchedNetwork:
    def __init__(self, name: str, network: Any, evaluations: list[Evaluation]) -> None:
        self._name, self._network, self._evaluations = name, network, evaluations
        self._is_flow = isinstance(network, VelocityField | NoisePredictor)

    def __call__(self, *inputs: Any, **options: Any) -> Any:
        if self._is_flow:
            self._note(*inputs[1:])
        return self._network(*inputs, **options)

    def at(self, observations: Tensor, **options: Any) -> Velocity:
        """Fix the observations, as the network does."""
        field = self._network.at(observations, **options)

        def evaluate(x: Tensor, t: Time | None = None) -> Any:
            self._note(x, t)
            return field(x, t)

        return evaluate

    def _note(self, x: Tensor, t: Time | None = None) -> None:
        self._evaluations.append(Evaluation(self._name, x.detach(), t))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._network, name)
