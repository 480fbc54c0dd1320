"""Is my agent better? Tables, intervals, figures and one page from run folders and published scores.

``python zoo/compare.py logs/ --published qam2026 -o report/``
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any

if not __package__:  # run as a file: let `import agents` and `import zoo` find the packages
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from zoo.report.request import CompareRequest
from zoo.terminal.cli import as_program
from zoo.terminal.parser import (
    Parser,
    a_path,
    add_flags,
    add_verbose,
    given_flags,
)


def make_parser() -> Parser:
    """Return the parser of the command line."""
    parser = Parser("compare", description=__doc__)
    groups = add_flags(parser, CompareRequest, renamed={"scores": "--with"})
    data = groups["what to compare"]
    data.add_argument(
        "paths", nargs="*", type=a_path, metavar="PATH", help="folders to search for run folders"
    )
    data.add_argument("--list", action="store_true", help="list the sets of published scores")
    add_verbose(groups["how"])
    parser.set_defaults(command_line="")
    return parser


def _run(args: argparse.Namespace) -> dict[str, Any]:
    """Do what the command line asks for, and return the result to print."""
    # matrices are small, so more threads only wait; NumPy reads it when it is imported, which is below
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    os.environ.setdefault("MPLBACKEND", "agg")  # figures are files, not windows
    if args.list:
        return _list_sets()
    from zoo.report.page import run

    return run(CompareRequest(**given_flags(args, CompareRequest)))


def _list_sets() -> dict[str, Any]:
    from zoo.report.published_scores import load_set, set_names
    from zoo.terminal.tables import print_table

    rows = []
    for name in set_names():
        entry = load_set(name)
        runs = "not published" if entry.scores.evaluations.empty else "included"
        about = f"{entry.title} ({entry.reference})"
        rows.append([name, entry.suite, len(entry.scores.methods), runs, about])
    header = ("set", "suite", "methods", "single runs", "from")
    print_table("", header, [[*map(str, row)] for row in rows], wrapped=header[-2:])
    return {"sets": [dict(zip(header, row, strict=True)) for row in rows]}


main = as_program(make_parser, _run)

if __name__ == "__main__":
    sys.exit(main())
