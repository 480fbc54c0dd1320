"""Which algorithms exist: id -> class, aliases, settings. Classes are imported when they are asked for."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any, TypeVar

from agents.common.validation import unknown_name_message

if TYPE_CHECKING:
    from agents.common.base import FlowQLearning

BUILT_IN = {
    "qam": "QAM",
    "qam_f": "QAMF",
    "qam_e": "QAME",
    "trqam": "TRQAM",
    "sqam": "SQAM",
    "bam": "BAM",
    "fbrac": "FBRAC",
    "fql": "FQL",
    "fawac": "FAWAC",
    "ifql": "IFQL",
    "cgql": "CGQL",
    "cgql_mse": "CGQLMSE",
    "cgql_linex": "CGQLLinex",
    "qsm": "QSM",
    "dac": "DAC",
    "dsrl": "DSRL",
    "fedit": "FEDIT",
    "rebrac": "ReBRAC",
    "rlpd": "RLPD",
    "bc": "BC",
}
ALIASES: dict[str, str] = {"bptt": "fbrac", "guidance": "cgql"}
ENTRY_POINT_GROUP = "flow_rl_zoo.agents"

Algorithm = TypeVar("Algorithm", bound="type[FlowQLearning]")


@dataclass(frozen=True)
class Entry:
    """What the registry knows of an algorithm.

    :param id: name on the command line and of its YAML file.
    :param algorithm: the class.
    :param paper: where the algorithm is from.
    :param published_name: the name in the papers' tables.
    """

    id: str
    algorithm: type[FlowQLearning]
    paper: str
    published_name: str


_entries: dict[str, Entry] = {}


def register(id: str, *, paper: str, published_name: str) -> Callable[[Algorithm], Algorithm]:
    """Return a class decorator that makes an algorithm known under an id.

    :param id: name on the command line, lower case with underscores.
    :param paper: title, authors and arXiv id.
    :param published_name: the name in published tables, e.g. ``"QAM-E"``.
    :return: the decorator.
    :raises ValueError: if another class is registered under the same id.
    """

    def decorate(algorithm: Algorithm) -> Algorithm:
        known = _entries.get(id)
        if known is not None and known.algorithm.__qualname__ != algorithm.__qualname__:
            raise ValueError(f"algorithm id `{id}` is taken by {known.algorithm.__name__}; choose another id")
        _entries[id] = Entry(id, algorithm, paper, published_name)
        return algorithm

    return decorate


def algorithm_ids() -> list[str]:
    """Return the ids of all algorithms: built in, from installed packages, and registered in this process.

    :return: sorted ids.
    """
    return sorted({*BUILT_IN, *_plugins(), *_entries})


def get(id: str) -> Entry:
    """Return the entry of an algorithm, importing it if needed.

    :param id: an id, an alias, or ``"package.module:Class"`` for a registered class of one's own.
    :return: its entry.
    :raises KeyError: if there is no such algorithm; the message names the closest.
    """
    if ":" in id:
        return _by_path(id)
    id = ALIASES.get(id, id)
    if id not in _entries:
        if id in BUILT_IN:
            importlib.import_module(f"agents.{id}")
        elif id in _plugins():
            _plugins()[id].load()
    if id not in _entries:
        raise KeyError(unknown_name_message("algorithm", id, [*algorithm_ids(), *ALIASES]))
    return _entries[id]


def _by_path(path: str) -> Entry:
    """Import a module and return the entry of one of its classes."""
    module, _, name = path.partition(":")
    try:
        algorithm = getattr(importlib.import_module(module), name, None)
    except ModuleNotFoundError as error:
        raise KeyError(f"`{path}`: {error}; put the module on the Python path") from error
    for entry in _entries.values():
        if entry.algorithm is algorithm:
            return entry
    raise KeyError(f"`{path}` is no registered algorithm; decorate the class with `agents.register(...)`")


def settings_of(algorithm: type[FlowQLearning]) -> dict[str, inspect.Parameter]:
    """Return an algorithm's settings: its own constructor arguments, then the common ones.

    :param algorithm: the class.
    :return: name -> parameter with default and annotation.
    """
    from agents.common.base import CommonSettings, FlowQLearning

    base = inspect.signature(FlowQLearning.__init__).parameters
    found: dict[str, inspect.Parameter] = {}
    for cls in algorithm.__mro__:
        if cls is FlowQLearning:
            break
        constructor = vars(cls).get("__init__")
        own = inspect.signature(constructor).parameters.values() if constructor else ()
        for parameter in own:
            if parameter.kind is inspect.Parameter.KEYWORD_ONLY:
                found.setdefault(parameter.name, parameter)
    common = {name: base[name] for name in CommonSettings.__annotations__}
    return {**common, **found}


def _plugins() -> dict[str, Any]:
    """Return the algorithms that installed packages offer: entry points named by id."""
    return {point.name: point for point in entry_points(group=ENTRY_POINT_GROUP)}
