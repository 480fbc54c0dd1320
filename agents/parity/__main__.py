"""Compare an implementation of an agent with recorded numbers of its original; docs/parity.md."""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table
from rich.text import Text

from agents.common.validation import unknown_name_message
from agents.parity.adapter import load_adapter
from agents.parity.checker import Comparison, Row, compare
from agents.parity.fixture import TOLERANCES, Fixture, ParityError, find_fixtures, read_fixture, require_tolerances

HOLDS, FAILS, BAD_INPUT = 0, 1, 2
WIDTH = 120


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program.

    :param arguments: the words after its name; None: those of the command line.
    :return: 0 if everything holds, 1 if something does not, 2 for bad input.
    """
    args = _make_parser().parse_args(arguments)
    try:
        return int(args.run(args))
    except ParityError as error:
        print(f"agents.parity: {error}", file=sys.stderr)
        return BAD_INPUT


def _make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m agents.parity", description=__doc__, allow_abbrev=False)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    check = commands.add_parser("check", help="compare an implementation with recorded numbers", allow_abbrev=False)
    check.add_argument("--agent", required=True, metavar="MODULE[:NAME]", help="adapter with the five functions")
    check.add_argument(
        "--tolerance", nargs="+", default=[], metavar="NAME=NUMBER",
        help=f"in place of the fixture's; names: {', '.join(TOLERANCES)}",
    )  # fmt: skip
    check.set_defaults(run=_check)
    show = commands.add_parser("show", help="list the names and shapes that an adapter has to know", allow_abbrev=False)
    show.set_defaults(run=_show)
    for command in (check, show):
        command.add_argument("--fixtures", required=True, type=Path, metavar="DIR", help="folder with .npz files")
        command.add_argument("--only", nargs="+", default=[], metavar="FIXTURE", help="file names without .npz")
        command.add_argument("--json", action="store_true", help="print JSON instead of tables")
    return parser


def _check(args: argparse.Namespace) -> int:
    """Compare with every fixture; all input is looked at before the first comparison."""
    tolerances = _parse_tolerances(args.tolerance)
    fixtures = _read_fixtures(args.fixtures, args.only)
    adapter = load_adapter(args.agent)
    found: dict[str, Comparison | str] = {}
    for name, fixture in fixtures.items():
        try:
            found[name] = compare(fixture, adapter, tolerances)
        except NotImplementedError as reason:
            found[name] = str(reason) or "not implemented"
        if not args.json:
            _print_comparison(name, found[name])
    compared = {name: outcome for name, outcome in found.items() if isinstance(outcome, Comparison)}
    if not compared:
        raise ParityError(f"adapter `{args.agent}` implements none of the fixtures: {', '.join(fixtures)}")
    failing = [name for name, outcome in compared.items() if not outcome.holds]
    if args.json:
        print(json.dumps({"holds": not failing, "fixtures": {name: _to_json(found[name]) for name in found}}))
    elif len(found) > 1:
        print(f"{len(compared)} of {len(found)} fixtures compared; failing: {', '.join(failing) or 'none'}")
    return FAILS if failing else HOLDS


def _show(args: argparse.Namespace) -> int:
    """List what is in every fixture."""
    for name, fixture in _read_fixtures(args.fixtures, args.only).items():
        shapes = {key: list(array.shape) for key, array in fixture.arrays.items() if _is_for_adapters(key)}
        if args.json:
            print(json.dumps({"fixture": name, "meta": dict(fixture.meta), "arrays": shapes}))
        else:
            rows = [(key, str(tuple(shape))) for key, shape in shapes.items()]
            rows += [(f"meta {key}", json.dumps(value)) for key, value in fixture.meta.items()]
            _print_table(f"{name} ({fixture.id})", ("array", "shape"), rows)
    return HOLDS


def _is_for_adapters(key: str) -> bool:
    """Return whether an adapter's author has to know an array; those of later updates have the same names."""
    return not key.startswith(("grad/", "params_after_", "loss_total/", "noise/step_2/", "noise/step_3/", "info/"))


def _read_fixtures(folder: Path, only: Sequence[str]) -> dict[str, Fixture]:
    """Return the chosen fixtures by their path in the folder, without the ending."""
    paths = {path.relative_to(folder).with_suffix("").as_posix(): path for path in find_fixtures(folder)}
    for name in only:
        if not any(name in (key, path.stem) for key, path in paths.items()):
            raise ParityError(unknown_name_message("fixture", name, [*paths, *(path.stem for path in paths.values())]))
    return {key: read_fixture(path) for key, path in paths.items() if not only or {key, path.stem} & set(only)}


def _parse_tolerances(words: Sequence[str]) -> dict[str, float]:
    found: dict[str, Any] = {}
    for word in words:
        name, _, text = word.partition("=")
        try:
            found[name] = float(text)
        except ValueError:
            found[name] = text
    require_tolerances(found)
    return found


def _print_comparison(name: str, outcome: Comparison | str) -> None:
    """Print a table of every quantity; of a fixture that was skipped, why."""
    if isinstance(outcome, str):
        print(f"{name}: skipped, {outcome}")
        return
    failing = sum(not row.holds for row in outcome.rows)
    title = f"{name} fails: {failing} of {len(outcome.rows)} quantities" if failing else f"{name} holds"
    header = ("quantity", "largest\nerror", "tolerance", "", "what differs, and where to look")
    rows = [
        (row.quantity, _number(row.error), _number(row.tolerance), "holds", "")
        if row.holds
        else (row.quantity, _number(row.error), _number(row.tolerance), "FAILS", f"{row.found}\nlook: {row.look}")
        for row in outcome.rows
    ]
    _print_table(title, header if failing else header[:4], [row if failing else row[:4] for row in rows])
    if outcome.not_compared:
        print(f"recorded too, and not returned by the adapter: {', '.join(outcome.not_compared)}\n")


def _print_table(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table on standard output, as wide as the terminal; a file or pipe has no width of its own."""
    table = Table(title=Text(title), title_justify="left", box=SIMPLE, padding=(0, 1, 0, 0), pad_edge=False)
    for name in header:
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    Console(highlight=False, width=None if sys.stdout.isatty() else WIDTH).print(table)


def _number(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.1e}"


def _to_json(outcome: Comparison | str) -> dict[str, Any]:
    if isinstance(outcome, str):
        return {"skipped": outcome}
    rows = [_row_to_json(row) for row in outcome.rows]
    return {"holds": outcome.holds, "quantities": rows, "not_compared": outcome.not_compared}


def _row_to_json(row: Row) -> Mapping[str, Any]:
    """Return a row for JSON, which has no number for what could not be compared."""
    return {
        "quantity": row.quantity,
        "error": row.error if math.isfinite(row.error) else None,
        "tolerance": row.tolerance,
        "holds": row.holds,
        "found": row.found,
        "look": row.look,
    }


if __name__ == "__main__":
    sys.exit(main())
