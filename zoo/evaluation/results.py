"""A comparison as plain values, for other programs."""

from __future__ import annotations

from typing import Any

from zoo.evaluation import statistics
from zoo.evaluation.comparison import Cell, Comparison, Phase
from zoo.evaluation.statistics import Estimate
from zoo.run_evaluations import PHASES


def to_json(comparison: Comparison, skipped: list[dict[str, str]]) -> dict[str, Any]:
    """Return a comparison as plain values; scores are fractions.

    :param comparison: the comparison.
    :param skipped: the runs that were not counted, with reasons.
    :return: one entry a phase (None where nothing was evaluated), ``repetitions``, ``methods`` and ``skipped``.
    """
    phases = {name: _phase_to_json(comparison.phases[name]) if name in comparison.phases else None for name in PHASES}
    methods = {name: {"algorithm": m.algorithm, "source": m.source} for name, m in comparison.methods.items()}
    return {**phases, "repetitions": comparison.reps, "methods": methods, "skipped": skipped}


def _phase_to_json(phase: Phase) -> dict[str, Any]:
    """Return one phase as plain values."""
    chances: dict[str, dict[str, Any]] = {}
    for (x, y), improvement in sorted(phase.improvements.items()):
        entry = _estimate_to_json(improvement.probability)
        chances.setdefault(x, {})[y] = entry | {"difference": _estimate_to_json(improvement.difference)}
    return {
        "steps": phase.common_step,
        "common_tasks": list(phase.tasks),
        "left_out_tasks": dict(phase.left_out),
        "aggregates": {
            method: {
                **{metric: _estimate_to_json(cell.estimates.get(metric)) for metric in statistics.METRICS},
                **_counts(cell),
                "steps": phase.steps[method],
            }
            for method, cell in sorted(phase.aggregates.items())
        },
        "probability_of_improvement": chances,
        "domains": {
            domain: {
                method: {
                    **{metric: _estimate_to_json(cell.estimates.get(metric)) for metric in ("mean", "iqm")},
                    **_counts(cell),
                }
                for method, cell in sorted(cells.items())
            }
            for domain, cells in sorted(phase.domains.items())
        },
        "tasks": {
            task: {
                method: {
                    "mean": cell.estimates["mean"].point,
                    "ci95": _estimate_to_json(cell.estimates["mean"])["ci95"],
                    "seeds": cell.seeds[0],
                }
                for method, cell in sorted(cells.items())
            }
            for task, cells in phase.per_task.items()
        },
    }


def _estimate_to_json(estimate: Estimate | None) -> dict[str, Any]:
    """Return an estimate as plain values; None where it is not known."""
    if estimate is None:
        return {"point": None, "ci95": None, "interval": "none"}
    interval = None if estimate.interval is None else list(estimate.interval)
    return {"point": estimate.point, "ci95": interval, "interval": estimate.kind}


def _counts(cell: Cell) -> dict[str, int]:
    """Return how many tasks and seeds an estimate is from."""
    return {"tasks": cell.tasks, "seeds": cell.seeds[0], "most_seeds": cell.seeds[1]}
