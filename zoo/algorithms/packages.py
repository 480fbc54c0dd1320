"""Packages that are imported only where a user asks for them: optional ones, and those with own environments."""

import importlib
import shlex
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


def require_optuna(needed_by: str) -> None:
    """Refuse what needs Optuna where it is not installed."""
    import_optional("optuna", "Optuna", f"`{needed_by}`", "optuna>=5")


def import_environments(package: str) -> None:
    """Import a package that ``--gym-packages`` names, which registers environments.

    :raises UsageError: if it is not found.
    """
    try:
        import_named(package)
    except ModuleNotFoundError as error:
        raise UsageError(
            f"`--gym-packages` must name packages that Python finds, got {package!r}: {error}"
        ) from error
