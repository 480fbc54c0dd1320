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

from zoo.messages import log
from zoo.report.inputs import Inputs
from zoo.runs.folder import RunFolder, UnreadableRun
from zoo.runs.protocol import count
from zoo.runs.times import Times, read_times


@dataclass(frozen=True)
class RunCost:
    """How long one finished run has taken.

    :param pretraining: how many of its steps came before step 0 of its evaluations.
    """

    method: str
    environment: str
    kind: str
    run: str
    pretraining: int
    times: Times

    @property
    def setup(self) -> tuple[str, int]:
        """What may be compared: the machine, and how many seeds it trained at once."""
        return self.times.machine, self.times.replicas


@dataclass(frozen=True)
class Costs:
    """What own runs cost.

    :param runs: of the methods of a comparison, in the order of the run folders.
    :param unknown: path of a run that counts -> why its times are not known.
    """

    runs: Sequence[RunCost] = ()
    unknown: Mapping[str, str] = field(default_factory=dict)

    def groups(self) -> dict[tuple[str, str, int], list[RunCost]]:
        """Return (method, machine, seeds at once) -> runs."""
        found: dict[tuple[str, str, int], list[RunCost]] = {}
        for cost in self.runs:
            found.setdefault((cost.method, *cost.setup), []).append(cost)
        return found


NO_COSTS = Costs()
COST_NUMBERS = ("updates_per_second", "hours_per_run", "hours_per_seed")
"""What `cost_numbers` returns."""


def read_costs(inputs: Inputs) -> Costs:
    """Return the times of the own runs that finished and count; one with a damaged log is named."""
    runs = inputs.own.runs
    if runs.empty or inputs.evaluations.empty:
        return Costs()
    counted = runs[runs["problem"].isna() & runs["run"].isin(inputs.evaluations["run"])]
    found, unknown = [], {}
    for row in counted.to_dict("records"):
        try:
            times = read_times(RunFolder(Path(row["run"])))
        except (UnreadableRun, OSError) as error:
            reason = error.reason if isinstance(error, UnreadableRun) else str(error.strerror)
            unknown[row["run"]] = reason
            continue
        pretraining = 0 if row["pretrained_actor"] else int(row["pretraining_steps"])
        found.append(RunCost(row["method"], row["environment"], row["kind"], row["run"], pretraining, times))
    damaged = [run for run in unknown if RunFolder(Path(run)).progress.exists()]
    if damaged:
        number = count(len(damaged), "run")
        log.info("the time of %s is not known, e.g. %s: %s", number, damaged[0], unknown[damaged[0]])
    return Costs(found, unknown)


def cost_numbers(runs: Sequence[RunCost]) -> dict[str, dict[str, float] | None]:
    """Return the ``median``, ``min`` and ``max`` of each of `COST_NUMBERS` over runs; None where no run knows it."""
    times = [cost.times for cost in runs]
    columns = (
        [time.updates_per_second for time in times],
        [time.hours for time in times],
        [time.hours_per_seed for time in times],
    )
    result: dict[str, dict[str, float] | None] = {}
    for name, column in zip(COST_NUMBERS, columns, strict=True):
        known = [value for value in column if value is not None]
        result[name] = {"median": median(known), "min": min(known), "max": max(known)} if known else None
    return result
