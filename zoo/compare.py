"""Is my agent better? Tables, intervals, figures and one page from run folders and published scores.

``python zoo/compare.py logs/ --published qam2026 -o report/``
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

if __package__ in (None, ""):  # run as a file: let `import agents` and `import zoo` find the packages
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from agents.common.validation import integer, number, unknown_name_message
from zoo.cli import Parser, run_program, whole_number
from zoo.errors import UsageError

if TYPE_CHECKING:
    import pandas as pd

    from zoo.published import PublishedSet
    from zoo.report.comparison import Method
    from zoo.report.references import References
    from zoo.runs.read import RunTables


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program.

    :param arguments: the command line's words; None takes them from it.
    :return: exit code: 0 done, 2 bad arguments or data, 3 stopped by a signal, 1 anything else.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    args = _parser().parse_args(words)
    args.command_line = shlex.join(["zoo", "compare", *words])
    # Methods run in threads of their own; more threads inside each matrix product only get in their way.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    return run_program(lambda: _run(args), args.verbose)


def _parser() -> Parser:
    """Return the parser of the command line."""
    parser = Parser("compare", description=__doc__)
    data = parser.add_argument_group("what to compare")
    data.add_argument("paths", nargs="*", type=Path, metavar="PATH", help="folders with run folders anywhere below")
    data.add_argument("--published", nargs="+", default=[], metavar="SET", help="published scores, e.g. qam2026")
    data.add_argument("--methods", nargs="+", metavar="NAME", help="only these, e.g. qam QAM-E (default: all)")
    data.add_argument("--envs", nargs="+", metavar="PATTERN", help="only these, e.g. 'scene-*' (default: all)")
    data.add_argument(
        "--reference-scores",
        nargs="+",
        action="extend",
        default=[],
        metavar="ENV=RANDOM,EXPERT",
        help="returns of a random and an expert policy, or YAML files of `env: [random, expert]`; normalises returns",
    )
    data.add_argument("--merge-protocols", action="store_true", help="one row a label, even where protocols differ")
    data.add_argument("--strict", action="store_true", help="fail (exit 2) if any run is skipped")
    how = parser.add_argument_group("how")
    how.add_argument("--baseline", metavar="NAME", help="whom to improve on (default: the first set's own method)")
    how.add_argument("--tolerance", type=float, default=0.05, help="of a reproduction, as a fraction")
    how.add_argument("--reps", type=whole_number, default=50_000, help="bootstrap repetitions")
    how.add_argument("--verbose", type=whole_number, default=1, help="2 shows the traceback of an unexpected failure")
    output = parser.add_argument_group("what to make (default: --print)")
    output.add_argument("-o", "--output", type=Path, metavar="DIR", help="report.html, tables and figures")
    output.add_argument("--json", type=Path, metavar="FILE", help="every number, for other programs")
    output.add_argument("--print", action="store_true", help="the main tables in the terminal")
    output.add_argument("--curve", action="store_true", help="each run's scores over time, in the terminal")
    output.add_argument(
        "--watch", nargs="?", type=float, const=10.0, metavar="SECONDS", help="state of the runs, until they are done"
    )
    return parser


@dataclass(frozen=True)
class Inputs:
    """What was found to compare.

    :param methods: name -> method.
    :param evaluations: one row an evaluation of a run that counts, own or published.
    :param means: published means of methods without single runs.
    :param own: the tables of own runs, those that do not count included.
    :param sets: the published sets.
    :param references: reference scores of environments, random and expert.
    """

    methods: dict[str, Method]
    evaluations: pd.DataFrame
    means: pd.DataFrame
    own: RunTables
    sets: list[PublishedSet]
    references: References


def collect(args: argparse.Namespace) -> Inputs:
    """Read runs and published scores.

    :param args: the parsed command line.
    :return: what was found, each method under a name of its own.
    :raises UsageError: if there is nothing to compare.
    """
    import pandas as pd

    from zoo.published import load_set
    from zoo.runs.scores import SUCCESS

    sets = [load_set(name) for name in dict.fromkeys(args.published)]
    own, references = _read_own(args)
    counted = own.counted()
    if args.paths and counted.empty:
        raise UsageError(_nothing_counts(own, args.paths))
    methods = _own_methods(own)
    evaluations, means = [counted], []
    wanted = set(counted.loc[counted["kind"] == SUCCESS.name, "environment"]) if args.paths else None
    for published in sets:
        runs, table, found = _published(published, wanted)
        evaluations.append(runs)
        means.append(table)
        methods += found
    names = _unique_names(methods)
    frames = [_rename(frame, names) for frame in evaluations]
    tables = [_rename(frame, names) for frame in means]
    inputs = Inputs(
        {names[m.source, m.name]: replace(m, name=names[m.source, m.name]) for m in methods},
        pd.concat([frame for frame in frames if len(frame)] or frames[:1], ignore_index=True),
        pd.concat([frame for frame in tables if len(frame)] or [_no_means()], ignore_index=True),
        own,
        sets,
        references,
    )
    return _chosen(inputs, args)


def _read_own(args: argparse.Namespace) -> tuple[RunTables, References]:
    """Return the tables of own runs, and the reference scores by which their returns are normalised."""
    from zoo.report.references import normalise_returns, read_references
    from zoo.runs.read import read_runs

    tables = read_runs(args.paths, args.merge_protocols)
    skipped = tables.skipped()
    for entry in skipped:
        print(f"skipped {entry['path']}: {entry['reason']}", file=sys.stderr)
    if args.strict and skipped:
        raise UsageError(f"--strict allows no skipped run, got {len(skipped)}; see above")
    references = read_references(args.reference_scores, tables)
    return normalise_returns(tables, references), references


def _nothing_counts(own: RunTables, paths: list[Path]) -> str:
    """Return the message for paths without a run that counts."""
    places = ", ".join(str(path) for path in paths)
    if own.runs.empty:
        return f"expected run folders below {places}, got none; a run folder has status.json, train.py writes it"
    return (
        f"expected finished runs below {places}, got {len(own.runs)} that cannot be counted (see above); "
        "--watch shows how far they are"
    )


def _own_methods(own: RunTables) -> list[Method]:
    """Return the methods of own runs, with the protocol on each environment."""
    from zoo.published import published_name
    from zoo.report.comparison import Method
    from zoo.runs.read import PROTOCOL

    result = []
    good = own.runs[own.runs["problem"].isna()]
    for name, group in good.groupby("method"):
        algorithm = str(group["algorithm"].iloc[0])
        protocols = {
            str(environment): {field: _common(part[field]) for field in PROTOCOL}
            for environment, part in group.groupby("environment")
        }
        departures = {
            str(environment): tuple(dict.fromkeys(text for found in part["departures"] for text in found))
            for environment, part in group.groupby("environment")
        }
        result.append(Method(str(name), published_name(algorithm) or algorithm, "own", protocols, departures))
    return result


def _common(values: pd.Series) -> Any:
    """Return what runs share, or all their values as text."""
    from zoo.runs.read import show

    found = [value.item() if hasattr(value, "item") else value for value in values.dropna().unique()]
    found = [int(value) if isinstance(value, float) and value.is_integer() else value for value in found]
    return found[0] if len(found) == 1 else ("; ".join(sorted(map(show, found))) or None)


def _published(published: PublishedSet, wanted: set[str] | None) -> tuple[pd.DataFrame, pd.DataFrame, list[Method]]:
    """Return the runs, the means and the methods of a set, on the wanted environments only."""
    import pandas as pd

    from zoo.published import load_means, load_runs
    from zoo.report.comparison import Method
    from zoo.runs.read import EVALUATION_COLUMNS, split_environment

    means = load_means(published).assign(source=published.name)
    means["domain"] = [split_environment(name)[1] for name in means["environment"]]
    runs = load_runs(published)
    if runs is None:
        runs = pd.DataFrame(columns=list(EVALUATION_COLUMNS))
        print(f"{published.name}: means without intervals ({_how_to_import(published)})", file=sys.stderr)
    else:
        means = means.iloc[:0]
    if wanted is not None:
        domains = {split_environment(name)[1] for name in wanted}
        runs = runs[runs["environment"].isin(wanted)]
        means = means[means["environment"].isin(wanted | domains)]
        if runs.empty and means.empty:
            print(f"{published.name}: has none of the environments of your runs, so it is left out", file=sys.stderr)
    domains = sorted({*runs["domain"], *means["domain"]})
    methods = [
        Method(name, name, published.name, {domain: published.protocol_of(name, domain) for domain in domains})
        for name in sorted({*runs["method"], *means["method"]})
    ]
    return runs, means, methods


def _how_to_import(published: PublishedSet) -> str:
    """Return how to get a set's single runs."""
    if published.raw is None:
        return "its authors released no single runs"
    return f"`zoo published import {published.name}` fetches its single runs"


