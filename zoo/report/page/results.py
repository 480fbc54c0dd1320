"""A comparison as JSON, for other programs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from zoo.report.comparison import Cell, Comparison, Tally
from zoo.report.cost import Costs
from zoo.report.references import References
from zoo.report.significance import seed_plan
from zoo.report.statistics.estimates import Estimate
from zoo.runs.folder import PHASES
from zoo.runs.scores import SUCCESS


def to_json(
    comparisons: Sequence[Comparison],
    skipped: list[dict[str, str]],
    references: References | None = None,
    costs: Costs | None = None,
) -> dict[str, Any]:
    """Return comparisons as plain values; success rates are fractions, returns are as they are.

    There is one entry for each phase of success rates (None where nothing was evaluated), ``repetitions``, ``methods``
    and ``skipped``. Where there are scores of other kinds, the same phases are under ``return`` and
    ``normalised_return``, beside the ``reference_scores``. ``cost`` has what own methods cost, by machine and number of
    seeds at once.
    """
    first = comparisons[0]  # what is not about scores is the same in all
    # success came first, so that its phases are at the top and other kinds below their names
    result = dict.fromkeys(PHASES)
    other_kinds = {}
    for comparison in comparisons:
        phases = {name: _phase_to_json(comparison, name) for name in PHASES}
        if comparison.kind is SUCCESS:
            result = phases
        else:
            other_kinds[comparison.kind.suffix.removeprefix("_")] = phases
    methods = {}
    for name, method in first.methods.items():
        about = {"algorithm": method.algorithm, "source": method.source}
        methods[name] = about | _tally_to_json(method.tally())
    cost: dict[str, Any] = {}
    if costs:
        for name, group in costs.groups():
            cost.setdefault(name, []).append(group)
    result |= {"repetitions": first.reps, "focus": first.focus, "methods": methods}
    result |= {"skipped": skipped, "resolve": first.resolve, "cost": cost}
    result |= other_kinds
    if references:
        result["reference_scores"] = references
    return result


def _phase_to_json(comparison: Comparison, name: str) -> dict[str, Any] | None:
    """Return one phase as plain values; None where nothing was evaluated."""
    phase = comparison.phases.get(name)
    if phase is None:
        return None
    decision = phase.decision
    steps = set(phase.steps.values())
    chances: dict[str, dict[str, Any]] = {}
    # sorted: two files of the same scores can be compared with `diff`
    for (x, y), pair in sorted(phase.improvements.items()):
        entry = _estimate_to_json(pair.probability)
        entry |= {"p_value": pair.p_value, "p_holm": decision.p_values.get((x, y))}
        if pair.difference is not None:
            plan = seed_plan(comparison, phase, (x, y))  # None where nothing says how runs vary
            entry["difference"] = _estimate_to_json(pair.difference)
            entry["difference"]["seeds_needed"] = plan and plan.seeds
        entry["tasks"] = pair.tasks._asdict()
        chances.setdefault(x, {})[y] = entry
    verdicts: dict[str, dict[str, Any]] = {}
    for verdict in decision.verdicts:
        verdicts[verdict.other] = {"p_holm": verdict.p_value, "verdict": verdict.outcome}
        difference = verdict.improvement.difference
        if difference is not None:
            verdicts[verdict.other] |= {
                "difference": difference.point,
                "verdict_interval": difference.interval,
                "interval_over_tasks": verdict.over_tasks and verdict.over_tasks.interval,
            }
    return {
        "steps": steps.pop() if len(steps) == 1 else None,
        "common_tasks": phase.tasks,
        "suite": phase.suite,
        "left_out_tasks": phase.left_out,
        "stray_methods": phase.strays,
        "aggregates": {
            method: _cell_to_json(cell, comparison.kind.metrics) | {"steps": phase.steps[method]}
            for method, cell in sorted(phase.aggregates.items())
        },
        "tests": decision.tested,
        "probability_of_improvement": chances,
        "verdict_on": decision.subject,
        "verdicts": verdicts,
        "domains": {
            domain: {
                method: _cell_to_json(cell, ("mean", "iqm"))
                for method, cell in sorted(cells.items())
            }
            for domain, cells in sorted(phase.domains.items())
        },
        "tasks": {
            task: {
                method: {
                    "mean": cell.mean.point,
                    "ci95": cell.mean.interval,
                    "seeds": cell.seeds[0],
                    **_tally_to_json(cell.tally),
                }
                for method, cell in sorted(cells.items())
            }
            for task, cells in phase.per_task.items()
        },
    }


def _cell_to_json(cell: Cell, metrics: Sequence[str]) -> dict[str, Any]:
    """Return estimates with the numbers of tasks and seeds that they are from."""
    estimates = {metric: _estimate_to_json(cell.estimates.get(metric)) for metric in metrics}
    about = {"tasks": cell.tasks, "seeds": cell.seeds[0], "most_seeds": cell.seeds[1]}
    return estimates | about | _tally_to_json(cell.tally)


def _tally_to_json(tally: Tally) -> dict[str, int]:
    """Return what became of own runs; nothing for published scores."""
    if tally.started:
        return tally._asdict()
    return {}


def _estimate_to_json(estimate: Estimate | None) -> dict[str, Any]:
    """Return an estimate as plain values; None where it is not known."""
    if estimate is None:
        return {"point": None, "ci95": None, "interval": "none"}
    return {"point": estimate.point, "ci95": estimate.interval, "interval": estimate.kind}
