"""The cost of own runs: updates per second and hours.

Seeds that a process trains at once share its time, so there are two numbers: the hours of a run as one waits for it,
and the hours per seed, which is that divided by the number of seeds. Runs of different machines, or of different
numbers of seeds at once, are never mixed. Published runs have no times.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from zoo.report.inputs import Inputs
from zoo.runs.folder import RunFolder, UnreadableRun
from zoo.runs.read import read_times

NUMBERS = {
    "updates_per_second": "updates/s",
    "hours_per_run": "hours per run",
    "hours_per_seed": "hours per seed",
}
"""Numbers of a run's cost -> what tables call them."""


@dataclass(frozen=True)
class Costs:
    """The cost of own runs.

    :param runs: one row for each run that finished and counts: ``method``, ``machine``, ``seeds_at_once``, `NUMBERS`.
    :param unknown: path of a run that counts -> why its times are not known.
    """

    runs: pd.DataFrame
    unknown: Mapping[str, str]

    def groups(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield a method and the cost of its ``runs`` on one ``machine`` with as many ``seeds_at_once``.

        Of each of `NUMBERS` that is the ``median``, ``min`` and ``max``, or None where no run knows it; in all it is
        ``total_hours``.
        """
        key = ["method", "machine", "seeds_at_once"]
        for (method, machine, replicas), runs in self.runs.groupby(key):
            costs: dict[str, Any] = {"machine": machine, "seeds_at_once": int(replicas)}
            costs["runs"] = len(runs)
            for name in NUMBERS:
                statistics = runs[name].agg(["median", "min", "max"]).to_dict()
                costs[name] = statistics if runs[name].notna().any() else None
            costs["total_hours"] = float(runs["hours_per_seed"].sum())
            yield method, costs


def read_costs(inputs: Inputs) -> Costs:
    """Return the times of the own runs that finished and count."""
    runs = inputs.own_runs.runs
    rows = list[dict[str, Any]]()
    unknown = dict[str, str]()
    counted = runs[runs["problem"].isna() & runs["run"].isin(inputs.evaluations["run"])]
    for method, run in zip(counted["method"], counted["run"], strict=True):
        try:
            rows.append({"method": method, **read_times(RunFolder(Path(run)))})
        except (UnreadableRun, OSError) as error:
            unknown[run] = error.reason if isinstance(error, UnreadableRun) else str(error.strerror)
    table = pd.DataFrame(rows, columns=["method", "machine", "seeds_at_once", *NUMBERS])
    return Costs(table.astype(dict.fromkeys(NUMBERS, float)), unknown)
