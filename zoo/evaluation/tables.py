"""Tables of a comparison, in words for readers and in numbers for programs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from zoo.evaluation.comparison import Cell, Comparison, Phase, ranking, seeds_text
from zoo.evaluation.reproduction import Reproduction
from zoo.evaluation.statistics import FEW_SEEDS, METRICS, Estimate
from zoo.run import PROTOCOL, short_name, show, split_environment

NEAR_BEST = 0.95
"""A mean is set in bold if it is at least this fraction of the best one (OGBench's convention)."""


@dataclass(frozen=True)
class Entry:
    """One entry of a table.

    :param text: what it says.
    :param detail: an interval, set smaller.
    :param is_bold: whether it is one of the best.
    """

    text: str
    detail: str = ""
    is_bold: bool = False

    @property
    def plain(self) -> str:
        """The entry on one line."""
        return f"{self.text} {self.detail}".strip()


@dataclass(frozen=True)
class Table:
    """One table in words and in numbers.

    :param name: file name without ending.
    :param title: heading.
    :param caption: what the numbers are.
    :param header: names of the columns.
    :param rows: entries, row by row.
    :param data: the numbers, one row each, for the CSV file; scores are fractions.
    """

    name: str
    title: str
    caption: str
    header: list[str]
    rows: list[list[Entry]]
    data: list[dict[str, Any]] = field(default_factory=list)


def aggregates_table(comparison: Comparison, phase: Phase) -> Table:
    """Return the aggregates of all methods in one phase.

    :param comparison: the comparison.
    :param phase: the phase.
    :return: the table.
    """
    header = ["method", "mean", "IQM", "median", "optimality gap", "tasks", "seeds", "step"]
    names = [name for name in ranking(comparison) if name in phase.aggregates]
    best = {metric: _best(phase.aggregates[name].estimates.get(metric) for name in names) for metric in METRICS[:3]}
    rows, data = [], []
    for name in names:
        cell = phase.aggregates[name]
        row = [Entry(name)]
        for metric in METRICS:
            row.append(_percent(cell.estimates.get(metric), best.get(metric)))
        step = phase.steps[name]
        row += [Entry(str(cell.tasks)), Entry(seeds_text(cell.seeds)), Entry("mixed" if step is None else show(step))]
        rows.append(row)
        data += _tidy({"method": name, "step": step}, cell)
    caption = (
        f"Success in % at the end of the {phase.name} phase on the {len(phase.tasks)} tasks that all methods have, "
        f"last evaluation, with 95% intervals over seeds on the same tasks ({_interval_kinds(phase, names)}). "
        f"Bold: at least {NEAR_BEST:.0%} of the best; †: not bold, but its interval reaches the best. "
        "The optimality gap at 1 is one minus the mean."
    )
    return Table(f"aggregates_{phase.name}", f"Aggregates, {phase.name}", caption, header, rows, data)


def improvement_table(comparison: Comparison, phase: Phase, baseline: str) -> Table:
    """Return how each method compares with one of them.

    :param comparison: the comparison.
    :param phase: the phase.
    :param baseline: whom to improve on.
    :return: the table; without rows where the baseline has no single runs.
    """
    rows, data = [], []
    for name in ranking(comparison):
        found = phase.improvements.get((name, baseline))
        if found is None:
            continue
        rows.append([Entry(name), _number(found.probability, 1, 2), _number(found.difference, 100, 1)])
        data.append(
            {"method": name, "baseline": baseline}
            | _numbers("probability", found.probability)
            | _numbers("difference", found.difference)
        )
    caption = (
        f"Probability that a run of the method scores above a run of {baseline} on the same task (ties count half), "
        f"and the difference of means in points as the size of that effect, {phase.name}. Near the ceiling a small "
        f"difference can look certain: read both. {len(rows)} comparisons: about one in twenty intervals misses the "
        "truth, so fix beforehand which one is the claim and take the others as exploration."
    )
    header = ["method", f"P(method > {baseline})", "difference of means"]
    return Table(f"improvement_{phase.name}", f"Improvement on {baseline}, {phase.name}", caption, header, rows, data)


def domains_table(comparison: Comparison, phase: Phase) -> Table:
    """Return the mean of each method on each domain.

    :param comparison: the comparison.
    :param phase: the phase.
    :return: the table.
    """
    domains = sorted(phase.domains)
    header = ["method", *(f"{domain} ({len(phase.domain_tasks[domain])})" for domain in domains)]
    caption = (
        f"Success in % at the end of the {phase.name} phase, mean over the tasks of a domain (their number in "
        f"brackets). Bold: at least {NEAR_BEST:.0%} of the best in the column; †: not bold, but its interval reaches "
        "the best; -: not all tasks of the domain were run."
    )
    rows, data = _grid(comparison, {domain: phase.domains[domain] for domain in domains}, "domain", by_column=True)
    return Table(f"domains_{phase.name}", f"Domains, {phase.name}", caption, header, rows, data)


def tasks_table(comparison: Comparison, phase: Phase) -> Table:
    """Return the mean of each method on each task.

    :param comparison: the comparison.
    :param phase: the phase.
    :return: the table; its intervals are in the CSV file.
    """
    names = [name for name in comparison.methods if any(name in cells for cells in phase.per_task.values())]
    names.sort(key=[*ranking(comparison), *names].index)
    rows, data = _grid(comparison, phase.per_task, "environment", by_column=False, names=names)
    uneven = uneven_seeds(phase)
    caption = (
        f"Success in % at the end of the {phase.name} phase, mean over seeds. Bold: at least {NEAR_BEST:.0%} of the "
        "best in the row; †: not bold, but its interval (in the CSV file) reaches the best."
        + (" Small: number of seeds, where it differs between tasks." if uneven else "")
    )
    return Table(f"tasks_{phase.name}", f"Tasks, {phase.name}", caption, ["environment", *names], rows, data)


def reproduction_table(entries: Sequence[Reproduction], tolerance: float) -> Table:
    """Return own scores beside published ones.

    :param entries: what `zoo.evaluation.reproduction.reproduce` returned.
    :param tolerance: the largest difference that still agrees, as a fraction.
    :return: the table.
    """
    header = ["phase", "where", "method", "published", "own", "difference", "verdict", "protocol"]
    rows, data = [], []
    for entry in entries:
        rows.append(
            [
                Entry(entry.phase),
                Entry(short_name(entry.where)),
                Entry(entry.method),
                Entry(f"{100 * entry.published_mean:.1f}", f"{entry.source}, {entry.published_seeds} seeds"),
                Entry(f"{100 * entry.own:.1f}", f"{seeds_text(entry.own_seeds)} seeds"),
                _number(entry.difference, 100, 1),
                Entry(entry.verdict, is_bold=entry.verdict == "differs"),
                Entry("; ".join(entry.protocol) or "same"),
            ]
        )
        data.append(
            {"phase": entry.phase, "where": entry.where, "method": entry.method, "source": entry.source}
            | {"published_method": entry.published, "published_mean": entry.published_mean, "own_mean": entry.own}
            | {"published_seeds": entry.published_seeds, "own_seeds": entry.own_seeds[0]}
            | _numbers("difference", entry.difference)
            | {"verdict": entry.verdict, "protocol": "; ".join(entry.protocol)}
        )
    caption = (
        f"Own and published means, and the difference in points with its 95% t-interval. A cell agrees if the whole "
        f"interval is within {100 * tolerance:g} points, differs if all of it is outside, and is open in between: more "
        "seeds would tell. Where the protocol is not the same, the verdict speaks of the difference, not of an error."
    )
    return Table("reproduction", "Reproduction", caption, header, rows, data)


def protocol_table(comparison: Comparison) -> Table:
    """Return what was run how.

    :param comparison: the comparison.
    :return: the table, one row for each protocol; fields that nobody states are left out.
    """
    places: dict[tuple[Any, ...], dict[str, list[str]]] = {}  # (source, protocol) -> method -> where
    for name, method in comparison.methods.items():
        for where, protocol in method.protocols.items():
            key = (method.source, *(protocol.get(key) for key in PROTOCOL))
            places.setdefault(key, {}).setdefault(name, []).append(where)
    merged: dict[tuple[Any, ...], list[str]] = {}  # (source, where, protocol) -> methods
    for (source, *values), found in places.items():
        for name, where in found.items():
            merged.setdefault((source, _places(where), *values), []).append(name)
    stated = [k for k in range(len(PROTOCOL)) if any(key[2 + k] is not None for key in merged)]
    everyone = {name: method.source for name, method in comparison.methods.items()}
    rows, data = [], []
    for (source, where, *values), names in sorted(merged.items(), key=lambda item: (item[0][:2], item[1])):
        others = [name for name, where_from in everyone.items() if where_from == source and name not in names]
        methods = ", ".join(names)
        if len(names) > 3 and len(others) < 3:
            methods = "all" + (f" but {', '.join(others)}" if others else "")
        texts = ["not stated" if values[k] is None else show(values[k]) for k in stated]
        rows.append([Entry(source), Entry(methods), Entry(where), *map(Entry, texts)])
        data.append({"source": source, "methods": ", ".join(names), "where": where})
        data[-1] |= {PROTOCOL[k]: values[k] for k in stated}
    header = ["source", "methods", "where", *(PROTOCOL[k].replace("_", " ") for k in stated)]
    return Table("protocol", "Protocol", "How each score was made.", header, rows, data)


def uneven_seeds(phase: Phase) -> list[str]:
    """Return the methods whose tasks have unequal numbers of seeds.

    :param phase: the phase.
    :return: e.g. ``["qam (3 to 12)"]``.
    """
    seeds: dict[str, set[int]] = {}
    for cells in phase.per_task.values():
        for name, cell in cells.items():
            seeds.setdefault(name, set()).update(cell.seeds)
    return [f"{name} ({min(found)} to {max(found)})" for name, found in sorted(seeds.items()) if len(found) > 1]


def _grid(
    comparison: Comparison,
    cells: Mapping[str, Mapping[str, Cell]],
    label: str,
    by_column: bool,
    names: Sequence[str] | None = None,
) -> tuple[list[list[Entry]], list[dict[str, Any]]]:
    """Return rows and numbers of means: methods down and places across, or the other way round."""
    if names is None:
        names = [name for name in comparison.methods if any(name in found for found in cells.values())]
        names = sorted(names, key=[*ranking(comparison), *names].index)
    grid: dict[tuple[str, str], Entry] = {}
    data = []
    for place, found in cells.items():
        best = _best(cell.estimates["mean"] for cell in found.values())
        uneven = len({cell.seeds for cell in found.values()}) > 1
        for name in names:
            if name not in found:
                grid[place, name] = Entry("-")
                continue
            entry = _percent(found[name].estimates["mean"], best)
            if not by_column:  # too many columns for intervals
                entry = Entry(entry.text, f"{seeds_text(found[name].seeds)} seeds" if uneven else "", entry.is_bold)
            grid[place, name] = entry
            data += _tidy({label: place, "method": name}, found[name])
    if by_column:
        return [[Entry(name), *(grid[place, name] for place in cells)] for name in names], data
    return [[Entry(short_name(place)), *(grid[place, name] for name in names)] for place in cells], data


def _places(environments: Sequence[str]) -> str:
    """Return environments as text, several tasks of a domain together."""
    domains: dict[str, list[str]] = {}
    for name in sorted(environments):
        domains.setdefault(split_environment(name)[1], []).append(name)
    return ", ".join(
        short_name(names[0]) if len(names) == 1 else f"{domain} ({len(names)} tasks)"
        for domain, names in domains.items()
    )


def _best(estimates: Iterable[Estimate | None]) -> float:
    """Return the largest point."""
    return max((estimate.point for estimate in estimates if estimate is not None), default=0.0)


def _percent(estimate: Estimate | None, best: float | None) -> Entry:
    """Return a score in %, marked if it is near the best."""
    if estimate is None:
        return Entry("-")
    entry = _number(estimate, 100, 1)
    if best is None:
        return entry
    is_bold = best > 0 and estimate.point >= NEAR_BEST * best
    reaches = best > 0 and estimate.interval is not None and estimate.interval[1] >= best
    return Entry(entry.text + ("†" if reaches and not is_bold else ""), entry.detail, is_bold)


def _number(estimate: Estimate, scale: float, digits: int) -> Entry:
    """Return an estimate with its interval."""
    detail = ""
    if estimate.interval is not None:
        low, high = (_rounded(scale * bound, digits) for bound in estimate.interval)
        detail = f"[{low}, {high}]"
    return Entry(_rounded(scale * estimate.point, digits), detail)


def _rounded(value: float, digits: int) -> str:
    """Return a number as text; zero has no sign."""
    text = f"{value:.{digits}f}"
    return text.removeprefix("-") if float(text) == 0 else text


def _tidy(about: Mapping[str, Any], cell: Cell) -> list[dict[str, Any]]:
    """Return one row for each estimate of a cell."""
    counts = {"tasks": cell.tasks, "fewest_seeds": cell.seeds[0], "most_seeds": cell.seeds[1]}
    return [
        {**about, "metric": metric, **_numbers("score", estimate), **counts}
        for metric, estimate in cell.estimates.items()
    ]


def _numbers(name: str, estimate: Estimate) -> dict[str, Any]:
    """Return an estimate as columns."""
    low, high = estimate.interval or (None, None)
    return {name: estimate.point, f"{name}_low": low, f"{name}_high": high, f"{name}_interval": estimate.kind}


def _interval_kinds(phase: Phase, names: Iterable[str]) -> str:
    """Return how the intervals of means were made."""
    words = {
        "bootstrap": "stratified bootstrap",
        "t": f"t-interval below {FEW_SEEDS} seeds",
        "none": "none where no number is given",
    }
    kinds = {phase.aggregates[name].estimates["mean"].kind for name in names}
    return "; ".join(text for kind, text in words.items() if kind in kinds)
