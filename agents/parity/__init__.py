"""Parity: any implementation of an agent against recorded numbers of its original (docs/parity.md).

``python -m agents.parity check --fixtures DIR --agent my_adapter`` compares. Only NumPy arrays cross the border: the
implementation needs neither our classes nor PyTorch. :class:`Recorder` writes the fixtures of a new agent.
"""

from agents.parity.checker import Comparison, Row, compare
from agents.parity.fixture import (
    TOLERANCES,
    Fixture,
    ParityError,
    Recorder,
    find_fixtures,
    norm,
    note_draws,
    perturb,
    read_fixture,
)

__all__ = [
    "TOLERANCES",
    "Comparison",
    "Fixture",
    "ParityError",
    "Recorder",
    "Row",
    "compare",
    "find_fixtures",
    "norm",
    "note_draws",
    "perturb",
    "read_fixture",
]
