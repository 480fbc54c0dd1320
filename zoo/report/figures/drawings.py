"""What every figure shows, as plain data: `page/templates/figures.js` draws it on the page, `plots.py` in files.

Every number is there once, rounded a little finer than it is written. Methods and domains are indices into the lists
``methods`` and ``domains``; scores are in the units of the axes (success in percent).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, TypeAlias

import numpy as np
import pandas as pd

from zoo.report.comparison import OWN, Cell, Comparison, LearningCurve, Phase, baseline_of, ranking
from zoo.report.figures.styles import method_styles, named_methods
from zoo.report.scores_file import last_evaluations
from zoo.report.statistics.estimates import Array, Curve, Estimate
from zoo.report.tables.entries import SHOWN_METRICS, digits_of, number_entry, range_text
from zoo.report.tables.scores import finished_text
from zoo.runs.history import PHASES
from zoo.runs.read import short_name
from zoo.runs.scores import METRICS, RETURN, SUCCESS, Kind

Drawing: TypeAlias = dict[str, Any]
Panel: TypeAlias = dict[str, Any]
Curves = Mapping[str, LearningCurve]
"""Method -> its learning curve in one phase."""
_MARKERS = {"o": "circle", "s": "square", "^": "triangle", "D": "diamond", "v": "wye", "P": "cross", "X": "star"}
_FEWEST_FENCED = 8  # methods, fewer than which are all inside of an axis
_WHOLE = ", whole"  # what a domain's name ends in where only some of its tasks were run


class Names:
    """The methods and domains that a reader can hide, and where tables and figures are about them."""

    def __init__(self, comparisons: Sequence[Comparison]) -> None:
        methods = comparisons[0].methods
        self.methods = list(dict.fromkeys(name for found in comparisons for name in ranking(found)))
        self._methods = {name: k for k, name in enumerate(self.methods)}
        self._titles = {methods[name].title: k for name, k in self._methods.items()} | self._methods
        domain_tasks = [p.domain_tasks for found in comparisons for p in found.phases.values()]
        self.domains = sorted({_plain(domain) for tasks in domain_tasks for domain in tasks})
        self._domains: dict[str, int] = {}
        for found in domain_tasks:
            for domain, tasks in found.items():
                place = self.domains.index(_plain(domain))
                texts = [domain, f"{domain} ({len(tasks)})", *tasks, *map(short_name, tasks)]
                self._domains |= dict.fromkeys(texts, place)

    def method(self, text: str) -> int | None:
        """Return the method that a name or title is of."""
        return self._titles.get(text)

    def domain(self, text: str) -> int | None:
        """Return the domain that is called so, as the heading of a column too, or that a task belongs to."""
        return self._domains.get(text)

    def about(self, *texts: str) -> tuple[int | None, int | None]:
        """Return the method and the domain that the heading of a column, or the texts of a row, are about."""
        methods, domains = map(self.method, texts), map(self.domain, texts)
        return next((k for k in methods if k is not None), None), next((k for k in domains if k is not None), None)


def _plain(domain: str) -> str:
    return domain.removesuffix(_WHOLE)


def phase_of(name: str) -> str:
    """Return the phase that a table is about, by its name; empty if it is about none or all."""
    return next((phase for phase in PHASES if phase in name.split("_")), "")


def page_data(comparisons: Sequence[Comparison], evaluations: pd.DataFrame, names: Names) -> dict[str, Any]:
    """Return everything that the page's script needs.

    :param evaluations: of all runs that count, columns `zoo.runs.read.EVALUATION_COLUMNS`.
    """
    first = comparisons[0]
    looks = method_styles(first.methods)
    methods = [
        {"name": name, "title": first.methods[name].title, "isOwn": looks[name].is_own}
        | {"isMuted": first.focus in names.methods and name != first.focus}
        | {"dash": [] if looks[name].dash == "-" else looks[name].dash[1], "marker": _MARKERS[looks[name].marker]}
        for name in names.methods
    ]
    drawings = [drawing for comparison in comparisons for drawing in drawings_of(comparison, names, evaluations)]
    phases = [name for name in PHASES if any(name in comparison.phases for comparison in comparisons)]
    return {"methods": methods, "domains": names.domains, "phases": phases, "drawings": drawings}


def colours(comparisons: Sequence[Comparison], names: Names) -> list[tuple[str, str]]:
    """Return the colour of each method on white and on dark ground."""
    looks = method_styles(comparisons[0].methods)
    return [(looks[name].colour, looks[name].dark) for name in names.methods]


def drawings_of(comparison: Comparison, names: Names, evaluations: pd.DataFrame | None = None) -> list[Drawing]:
    """Return every figure of a comparison that has something to show.

    :param evaluations: of all runs that count; None leaves out the figure of single runs.
    """
    of_phases: dict[tuple[str, str], Callable[[Comparison, Phase, Names], Iterator[Panel]]] = {
        ("verdict", "intervals"): _verdict,
        ("aggregates", "intervals"): _aggregates,
        ("profiles", "curves"): _profiles,
        ("improvement", "intervals"): _improvement,
        ("pairs", "matrix"): _pairs,
        ("heat_map", "heat"): _heat_map,
    }
    if evaluations is not None:
        of_phases["runs", "runs"] = partial(_runs, evaluations)
    found = {
        key: [
            panel | {"phase": phase.name}
            for phase in comparison.phases.values()
            for panel in make(comparison, phase, names)
        ]
        for key, make in of_phases.items()
    }
    found["sample_efficiency", "curves"] = list(_sample_efficiency(comparison, names))
    found["domains" if comparison.kind is SUCCESS else "environments", "curves"] = list(_domains(comparison, names))
    suffix = comparison.kind.suffix
    return [
        {"name": f"{name}{suffix}", "type": kind, "panels": panels} for (name, kind), panels in found.items() if panels
    ]


# -- panels about one phase -------------------------------------------------------------------------------------------


def _verdict(comparison: Comparison, phase: Phase, names: Names) -> Iterator[Panel]:
    """Yield how far the subject of a phase's verdict is ahead of each other method, in words too."""
    kind = comparison.kind
    if not (found := phase.decision.verdicts):
        return
    subject = comparison.methods[str(phase.decision.subject)].title
    about: dict[str, Any] = {"title": f"{phase.name}{kind.title}: {subject} against"}
    about["words"] = {v.other: v.outcome for v in found}
    differences = {v.other: v.improvement.difference for v in found}
    if all(differences.values()):
        about |= {"label": f"difference of means ({_unit(kind)})", "zero": 0.0, "scale": kind.scale}
        about["margin"] = 0.0 if kind is RETURN else kind.scale * comparison.resolve
        yield _panel(comparison, phase, names, differences, **about)
    else:
        chances = {v.other: v.improvement.probability for v in found}
        about |= {"label": "probability of improvement", "zero": 0.5, "limits": (0, 1)}
        yield _panel(comparison, phase, names, chances, **about)


