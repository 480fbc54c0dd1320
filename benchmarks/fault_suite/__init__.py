"""Faults that a run must survive, and what is promised for each; `benchmarks/faults.py` tries them all."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from benchmarks.fault_suite.kind import Kind

MODULES = (
    "kills", "checkpoints", "run_folders", "saved_files", "hostile_code", "hostile_names", "hostile_sizes",
    "hostile_texts", "strange_files", "limits", "workers", "environments", "suites", "races", "circumstances",
    "own_agents",
)  # fmt: skip
"""Modules with kinds of faults, in the order of the table."""


def all_kinds() -> dict[str, Kind]:
    """Return every kind of fault by its id."""
    for module in MODULES:
        importlib.import_module(f"benchmarks.fault_suite.{module}")
    from benchmarks.fault_suite.kind import KINDS

    return KINDS
