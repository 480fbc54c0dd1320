"""Which algorithms exist: id -> class, aliases, settings. Classes are imported when they are asked for."""

from __future__ import annotations

import importlib
import inspect
import os
import sys
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
_imported: set[str] = set()  # modules that a user named


def register(id: str, *, paper: str, published_name: str) -> Callable[[Algorithm], Algorithm]:
    """Return a class decorator that makes an algorithm known under an id.

    :param id: name on the command line, lower case with underscores.
    :param paper: title, authors and arXiv id.
    :param published_name: the name in published tables, e.g. ``"QAM-E"``.
    :return: the decorator.
    :raises ValueError: if another class has the id, registered or built in, or it is an alias.
    """

    def decorate(algorithm: Algorithm) -> Algorithm:
        known = _entries.get(id)
        owner = known.algorithm.__qualname__ if known else BUILT_IN.get(id, algorithm.__qualname__)
        if id in ALIASES:
            owner = f"{BUILT_IN[ALIASES[id]]}, as an alias"
        if owner != algorithm.__qualname__ or (id in BUILT_IN and algorithm.__module__ != f"agents.{id}"):
            raise ValueError(
                f"algorithm id `{id}` is taken by {owner}; register {algorithm.__name__} with another id, "
                f"e.g. `my_{id}`"
            )
        _entries[id] = Entry(id, algorithm, paper, published_name)
        return algorithm

    return decorate


def name_of(algorithm: type[FlowQLearning]) -> str:
    """Return the name by which :func:`get` finds a class, which a saved model keeps.

    :param algorithm: the class; it need not be registered.
    :return: an id, or ``"package.module:Class"``.
    """
    module, name = algorithm.__module__, algorithm.__qualname__
    for id, built_in in BUILT_IN.items():
        if (module, name) == (f"agents.{id}", built_in):
            return id
    plugins = {point.value: id for id, point in _plugins().items()}
    return plugins.get(f"{module}:{name}", f"{module}:{name}")


def is_from_elsewhere(module: str) -> bool:
    """Return whether a module, or the package that it is in, holds algorithms that are not built in.

    :param module: its name.
    :return: whether its author wrote an algorithm, or was asked for one.
    """
    own = {entry.algorithm.__module__ for id, entry in _entries.items() if id not in BUILT_IN} | _imported
    return module.partition(".")[0] in {name.partition(".")[0] for name in own} - {"agents", "zoo"}


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
    """Import a module, from the current folder too, and return the entry of one of its classes."""
    module, _, name = path.partition(":")
    if not {"", os.getcwd()} & set(sys.path):
        sys.path.append(os.getcwd())
    _imported.add(module)
    try:
        algorithm = getattr(importlib.import_module(module), name, None)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise  # the module is there, and something that it imports is not
        raise KeyError(f"`{path}`: there is no module `{error.name}` in {os.getcwd()} or on the Python path") from error
    for entry in _entries.values():
        if entry.algorithm is algorithm:
            return entry
    mine = [f"{module}:{e.algorithm.__qualname__}" for e in _entries.values() if e.algorithm.__module__ == module]
    known = f"; registered there: {', '.join(mine)}" if mine else ""
    raise KeyError(f"`{path}` is not a registered algorithm; decorate the class with `agents.register(...)`{known}")


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
