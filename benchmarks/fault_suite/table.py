"""The table of a suite of faults."""

from __future__ import annotations

import datetime
import shlex
import sys
from collections.abc import Sequence

from benchmarks.fault_suite.kind import Kind
from benchmarks.fault_suite.runner import Outcome
from zoo.runs.versions import describe_versions

HEAD = "| fault | promised | tries | as promised | lost |\n|---|---|---|---|---|"

LOST = (
    "Lost is: a result that differs in silence, work that is gone although an intact copy was there, code of a "
    "stranger that ran, a hang, or a traceback or another exit code in the place of a message."
)


def write_table(outcomes: Sequence[Outcome], kinds: Sequence[Kind], origin: str) -> str:
    """Return the report: a row for each kind, and how to repeat what is lost.

    :param origin: what :func:`describe_origin` returned before the first try.
    """
    rows = [_row(f"{kind.fault} (`{kind.id}`)", kind.promise, _of(outcomes, kind)) for kind in kinds]
    total = _row("**all**", "", outcomes)
    minutes = sum(each.seconds for each in outcomes) / 60
    parts = ["# Faults", f"{origin}; {minutes:.0f} minutes of tries.", LOST, "\n".join([HEAD, *rows, total])]
    skipped = sorted({f"- `{each.kind.id}`: {each.skipped}" for each in outcomes if each.skipped})
    if skipped:
        parts += ["Not tried here:", "\n".join(skipped)]
    lost = [f"- `{each.command}`: {_one_line(each.lost)}" for each in outcomes if each.lost]
    if lost:
        parts += ["Lost:", "\n".join(lost)]
    return "\n\n".join(parts) + "\n"


def _of(outcomes: Sequence[Outcome], kind: Kind) -> list[Outcome]:
    return [each for each in outcomes if each.kind is kind]


def _row(fault: str, promise: str, outcomes: Sequence[Outcome]) -> str:
    tried = [each for each in outcomes if each.skipped is None]
    lost = sum(each.lost is not None for each in tried)
    cells = [fault, promise, len(tried), len(tried) - lost, lost]
    return f"| {' | '.join(map(str, cells))} |"


def describe_origin() -> str:
    """Return command, date, commit and versions."""
    versions = describe_versions("cpu", None)
    packages = ", ".join(f"{name} {version}" for name, version in versions["packages"].items() if version)
    command = shlex.join(["python", "benchmarks/faults.py", *sys.argv[1:]])
    today = datetime.datetime.now(datetime.UTC).date()
    return (
        f"`{command}`, {today}, commit {versions['git_commit']}, Python {versions['python']}, {packages}, "
        f"{versions['platform']}"
    )


def _one_line(text: str | None) -> str:
    return " ".join((text or "").split())[:600]