def _no_means() -> pd.DataFrame:
    """Return an empty table of means."""
    import pandas as pd

    from zoo.report.comparison import MEAN_COLUMNS

    return pd.DataFrame(columns=[*MEAN_COLUMNS, "source"])


def _unique_names(methods: list[Method]) -> dict[tuple[str, str], str]:
    """Return (source, name) -> the name to show: a published name that occurs twice gets its set's name added."""
    names = [method.name for method in methods]
    return {
        (m.source, m.name): f"{m.name} ({m.source})" if names.count(m.name) > 1 and m.source != "own" else m.name
        for m in methods
    }


def _rename(table: pd.DataFrame, names: dict[tuple[str, str], str]) -> pd.DataFrame:
    """Return a table with the names to show."""
    keys = zip(table["source"], table["method"], strict=True)
    return table.assign(method=[names[key] for key in keys])


def _chosen(inputs: Inputs, args: argparse.Namespace) -> Inputs:
    """Keep the methods and environments that were asked for."""
    from zoo.runs.scores import NORMALISED_RETURN, SUCCESS

    evaluations, means, methods = inputs.evaluations, inputs.means, inputs.methods
    for name in [*(args.methods or ()), *([args.baseline] if args.baseline else ())]:
        if name not in methods:
            raise UsageError(unknown_name_message("method", name, methods))
    if args.methods:
        methods = {name: method for name, method in methods.items() if name in args.methods}
        evaluations, means = (table[table["method"].isin(args.methods)] for table in (evaluations, means))
    if args.envs:
        wanted = [name for name in {*evaluations["environment"], *means["environment"]} if _matches(name, args.envs)]
        evaluations, means = (table[table["environment"].isin(wanted)] for table in (evaluations, means))
    if args.paths and "own" in {method.source for method in methods.values()}:
        # A phase that no run of one's own has reached says nothing about it.
        own = evaluations[evaluations["source"] == "own"]
        phases = set(own.loc[own["kind"] == SUCCESS.name, "phase"])
        evaluations = evaluations[evaluations["phase"].isin(phases) | (evaluations["kind"] != SUCCESS.name)]
        means = means[means["phase"].isin(phases)]
    present = {*evaluations["method"], *means["method"]}
    methods = {name: method for name, method in methods.items() if name in present}
    if not methods:
        raise UsageError(f"expected scores on environments like {', '.join(args.envs or ['any'])}, got none")
    normalised = set(evaluations.loc[evaluations["kind"] == NORMALISED_RETURN.name, "environment"])
    references = {name: pair for name, pair in inputs.references.items() if name in normalised}
    return replace(inputs, methods=methods, evaluations=evaluations, means=means, references=references)


