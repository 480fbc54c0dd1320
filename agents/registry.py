"""Which algorithms exist: id -> method, and aliases. A method is imported when it is first needed."""

from __future__ import annotations

import ast
import hashlib
import importlib
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeVar

from agents.common.validation import UntrustedError, path_of, unknown_name_message

if TYPE_CHECKING:
    from agents.common.method import Method

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
    "rql": "RQL",
    "qgf": "QGF",
    "meanflowql": "MeanFlowQL",
    "fan": "FAN",
    "value_flows": "ValueFlows",
    "gfp": "GFP",
    "driftql": "DriftQL",
    "iql": "IQL",
    "idql": "IDQL",
    "bc": "BC",
}
ALIASES: dict[str, str] = {"bptt": "fbrac", "guidance": "cgql"}
REMOVED_HOOKS = ("row_sampler", "priorities")
ENTRY_POINT_GROUP = "flow_rl_zoo.agents"

MethodT = TypeVar("MethodT", bound="type[Method]")


@dataclass(frozen=True)
class Entry:
    """An algorithm; see :func:`register`.

    :param id: name on the command line and of its YAML file.
    :param method: what it is, a subclass of ``agents.Method``; None for one of Stable-Baselines3's.
    :param paper: where it is from.
    :param published_name: the name in the papers' tables.
    :param when: when to use it, in one sentence.
    :param algorithm: class of its models; :func:`agents.get` gives it.
    """

    id: str
    method: Any
    paper: str
    published_name: str
    when: str = ""
    algorithm: Any = None


_entries: dict[str, Entry] = {}


def register(
    id: str, *, paper: str, published_name: str, when: str = ""
) -> Callable[[MethodT], MethodT]:
    """Return a class decorator that makes a method known as an algorithm under an id.

    :param id: name on the command line and of its YAML file, lower case with underscores.
    :param paper: title, authors and arXiv id.
    :param published_name: the name in published tables, e.g. ``"QAM-E"``.
    :param when: when to use it, in one sentence.
    :return: the decorator.
    :raises TypeError: if the class is not a method.
    :raises ValueError: if another class has the id, registered or built in, or one of another file, or it is an alias.
    """

    def decorate(method: MethodT) -> MethodT:
        # by its attributes: importing `Method` here would import PyTorch
        if not hasattr(method, "losses") or hasattr(method, "learn"):
            raise TypeError(
                f"{method.__name__} must be a subclass of `agents.Method`, which says what an algorithm is; models are "
                "made of it (docs/register.md)"
            )
        for hook in REMOVED_HOOKS:
            if hasattr(method, hook):
                raise TypeError(
                    f"{method.__name__} has the hook `{hook}` of release 1.0, which is not called any more: rows are "
                    "drawn uniformly; leave it out"
                )
        owner = ""
        if id in ALIASES:
            owner = f"{BUILT_IN[ALIASES[id]]}, as an alias"
        elif id in BUILT_IN and method.__module__ != f"agents.{id}":
            owner = f"{BUILT_IN[id]} of agents.{id}"
        elif id in _entries:
            owner = _described(_entries[id].method)
        # the same class of the same file may come again, e.g. when its module is reloaded
        if owner and owner != _described(method):
            raise ValueError(
                f"algorithm id `{id}` is taken by {owner}; register {_described(method)} by another, e.g. `my_{id}`"
            )
        _entries[id] = Entry(id, method, paper, published_name, when)
        return method

    return decorate


def name_of(method: type[Any]) -> str:
    """Return the name by which :func:`find` finds a class, registered or not: an id or ``"package.module:Class"``."""
    path = path_of(method)
    built_in = {f"agents.{id}:{name}": id for id, name in BUILT_IN.items()}
    return built_in.get(path) or _installed().get(path, path)


def origin_of(method: type[Any]) -> dict[str, str]:
    """Return a plug-in class's path, code hash and package, so that whoever finds a run of it can find the class.

    :param method: the class.
    :return: ``class`` (``"package.module:Class"``), ``code`` (a hash of its file) if it has one, and, where an
        installed package offers it, ``package`` (``"name==version"``).
    """
    path = path_of(method)
    origin = {"class": path}
    file = _file_of(method)
    if file is not None:
        # of the whole file, since helpers beside the class change what it does
        origin["code"] = hashlib.sha256(file.read_bytes()).hexdigest()[:12]
    if path in _installed():
        distribution = _plugins()[_installed()[path]].dist
        origin["package"] = f"{distribution.name}=={distribution.version}"
    return origin


def algorithm_ids() -> list[str]:
    """Return the sorted ids of all algorithms: built in, from installed packages, and registered in this process."""
    return sorted({*BUILT_IN, *_plugins(), *_entries})


