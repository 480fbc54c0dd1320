"""Try the faults that a run must survive, and write a table of what was as promised and what was lost.

``python benchmarks/faults.py`` tries all of them; ``--only KIND --seed N`` repeats one.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

if __package__ in (None, ""):  # run as a file from anywhere
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from zoo.cli import run_program
from zoo.errors import FAILED, UsageError
from zoo.terminal.arguments import Parser, whole_number

SHARED_MEMORY = Path("/dev/shm")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program.

    :param arguments: the words after the program's name; None takes them from the command line.
    :return: exit code: 1 if anything was not as promised.
    """
    parser = Parser(description=__doc__)
    parser.add_argument("--only", nargs="+", metavar="KIND", help="kinds of faults (default: all; --list shows them)")
    parser.add_argument("--seed", type=whole_number, help="the one try to make of each kind (default: all)")
    parser.add_argument("--tries", type=whole_number, help="at most so many tries of each kind")
    parser.add_argument("--jobs", type=whole_number, default=2, help="how many faults are tried at once")
    parser.add_argument("--list", action="store_true", help="print the kinds and try nothing")
    parser.add_argument("--folder", type=Path, help="where to work, and to keep what was lost (default: in memory)")
    parser.add_argument("-o", "--output", type=Path, help="the table, Markdown (default: standard error only)")
    args = parser.parse_args(arguments)
    lost: list[int] = []

    def body() -> dict[str, Any]:
        result = run(args)
        lost.append(result.get("lost", 0))
        return result

    code = run_program(body)
    return FAILED if any(lost) else code


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Try what is asked for, write the table, and return the result to print."""
    from benchmarks.fault_suite import all_kinds
    from benchmarks.fault_suite.runner import try_all
    from benchmarks.fault_suite.table import describe_origin, write_table

    kinds = all_kinds()
    if args.list:
        for each in kinds.values():
            print(f"{each.id:<24} {each.tries:>3}  {each.fault}", file=sys.stderr)
        return {"kinds": len(kinds), "tries": sum(each.tries for each in kinds.values())}
    unknown = set(args.only or ()) - set(kinds)
    if unknown:
        raise UsageError(f"there is no kind of fault {', '.join(sorted(unknown))}; --list shows them")
    chosen = [each for each in kinds.values() if not args.only or each.id in args.only]
    tries = [
        (each, seed)
        for each in chosen
        for seed in ([args.seed] if args.seed is not None else range(min(each.tries, args.tries or each.tries)))
    ]
    folder = args.folder or Path(
        tempfile.mkdtemp(prefix="faults-", dir=SHARED_MEMORY if SHARED_MEMORY.is_dir() else None)
    )
    origin = describe_origin()
    outcomes = try_all(tries, folder, args.jobs)
    text = write_table(outcomes, chosen, origin)
    print(text, file=sys.stderr)
    if args.output:
        args.output.write_text(text, encoding="utf-8")
    lost = sum(outcome.lost is not None for outcome in outcomes)
    if args.folder is None and not lost:
        shutil.rmtree(folder)
    return {"tries": len(outcomes), "lost": lost, "folder": str(folder), "output": str(args.output)}


if __name__ == "__main__":
    sys.exit(main())
