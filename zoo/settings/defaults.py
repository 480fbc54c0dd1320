"""Settings that the file of a run does not name; PyTorch is imported only where there are any."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from agents.common.settings import Setting
from agents.registry import import_named
from zoo.algorithms.catalogue import algorithm_ids
from zoo.settings.record import RunRecord
from zoo.terminal.errors import UsageError


def defaults_of(settings: Mapping[str, Setting | None]) -> dict[str, Any]:
    """Return the default of each declared setting."""
    return {name: setting.default for name, setting in settings.items() if setting}


def default_settings(algo: str) -> dict[str, Any]:
    """Return an algorithm's settings where none is given; nothing for a class that a file alone may not import."""
    if algo not in algorithm_ids():
        return {}
    baselines = import_named("zoo.algorithms.baselines")
    try:
        return defaults_of(baselines.settings_of(baselines.find_algorithm(algo).algorithm))
    except UsageError:  # an installed package whose import fails; its runs can be read all the same
        return {}


def with_defaults(record: RunRecord) -> RunRecord:
    """Return a run with the settings that its file does not name, since they came with a later release.

    The run had their defaults, since nothing else was there; so a run of any release is equal to the same run of today.
    """
    return replace(record, settings=default_settings(record.algo) | record.settings)
