"""Is my agent better? Tables, intervals, figures and one page from run folders and published scores.

``python zoo/compare.py logs/ --published qam2026 -o report/``
"""

from __future__ import annotations

import argparse
import os
import sys
from datetime import UTC, datetime
from functools import cache, reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any

if not __package__:  # run as a file: let `import agents` and `import zoo` find the packages
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from agents.common.validation import number
from zoo.terminal.cli import as_program
from zoo.terminal.errors import UsageError, as_usage_error
from zoo.terminal.messages import standard_output
from zoo.terminal.parser import COUNT, REAL, Parser, a_path, add_reference_scores, add_verbose

if TYPE_CHECKING:
    from zoo.report.page.report import Content
    from zoo.report.tables import Table

_PRINTED = ("aggregates", "improvement", "verdict", "differences", "reproduction")
"""The tables in the terminal."""


def make_parser() -> Parser:
    """Return the parser of the command line."""
    parser = Parser("compare", description=__doc__)
    data = parser.add_argument_group("what to compare")
    data.add_argument("paths", nargs="*", type=a_path, metavar="PATH", help="folders to search for run folders")
    data.add_argument("--published", nargs="+", default=[], metavar="SET", help="published scores, e.g. qam2026")
    data.add_argument(
        "--with",
        nargs="+",
        action="extend",
        type=a_path,
        default=[],
        dest="scores",
        metavar="FILE",
        help="scores.csv of other reports, whose runs stand beside",
    )
    data.add_argument(
        "--methods", nargs="+", default=[], metavar="NAME", help="only these, e.g. qam QAM-E (default: all)"
    )
    data.add_argument(
        "--envs", nargs="+", default=[], metavar="PATTERN", help="only these, e.g. 'scene-*' (default: all)"
    )
    add_reference_scores(data)
    data.add_argument("--merge-protocols", action="store_true", help="one row per label, even where protocols differ")
    data.add_argument(
        "--failed",
        choices=("last", "zero", "exclude"),
        default="last",
        help="what runs that failed count for: their last evaluation, zero, or nothing (default: last)",
    )
    data.add_argument("--strict", action="store_true", help="fail (exit 2) if any run is skipped")
    _add_method(parser)
    _add_looks(parser)
    output = parser.add_argument_group("what to make (default: --print)")
    output.add_argument("-o", "--output", type=a_path, metavar="DIR", help="report.html, tables and figures")
    output.add_argument("--json", type=a_path, metavar="FILE", help="every number, for other programs")
    output.add_argument("--print", action="store_true", help="the main tables in the terminal")
    # What a suite's file wishes, which may have no run yet; and what imports torch, which reports do not.
    parser.set_defaults(suite_focus="", expected=expected_settings, command_line="")
    return parser


def _add_method(parser: Parser) -> None:
    """Add the arguments about how methods are compared."""
    how = parser.add_argument_group("how")
    how.add_argument("--baseline", metavar="NAME", help="method to compare against (default: the one of the first set)")
    focus = how.add_mutually_exclusive_group()
    focus.add_argument(
        "--focus",
        metavar="NAME",
        help="method that the report is about: a verdict on it, the others in grey (default: your own if it is one; of "
        "two, the last one that is not the baseline)",
    )
    focus.add_argument("--no-focus", action="store_true", help="a verdict on the leading method of each phase instead")
    how.add_argument(
        "--tolerance", type=REAL, default=0.05, help="largest difference that counts as reproduced, as a fraction"
    )
    how.add_argument(
        "--resolve",
        type=REAL,
        default=3.0,
        metavar="POINTS",
        help="difference of means for which to say how many seeds are needed, in points (default: 3)",
    )
    how.add_argument("--reps", type=COUNT, default=5_000, help="bootstrap repetitions (default: 5000)")
    add_verbose(how)