def _matches(name: str, patterns: Sequence[str]) -> bool:
    """Return whether a name fits one of the patterns."""
    from fnmatch import fnmatchcase

    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _run(args: argparse.Namespace) -> dict[str, Any]:
    """Check the arguments, then do what they ask for."""
    _check(args)
    if args.watch is not None:
        return _watch(args)
    if args.curve:
        return _show_curves(args)
    from zoo.report.comparison import compare_kinds, last_evaluations
    from zoo.report.reproduction import reproduce
    from zoo.report.results import to_json

    inputs = collect(args)
    found = compare_kinds(inputs.methods, inputs.evaluations, inputs.means, args.reps, curves=bool(args.output))
    skipped = inputs.own.skipped()
    result: dict[str, Any] = {"methods": len(inputs.methods), "runs": len(inputs.own.runs), "skipped": len(skipped)}
    if args.json:
        _write_json(args.json, to_json(found, skipped, inputs.references))
        result["json"] = str(args.json)
    if args.output or args.print or not args.json:
        from zoo.report import page as report

        content = report.Input(
            comparisons=found,
            reproduction=reproduce(inputs.methods, inputs.evaluations, inputs.sets, args.tolerance),
            own=inputs.own,
            scores=last_evaluations(inputs.evaluations),
            sets=inputs.sets,
            baseline=args.baseline or _default_baseline(inputs),
            tolerance=args.tolerance,
            command=args.command_line,
            references=inputs.references,
        )
        if args.output:
            result["report"] = str(report.write_report(args.output, content))
        if args.print or not (args.json or args.output):
            from zoo.report.caveats import warnings
            from zoo.report.terminal import print_tables

            print_tables(warnings(found, inputs.own), report.all_tables(content))
    return result


