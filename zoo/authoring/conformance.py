"""The conformance kit on the command line: a table of what holds, what does not, why, and where to look."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from agents.testing.kit import CHECKS, Outcome, require_names, run_checks
from zoo.config import find_entry
from zoo.errors import UsageError, as_usage_error
from zoo.layers import parse_overrides
from zoo.messages import log
from zoo.tables import print_table

FAILING = ("fails", "not tried")


def check_algorithm(algo: str, skip: Sequence[str], params: Sequence[str]) -> dict[str, Any]:
    """Try every check of an algorithm and return its outcome by name, with whether all of them hold.

    :param algo: an id, an alias or ``"module:Class"``.
    :param skip: names of checks to leave out.
    :param params: settings over the small ones that the checks choose, as ``key=value``.
    :raises UsageError: for an unknown algorithm, check or setting, before anything is tried.
    """
    entry = find_entry(algo)
    if entry.method is None:
        raise UsageError(f"`{algo}` is one of SB3's algorithms; the checks are for subclasses of `agents.Method`")
    settings = parse_overrides(params, "-params")
    with as_usage_error():
        require_names(skip)
        entry.method.refuse_unknown(settings)
        entry.method(**settings)
    log.info(
        "%d checks of %s; compiling takes about half a minute (`--skip compiled`)", len(CHECKS), entry.published_name
    )
    found, begin = {}, time.process_time()
    for outcome in run_checks(entry.method, settings, skip):
        now = time.process_time()
        found[outcome.check.name] = _to_json(outcome, now - begin)
        begin = now
    return {
        "algo": entry.id,
        "holds": not any(row["state"] in FAILING for row in found.values()),
        "checks": found,
    }


def print_outcomes(found: dict[str, Any]) -> None:
    """Print what :func:`check_algorithm` returns as a table, failures with where to look."""
    rows = [
        (
            name,
            row["state"],
            f"{row['promise']}: {row['detail']}\n{row['where']}" if row["state"] == "fails" else row["detail"],
        )
        for name, row in found["checks"].items()
    ]
    failed = [name for name, row in found["checks"].items() if row["state"] == "fails"]
    title = f"{found['algo']} fails: {', '.join(failed)}" if failed else f"{found['algo']} conforms"
    print_table(title, ("check", "outcome", "found"), rows, wrapped=("found",))


def _to_json(outcome: Outcome, seconds: float) -> dict[str, Any]:
    check = outcome.check
    return {
        "state": outcome.state,
        "promise": check.promise,
        "detail": outcome.detail,
        "where": check.where,
        "cpu_seconds": round(seconds, 2),
    }
