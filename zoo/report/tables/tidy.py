"""What a report is drawn from as tidy tables: one row for each number, enough to draw every figure again."""

from __future__ import annotations

import gzip
from collections.abc import Sequence

import pandas as pd

from zoo.report.comparison import Comparison, Phase
from zoo.report.statistics.estimates import Curve
from zoo.texts import csv_cells

_EVALUATION = (
    "method", "environment", "domain", "seed", "phase", "step", "successes", "episodes", "kind", "score", "return",
    "length", "source", "run",
)  # fmt: skip
_TEXTS = ("method", "task", "domain", "phase", "kind", "source", "run")
CURVE_COLUMNS = ("method", "kind", "phase", "where", "metric", "step", "value", "low", "high", "seeds")
PROFILE_COLUMNS = ("method", "kind", "phase", "tau", "fraction", "low", "high", "seeds")
ALL_TASKS = "all"
"""What `curves` calls the tasks that all methods with single runs have."""
LARGEST_CSV = 10_000_000
"""The most characters of a CSV file; a larger table is compressed, to about a thirtieth."""


def evaluations_table(evaluations: pd.DataFrame) -> pd.DataFrame:
    """Return every evaluation of every run that counts, sorted; the environment is the task."""
    found = evaluations.reindex(columns=list(_EVALUATION)).rename(columns={"environment": "task"})
    found = found.astype(dict.fromkeys(_TEXTS, "category"))  # hundreds of thousands of rows share few texts
    return found.sort_values(["method", "task", "seed", "phase", "step"], kind="stable").reset_index(drop=True)


def curves_table(comparisons: Sequence[Comparison]) -> pd.DataFrame:
    """Return the points of every learning curve: those over all tasks, then those of each domain."""
    rows = [
        {"method": name, "kind": comparison.kind.name, "phase": phase.name, "where": where, "metric": metric}
        | {"step": int(step)}
        | _values(curve, k, "value")
        | {"seeds": _seeds(phase, name, phase.tasks if where == ALL_TASKS else phase.domain_tasks[where])}
        for comparison in comparisons
        for phase in comparison.phases.values()
        for where, curves in {ALL_TASKS: phase.curves, **phase.domain_curves}.items()
        for name, found in curves.items()
        for metric, curve in (("mean", found.mean), ("iqm", found.iqm))
        if curve is not None
        for k, step in enumerate(found.steps)
    ]
    return pd.DataFrame(rows, columns=list(CURVE_COLUMNS))


def profiles_table(comparisons: Sequence[Comparison]) -> pd.DataFrame:
    """Return the points of every performance profile: the fraction of runs whose score is above ``tau``."""
    rows = [
        {"method": name, "kind": comparison.kind.name, "phase": phase.name, "tau": float(tau)}
        | _values(curve, k, "fraction")
        | {"seeds": _seeds(phase, name, phase.tasks)}
        for comparison in comparisons
        for phase in comparison.phases.values()
        for name, curve in phase.profiles.items()
        for k, tau in enumerate(phase.thresholds)
    ]
    return pd.DataFrame(rows, columns=list(PROFILE_COLUMNS))


def csv_file(name: str, table: pd.DataFrame) -> tuple[str, str | bytes]:
    """Return the name and the content of a table's file: ``NAME.csv``, or ``NAME.csv.gz`` where that is large."""
    text = csv_cells(table).to_csv(index=False)
    if len(text) <= LARGEST_CSV:
        return f"{name}.csv", text
    return f"{name}.csv.gz", gzip.compress(text.encode(), compresslevel=3, mtime=0)  # the same input, the same bytes


def _values(curve: Curve, index: int, name: str) -> dict[str, float | None]:
    """Return one point with its bounds, which are None where the data allow none."""
    estimate = curve.estimate(index)
    low, high = estimate.interval or (None, None)
    return {name: estimate.point, "low": low, "high": high}


def _seeds(phase: Phase, method: str, tasks: Sequence[str]) -> int:
    """Return the smallest number of seeds of a method on a task."""
    return min((phase.per_task[task][method].seeds[0] for task in tasks if method in phase.per_task[task]), default=0)
