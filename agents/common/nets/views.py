"""Views of networks: some pass the same observations through a features extractor once, one records its calls."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from agents.common.nets.networks import Features, Networks, NetworkViews, NoisePredictor, Time, Velocity, VelocityField


class EncodingNetworks(NetworkViews):
    """View of networks that decides how observations become features; networks without an extractor are as they are.

    :param nets: the networks, or a view of them.
    """

    def __init__(self, nets: Any) -> None:
        self._nets = nets

    def encode(self, network: Any, observations: Tensor, frozen: bool) -> Tensor | Features:
        """Return what a network with an extractor is called with in place of observations."""
        raise NotImplementedError("must be defined; it returns `observations`, or their features")

    def __getattr__(self, name: str) -> Any:
        network = getattr(self._nets, name)
        has_extractor = getattr(network, "features_extractor", None) is not None
        return _EncodingNetwork(network, self) if has_extractor else network

    __getitem__ = __getattr__


class RepeatedObservations(EncodingNetworks):
    """View that knows some observations as others repeated, and repeats the others' features instead.

    :param nets: the networks, or a view of them.
    :param observations: (S, N, O).
    :param times: by which each of them is repeated, n.
    """

    def __init__(self, nets: Any, observations: Tensor, times: int) -> None:
        super().__init__(nets)
        self._observations, self._times = observations, times
        self.repeated = observations.repeat_interleave(times, dim=1)
        """The observations that networks are called with, (S, N * n, O)."""

    def encode(self, network: Any, observations: Tensor, frozen: bool) -> Tensor | Features:
        """Encode what was repeated."""
        if observations is not self.repeated:
            return observations
        found = network.features(self._observations, frozen)
        return Features(found.repeat_interleave(self._times, dim=1))


class RememberedFeatures(EncodingNetworks):
    """View that remembers the features of observations, for as long as no weights change.

    Targets and losses often need the same ones. Gradient may be needed only later, so features are found with their
    graph. An extractor that draws (dropout) or gathers statistics (batch normalisation) is called every time.

    :param nets: the networks, or a view of them.
    """

    def __init__(self, nets: Any) -> None:
        super().__init__(nets)
        self._known: list[tuple[nn.Module, Tensor, Tensor]] = []  # extractor, observations, features

    def encode(self, network: Any, observations: Tensor, frozen: bool) -> Tensor | Features:
        """Encode what was not encoded before."""
        extractor = network.features_extractor
        if isinstance(observations, Features) or not _is_function(extractor):
            return observations
        known = [features for own, seen, features in self._known if own is extractor and seen is observations]
        if not known:
            with torch.enable_grad():
                known = [network.features(observations, False)]
            self._known.append((extractor, observations, known[0]))
        return Features(known[0] if torch.is_grad_enabled() and not frozen else known[0].detach())


class _EncodingNetwork:
    def __init__(self, network: Any, view: EncodingNetworks) -> None:
        self._network, self._view = network, view

    def __call__(self, observations: Tensor, *inputs: Any, frozen: bool = False) -> Any:
        return self._network(self._view.encode(self._network, observations, frozen), *inputs, frozen=frozen)

    def at(self, observations: Tensor, frozen: bool = False) -> Any:
        """Fix the observations, as the network does."""
        return self._network.at(self._view.encode(self._network, observations, frozen), frozen=frozen)

    def features(self, observations: Tensor, frozen: bool) -> Any:
        """Return the features, as the network does."""
        return self._network.features(self._view.encode(self._network, observations, frozen), frozen)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._network, name)


def _is_function(extractor: nn.Module) -> bool:
    """Return whether an extractor gives the same features each time and remembers nothing."""
    changing = nn.modules.dropout._DropoutNd | nn.modules.batchnorm._NormBase
    return not any(part.training and isinstance(part, changing) for part in extractor.modules())


class Evaluation(NamedTuple):
    """A state at which a velocity field, a noise predictor or a one-step map was evaluated.

    :param network: its name.
    :param x: the state, (S, N, D).
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
        self._nets = nets
        self.used: set[str] = set()
        """Names of the networks that were asked for."""
        self.evaluations: list[Evaluation] = []
        """In the order of the evaluations; the same state may come several times."""

    def __getattr__(self, name: str) -> Any:
        if name not in self._nets:  # what asks for all of them at once, e.g. `items`
            self.used |= set(self._nets)
            return getattr(self._nets, name)
        self.used.add(name)
        return _WatchedNetwork(name, self._nets[name], self.evaluations)

    __getitem__ = __getattr__


class _WatchedNetwork:
    def __init__(self, name: str, network: Any, evaluations: list[Evaluation]) -> None:
        self._name, self._network, self._evaluations = name, network, evaluations
        self._is_flow = isinstance(network, VelocityField | NoisePredictor)

    def __call__(self, *inputs: Any, **how: Any) -> Any:
        if self._is_flow:
            self._note(*inputs[1:])
        return self._network(*inputs, **how)

    def at(self, observations: Tensor, **how: Any) -> Velocity:
        """Fix the observations, as the network does."""
        there = self._network.at(observations, **how)

        def evaluate(x: Tensor, t: Time | None = None) -> Any:
            self._note(x, t)
            return there(x, t)

        return evaluate

    def _note(self, x: Tensor, t: Time | None = None) -> None:
        self._evaluations.append(Evaluation(self._name, x.detach(), t))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._network, name)
