"""Is my agent better? Tables, intervals, figures and one page from run folders and published scores.

``python zoo/compare.py logs/ --published qam2026 -o report/``
"""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

if not __package__:  # run as a file: let `import agents` and `import zoo` find the packages
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from zoo.report.request import CompareRequest
from zoo.terminal.cli import as_program
from zoo.terminal.parser import COUNT, REAL, Parser, a_path, add_reference_scores, add_verbose


def make_parser() -> Parser:
    """Return the parser of the command line."""
    parser = Parser("compare", description=__doc__)
    data = parser.add_argument_group("what to compare")
    data.add_argument(
        "paths", nargs="*", type=a_path, metavar="PATH", help="folders to search for run folders"
    )
    data.add_argument(
        "--published", nargs="+", metavar="SET", help="published scores, e.g. qam2026"
    )
    data.add_argument(
        "--with",
        nargs="+",
        action="extend",
        type=a_path,
        dest="scores",
        metavar="FILE",
        help="scores.csv of other reports, whose runs stand beside",
    )
    data.add_argument(
        "--methods",
        nargs="+",
        metavar="NAME",
        help="only these, e.g. qam QAM-E (default: all)",
    )
    data.add_argument(
        "--envs",
        nargs="+",
        metavar="PATTERN",
        help="only these, e.g. 'scene-*' (default: all)",
    )
    add_reference_scores(data)
    data.add_argument(
        "--merge-protocols",
        action="store_true",
        help="one row per label, even where protocols differ",
    )
    data.add_argument(
        "--failed",
        choices=("last", "zero", "exclude"),
        help="what runs that failed count for: their last evaluation, zero, or nothing (default: last)",
    )
    data.add_argument("--strict", action="store_true", help="fail (exit 2) if any run is skipped")
    _add_method(parser)
    _add_appearance(parser)
    output = parser.add_argument_group("what to make (default: --print)")
    output.add_argument(
        "-o", "--output", type=a_path, metavar="DIR", help="report.html, tables and figures"
    )
    output.add_argument(
        "--json", type=a_path, metavar="FILE", help="every number, for other programs"
    )
    output.add_argument("--print", action="store_true", help="the main tables in the terminal")
    parser.set_defaults(command_line="")
    return parser


def _add_method(parser: Parser) -> None:
    """Add the arguments about how methods are compared."""
    group = parser.add_argument_group("how")
    group.add_argument(
        "--baseline",
        metavar="NAME",
        help="method to compare against (default: the one of the first set)",
    )
    focus = group.add_mutually_exclusive_group()
    focus.add_argument(
        "--focus",
        metavar="NAME",
        help="method that the report is about: a verdict on it, the others in grey (default: your own if it is one; of "
        "two, the last one that is not the baseline)",
    )
    focus.add_argument(
        "--no-focus",
        action="store_true",
        help="a verdict on the leading method of each phase instead",
    )
    group.add_argument(
        "--tolerance",
        type=REAL,
        help="largest difference that counts as reproduced, as a fraction",
    )
    group.add_argument(
        "--resolve",
        type=REAL,
        metavar="POINTS",
        help="difference of means for which to say how many seeds are needed, in points (default: 3)",
    )
    group.add_argument("--reps", type=COUNT, help="bootstrap repetitions (default: 5000)")
    add_verbose(group)


def _add_appearance(parser: Parser) -> None:
    """Add the arguments about how figures and tables look."""
    appearance = parser.add_argument_group("how figures and tables look")
    appearance.add_argument(
        "--width",
        choices=("page", "column", "text"),
        help="draw figures and LaTeX tables to stand in a paper as they are: 3.25 inches (column) or 6.75 (text)",
    )
    appearance.add_argument(
        "--format",
        nargs="+",
        choices=("pdf", "svg", "png"),
        help="files of each figure (default: all three)",
    )
    appearance.add_argument(
        "--labels",
        nargs="+",
        action="extend",
        metavar="NAME=TEXT",
        help="what to call methods",
    )
    appearance.add_argument(
        "--order",
        nargs="+",
        metavar="NAME",
        help="these methods first (default: the best first)",
    )


def _run(args: argparse.Namespace) -> dict[str, Any]:
    """Do what the command line asks for, and return the result to print."""
    # matrices are small, so more threads only wait; NumPy reads it when it is imported, which is below
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from zoo.report.run import run

    asked = {field.name: getattr(args, field.name, None) for field in fields(CompareRequest)}
    stated = {name: value for name, value in asked.items() if value is not None}
    return run(CompareRequest(**stated, prints=args.print))


main = as_program(make_parser, _run)

if __name__ == "__main__":
    sys.exit(main())
