"""Is my agent better? Compare run folders and published scores in tables with intervals, and in figures.

`zoo compare logs/ --published qam2026 -o report/`
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
    """Return the command-line parser."""
    parser = Parser("compare", description=__doc__)
    groups = add_flags(parser, CompareRequest)
    data = groups["scores to compare"]
    data.add_argument(
        "paths", nargs="*", type=a_path, metavar="PATH", help="folders to search for run folders"
    )
    add_verbose(groups["computation"])
    parser.set_defaults(command_line="")
    return parser


def _run(args: argparse.Namespace) -> dict[str, Any]:
    """Run the comparison and return the result to print."""
    # one thread, because more are no faster for small matrices; OpenBLAS reads the variable when NumPy is imported
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from zoo.report.page import run

    return run(CompareRequest(**given_flags(args, CompareRequest)))


main = as_program(make_parser, _run)

if __name__ == "__main__":
    sys.exit(main())
