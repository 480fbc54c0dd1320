"""What own runs cost: updates per second and hours.

Seeds that a process trains at once share its time, so there are two numbers: the hours of a run as one waits for it,
and the hours per seed, which is that divided by the number of seeds. Runs of different machines, or of different
numbers of seeds at once, are never mixed. Published runs have no times.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from zoo.report.inputs import Inputs
from zoo.runs.folder import RunFolder, UnreadableRun
from zoo.runs.read import Times, read_times


@dataclass(frozen=True)
class Costs:
    """What own runs cost.

    :param groups: (method, machine, seeds at once) -> how long each of its finished runs took.
    :param unknown: path of a run that counts -> why its times are not known.
    """

    groups: Mapping[tuple[str, str, int], Sequence[Times]] = field(default_factory=dict)
    unknown: Mapping[str, str] = field(default_factory=dict)


COST_NUMBERS = ("updates_per_second", "hours_per_run", "hours_per_seed")
"""What `cost_numbers` returns."""


def read_costs(inputs: Inputs) -> Costs:
    """Return the times of the own runs that finished and count."""
    runs = inputs.own.runs
    if runs.empty or inputs.evaluations.empty:
        return Costs()
    counted = runs[runs["problem"].isna() & runs["run"].isin(inputs.evaluations["run"])]
    groups: dict[tuple[str, str, int], list[Times]] = {}
    unknown = {}
    for row in counted.to_dict("records"):
        try:
            times = read_times(RunFolder(Path(row["run"])))
        except (UnreadableRun, OSError) as error:
            unknown[row["run"]] = error.reason if isinstance(error, UnreadableRun) else str(error.strerror)
            continue
        groups.setdefault((row["method"], times.machine, times.replicas), []).append(times)
    return Costs(groups, unknown)


def cost_numbers(runs: Sequence[Times]) -> dict[str, dict[str, float] | None]:
    """Return the ``median``, ``min`` and ``max`` of each of `COST_NUMBERS` over runs; None where no run knows it."""
    values = [(times.updates_per_second, times.hours, times.hours_per_seed) for times in runs]
    result: dict[str, dict[str, float] | None] = {}
    for name, column in zip(COST_NUMBERS, zip(*values, strict=True), strict=True):
        known = [value for value in column if value is not None]
        result[name] = {"median": median(known), "min": min(known), "max": max(known)} if known else None
    return result
