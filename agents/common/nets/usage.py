"""Which networks a computation uses."""

from __future__ import annotations

from typing import Any

from agents.common.nets.heads import Networks, _Frozen, _Renamed


class NotedNetworks:
    """A view of networks that notes which of them are used.

    :param nets: the networks.
    """

    def __init__(self, nets: Networks) -> None:
        self._nets = nets
        self.used: set[str] = set()

    def __getitem__(self, name: str) -> Any:
        self.used.add(name)
        return self._nets[name]

    def __getattr__(self, name: str) -> Any:
        if name in self._nets:
            return self[name]
        self.used |= set(self._nets)  # e.g. going through all of them
        return getattr(self._nets, name)

    @property
    def frozen(self) -> Any:
        """The same networks with constant weights."""
        return _Frozen(self)  # type: ignore[arg-type]

    def using(self, **substitutes: str) -> Any:
        """Return a view in which some names stand for other networks."""
        return _Renamed(self, substitutes)  # type: ignore[arg-type]
