"""Repeated observations, e.g. one for every candidate action, that pass each features extractor only once."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from agents.common.nets.heads import Features, FrozenNetworks, RenamedNetworks


class RepeatedObservations:
    """View of networks that know some observations as others repeated, and repeat the others' features instead.

    :param nets: the networks, or a view of them.
    :param observations: (S, N, O).
    :param times: by which each of them is repeated, n.
    """

    def __init__(self, nets: Any, observations: Tensor, times: int) -> None:
        self._nets, self._observations, self._times = nets, observations, times
        self.repeated = observations.repeat_interleave(times, dim=1)
        """The observations that networks are called with, (S, N * n, O)."""

    @property
    def frozen(self) -> Any:
        """The same view with constant weights."""
        return FrozenNetworks(self)

    def using(self, **substitutes: str) -> Any:
        """Return the view in which some names stand for other networks."""
        return RenamedNetworks(self, substitutes)

    def features(self, network: Any, observations: Tensor, frozen: bool) -> Tensor | Features:
        """Return what a network is to be called with in place of observations."""
        if observations is not self.repeated:
            return observations
        found = network.features(self._observations, frozen)
        return Features(found.repeat_interleave(self._times, dim=1))

    def __getattr__(self, name: str) -> Any:
        network = self._nets[name]
        has_extractor = getattr(network, "features_extractor", None) is not None
        return _Repeating(network, self) if has_extractor else network

    __getitem__ = __getattr__


class _Repeating:
    def __init__(self, network: Any, view: RepeatedObservations) -> None:
        self._network, self._view = network, view

    def __call__(self, observations: Tensor, *inputs: Any, frozen: bool = False) -> Any:
        return self._network(self._view.features(self._network, observations, frozen), *inputs, frozen=frozen)

    def at(self, observations: Tensor, frozen: bool = False) -> Any:
        """Fix the observations, as the network does."""
        return self._network.at(self._view.features(self._network, observations, frozen), frozen=frozen)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._network, name)