def _default_baseline(inputs: Inputs) -> str:
    """Return the method that the first published set proposes, or else the first method of all."""
    for published in inputs.sets:
        for name in (published.proposed, f"{published.proposed} ({published.name})"):
            if name in inputs.methods and inputs.methods[name].source == published.name:
                return name
    return min(inputs.methods)


def _show_curves(args: argparse.Namespace) -> dict[str, Any]:
    """Print each run's scores over time, unfinished runs included."""
    from rich.console import Console

    from zoo.report.terminal import curve_tables

    own, _ = _read_own(args)
    if own.evaluations.empty:
        raise UsageError(_nothing_counts(own, args.paths))
    for table in curve_tables(own):
        Console().print(table)
    return {"runs": len(own.runs), "skipped": len(own.skipped())}


def _watch(args: argparse.Namespace) -> dict[str, Any]:
    """Show the state of all runs again and again until none is running, or until Ctrl-C."""
    import time

    from rich.live import Live

    from zoo.report.references import normalise_returns, read_references
    from zoo.report.terminal import state_table
    from zoo.runs.read import read_runs

    own = read_runs(args.paths, args.merge_protocols)
    references = read_references(args.reference_scores, own)
    with Live(auto_refresh=False) as live:
        try:
            while True:
                live.update(state_table(normalise_returns(own, references)), refresh=True)
                if len(own.runs) and not (own.runs["state"] == "running").any():
                    break
                time.sleep(args.watch)
                own = read_runs(args.paths, args.merge_protocols)
        except KeyboardInterrupt:  # the way to stop watching; the runs go on
            pass
    return {"runs": len(own.runs), **{str(k): int(v) for k, v in own.runs["state"].value_counts().items()}}


def _check(args: argparse.Namespace) -> None:
    """Raise if an argument makes no sense."""
    if not args.paths and (not args.published or args.curve or args.watch is not None):
        raise UsageError(
            "expected folders of runs, or --published SET for published scores alone, got none; see --help"
        )
    missing = [path for path in args.paths if not path.is_dir()]
    if missing:
        raise UsageError(f"expected a folder of runs, got `{missing[0]}`, which is not one; check the path")
    for flag, folder in (("--output", args.output), ("--json", args.json and args.json.parent)):
        if folder:
            _check_place(flag, folder)
    if args.json and args.json.is_dir():
        raise UsageError(f"`--json` must be a file, got the folder {args.json}; choose another name")
    try:
        integer("--reps", args.reps, at_least=1)
        number("--tolerance", args.tolerance, above=0, at_most=1)
        if args.watch is not None:
            number("--watch", args.watch, above=0)
    except (TypeError, ValueError) as error:
        raise UsageError(str(error)) from error


def _check_place(flag: str, folder: Path) -> None:
    """Raise if a folder cannot be made; leave none behind, since nothing may come of the comparison."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path in missing:
            path.rmdir()
    except OSError as error:
        raise UsageError(f"`{flag}` must be a place to write to, got {folder}: {error.strerror}") from error


def _write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a JSON file, whole or not at all."""
    import json

    from agents.common.files import atomic_path

    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main())