def _aggregates(comparison: Comparison, phase: Phase, names: Names) -> Iterator[Panel]:
    """Yield the mean and the IQM, both on the axis of all their intervals."""
    kind, found = comparison.kind, []
    order = [name for name in ranking(comparison, phase) if name in phase.aggregates]
    for metric in SHOWN_METRICS if order else ():
        estimates = {name: phase.aggregates[name].estimates.get(metric) for name in order}
        title, note = f"{phase.name}, {METRICS[metric]}{kind.title}", phase.tasks_label
        about: dict[str, Any] = {"title": title, "label": kind.unit, "scale": kind.scale, "note": note}
        found.append(_panel(comparison, phase, names, estimates, **about))
    rows = [row for panel in found for row in panel["rows"]]
    yield from (panel | {"limits": _limits(rows, len(order))} for panel in found)


def _improvement(comparison: Comparison, phase: Phase, names: Names) -> Iterator[Panel]:
    """Yield the probability of improvement over the baseline and, where scores can be averaged, the difference."""
    kind, baseline = comparison.kind, baseline_of(comparison)
    pairs = {name: phase.improvements.get((name, baseline)) for name in ranking(comparison, phase)}
    found = {name: pair for name, pair in pairs.items() if pair is not None}
    differences = {name: pair.difference for name, pair in found.items()}
    if found:
        chances = {name: pair.probability for name, pair in found.items()}
        about: dict[str, Any] = {"label": f"probability against {baseline}", "zero": 0.5, "limits": (0, 1)}
        yield _panel(comparison, phase, names, chances, title=f"{phase.name}, probability of improvement", **about)
    if any(differences.values()):
        about = {"label": f"{_unit(kind)} against {baseline}", "zero": 0.0, "scale": kind.scale}
        yield _panel(comparison, phase, names, differences, title=f"{phase.name}, difference of means", **about)


