"""Kinds of faults: what is done, what is promised, and the function that tries it once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.fault_suite.lab import Lab

Try = Callable[[Lab], None]


@dataclass(frozen=True)
class Kind:
    """A kind of fault.

    :param id: its name on the command line.
    :param fault: what is done.
    :param promise: what is promised.
    :param tries: how many seeds, from 0 on, the whole suite tries.
    :param check: tries it once; raises `Broken` where something is not as promised.
    """

    id: str
    fault: str
    promise: str
    tries: int
    check: Try


KINDS: dict[str, Kind] = {}
"""All kinds, in the order of the table."""


def kind(id: str, fault: str, promise: str, tries: int) -> Callable[[Try], Try]:
    """Register the function that tries a kind of fault once."""

    def register(check: Try) -> Try:
        KINDS[id] = Kind(id, fault, promise, tries, check)
        return check

    return register
