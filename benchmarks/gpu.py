"""Check a GPU and measure it: are all numbers those of plain updates, and how fast are they.

One command takes at most nine minutes (`--minutes`). What it found is in `benchmarks/results/<GPU>.json` after each
part, and in a page beside it; `--resume` goes on with the parts that are not done. `--device cpu --small` tries the
logic without a GPU: what needs one is skipped, and said to be.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

if __package__ in (None, ""):  # run as a file from anywhere
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from agents.common.validation import unknown_name_message
from benchmarks.gpu_parts import results as kept
from benchmarks.gpu_parts.correct import correctness_parts, describe_environment
from benchmarks.gpu_parts.part import Options, OutOfTime, Part, Runner
from benchmarks.gpu_parts.speed import WarmUps, speed_parts
from zoo.terminal.cli import run_program
from zoo.terminal.errors import DONE, FAILED, INTERRUPTED, UsageError
from zoo.terminal.messages import log
from zoo.terminal.parser import Parser
from zoo.terminal.tables import print_table

RESULTS = Path(__file__).resolve().parent / "results"
ENVIRONMENT = Part("environment", "where it is measured", describe_environment, seconds=90)
RESERVE = 15.0  # seconds for the end of the program
COMPILING_SHARE = 0.5  # of the time, after which compiling beforehand gives way to measuring


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program.

    :param arguments: the words after the program's name; None takes them from the command line.
    :return: exit code: 1 if anything is not as it should be, 3 if parts are left for `--resume`.
    """
    args = make_parser().parse_args(arguments)
    args.exit_code = DONE

    def body() -> dict[str, Any]:
        result = run(args)
        args.exit_code = FAILED if result["problems"] else INTERRUPTED if result["left"] else DONE
        return result

    return run_program(body) or int(args.exit_code)


def make_parser() -> Parser:
    """Return the parser of the command line."""
    parser = Parser(description=__doc__)
    parser.add_argument("--device", default="cuda", help="cuda, cuda:1, ..., or cpu to try the logic")
    parser.add_argument("--small", action="store_true", help="tiny sizes; their results have a file of their own")
    parser.add_argument("--minutes", type=float, default=9.0, help="most that the command takes")
    parser.add_argument("--resume", action="store_true", help="go on with the parts that are not done")
    parser.add_argument("--parts", nargs="+", metavar="PART", help="do only these, again if need be; --list names them")
    parser.add_argument("--list", action="store_true", help="print the parts and do nothing")
    parser.add_argument("-o", "--output", type=Path, default=RESULTS, help="folder of the JSON file and the page")
    return parser


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Do the parts that fit into the time, and return the result to print.

    :param args: parsed arguments.
    :raises UsageError: for arguments that make no sense, or if there is no such device.
    """
    begin = time.monotonic()
    options = Options(args.device, args.small)
    # first those that decide whether the speeds count
    parts = choose([*correctness_parts(), *speed_parts(options)], args.parts)
    if args.list:
        for part in parts:
            print(f"{part.name:<28} {part.promise}", file=sys.stderr)
        return {"parts": len(parts), "left": [], "problems": []}
    if not args.output.is_dir():
        raise UsageError(f"`--output` must be a folder, got {args.output}; make it first")
    with Runner(options) as runner:
        environment = runner.run(ENVIRONMENT, ENVIRONMENT.seconds)
        if environment["state"] != "holds":
            raise UsageError(environment["detail"])
        name = environment["device"]
        path = kept.results_path(args.output, name, args.small)
        goes_on = path.exists() and (args.resume or args.parts is not None)
        results = kept.read(path) if goes_on else {"parts": {}}
        machine = {key: value for key, value in environment.items() if key not in ("state", "detail", "seconds")}
        results |= {"device_name": name, "small": args.small, "environment": machine}
        todo = [part for part in parts if args.parts is not None or part.name not in results["parts"]]

        def note(part: Part, outcome: dict[str, Any]) -> None:
            results["parts"][part.name] = {**outcome, "commit": environment["git_commit"]}
            kept.write(path, results)
            log.info("%s: %s (%s)", part.name, outcome["detail"], outcome["state"])

        kept.write(path, results)
        left = do(todo, runner, note, begin, begin + 60 * args.minutes - RESERVE)
    return conclude(path, results, left)


def choose(parts: Sequence[Part], names: Sequence[str] | None) -> list[Part]:
    """Return the parts with some names.

    :param parts: all of them.
    :param names: of those that are wanted; None: all.
    :raises UsageError: if there is no such part.
    """
    known = [part.name for part in parts]
    for name in names or ():
        if name not in known:
            raise UsageError(f"{unknown_name_message('part', name, known)}; --list names them")
    return [part for part in parts if names is None or part.name in names]


def do(
    parts: Sequence[Part],
    runner: Runner,
    note: Callable[[Part, dict[str, Any]], None],
    begin: float,
    end: float,
) -> list[str]:
    """Run parts one after the other, and return the names of those for which there was no time.

    A part is begun if there is time for it; the first one is begun in any case.

    :param parts: what to do.
    :param runner: runs them.
    :param note: takes each outcome.
    :param begin: when the program began, by `time.monotonic`.
    :param end: when it must have ended.
    """
    left, any_begun = [part.name for part in parts], False
    with WarmUps(parts) as warm_ups:
        runner.check_in = warm_ups.look
        for part in parts:
            if part.warm_up:  # it measures time, so nothing runs beside it
                warm_ups.wait(begin + COMPILING_SHARE * (end - begin))
            needed = part.seconds_warm if part.name in warm_ups.done else part.seconds
            room = end - time.monotonic()
            if any_begun and needed > room:
                break
            any_begun = True
            try:
                outcome = runner.run(part, min(part.seconds, room))
            except OutOfTime:
                if part.seconds > room:
                    break
                outcome = {"state": "failed", "detail": f"took longer than {part.seconds:g} s", "seconds": part.seconds}
            note(part, outcome)
            left.remove(part.name)
    return left


def conclude(path: Path, results: kept.Results, left: Sequence[str]) -> dict[str, Any]:
    """Print the table, what is wrong and what is left, and return the result to print.

    :param path: of the JSON file.
    :param results: all that was found.
    :param left: names of the parts that are not done.
    """
    parts = results["parts"]
    rows = [(name, outcome["state"], outcome["detail"]) for name, outcome in parts.items()]
    print_table(results["device_name"], ("part", "outcome", "found"), rows, wrapped=("found",))
    wrong = kept.problems(results)
    for text in wrong:
        log.error("%s", text)
    skipped = [name for name, outcome in parts.items() if outcome["state"] == "skipped"]
    if skipped:
        log.warning("%d parts were skipped, so nothing is known of them: %s", len(skipped), ", ".join(skipped))
    if not kept.are_floors_judged(results):
        log.warning("speeds are compared with floors on an NVIDIA %s only, at full size", kept.REFERENCE_GPU)
    if left:
        log.warning("%d parts are left: %s; run the command again with --resume", len(left), ", ".join(left))
    held = sum(outcome["state"] == "holds" for outcome in parts.values())
    counts = {"held": held, "skipped": len(skipped)}
    return {"device": results["device_name"], **counts, "problems": wrong, "left": list(left), "results": str(path)}


if __name__ == "__main__":
    sys.exit(main())
