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

from zoo.cli import run_program

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

    :return: id -> published name, paper, aliases and kind.
    """
    from rich.console import Console
    from rich.table import Table

    from agents.registry import ALIASES
    from zoo.baselines import algorithm_ids, find_algorithm

    table = Table("id", "name", "paper", "aliases", "kind")
    found = {}
    for id in algorithm_ids():
        entry = find_algorithm(id)
        aliases = sorted(alias for alias, target in ALIASES.items() if target == id)
        table.add_row(id, entry.published_name, entry.paper, ", ".join(aliases), _kind(entry.algorithm))
        found[id] = {
            "published_name": entry.published_name,
            "paper": entry.paper,
            "aliases": aliases,
            "kind": _kind(entry.algorithm),
        }
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

    from zoo.baselines import settings_of
    from zoo.config import find_entry
    from zoo.layers import describe_profiles

    entry = find_entry(algo)
    meanings = _meanings(entry.algorithm)
    table = Table("setting", "type", "default", "meaning")
    settings = {}
    for name, parameter in settings_of(entry.algorithm).items():
        row = {
            "type": _type_name(parameter.annotation),
            "default": parameter.default,
            "meaning": meanings.get(name, ""),
        }
        settings[name] = row
        table.add_row(name, *(str(value) for value in row.values()))
    console = Console(stderr=True)
    kind = _kind(entry.algorithm)
    console.print(
        f"[bold]{entry.published_name}[/bold] ({entry.id}), {entry.paper} ({kind})", highlight=False, soft_wrap=True
    )
    console.print(inspect.cleandoc(entry.algorithm.__doc__ or "").partition(":param")[0].strip(), markup=False)
    console.print(table)
    profiles = describe_profiles(entry.id)
    for name, entries in profiles.items():
        console.print(_profile_table(name, entries))
    head = {"algo": entry.id, "published_name": entry.published_name, "paper": entry.paper, "kind": kind}
    return {**head, "settings": settings, "profiles": profiles}


def _profile_table(name: str, entries: Mapping[str, Mapping[str, Any]]) -> Table:
    """Return a table of a profile's entries: what each sets, and where that is from."""
    from rich.table import Table

    from zoo.layers import ENTRY_NOTES

    table = Table("entry", "settings", "source", "status", title=f"--profile {name}")
    for entry, values in entries.items():
        own = ", ".join(f"{key} {value}" for key, value in values.items() if key not in ENTRY_NOTES)
        table.add_row(entry, own, *(str(values.get(note, "")) for note in ENTRY_NOTES))
    return table


def _type_name(annotation: Any) -> str:
    """Return a type as it is written; SB3's are types, those of this zoo are words already."""
    return annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)


def _kind(algorithm: type) -> str:
    """Return in which phases an algorithm trains, and whether it is one of SB3's."""
    from zoo.baselines import Baseline

    return "SB3 baseline, online" if issubclass(algorithm, Baseline) else "offline and online"


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
