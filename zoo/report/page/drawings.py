"""The figures of the page as data, which `templates/figures.js` draws.

Every number is there once, rounded a little finer than it is written. Methods and domains are indices into the lists
``methods`` and ``domains``; scores are in the units of the axes (success in percent).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from zoo.report.comparison import OWN, Cell, Comparison, Phase, ranking
from zoo.report.compute import last_evaluations
from zoo.report.figures.curves import Curves, end_of_offline, joined_curves, last_step, score_limits
from zoo.report.figures.drawing import Panel, limits_of
from zoo.report.figures.plots import aggregate_panels, improvement_panels, verdict_panels
from zoo.report.figures.styles import method_styles, named_methods
from zoo.report.significance import family_of
from zoo.report.statistics.estimates import Array, Curve, Estimate
from zoo.report.tables.entries import Table, digits_of, number_entry, seeds_text
from zoo.report.tables.scores import finished_text
from zoo.runs.history import PHASES
from zoo.runs.read import short_name
from zoo.runs.scores import METRICS, SUCCESS, Kind

Drawing = dict[str, Any]
_MARKERS = {"o": "circle", "s": "square", "^": "triangle", "D": "diamond", "v": "wye", "P": "cross", "X": "star"}
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

    def of_columns(self, table: Table) -> list[tuple[int | None, int | None]]:
        """Return the method and the domain that each column of a table is about."""
        return [self._about([text]) for text in table.header]

    def of_rows(self, table: Table) -> list[tuple[int | None, int | None]]:
        """Return the method and the domain that each row of a table is about."""
        labels = ("method", "where", "environment", "domain", "task")
        places = sorted({0, *(k for k, text in enumerate(table.header) if text in labels)})
        return [self._about([row[k].text for k in places]) for row in table.rows]

    def _about(self, texts: Sequence[str]) -> tuple[int | None, int | None]:
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
        {"name": name, "title": name + looks[name].mark, "isOwn": looks[name].is_own}
        | {"isMuted": first.focus in names.methods and name != first.focus}
        | {"dash": [] if looks[name].dash == "-" else looks[name].dash[1], "marker": _MARKERS[looks[name].marker]}
        for name in names.methods
    ]
    drawings: list[Drawing] = []
    for comparison in comparisons:
        found = [
            _intervals("verdict", comparison, verdict_panels(comparison), names),
            _intervals("aggregates", comparison, aggregate_panels(comparison), names),
            _profiles(comparison, names),
            _intervals("improvement", comparison, improvement_panels(comparison), names),
            _pairs(comparison, names),
            _sample_efficiency(comparison, names),
            _domains(comparison, names),
            _heat_map(comparison, names),
            _runs(comparison, evaluations, names),
        ]
        suffix = comparison.kind.suffix
        drawings += [drawing | {"name": f"{drawing['name']}{suffix}"} for drawing in found if drawing["panels"]]
    phases = [name for name in PHASES if any(name in comparison.phases for comparison in comparisons)]
    return {"methods": methods, "domains": names.domains, "phases": phases, "drawings": drawings}


def colours(comparisons: Sequence[Comparison], names: Names) -> list[tuple[str, str]]:
    """Return the colour of each method on white and on dark ground."""
    looks = method_styles(comparisons[0].methods)
    return [(looks[name].colour, looks[name].dark) for name in names.methods]


def _intervals(name: str, comparison: Comparison, panels: Sequence[Panel], names: Names) -> Drawing:
    """Return panels with a row for each method, in the order of their phase."""
    kind, found = comparison.kind, []
    for panel in panels:
        phase = comparison.phases[panel.phase]
        is_chance = panel.limits is not None
        digits = 2 if is_chance else digits_of(kind, panel.estimates.values())
        rows = [
            {"m": names.method(method), **_point(estimate, panel.scale, digits)}
            | {"seeds": _seeds(phase, method, phase.tasks), "step": phase.steps.get(method)}
            | ({"word": panel.words[method][0]} if panel.words else {})
            for method, estimate in panel.estimates.items()
            if estimate is not None
        ]
        about: dict[str, Any] = {"title": panel.title, "label": panel.label, "note": panel.note, "phase": panel.phase}
        about |= {"digits": digits, "zero": panel.no_difference, "limits": _rounded(limits_of(panel, panels), 3)}
        about |= {"margin": panel.margin, "named": _named(comparison, names, phase)}
        found.append(about | {"rows": rows})
    return {"name": name, "type": "intervals", "panels": found}


def _profiles(comparison: Comparison, names: Names) -> Drawing:
    kind, panels = comparison.kind, list[dict[str, Any]]()
    for phase in comparison.phases.values():
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
            panels.append({"title": f"{phase.name}{steps}{kind.title}", "phase": phase.name, "lines": lines})
            panels[-1] |= {"named": _named(comparison, names, phase)}
            panels[-1] |= {"x": {"label": label, "limits": limits, "digits": digits, "kind": "tau"}}
            panels[-1] |= {"y": {"label": "fraction of runs above τ", "limits": [0, 1], "digits": 2}}
    return {"name": "profiles", "type": "curves", "panels": panels}


def _sample_efficiency(comparison: Comparison, names: Names) -> Drawing:
    kind = comparison.kind
    parts = [phase.curves for phase in comparison.phases.values()]
    both = [curve for part in parts for found in part.values() for curve in (found.mean, found.iqm)]
    panels = [
        _curve_panel(comparison, parts, metric, names)
        | {"title": METRICS[metric] + kind.title}
        | {"y": _scores_axis(kind, both, f"{kind.unit}, {comparison.curves_label}")}
        for metric in ("mean", "iqm")
        if any(parts)
    ]
    return {"name": "sample_efficiency", "type": "curves", "panels": panels}


def _domains(comparison: Comparison, names: Names) -> Drawing:
    kind, panels = comparison.kind, []
    phases = comparison.phases.values()
    found = sorted({domain for phase in phases for domain, curves in phase.domain_curves.items() if curves})
    for domain in found:
        parts = [phase.domain_curves.get(domain, {}) for phase in phases]
        panel = _curve_panel(comparison, parts, "mean", names)
        curves = [curve.mean for part in parts for curve in part.values()]
        panel |= {"title": domain, "domain": names.domain(domain), "y": _scores_axis(kind, curves, kind.unit)}
        panels.append(panel)
    name = "domains" if kind is SUCCESS else "environments"
    return {"name": name, "type": "curves", "panels": panels}


def _curve_panel(comparison: Comparison, parts: Sequence[Curves], metric: str, names: Names) -> dict[str, Any]:
    """Return the learning curves of all phases; the first point of an online one may be the last offline one."""
    kind, phases = comparison.kind, list(comparison.phases.values())
    lines = []
    for k, name, steps, curve in joined_curves(parts, metric):
        found = parts[k][name]
        lines.append({"m": names.method(name), "phase": phases[k].name, "seeds": seeds_text(found.seeds)})
        lines[-1] |= _line(steps, curve, kind.scale, 0, _digits(kind, [curve]))
        lines[-1] |= {"isJoined": len(steps) > len(found.steps)}
    axis = {"label": "steps", "limits": [0, last_step(parts)], "digits": 0, "kind": "steps"}
    return {"lines": lines, "border": end_of_offline(parts), "x": axis, "named": _named(comparison, names)}


def _scores_axis(kind: Kind, curves: Sequence[Curve | None], label: str) -> dict[str, Any]:
    digits = _digits(kind, curves)
    limits = (0, 100) if kind is SUCCESS else score_limits(kind, curves)
    return {"label": label, "limits": _rounded(limits, digits), "digits": digits - 1}


def _pairs(comparison: Comparison, names: Names) -> Drawing:
    """Return how every method compares with every other, where there are more than two."""
    kind, panels = comparison.kind, []
    for phase in comparison.phases.values():
        digits = digits_of(kind, (pair.difference for pair in phase.improvements.values()))
        family = family_of(comparison, phase)
        cells = [
            {"m": names.method(x), "other": names.method(y), **_point(pair.probability, 1, 2)}
            | ({} if pair.difference is None else {"difference": _point(pair.difference, kind.scale, digits)})
            | {"isClear": family.is_clear(x, y), "seeds": _seeds(phase, x, phase.tasks)}
            for (x, y), pair in phase.improvements.items()
            if x in names.methods and y in names.methods
        ]
        if len(cells) > 2:  # one pair has two directions
            unit = "points" if kind is SUCCESS else kind.unit
            about = {"title": f"{phase.name}{kind.title}", "phase": phase.name, "unit": unit}
            panels.append(about | {"cells": cells, "methods": _order(comparison, phase, names)})
    return {"name": "pairs", "type": "matrix", "panels": panels}


def _heat_map(comparison: Comparison, names: Names) -> Drawing:
    """Return the mean of each method on each task, and how bright its cell is, from 0 to 1.

    Returns have no common scale, so a cell lies between the worst and the best method of its row.
    """
    kind, panels = comparison.kind, []
    for phase in comparison.phases.values():
        everything = [cell.estimates["mean"].point for found in phase.per_task.values() for cell in found.values()]
        tasks, cells = [], []
        for k, (task, found) in enumerate(phase.per_task.items()):
            tasks.append({"name": short_name(task), "domain": names.domain(task)})
            points = everything if kind.is_comparable else [cell.estimates["mean"].point for cell in found.values()]
            low, high = (0.0, 1.0) if kind is SUCCESS else (min(points), max(points))
            digits = digits_of(kind, (cell.estimates["mean"] for cell in found.values()))
            for name, cell in found.items():
                mean = cell.estimates["mean"]
                shade = (mean.point - low) / (high - low) if high > low else 0.5
                cells.append({"m": names.method(name), "task": k, "shade": round(shade, 3)})
                cells[-1] |= _point(mean, kind.scale, digits) | {
                    "seeds": seeds_text(cell.seeds) + finished_text(cell.tally)
                }
        if len(tasks) > 1:
            about = {"title": f"{phase.name}{kind.title}", "label": kind.unit, "phase": phase.name}
            panels.append(about | {"tasks": tasks, "cells": cells, "methods": _order(comparison, phase, names)})
    return {"name": "heat_map", "type": "heat", "panels": panels}


def _runs(comparison: Comparison, evaluations: pd.DataFrame, names: Names) -> Drawing:
    """Return the last score of each own run in each phase."""
    kind, panels = comparison.kind, []
    own = evaluations[(evaluations["source"] == OWN) & (evaluations["kind"] == kind.name)]
    for phase in PHASES:
        last = last_evaluations(own[own["phase"] == phase])
        if not len(last) or (not kind.is_comparable and last["environment"].nunique() > 1):
            continue
        digits = kind.digits(last["score"])
        points = [
            {"m": names.method(row["method"]), "domain": names.domain(row["environment"])}
            | {"task": short_name(row["environment"]), "seed": int(row["seed"]), "step": int(row["step"])}
            | {"value": round(kind.scale * float(row["score"]), digits + 1), "run": str(row["run"])}
            for row in last.to_dict("records")
        ]
        limits = (0, 100) if kind is SUCCESS else score_limits(kind, [Curve(last["score"].to_numpy())])
        about = {"title": f"{phase}{kind.title}", "label": kind.unit, "phase": phase, "digits": digits}
        about |= {"methods": _order(comparison, comparison.phases[phase], names)}
        panels.append(about | {"limits": _rounded(limits, digits + 1), "points": points})
    return {"name": "runs", "type": "runs", "panels": panels}


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
    return seeds_text((min(seeds), max(seeds))) if seeds else ""
