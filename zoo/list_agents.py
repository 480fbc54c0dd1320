"""Show which algorithms exist, and their settings."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

if __package__ in (None, ""):  # run as a file: let `import agents` find the package, not this file
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from zoo.arguments import Parser
from zoo.cli import run_program

WIDE = 110
"""Width of a terminal from which settings, types and notes get a column each."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program on the words after its name, by default those of the command line; return its exit code."""
    parser = Parser("agents", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    commands.add_parser("list", help="every algorithm").set_defaults(algo=None)
    show = commands.add_parser("show", help="one algorithm: settings, defaults, what they mean")
    show.add_argument("algo", help="id or alias, e.g. qam")
    for command in commands.choices.values():
        command.add_argument("--json", action="store_true", help="print JSON instead of tables")
    args = parser.parse_args(arguments)
    return run_program(lambda: run(args.algo, args.json))


def run(algo: str | None, as_json: bool) -> dict[str, Any] | None:
    """Show one algorithm, or all of them, as tables; return what to print as JSON, None where a terminal has tables."""
    result = describe_algorithms() if algo is None else describe_algorithm(algo)
    if not as_json:
        print_algorithms(result) if algo is None else print_algorithm(result)
    return result if as_json or not sys.stdout.isatty() else None


def describe_algorithms() -> dict[str, Any]:
    """Return published name, paper, aliases and kind of every algorithm, by its id."""
    from agents.registry import ALIASES
    from zoo.baselines import algorithm_ids, find_algorithm

    found = {}
    for id in algorithm_ids():
        entry = find_algorithm(id)
        found[id] = {
            "published_name": entry.published_name,
            "paper": entry.paper,
            "aliases": sorted(alias for alias, target in ALIASES.items() if target == id),
            "kind": _kind(entry.algorithm),
        }
    return {"algorithms": found}


def describe_algorithm(algo: str) -> dict[str, Any]:
    """Return what an algorithm is, its settings with type, default and meaning, and its profiles with their entries."""
    from zoo.baselines import settings_of
    from zoo.config import find_entry, known_settings
    from zoo.layers import describe_profiles

    entry = find_entry(algo)
    settings = {
        name: {
            "type": found.annotation,
            "default": found.default,
            "meaning": found.meaning,
            "search": None if found.search is None else str(found.search),
        }
        for name, found in settings_of(entry.algorithm).items()
    }
    return {
        "algo": entry.id,
        "published_name": entry.published_name,
        "paper": entry.paper,
        "kind": _kind(entry.algorithm),
        "summary": inspect.cleandoc(entry.algorithm.__doc__ or "").partition(":param")[0].strip(),
        "settings": settings,
        "profiles": describe_profiles(entry.id, known_settings(entry)),
    }


def print_algorithms(found: Mapping[str, Any]) -> None:
    """Print what :func:`describe_algorithms` returns as a table."""
    from zoo.tables import print_table

    rows = [
        (id, row["published_name"], ", ".join(row["aliases"]), row["kind"], row["paper"])
        for id, row in found["algorithms"].items()
    ]
    print_table("Algorithms", ("id", "name", "aliases", "kind", "paper"), rows, wrapped=("paper",))


def print_algorithm(found: Mapping[str, Any]) -> None:
    """Print what :func:`describe_algorithm` returns: a summary, and tables of settings and profiles."""
    from zoo.tables import print_table, terminal

    console = terminal()
    head = f"{found['published_name']} ({found['algo']}), {found['paper']} ({found['kind']})"
    console.print(f"{head}\n\n{_readable(found['summary'])}\n", markup=False)
    is_wide = console.width >= WIDE
    rows = []
    for name, row in found["settings"].items():
        type, meaning = _readable_type(row["type"]), _unmarked(row["meaning"])
        meaning += f" Search: {row['search']}." if row["search"] else ""
        rest = (type, meaning) if is_wide else (f"{meaning} ({type})",)
        rows.append((name, str(row["default"]), *rest))
    header = ("setting", "default", "type", "meaning") if is_wide else ("setting", "default", "meaning (type)")
    print_table("Settings", header, rows, wrapped=header[-1:])
    for name, entries in found["profiles"].items():
        _print_profile(name, entries, is_wide)


def _print_profile(name: str, entries: Mapping[str, Mapping[str, Any]], is_wide: bool) -> None:
    """Print what each entry of a profile sets, in the form of ``-params``, and its source."""
    from zoo.layers import ENTRY_NOTES
    from zoo.tables import print_table

    rows = []
    for entry, values in entries.items():
        own = " ".join(
            f"{key}={str(value).replace(' ', '')}" for key, value in values.items() if key not in ENTRY_NOTES
        )
        notes = [str(values.get(note, "")) for note in ENTRY_NOTES]
        rows.append((entry, own, *notes) if is_wide else (entry, f"{own}\n({'; '.join(notes)})"))
    header = ("entry", "settings", *(ENTRY_NOTES if is_wide else ()))
    print_table(f"--profile {name}", header, rows, wrapped=("settings", "source"))


def _readable(text: str) -> str:
    """Return a docstring as plain text: its paragraphs in one line each, formulas as they stand."""
    paragraphs = [part for part in _unmarked(text).split("\n\n") if part]
    formula = ".. math:: "
    return "\n\n".join(
        f"    {part.removeprefix(formula)}" if part.startswith(formula) else " ".join(part.split())
        for part in paragraphs
    )


def _unmarked(text: str) -> str:
    """Return text without the marks of code and formulas inside a line."""
    return re.sub(r"(?::\w+:)?(`{1,2})(.+?)\1", r"\2", text, flags=re.DOTALL)


def _readable_type(name: str) -> str:
    """Return a type without modules, its literals as they are typed."""
    name = re.sub(r"\b(?:\w+\.)+(?=\w)", "", name)
    return re.sub(r"Literal\[(.*?)\]", lambda found: found[1].replace("'", "").replace(",", " |"), name)


def _kind(algorithm: type) -> str:
    """Return in which phases an algorithm trains, and whether it is one of SB3's."""
    from zoo.baselines import Baseline

    return "SB3 baseline, online" if issubclass(algorithm, Baseline) else "offline and online"


if __name__ == "__main__":
    sys.exit(main())
