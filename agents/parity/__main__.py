"""Compare an implementation of an agent with recorded numbers of its original; docs/parity.md."""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from agents.common.validation import unknown_name_message
from agents.parity.adapter import load_adapter
from agents.parity.checker import Comparison, compare
from agents.parity.fixture import TOLERANCES, Fixture, ParityError, find_fixtures, read_fixture, require_tolerances

HOLDS, FAILS, BAD_INPUT = 0, 1, 2


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
    tolerances = dict(_parse_tolerance(word) for word in args.tolerance)
    fixtures = _read_fixtures(args.fixtures, args.only)
    adapter = load_adapter(args.agent)
    found: dict[str, dict[str, Any]] = {}
    for name, fixture in fixtures.items():
        try:
            found[name] = _to_json(compare(fixture, adapter, tolerances))
        except NotImplementedError as reason:
            found[name] = {"skipped": str(reason) or "not implemented"}
        if not args.json:
            _print_comparison(name, found[name])
    compared = {name: outcome for name, outcome in found.items() if "skipped" not in outcome}
    if not compared:
        raise ParityError(f"adapter `{args.agent}` implements none of the fixtures: {', '.join(fixtures)}")
    failing = [name for name, outcome in compared.items() if not outcome["holds"]]
    if args.json:
        print(json.dumps({"holds": not failing, "fixtures": found}))
    elif len(found) > 1:
        print(f"{len(compared)} of {len(found)} fixtures compared; failing: {', '.join(failing) or 'none'}")
    return FAILS if failing else HOLDS


def _show(args: argparse.Namespace) -> int:
    """List what is in every fixture, except arrays whose names an adapter's author knows from the others."""
    repeated = ("grad/", "params_after_", "loss_total/", "noise/step_2/", "noise/step_3/", "info/")
    for name, fixture in _read_fixtures(args.fixtures, args.only).items():
        shapes = {key: list(array.shape) for key, array in fixture.arrays.items() if not key.startswith(repeated)}
        if args.json:
            print(json.dumps({"fixture": name, "meta": dict(fixture.meta), "arrays": shapes}))
            continue
        print(f"{name} ({fixture.id})")
        for key, shape in shapes.items():
            print(f"  {key:<48} {tuple(shape)}")
        for key, value in fixture.meta.items():
            print(f"  meta {key:<43} {json.dumps(value)}")
    return HOLDS


def _read_fixtures(folder: Path, only: Sequence[str]) -> dict[str, Fixture]:
    """Return the chosen fixtures by their path in the folder, without the ending."""
    paths = {path.relative_to(folder).with_suffix("").as_posix(): path for path in find_fixtures(folder)}
    known = {*paths, *(path.stem for path in paths.values())}
    for name in only:
        if name not in known:
            raise ParityError(unknown_name_message("fixture", name, known))
    return {key: read_fixture(path) for key, path in paths.items() if not only or {key, path.stem} & set(only)}


def _parse_tolerance(word: str) -> tuple[str, float]:
    name, _, text = word.partition("=")
    try:
        limit = float(text)
    except ValueError as error:
        raise ParityError(f"tolerance `{name}` must be a number, got {text!r}") from error
    require_tolerances({name: limit})
    return name, limit


def _print_comparison(name: str, outcome: dict[str, Any]) -> None:
    """Print every quantity, and below one that fails what differs; of a fixture that was skipped, why."""
    if "skipped" in outcome:
        print(f"{name}: skipped, {outcome['skipped']}")
        return
    rows = outcome["quantities"]
    failing = sum(not row["holds"] for row in rows)
    print(f"{name} fails: {failing} of {len(rows)} quantities" if failing else f"{name} holds")
    print(f"  {'':<5}  {'quantity':<32} {'error':>8} {'tolerance':>9}")
    for row in rows:
        error = math.nan if row["error"] is None else row["error"]
        word = "holds" if row["holds"] else "FAILS"
        print(f"  {word}  {row['quantity']:<32} {error:8.1e} {row['tolerance']:9.1e}")
        if not row["holds"]:
            print(f"         {row['found']}\n         look: {row['look']}")
    if outcome["not_compared"]:
        print(f"recorded too, and not returned by the adapter: {', '.join(outcome['not_compared'])}\n")


def _to_json(outcome: Comparison) -> dict[str, Any]:
    """Return a comparison for JSON, which has no number for what could not be compared."""
    rows = [
        {**asdict(row), "error": row.error if math.isfinite(row.error) else None, "holds": row.holds}
        for row in outcome.rows
    ]
    return {"holds": outcome.holds, "quantities": rows, "not_compared": outcome.not_compared}


if __name__ == "__main__":
    sys.exit(main())
