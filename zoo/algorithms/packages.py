"""Packages that are imported only where a user asks for them: optional ones, and those with own environments."""

import importlib
import operator
import shlex
from collections.abc import Iterable
from typing import Any

from agents.registry import import_named
from zoo.terminal.errors import UsageError


def import_optional(
    module: str, title: str, needed_by: str, install: str, otherwise: str = ""
) -> Any:
    """Return a module of a package that is not always installed.

    :param title: of the package, for the message.
    :param needed_by: what cannot do without it.
    :param install: what pip installs.
    :param otherwise: what else the user can do.
    :raises UsageError: if the package is not installed; the message says how to install it.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        advice = f"install it with `pip install {shlex.quote(install)}`{otherwise}"
        raise UsageError(f"{needed_by} needs {title}; {advice} ({error})") from error


def import_user_object(flag: str, noun: str, name: str) -> Any:
    """Return what a user names as ``module:name``; the module is imported.

    :param flag: where it is named, for the message.
    :param noun: what it should be.
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