def _add_looks(parser: Parser) -> None:
    """Add the arguments about how figures and tables look."""
    looks = parser.add_argument_group("how figures and tables look")
    looks.add_argument(
        "--width",
        choices=("page", "column", "text"),
        default="page",
        help="draw figures and LaTeX tables to stand in a paper as they are: 3.25 inches (column) or 6.75 (text)",
    )
    looks.add_argument(
        "--format",
        nargs="+",
        choices=("pdf", "svg", "png"),
        default=["pdf", "svg", "png"],
        help="files of each figure (default: all three)",
    )
    looks.add_argument(
        "--labels", nargs="+", action="extend", default=[], metavar="NAME=TEXT", help="what to call methods"
    )
    looks.add_argument(
        "--order", nargs="+", default=[], metavar="NAME", help="these methods first (default: the best first)"
    )


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Do what the command line asks for, and return the result to print."""
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # matrices are small
    os.environ.setdefault("MPLBACKEND", "agg")  # figures are files, not windows
    from zoo.report.compute import compare_kinds
    from zoo.report.cost import read_costs
    from zoo.report.inputs import collect, read_labels, relabelled
    from zoo.report.page.results import json_text, to_json
    from zoo.report.significance import decide
    from zoo.report.tables import write_file

    _check(args)
    if args.output:
        from zoo.report.page.report import refuse_foreign_files

        refuse_foreign_files(args.output)
    inputs = collect(args)
    baseline = args.baseline or inputs.default_baseline()
    focus = None if args.no_focus else args.focus or inputs.default_focus(baseline, args.suite_focus)
    names = read_labels(args.labels, inputs.methods)
    inputs = relabelled(inputs, names)
    found = [
        decide(
            comparison,
            order=[names[name] for name in dict.fromkeys(args.order) if name in names],
            baseline=names[baseline],
            focus=focus and names[focus],
            resolve=args.resolve / 100,
        )
        for comparison in compare_kinds(inputs.methods, inputs.evaluations, inputs.means, args.reps, bool(args.output))
    ]
    skipped = inputs.own.skipped()
    costs = read_costs(inputs) if args.json or args.output else None
    result: dict[str, Any] = {"methods": len(inputs.methods), "runs": len(inputs.own.runs), "skipped": len(skipped)}
    if args.json:
        write_file(args.json, json_text(to_json(found, skipped, inputs.references, costs)))
        result["json"] = str(args.json)
    if args.output or args.print or not args.json:
        from zoo.processes.versions import git_commit
        from zoo.report.page.report import Content, write_report

        made = f"{datetime.now(UTC):%Y-%m-%d}, commit {(git_commit() or 'unknown')[:12]}"
        looks = {"made": made, "width": args.width, "formats": args.format, "costs": costs}
        content = Content(inputs, found, args.tolerance, args.command_line, **looks)
        if args.output:
            result["report"] = str(write_report(args.output, content))
        if args.print or not (args.json or args.output):
            _print_tables(content)
        elif standard_output().isatty():
            _print_sentences(content)
    return result


@cache
def expected_settings(published: str, environment: str, profile: str | None) -> dict[str, str] | None:
    """Return the settings of a published algorithm, in the form of `zoo.runs.protocol.describe_settings`.

    The algorithm's class knows the settings that no file states, so this imports torch.

    :param published: the name under which it is published.
    :param profile: the profile of the published scores; None: the default one.
    :return: None for a profile that does not exist; for an algorithm that this zoo does not have, what the profile says
        to all of them.
    """
    from zoo.report.published_scores import published_names
    from zoo.runs.protocol import describe_settings
    from zoo.runs.read import split_environment
    from zoo.settings.config import Benchmark, Overrides, load_config
    from zoo.settings.layers import DEFAULT_PROFILE, merge, shared_profile

    ids = {name: algorithm for algorithm, name in published_names().items()}
    domain = split_environment(environment)[1]
    profile = profile or DEFAULT_PROFILE
    if published not in ids:
        layers = [
            shared_profile(name).get(entry, {}) for name in (DEFAULT_PROFILE, profile) for entry in ("default", domain)
        ]
        return describe_settings(reduce(merge, layers))
    try:
        config = load_config(ids[published], environment, Benchmark(domain), Overrides(profile))
    except UsageError:
        return None
    return describe_settings(config.settings)


def _check(args: argparse.Namespace) -> None:
    """Raise if an argument makes no sense."""
    if not (args.paths or args.published or args.scores):
        raise UsageError("expected folders of runs, --published SET or --with FILE, got none; see --help")
    for flag, path in (("--output", args.output), ("--json", args.json)):
        if path is None:
            continue
        folder = next(place for place in (path, *path.absolute().parents) if place.is_dir())  # not made yet
        is_file = flag == "--json"
        if (path.exists() and path.is_file() != is_file) or not os.access(folder, os.W_OK):
            what = "a file" if is_file else "a folder"
            raise UsageError(f"`{flag}` must be {what} to write to, got {path}; choose another place")
    with as_usage_error():
        number("--tolerance", args.tolerance, above=0, at_most=1)
        number("--resolve", args.resolve, above=0, at_most=100)


def _print_sentences(content: Content) -> None:
    """Print the verdicts, and what a reader must know before believing a number."""
    from rich.console import Console

    for text in [" ".join(both).strip() for both in content.verdicts] + [f"! {text}" for text in content.warnings]:
        Console(file=standard_output()).print(text, markup=False, highlight=False)


def _print_tables(content: Content) -> None:
    """Print sentences, aggregates, improvements and reproduction, each in the columns that fit a terminal.

    Where nothing can be averaged, the means of the tasks stand in for the aggregates.
    """
    from rich.console import Console
    from rich.text import Text

    from zoo.terminal.tables import empty_table

    averaged = {t.name.removeprefix("aggregates") for t in content.tables if t.name.startswith("aggregates")}
    console = Console(file=standard_output(), markup=False)
    _print_sentences(content)
    for table in content.tables:
        kind = table.name.split("_")[0]
        if kind in _PRINTED or (kind == "tasks" and table.name.removeprefix("tasks") not in averaged):
            wanted = [k for k, name in enumerate(table.header) if (kind, name) != ("reproduction", "protocol")]
            whole = _whole_columns(table, console.width)
            shown = empty_table(table.title, [table.header[k] for k in wanted], whole)
            for row in table.rows:
                shown.add_row(*(Text(row[k].plain, "bold" if row[k].is_bold else "") for k in wanted))
            console.print(shown)


def _whole_columns(table: Table, width: int) -> list[str]:
    """Return the columns whose text is not to be broken: those of numbers if names have room beside them, else names.

    :param width: of the terminal.
    """
    numbers = []
    letters = 0
    for name, entries in zip(table.header, zip(*table.rows, strict=True), strict=True):
        texts = [entry.plain for entry in entries]
        if not any(character.isalpha() for text in texts for character in text):
            numbers.append(name)
            letters += max(len(text) for text in (name, *texts)) + 1
    return numbers if letters <= width / 2 else ["environment", "where"]


main = as_program(make_parser, run)

if __name__ == "__main__":
    sys.exit(main())
