"""Show which algorithms exist and their settings, check one of your own, or write a package to start from."""

import argparse
import inspect
import json
import re
import shlex
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

if not __package__:  # run as a file: let `import agents` find the package, not this file
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from zoo.algorithms.overview import (
    NUMBERS,
    cells_of,
    describe_algorithms,
    in_order,
    kind_of,
    start_text,
)
from zoo.settings.request import TrainRequest
from zoo.terminal.cli import as_program
from zoo.terminal.errors import UsageError, as_usage_error
from zoo.terminal.messages import log, write_out
from zoo.terminal.parser import Parser, a_path, add_flags
from zoo.terminal.tables import print_table, result_for_terminal, terminal

WIDE = 120
"""Columns from which a terminal has room for what each algorithm is."""


def _run(args: argparse.Namespace) -> dict[str, Any] | None:
    """Do what a command asks for; a terminal gets tables in place of the result."""
    result = args.run(args)
    if args.json:
        write_out(json.dumps(result))
        return None
    args.show(result, args)
    return result_for_terminal(result) or None


def make_parser() -> Parser:
    """Return the parser of the command line."""
    parser = Parser("agents", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    list_all = commands.add_parser("list", help="every algorithm: scores, work, and when to use it")
    list_all.add_argument(
        "--sort", choices=("source", *NUMBERS, "id"), default="source", help="what the order is by"
    )
    list_all.set_defaults(run=lambda _: describe_algorithms(), show=print_algorithms)
    show = commands.add_parser("show", help="one algorithm: settings, defaults, what they mean")
    show.add_argument("algo", help="id or alias, e.g. qam")
    show.set_defaults(run=lambda args: describe_algorithm(args.algo), show=print_algorithm)
    check = commands.add_parser(
        "check", help="try everything that training, saving and reporting need of an algorithm"
    )
    check.add_argument("algo", help="id, or module:Class of your own")
    check.add_argument(
        "--skip", nargs="+", default=[], metavar="CHECK", help="checks to leave out, e.g. compiled"
    )
    add_flags(check, TrainRequest, ("hyperparams",))
    check.set_defaults(run=_check, show=print_outcomes)
    new = commands.add_parser("new", help="write a package with an algorithm to start from")
    new.add_argument("name", help="of the package and the algorithm, e.g. my_agent")
    new.add_argument(
        "--folder", type=a_path, default=Path(), help="where the package's folder is made"
    )
    new.set_defaults(run=_write_package, show=print_package)
    for command in commands.choices.values():
        command.add_argument("--json", action="store_true", help="print JSON instead of tables")
    return parser


def _check(args: argparse.Namespace) -> dict[str, Any]:
    """Check an algorithm; the exit code says whether everything holds."""
    from agents.testing.kit import CHECKS, require_names, run_checks
    from zoo.algorithms.baselines import find_algorithm
    from zoo.settings.layers import parse_overrides

    entry = find_algorithm(args.algo)
    if entry.method is None:
        raise UsageError(
            f"`{args.algo}` is one of SB3's algorithms; the checks are for subclasses of `agents.Method`"
        )
    settings = parse_overrides(args.hyperparams or (), "-params")
    # The kit would count a wrong setting as a failure of every check.
    with as_usage_error():
        require_names([*args.skip, *entry.method.fails_by_design])
        entry.method.refuse_unknown(settings)
        entry.method(**settings)
    log.info(
        "%d checks of %s; compiling takes about half a minute (`--skip compiled`)",
        len(CHECKS),
        entry.published_name,
    )
    rows = {}
    # Of this process, since compilers and other programs share the machine.
    begin = time.process_time()
    for outcome in run_checks(entry.method, settings, args.skip):
        rows[outcome.check.name] = {
            "state": outcome.state,
            "promise": outcome.check.promise,
            "detail": outcome.detail,
            "where": outcome.check.where,
            "cpu_seconds": round(time.process_time() - begin, 2),
        }
        begin = time.process_time()
    holds = {row["state"] for row in rows.values()}.isdisjoint(("fails", "not tried"))
    args.exit_code = int(not holds)  # SUCCEEDED or FAILED
    return {"algo": entry.id, "holds": holds, "checks": rows}


def _write_package(args: argparse.Namespace) -> dict[str, Any]:
    from zoo.algorithms.authoring.package import write_package  # imports PyTorch

    return write_package(args.name, args.folder)


def describe_algorithm(algo: str) -> dict[str, Any]:
    """Return what an algorithm is, its settings with type, default and meaning, and its profiles with their entries."""
    from zoo.algorithms.baselines import find_algorithm, settings_of
    from zoo.settings.config import known_settings
    from zoo.settings.layers import describe_profiles

    entry = find_algorithm(algo)
    settings = {}
    for name, setting in settings_of(entry.algorithm).items():
        settings[name] = {
            "type": setting.annotation,
            "default": setting.default,
            "meaning": setting.meaning,
            "search": setting.search and str(setting.search),
        }
    return {
        "algo": entry.id,
        "published_name": entry.published_name,
        "paper": entry.paper,
        "kind": kind_of(entry.id),
        "summary": inspect.cleandoc(entry.algorithm.__doc__ or "").partition(":param")[0].strip(),
        "settings": settings,
        "profiles": describe_profiles(entry.id, known_settings(entry)),
    }


def print_package(package: Mapping[str, Any], args: argparse.Namespace) -> None:
    """Say what was written."""
    folder = package["folder"]
    check = f"cd {shlex.quote(folder)} && zoo agents check {package['algo']}"
    log.info("wrote %s: %s\nnext: %s", folder, ", ".join(package["files"]), check)


def print_outcomes(result: Mapping[str, Any], args: argparse.Namespace) -> None:
    """Print what checks of an algorithm have found as a table, failures with where to look."""
    title = f"{result['algo']} conforms"
    rows = []
    failed = []
    for name, row in result["checks"].items():
        text = row["detail"]
        if row["state"] == "fails":
            failed.append(name)
            title = f"{result['algo']} fails: {', '.join(failed)}"
            text = f"{row['promise']}: {text} ({row['where']})"
        rows.append((name, row["state"], text))
    print_table(title, ("check", "outcome", "found"), rows, wrapped=("found",))
    if not failed:  # with the settings that were checked
        words = ["zoo", "train", "--algo", args.algo, "--env", "ENV", "--quick"]
        if args.hyperparams:
            words += ["-params", *args.hyperparams]
        terminal().print(f"next: {shlex.join(words)}", soft_wrap=True)


def print_algorithms(result: Mapping[str, Any], args: argparse.Namespace) -> None:
    """Print what `describe_algorithms` returns: what to start with, all algorithms in a table, what to do next."""
    console = terminal()
    algorithms = result["algorithms"]
    console.print(start_text(algorithms, "{id}") + "\n")
    texts = {"when to use it": "when"}
    if console.width >= WIDE:
        texts = {"what it is": "summary", **texts}
    rows = []
    for id in in_order(algorithms, args.sort):
        row = algorithms[id]
        rows.append((id, row["source"] or "", *cells_of(row), *map(row.get, texts.values())))
    print_table("", ("id", "source", *NUMBERS, *texts), rows, wrapped=[*texts])
    console.print(
        "offline, online: published success in %; compare within a source (zoo published list). mini: the mini "
        "benchmark, online for rlpd and SB3's. work: operations of an update, bc = 1.\n"
        "next: zoo agents show fql, or zoo train --algo fql --env ENV --quick"
    )


def print_algorithm(result: Mapping[str, Any], args: argparse.Namespace) -> None:
    """Print what :func:`describe_algorithm` returns: a summary, and tables of settings and profiles."""
    console = terminal()
    summary = " ".join(_unmarked(result["summary"].partition("\n\n")[0]).split())
    console.print(
        f"{result['published_name']} ({result['algo']}), {result['paper']} ({result['kind']})\n\n{summary}\n"
    )
    rows = []
    for name, row in result["settings"].items():
        search = f" Search: {row['search']}." if row["search"] else ""
        meaning = f"{_unmarked(row['meaning'])}{search} ({readable_type(row['type'])})"
        rows.append((name, str(row["default"]), meaning))
    print_table(
        "Settings", ("setting", "default", "meaning (type)"), rows, wrapped=("meaning (type)",)
    )
    for name, entries in result["profiles"].items():
        profile = []
        for entry, values in entries.items():
            profile.append((entry, " ".join(f"{key}={value}" for key, value in values.items())))
        print_table(f"--profile {name}", ("entry", "settings"), profile, wrapped=("settings",))
    console.print(f"next: zoo train --algo {result['algo']} --env ENV --quick")


def _unmarked(text: str) -> str:
    """Return text without the marks of code and formulas inside a line."""
    return re.sub(r"(?::\w+:)?(`{1,2})(.+?)\1", r"\2", text, flags=re.DOTALL)


def readable_type(name: str) -> str:
    """Return a type without modules, its literals as they are typed."""
    name = re.sub(r"\b(?:\w+\.)+(?=\w)", "", name)
    return re.sub(
        r"Literal\[(.*?)\]", lambda match: match[1].replace("'", "").replace(",", " |"), name
    )


main = as_program(make_parser, _run)

if __name__ == "__main__":
    sys.exit(main())
