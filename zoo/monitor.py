"""Show the states, steps, scores and remaining times of runs, once or until all have finished.

`zoo monitor logs/ --watch`
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import time
from pathlib import Path
from typing import Any

if not __package__:  # run as a file: let `import agents` and `import zoo` find the packages
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from zoo.terminal.cli import as_program
from zoo.terminal.errors import UsageError
from zoo.terminal.parser import Number, Parser, a_path, add_verbose


def make_parser() -> Parser:
    """Return the command-line parser."""
    parser = Parser("monitor", description=__doc__)
    parser.add_argument(
        "paths", nargs="+", type=a_path, metavar="PATH", help="folders to search for run folders"
    )
    parser.add_argument(
        "--watch",
        nargs="?",
        type=Number(0.1, is_whole=False),
        const=10.0,
        metavar="SECONDS",
        help="refresh every SECONDS (default: 10) until all runs have finished",
    )
    add_verbose(parser)
    return parser


def _run(args: argparse.Namespace) -> dict[str, Any]:
    """Show runs, once or repeatedly; return the number of runs in each state."""
    from rich.live import Live

    from zoo.report.monitoring import show_states
    from zoo.runs.read import ReadRun, read_runs
    from zoo.terminal.tables import terminal

    console = terminal()
    finished: dict[Path, ReadRun] = {}
    tables = read_runs(args.paths, finished)
    if tables.runs.empty:
        raise UsageError(
            f"there are no run folders in {', '.join(map(str, args.paths))}; to see the trials of a study, pass the "
            "study's folder"
        )
    # Ctrl-C stops watching; the runs continue.
    stopped_by_user = contextlib.suppress(KeyboardInterrupt)
    with Live(show_states(tables), auto_refresh=False, console=console) as live, stopped_by_user:
        while args.watch and (tables.runs["state"] == "running").any():
            time.sleep(args.watch)
            tables = read_runs(args.paths, finished)
            live.update(show_states(tables), refresh=True)
    if not console.is_terminal:
        console.line()  # outside a terminal, Rich does not end the last line
    return {"runs": len(tables.runs), **tables.runs["state"].value_counts().to_dict()}


main = as_program(make_parser, _run)

if __name__ == "__main__":
    sys.exit(main())
