"""Show which algorithms exist, and their settings."""

from __future__ import annotations

import argparse
import inspect
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if __package__ in (None, ""):  # run as a file: let `import agents` find the package, not this file
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from zoo.cli import UsageError, run_program

if TYPE_CHECKING:
    from rich.table import Table


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program.

    :param arguments: the words after the program's name; None takes them from the command line.
    :return: exit code.
    """
    parser = argparse.ArgumentParser(prog="agents.py", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="every algorithm")
    show = commands.add_parser("show", help="one algorithm: settings, defaults, what they mean")
    show.add_argument("algo", help="id or alias, e.g. qam")
    args = parser.parse_args(arguments)
    return run_program(lambda: list_algorithms() if args.command == "list" else show_algorithm(args.algo))


def list_algorithms() -> dict[str, Any]:
    """Print a table of all algorithms.

    :return: id -> published name, paper and aliases.
    """
    from rich.console import Console
    from rich.table import Table

    from agents import registry

    table = Table("id", "name", "paper", "aliases")
    found = {}
    for id in registry.algorithm_ids():
        entry = registry.get(id)
        aliases = sorted(alias for alias, target in registry.ALIASES.items() if target == id)
        table.add_row(id, entry.published_name, entry.paper, ", ".join(aliases))
        found[id] = {"published_name": entry.published_name, "paper": entry.paper, "aliases": aliases}
    Console(stderr=True).print(table)
    return {"algorithms": found}


def show_algorithm(algo: str) -> dict[str, Any]:
    """Print what an algorithm is and its settings.

    :param algo: id or alias.
    :return: the settings with type, default and meaning, and the profiles with their entries.
    :raises UsageError: if there is no such algorithm.
    """
    from rich.console import Console
    from rich.table import Table

    from agents import registry
    from zoo.config import describe_profiles

    try:
        entry = registry.get(algo)
    except KeyError as error:
        raise UsageError(str(error.args[0])) from error
    meanings = _meanings(entry.algorithm)
    table = Table("setting", "type", "default", "meaning")
    settings = {}
    for name, parameter in registry.settings_of(entry.algorithm).items():
        row = {
            "type": str(parameter.annotation),
            "default": parameter.default,
            "meaning": meanings.get(name, ""),
        }
        settings[name] = row
        table.add_row(name, *(str(value) for value in row.values()))
    console = Console(stderr=True)
    console.print(f"[bold]{entry.published_name}[/bold] ({entry.id}), {entry.paper}")
    console.print(inspect.cleandoc(entry.algorithm.__doc__ or "").partition(":param")[0].strip(), markup=False)
    console.print(table)
    profiles = describe_profiles(entry.id)
    for name, entries in profiles.items():
        console.print(_profile_table(name, entries))
    head = {"algo": entry.id, "published_name": entry.published_name, "paper": entry.paper}
    return {**head, "settings": settings, "profiles": profiles}


def _profile_table(name: str, entries: Mapping[str, Mapping[str, Any]]) -> Table:
    """Return a table of a profile's entries: what each sets, and where that is from."""
    from rich.table import Table

    from zoo.config import ENTRY_NOTES

    table = Table("entry", "settings", "source", "status", title=f"--profile {name}")
    for entry, values in entries.items():
        own = ", ".join(f"{key} {value}" for key, value in values.items() if key not in ENTRY_NOTES)
        table.add_row(entry, own, *(str(values.get(note, "")) for note in ENTRY_NOTES))
    return table


def _meanings(algorithm: type) -> dict[str, str]:
    """Return what the class docstrings say of each constructor argument, the most specific class first."""
    found: dict[str, str] = {}
    for cls in algorithm.__mro__:
        text = inspect.cleandoc(vars(cls).get("__doc__") or "")
        for name, meaning in re.findall(r":param (\w+): (.*?)(?=\n:|\Z)", text, flags=re.DOTALL):
            found.setdefault(name, " ".join(meaning.split()))
    return found


if __name__ == "__main__":
    sys.exit(main())