def find(id: str) -> Entry:
    """Return the entry of an algorithm, importing it if needed.

    :param id: an id, an alias, or ``"package.module:Class"`` for your own registered class.
    :return: its entry.
    :raises KeyError: if there is no such algorithm; the message names the closest.
    """
    if ":" in id:
        return _by_path(id)
    id = ALIASES.get(id, id)
    if id not in _entries:
        if id in BUILT_IN:
            # whose decorator registers it
            importlib.import_module(f"agents.{id}")
        elif id in _plugins():
            _plugins()[id].load()
    if id not in _entries:
        raise KeyError(unknown_name_message("algorithm", id, algorithm_ids()))
    return _entries[id]


def describe(id: str) -> dict[str, str]:
    """Return what an algorithm says of itself.

    The file of one that is built in is read and not imported, since PyTorch takes seconds.

    :param id: its id.
    :return: ``published_name``, ``paper`` and ``when`` as it was registered, and the first line of its docstring as
        ``summary``.
    """
    if id in BUILT_IN:
        tree = ast.parse((Path(__file__).parent / f"{id}.py").read_text(encoding="utf-8"))
        classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
        node = classes[BUILT_IN[id]]
        (registered,) = (call for call in node.decorator_list if isinstance(call, ast.Call))
        description = {str(word.arg): ast.literal_eval(word.value) for word in registered.keywords}
        docstring = ast.get_docstring(node)
    else:
        entry = vars(find(id))
        description = {name: entry[name] for name in ("published_name", "paper", "when")}
        docstring = entry["method"].__doc__
    return description | {"summary": (docstring or "").strip().partition("\n")[0]}


def find_named_by_file(
    name: str, file: object, package: str | None = None, *, trust: bool = False
) -> Entry:
    """Return the entry of an algorithm that a file names; its author does not choose what is imported.

    :param name: what :func:`name_of` returned.
    :param file: that names it, for messages.
    :param package: that offers it, as the file says.
    :param trust: whether the file may name a module to import.
    :return: its entry.
    :raises ValueError: if there is no such algorithm; the message names the closest.
    :raises UntrustedError: if it is neither built in, nor of an installed package, nor imported already.
    """
    # imported already, so nothing of the file's choice runs
    for entry in _entries.values():
        if name == path_of(entry.method):
            return entry
    name = _installed().get(name, name)
    if ":" not in name or trust:
        try:
            return find(name)
        except KeyError as error:
            raise ValueError(
                f"{file} is of `{name}`, which is not there: {error.args[0]}"
            ) from error
    module = name.partition(":")[0]
    install = f"install {package}, or " if package else ""
    raise UntrustedError(
        f"{file} is of `{name}`, and a file cannot select a package to import: {install}give --algo {name}, from the "
        f"folder that holds {module.partition('.')[0]}; in Python, import {module} first; or, if you trust its author, "
        "--trust (`trust=True`)"
    )


def import_named(module: str) -> ModuleType:
    """Import a module that the user names, from the current folder too.

    :param module: its name.
    :return: the module.
    :raises ImportError: if there is none, or it fails.
    """
    # installed programs do not have the current folder on their path
    if not {"", os.getcwd()} & set(sys.path):
        # last, so that a file there hides no installed package
        sys.path.append(os.getcwd())
    try:
        return importlib.import_module(module)
    except ImportError:
        raise
    except Exception as error:  # whatever a module of the user's raises
        raise ImportError(f"{module} failed: {type(error).__name__}: {error}") from error


def _by_path(path: str) -> Entry:
    """Import a module and return the entry of one of its classes."""
    module, _, name = path.partition(":")
    method = getattr(import_named(module), name, None)
    for entry in _entries.values():
        if entry.method is method:
            return entry
    raise KeyError(
        f"`{path}` is not a registered algorithm; decorate the class with `agents.register(...)`"
    )


def _file_of(method: type[Any]) -> Path | None:
    """Return the file that a class is from; None for one that was typed in."""
    file = getattr(sys.modules.get(method.__module__), "__file__", None)
    # without links, so that one file has one name
    return Path(file).resolve() if file else None


def _described(method: type[Any]) -> str:
    """Return a class's name, and the file that it is from."""
    file = _file_of(method)
    return f"{method.__qualname__} of {file}" if file else method.__qualname__


def _installed() -> dict[str, str]:
    """Return the ids of the algorithms that installed packages offer, by ``"package.module:Class"``."""
    return {point.value: id for id, point in _plugins().items()}


# once, since it reads the metadata of every installed package
@cache
def _plugins() -> dict[str, Any]:
    """Return the algorithms that installed packages offer: entry points named by id."""
    return {point.name: point for point in entry_points(group=ENTRY_POINT_GROUP)}