def _panel(
    comparison: Comparison,
    phase: Phase,
    names: Names,
    estimates: Mapping[str, Estimate | None],
    *,
    title: str,
    label: str,
    scale: float = 1.0,
    zero: float | None = None,
    limits: tuple[float, float] | None = None,
    note: str = "",
    margin: float = 0.0,
    words: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Return estimates of several methods on one axis, the first one on top.

    :param scale: what an estimate is multiplied by before it is drawn.
    :param zero: where there is no difference.
    :param limits: of the axis; None fits them to the intervals.
    :param note: a second line below the label.
    :param margin: half the width of a band around `zero`.
    :param words: what is said of each method at the other side.
    """
    digits = digits_of(comparison.kind, estimates.values()) if limits is None else 2
    rows = [
        {"m": names.method(method), **_point(estimate, scale, digits)}
        | {"seeds": _seeds(phase, method, phase.tasks), "step": phase.steps.get(method)}
        | ({"word": words[method]} if words else {})
        for method, estimate in estimates.items()
        if estimate is not None
    ]
    if limits is None:
        limits = _limits(rows, len(estimates), zero, margin)
    about: dict[str, Any] = {"title": title, "label": label, "note": note, "digits": digits}
    about |= {"zero": zero, "limits": _rounded(limits, 3), "margin": margin}
    return about | {"named": _named(comparison, names, phase), "rows": rows}


def _limits(
    rows: Sequence[Mapping[str, Any]], methods: int, zero: float | None = None, margin: float = 0.0
) -> tuple[float, float]:
    """Return the limits of an axis that holds the intervals of its rows.

    Methods that are far worse than most (outside of Tukey's fence) would press these together, so they are left out;
    beside a verdict, those that are far behind.
    """
    low, high = np.percentile([row["value"] for row in rows], [25, 75])
    reach = 1.5 * (high - low) if methods >= _FEWEST_FENCED else math.inf
    first = low - reach if zero is None else -math.inf
    last = high + reach if "word" in rows[0] else math.inf
    kept = [row for row in rows if first <= row["value"] <= last]
    ends = [value for row in kept for value in (row["value"], *row.get("interval", ()))]
    if zero is not None:
        ends += [zero - margin, zero + margin]
    low, high = min(ends), max(ends)
    room = 0.06 * (high - low or abs(high) or 1.0)
    return (low - room, high + room)


def _unit(kind: Kind) -> str:
    return "points" if kind is SUCCESS else kind.unit


def _profiles(comparison: Comparison, phase: Phase, names: Names) -> Iterator[Panel]:
    """Yield the performance profiles."""
    kind = comparison.kind
    digits = 3 if kind.scale > 1 else kind.digits(phase.thresholds) + 1
    steps = "" if phase.common_step is None else f", {phase.common_step:,} steps"
    lines = [
        {"m": names.method(name), "phase": phase.name, "seeds": _seeds(phase, name, phase.tasks)}
        | _line(phase.thresholds, curve, 1, digits, 3)
        for name, curve in phase.profiles.items()
    ]
    if lines:
        limits = (0, 1) if kind is SUCCESS else _rounded((phase.thresholds[0], phase.thresholds[-1]), digits)
        label = f"{'score' if kind is SUCCESS else kind.name} τ"
        about = {"title": f"{phase.name}{steps}{kind.title}", "named": _named(comparison, names, phase)}
        x = {"label": label, "limits": limits, "digits": digits, "kind": "tau"}
        yield about | {
            "lines": lines,
            "x": x,
            "y": {"label": "fraction of runs above τ", "limits": [0, 1], "digits": 2},
        }


def _pairs(comparison: Comparison, phase: Phase, names: Names) -> Iterator[Panel]:
    """Yield how every method compares with every other, where there are more than two."""
    kind, family = comparison.kind, phase.decision.family
    digits = digits_of(kind, (pair.difference for pair in phase.improvements.values()))
    cells = [
        {"m": names.method(x), "other": names.method(y), **_point(pair.probability, 1, 2)}
        | ({} if pair.difference is None else {"difference": _point(pair.difference, kind.scale, digits)})
        | {"isClear": family.is_clear(x, y), "seeds": _seeds(phase, x, phase.tasks)}
        for (x, y), pair in phase.improvements.items()
    ]
    if len(cells) > 2:  # one pair has two directions
        about = {"title": f"{phase.name}{kind.title}", "unit": _unit(kind)}
        yield about | {"cells": cells, "methods": _order(comparison, phase, names)}


def _heat_map(comparison: Comparison, phase: Phase, names: Names) -> Iterator[Panel]:
    """Yield the mean of each method on each task, and how bright its cell is, from 0 to 1.

    Returns have no common scale, so a cell lies between the worst and the best method of its row.
    """
    kind, cells = comparison.kind, []
    everything = [cell.estimates["mean"].point for found in phase.per_task.values() for cell in found.values()]
    if len(phase.per_task) < 2:
        return
    for k, found in enumerate(phase.per_task.values()):
        points = everything if kind.is_comparable else [cell.estimates["mean"].point for cell in found.values()]
        low, high = (0.0, 1.0) if kind is SUCCESS else (min(points), max(points))
        digits = digits_of(kind, (cell.estimates["mean"] for cell in found.values()))
        for name, cell in found.items():
            mean, seeds = cell.estimates["mean"], range_text(cell.seeds) + finished_text(cell.tally)
            shade = (mean.point - low) / (high - low) if high > low else 0.5
            cells.append({"m": names.method(name), "task": k, "shade": round(shade, 3), "seeds": seeds})
            cells[-1] |= _point(mean, kind.scale, digits)
    tasks = [{"name": short_name(task), "domain": names.domain(task)} for task in phase.per_task]
    limits = (0, 1) if kind is SUCCESS else (min(everything), max(everything))
    about = {"title": f"{phase.name}{kind.title}", "label": kind.unit, "limits": _rounded(limits, 3, kind.scale)}
    yield about | {"tasks": tasks, "cells": cells, "methods": _order(comparison, phase, names)}


def _runs(evaluations: pd.DataFrame, comparison: Comparison, phase: Phase, names: Names) -> Iterator[Panel]:
    """Yield the last score of each own run."""
    kind = comparison.kind
    is_shown = (evaluations["source"] == OWN) & (evaluations["kind"] == kind.name)
    last = last_evaluations(evaluations[is_shown & (evaluations["phase"] == phase.name)])
    if not len(last) or (not kind.is_comparable and last["environment"].nunique() > 1):
        return
    digits = kind.digits(last["score"])
    points = [
        {"m": names.method(row["method"]), "domain": names.domain(row["environment"])}
        | {"task": short_name(row["environment"]), "seed": int(row["seed"]), "step": int(row["step"])}
        | {"value": round(kind.scale * float(row["score"]), digits + 1), "run": str(row["run"])}
        for row in last.to_dict("records")
    ]
    limits = _score_limits(kind, [Curve(last["score"].to_numpy())])
    about = {"title": f"{phase.name}{kind.title}", "label": kind.unit, "digits": digits, "points": points}
    yield about | {"limits": _rounded(limits, digits + 1), "methods": _order(comparison, phase, names)}


# -- learning curves, which go on from one phase to the next ----------------------------------------------------------


def _sample_efficiency(comparison: Comparison, names: Names) -> Iterator[Panel]:
    """Yield the curves over all tasks, of the mean and of the IQM."""
    kind = comparison.kind
    parts = [phase.curves for phase in comparison.phases.values()]
    both = [curve for part in parts for found in part.values() for curve in (found.mean, found.iqm)]
    for metric in SHOWN_METRICS if any(parts) else ():
        axis = _scores_axis(kind, both, f"{kind.unit}, {comparison.curves_label}")
        yield _curve_panel(comparison, parts, metric, names) | {"title": METRICS[metric] + kind.title, "y": axis}


def _domains(comparison: Comparison, names: Names) -> Iterator[Panel]:
    """Yield the curves over the tasks of each domain."""
    kind, phases = comparison.kind, comparison.phases.values()
    for domain in sorted({domain for phase in phases for domain, curves in phase.domain_curves.items() if curves}):
        parts = [phase.domain_curves.get(domain, {}) for phase in phases]
        axis = _scores_axis(kind, [curve.mean for part in parts for curve in part.values()], kind.unit)
        about = {"title": domain, "domain": names.domain(domain), "y": axis}
        yield _curve_panel(comparison, parts, "mean", names) | about


def _curve_panel(comparison: Comparison, parts: Sequence[Curves], metric: str, names: Names) -> dict[str, Any]:
    """Return the learning curves of all phases; the first point of an online one may be the last offline one."""
    kind, phases = comparison.kind, list(comparison.phases.values())
    lines: list[dict[str, Any]] = []
    for k, name, steps, curve in _joined_curves(parts, metric):
        found = parts[k][name]
        lines.append({"m": names.method(name), "phase": phases[k].name, "seeds": range_text(found.seeds)})
        lines[-1] |= _line(steps, curve, kind.scale, 0, _digits(kind, [curve]))
        lines[-1] |= {"isJoined": len(steps) > len(found.steps)}
    axis = {"label": "steps", "limits": [0, max(line["x"][-1] for line in lines)], "digits": 0, "kind": "steps"}
    return {"lines": lines, "border": _end_of_offline(parts), "x": axis, "named": _named(comparison, names)}


def _joined_curves(parts: Sequence[Curves], metric: str) -> Iterator[tuple[int, str, np.ndarray, Curve]]:
    """Yield phase (its index), method, steps and curve; a method's next phase starts where its last one ended."""
    ends: dict[str, tuple[np.ndarray, Curve]] = {}
    border = _end_of_offline(parts) or 0
    for phase, part in enumerate(parts):
        for name, found in part.items():
            steps, curve = found.steps, getattr(found, metric)
            if part is not parts[0] and name not in parts[0] and steps[0] < border:
                steps = steps + border  # a method that starts online begins where the others go online
            if name in ends:
                steps, curve = _joined(*ends[name], steps, curve)
            yield phase, name, steps, curve
            ends[name] = (steps, curve)


def _joined(before: np.ndarray, start: Curve, steps: np.ndarray, curve: Curve) -> tuple[np.ndarray, Curve]:
    """Return a curve that starts with the last point of the one before it."""
    bounds = None
    if start.bounds is not None and curve.bounds is not None:
        bounds = np.concatenate([start.bounds[:, -1:], curve.bounds], axis=1)
    points = np.concatenate([start.points[-1:], curve.points])
    return np.concatenate([before[-1:], steps]), Curve(points, bounds, curve.kind)


def _end_of_offline(parts: Sequence[Curves]) -> int | None:
    """Return the last offline step if an online phase follows and all methods share it."""
    ends = {int(curve.steps[-1]) for curve in parts[0].values()}
    return ends.pop() if len(parts) == 2 and len(ends) == 1 else None


def _score_limits(kind: Kind, curves: Sequence[Curve | None]) -> tuple[float, float]:
    """Return the range of an axis of scores.

    With two seeds a band is many times as wide as the curves differ, so it may be cut: at most two thirds of the axis
    are outside the range of the curves themselves.
    """
    known = [curve for curve in curves if curve is not None]
    if kind is SUCCESS or not known:
        return (0.0, 100.0)
    points = np.concatenate([curve.points for curve in known])
    bands = np.concatenate([points, *(curve.bounds.ravel() for curve in known if curve.bounds is not None)])
    low, high = points.min(), points.max()
    span = high - low or 0.1 * abs(high) or 1.0
    low, high = max(bands.min(), low - span), min(bands.max(), high + span)
    margin = 0.05 * (high - low or span)
    return (kind.scale * (low - margin), kind.scale * (high + margin))


def _scores_axis(kind: Kind, curves: Sequence[Curve | None], label: str) -> dict[str, Any]:
    digits = _digits(kind, curves)
    return {"label": label, "limits": _rounded(_score_limits(kind, curves), digits), "digits": digits - 1}


def _named(comparison: Comparison, names: Names, phase: Phase | None = None) -> list[int | None]:
    """Return the methods that a panel tells apart."""
    return [names.method(name) for name in named_methods(comparison, phase)]


def _order(comparison: Comparison, phase: Phase, names: Names) -> list[int | None]:
    """Return the methods in the order in which a panel about a phase shows them."""
    return [names.method(name) for name in ranking(comparison, phase)]


def _point(estimate: Estimate, scale: float, digits: int) -> dict[str, Any]:
    """Return an estimate as it is drawn, with its bounds where it has some, and as tables write it."""
    text = number_entry(estimate, scale, digits).plain
    point = {"value": round(scale * estimate.point, digits + 1), "text": text}
    return point if estimate.interval is None else point | {"interval": _rounded(estimate.interval, digits + 1, scale)}


def _line(x: Iterable[float], curve: Curve, scale: float, digits_x: int, digits: int) -> dict[str, Any]:
    """Return a curve as lists."""
    steps = [int(value) for value in x] if digits_x == 0 else _rounded(x, digits_x)
    line: dict[str, Any] = {"x": steps, "y": _rounded(curve.points, digits, scale)}
    if curve.bounds is not None:
        line |= {"low": _rounded(curve.bounds[0], digits, scale), "high": _rounded(curve.bounds[1], digits, scale)}
    return line


def _digits(kind: Kind, curves: Iterable[Curve | None]) -> int:
    """Return how many decimals of the points of curves are kept: one more than is shown."""
    return kind.digits(float(np.abs(curve.points).max()) for curve in curves if curve is not None) + 1


def _rounded(values: Iterable[float] | Array, digits: int, scale: float = 1.0) -> list[float]:
    return [round(scale * float(value), digits) for value in values]


def _seeds(phase: Phase, method: str, tasks: Sequence[str]) -> str:
    """Return how many seeds a method has on tasks, e.g. ``"12"`` or ``"3 to 12"``."""
    found: list[Mapping[str, Cell]] = [phase.per_task[task] for task in tasks if task in phase.per_task]
    seeds = [number for cells in found if method in cells for number in cells[method].seeds]
    return range_text((min(seeds), max(seeds))) if seeds else ""
