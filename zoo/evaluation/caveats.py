"""What a reader must know before believing a number of a report."""

from __future__ import annotations

from zoo.evaluation.comparison import Comparison
from zoo.evaluation.statistics import FEW_SEEDS
from zoo.evaluation.tables import uneven_seeds
from zoo.run import RunTables


def warnings(comparison: Comparison, own: RunTables) -> list[str]:
    """Return what a reader must know before believing a number.

    :param comparison: the comparison.
    :param own: own runs, those that do not count included.
    :return: sentences.
    """
    result = []
    skipped = own.skipped()
    if skipped:
        result.append(f"{len(skipped)} of {len(own.runs)} run folders are not counted; they are listed below.")
    seeds: dict[str, int] = {}
    for phase in comparison.phases.values():
        for name, cell in phase.aggregates.items():
            if comparison.methods[name].source == "own" or cell.estimates["mean"].interval is not None:
                seeds[name] = min(seeds.get(name, cell.seeds[0]), cell.seeds[0])
        if phase.left_out:
            missing = "; ".join(f"{task} ({', '.join(names)})" for task, names in phase.left_out.items())
            result.append(f"{phase.name}: aggregates leave out tasks that some methods lack: {missing}.")
        if phase.common_step is None:
            result.append(f"{phase.name}: methods were scored at different steps; see the table of aggregates.")
        if uneven := uneven_seeds(phase):
            result.append(f"{phase.name}: unequal numbers of seeds between tasks: {', '.join(uneven)}.")
    one = [name for name, number in seeds.items() if number == 1]
    few = [f"{name} ({number})" for name, number in seeds.items() if 1 < number < FEW_SEEDS]
    if one:
        result.append(f"One seed gives no interval: {', '.join(one)}.")
    if few:
        result.append(
            f"Fewer than {FEW_SEEDS} seeds: {', '.join(few)}. Means have t-intervals; bootstrap intervals (IQM, "
            "median, profiles, probabilities) are too narrow."
        )
    return result
