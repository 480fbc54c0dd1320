"""Imports that users ask for: optional packages, their environments, and flows (``--behaviour``)."""

import hashlib
import importlib.util
import operator
import shlex
import sys
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import Any

from agents.registry import import_named
from zoo.terminal.errors import UsageError


def import_optional(
    module: str, title: str, needed_by: str, install: str, otherwise: str = ""
) -> Any:
    """Return a module of a package that is not always installed.

    :param title: title of the package, for the message.
    :param needed_by: feature that needs it.
    :param install: name of the package for pip.
    :param otherwise: alternative to installing it, for the message.
    :raises UsageError: if the package is not installed; the message explains the installation.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        advice = f"install it with `pip install {shlex.quote(install)}`{otherwise}"
        raise UsageError(f"{needed_by} needs {title}; {advice} ({error})") from error


def import_user_object(flag: str, noun: str, name: str) -> Any:
    """Import a module and return the object that a user names as ``module:name``.

    :param flag: flag or setting that names it, for the message.
    :param noun: expected kind of object, for the message.
    :raises UsageError: if it is not found.
    """
    module, _, path = name.partition(":")
    try:
        return operator.attrgetter(path)(import_named(module))
    except (ImportError, AttributeError, ValueError) as error:
        raise UsageError(
            f"`{flag}` must name {noun} that Python finds, got {name!r}: {error}"
        ) from error


def import_environments(packages: Iterable[str]) -> None:
    """Import the packages that ``--gym-packages`` names, which register environments.

    :raises UsageError: if one is not found.
    """
    for package in packages:
        try:
            import_named(package)
        except ImportError as error:
            raise UsageError(
                f"`--gym-packages` must name packages that Python finds, got {package!r}: {error}"
            ) from error


def load_flow(name: str) -> Any:
    """Call a user's function and return the flow that it makes; a model rejects other objects than a `PretrainedFlow`.

    :param name: ``FILE.py:FUNCTION`` or ``MODULE:FUNCTION``; the function takes no arguments.
    :raises UsageError: if there is no such file, module or function, or it fails.
    """
    source, _, function = name.rpartition(":")
    try:
        module = _import_file(Path(source)) if source.endswith(".py") else import_named(source)
        return operator.attrgetter(function)(module)()
    except Exception as error:
        raise UsageError(
            "`--behaviour` must name a function without arguments, as FILE.py:FUNCTION or MODULE:FUNCTION, got "
            f"{name!r}: {type(error).__name__}: {error}"
        ) from error


def _import_file(file: Path) -> ModuleType:
    """Return the module of a file with any name."""
    path = file.expanduser().resolve()
    # at the end, so that its neighbours cannot shadow installed modules
    sys.path.append(str(path.parent))
    # `test.py` or `flow.v2.py` would find other modules, or none, by their own names
    name = f"flow_{hashlib.sha256(bytes(path)).hexdigest()[:16]}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None  # the name ends in .py
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # the compiler looks for it there
    spec.loader.exec_module(module)
    return module
