"""Published scores: ``python zoo/published.py list``, or ``import qam2026`` for the authors' data of single runs."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if __package__ in (None, ""):  # run as a file: let `import agents` and `import zoo` find the packages
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from zoo.arguments import Parser, whole_number
from zoo.cli import run_program

if TYPE_CHECKING:
    from zoo.report.published import PublishedSet


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program on the words after its name, by default those of the command line; return its exit code."""
    args = make_parser().parse_args(arguments)
    return run_program(lambda: args.command(args), args.verbose)


def make_parser() -> Parser:
    """Return the parser of the command line."""
    parser = Parser("published", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    command = commands.add_parser("list", help="which sets there are, and whether they have single runs")
    command.set_defaults(command=_list)
    command = commands.add_parser("import", help="fetch the authors' data of single runs and convert it")
    command.add_argument("name", metavar="SET", help="e.g. qam2026")
    command.add_argument("--file", type=Path, help="the authors' file, where there is no network")
    command.set_defaults(command=_import)
    for command in commands.choices.values():
        command.add_argument(
            "--verbose", type=whole_number, default=1, help="2 shows the traceback of an unexpected failure"
        )
    return parser


def _list(args: argparse.Namespace) -> dict[str, Any]:
    from zoo.report.published import load_means, load_progress, load_set, set_names

    result = []
    for name in set_names():
        published = load_set(name)
        progress = load_progress(published)
        entry = {"set": name, "suite": published.suite, "methods": load_means(published)["method"].nunique()}
        entry["runs"] = _describe_runs(published)
        shown = entry["runs"]
        if progress is not None:
            entry |= {"finished": progress.finished, "planned": progress.planned}
            shown += f" ({progress.finished} of {progress.planned} planned)"
        about = f"{published.about['title']} ({published.about['reference']})"
        print(f"{name}: {about}, tasks: {published.suite}, single runs: {shown}")
        result.append(entry)
    return {"sets": result}


def _describe_runs(published: PublishedSet) -> str:
    """Return whether there are data of single runs."""
    if published.runs is not None:
        return "included"
    if published.imported.exists():
        return "imported"
    return "can be imported" if published.raw else "none to import"


def _import(args: argparse.Namespace) -> dict[str, Any]:
    """Fetch, check and convert the data of single runs."""
    from zoo.report.published import load_set
    from zoo.report.published_import import import_runs

    return import_runs(load_set(args.name), args.file)


if __name__ == "__main__":
    sys.exit(main())
