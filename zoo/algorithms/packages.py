"""Import optional packages, and the objects, flows and environment packages that users name."""

import hashlib
import importlib.util
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
    """Return a module of an optional package.

    :param title: name of the package in the message.
    :param needed_by: feature that needs the package, for the message.
    :param install: requirement for ``pip install``.
    :param otherwise: end of the message, with an alternative to installing the package.
    :raises UsageError: if the package is not installed; the message explains the installation.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        advice = f"install it with `pip install {shlex.quote(install)}`{otherwise}"
        raise UsageError(f"{needed_by} needs {title}; {advice} ({error})") from error


def import_environments(packages: Iterable[str]) -> None:
    """Import the packages of ``--gym-packages``, which register environments.

    :raises UsageError: if a package is not found.
    """
    for package in packages:
        try:
            import_named(package)
        except ImportError as error:
            raise UsageError(
                f"`--gym-packages` must name packages that Python can import, got {package!r}: {error}"
            ) from error


def load_flow(name: str) -> Any:
    """Return the flow that a user's function returns; its type, `PretrainedFlow`, is checked later by the model.

    :param name: ``FILE.py:FUNCTION`` or ``MODULE:FUNCTION``; the function takes no arguments.
    :raises UsageError: if the file, module or function does not exist, or the function fails.
    """
    source, _, function = name.rpartition(":")
    try:
        module = _import_file(Path(source)) if source.endswith(".py") else import_named(source)
        return getattr(module, function)()
    except Exception as error:
        raise UsageError(
            "`--behaviour` must name a function without arguments, as FILE.py:FUNCTION or MODULE:FUNCTION, got "
            f"{name!r}: {type(error).__name__}: {error}"
        ) from error


def _import_file(file: Path) -> ModuleType:
    """Import a Python file of any name, and return its module."""
    path = file.expanduser().resolve()
    # the file may import its neighbours; their folder comes last, so that they do not shadow installed modules
    sys.path.append(str(path.parent))
    # the module gets a unique name: importing `test.py` or `flow.v2.py` by name would find another module or none
    name = f"flow_{hashlib.sha256(bytes(path)).hexdigest()[:16]}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec
    assert spec.loader  # not None, because the file has the extension .py
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # PyTorch's compiler looks up modules there
    spec.loader.exec_module(module)
    return module
