"""Tables of a comparison, in words for readers and in numbers for programs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from zoo.report.comparison import Cell, Comparison, Phase, ranking, seeds_text
from zoo.report.reproduction import Reproduction
from zoo.report.statistics import FEW_SEEDS, Estimate
from zoo.runs.read import PROTOCOL, short_name, show, split_environment
from zoo.runs.scores import METRICS, NORMALISED_RETURN, RETURN, SUCCESS, Kind

NEAR_BEST = 0.95
"""A mean is set in bold if it is at least this fraction of the best one (OGBench's convention).

A fraction of a return means nothing, since zero is no floor: there the best one alone is bold.
"""

_GAP = {
    SUCCESS.name: " The optimality gap at 1 is one minus the mean.",
    NORMALISED_RETURN.name: " The optimality gap is what is missing to the expert, scores above 1 counted as 1.",
    RETURN.name: "",
}


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
    :return: the table; without rows where nothing can be averaged.
    """
    kind = comparison.kind
    header = ["method", *(METRICS[metric] for metric in kind.metrics), "tasks", "seeds", "step"]
    names = [name for name in ranking(comparison) if name in phase.aggregates]
    found = [phase.aggregates[name].estimates for name in names]
    best = {
        metric: _best(estimates.get(metric) for estimates in found)
        for metric in kind.metrics
        if metric != "optimality_gap"
    }
    digits = _digits(kind, (estimate for estimates in found for estimate in estimates.values()))
    rows, data = [], []
    for name in names:
        cell = phase.aggregates[name]
        row = [Entry(name)]
        row += [_score(cell.estimates.get(metric), kind, digits, best.get(metric)) for metric in kind.metrics]
        step = phase.steps[name]
        row += [Entry(str(cell.tasks)), Entry(seeds_text(cell.seeds)), Entry("mixed" if step is None else show(step))]
        rows.append(row)
        data += _tidy({"method": name, "step": step}, cell)
    caption = (
        f"{kind.caption} at the end of the {phase.name} phase on {_common_tasks(phase, kind)}, "
        f"last evaluation, with 95% intervals over seeds on the same tasks ({_interval_kinds(phase, names)}). "
        f"{_bold_rule(kind)}.{_GAP[kind.name]}"
    )
    name, title = f"aggregates_{phase.name}{kind.suffix}", f"Aggregates, {phase.name}{kind.title}"
    return Table(name, title, caption, header, rows, data)


def improvement_table(comparison: Comparison, phase: Phase, baseline: str) -> Table:
    """Return how each method compares with one of them.

    :param comparison: the comparison.
    :param phase: the phase.
    :param baseline: whom to improve on.
    :return: the table; without rows where the baseline has no single runs.
    """
    kind = comparison.kind
    found = {name: phase.improvements.get((name, baseline)) for name in ranking(comparison)}
    pairs = {name: pair for name, pair in found.items() if pair is not None}
    digits = _digits(kind, (pair.difference for pair in pairs.values()))
    rows, data = [], []
    for name, pair in pairs.items():
        rows.append([Entry(name), _number(pair.probability, 1, 2)])
        data.append({"method": name, "baseline": baseline} | _numbers("probability", pair.probability))
        if pair.difference is not None:
            rows[-1].append(_number(pair.difference, kind.scale, digits))
            data[-1] |= _numbers("difference", pair.difference)
    has_difference = any(pair.difference is not None for pair in pairs.values())
    header = ["method", f"P(method > {baseline})", *(["difference of means"] if has_difference else [])]
    caption = _improvement_caption(phase, kind, baseline, len(rows), has_difference)
    name, title = f"improvement_{phase.name}{kind.suffix}", f"Improvement on {baseline}, {phase.name}{kind.title}"
    return Table(name, title, caption, header, rows, data)


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
        f"brackets). {_bold_rule(comparison.kind, ' in the column')}; -: not all tasks of the domain were run."
    )
    rows, data = _grid(comparison, {domain: phase.domains[domain] for domain in domains}, "domain", by_column=True)
    return Table(f"domains_{phase.name}", f"Domains, {phase.name}", caption, header, rows, data)


def tasks_table(comparison: Comparison, phase: Phase) -> Table:
    """Return the mean of each method on each task.

    :param comparison: the comparison.
    :param phase: the phase.
    :return: the table; the intervals of success rates are in the CSV file.
    """
    kind = comparison.kind
    names = [name for name in ranking(comparison) if any(name in cells for cells in phase.per_task.values())]
    rows, data = _grid(comparison, phase.per_task, "environment", by_column=False, names=names)
    if kind is SUCCESS:
        intervals, note = "", " (in the CSV file)"
        small = "Small: number of seeds, where it differs between tasks." if uneven_seeds(phase) else ""
    else:
        intervals, note = ", last evaluation, with 95% intervals over seeds", ""
        small = "The number of seeds stands where it differs in the row."
    caption = (
        f"{kind.caption} at the end of the {phase.name} phase, mean over seeds{intervals}. "
        f"{_bold_rule(kind, ' in the row', note)}. {small}"
    ).rstrip()
    name, title = f"tasks_{phase.name}{kind.suffix}", f"Tasks, {phase.name}{kind.title}"
    return Table(name, title, caption, ["environment", *names], rows, data)


def reproduction_table(entries: Sequence[Reproduction], tolerance: float) -> Table:
    """Return own scores beside published ones.

    :param entries: what `zoo.report.reproduction.reproduce` returned.
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


def by_domain(environments: Iterable[str]) -> dict[str, list[str]]:
    """Return environments by their domain.

    :param environments: their names.
    :return: domain -> environments, both sorted by the environments' names.
    """
    domains: dict[str, list[str]] = {}
    for name in sorted(environments):
        domains.setdefault(split_environment(name)[1], []).append(name)
    return domains


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
    kind = comparison.kind
    if names is None:
        names = [name for name in ranking(comparison) if any(name in found for found in cells.values())]
    grid: dict[tuple[str, str], Entry] = {}
    data = []
    for place, found in cells.items():
        best = _best(cell.estimates["mean"] for cell in found.values())
        digits = _digits(kind, (cell.estimates["mean"] for cell in found.values()))
        uneven = len({cell.seeds for cell in found.values()}) > 1
        for name in names:
            if name not in found:
                grid[place, name] = Entry("-")
                continue
            entry = _score(found[name].estimates["mean"], kind, digits, best)
            if not by_column:
                interval = "" if kind is SUCCESS else entry.detail  # the papers have too many columns for intervals
                seeds = f"{seeds_text(found[name].seeds)} seeds" if uneven else ""
                entry = Entry(entry.text, " ".join(filter(None, (interval, seeds))), entry.is_bold)
            grid[place, name] = entry
            data += _tidy({label: place, "method": name}, found[name])
    if by_column:
        return [[Entry(name), *(grid[place, name] for place in cells)] for name in names], data
    return [[Entry(short_name(place)), *(grid[place, name] for name in names)] for place in cells], data


def _places(environments: Sequence[str]) -> str:
    """Return environments as text, several tasks of a domain together."""
    return ", ".join(
        short_name(names[0]) if len(names) == 1 else f"{domain} ({len(names)} tasks)"
        for domain, names in by_domain(environments).items()
    )


def _best(estimates: Iterable[Estimate | None]) -> float:
    """Return the largest point."""
    return max((estimate.point for estimate in estimates if estimate is not None), default=0.0)


def _digits(kind: Kind, estimates: Iterable[Estimate | None]) -> int:
    """Return how many decimals to show of estimates that stand side by side."""
    return kind.digits(value for e in estimates if e is not None for value in (e.point, *(e.interval or ())))


def _score(estimate: Estimate | None, kind: Kind, digits: int, best: float | None) -> Entry:
    """Return a score, marked if it is near the best."""
    if estimate is None:
        return Entry("-")
    entry = _number(estimate, kind.scale, digits)
    if best is None:
        return entry
    can_be_best = best > 0 or kind is RETURN
    is_bold = can_be_best and estimate.point >= (best if kind is RETURN else NEAR_BEST * best)
    reaches = can_be_best and estimate.interval is not None and estimate.interval[1] >= best
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
    text = f"{value:,.{digits}f}"
    return text if text.strip("-0.") else text.removeprefix("-")


def _bold_rule(kind: Kind, where: str = "", note: str = "") -> str:
    """Return when an entry is bold, in words."""
    best = "the best" if kind is RETURN else f"at least {NEAR_BEST:.0%} of the best"
    return f"Bold: {best}{where}; †: not bold, but its interval{note} reaches the best"


def _common_tasks(phase: Phase, kind: Kind) -> str:
    """Return the tasks of the aggregates, in words."""
    if kind is not SUCCESS and len(phase.tasks) == 1:
        return short_name(phase.tasks[0])
    return f"the {len(phase.tasks)} tasks that all methods have"


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


def _improvement_caption(phase: Phase, kind: Kind, baseline: str, pairs: int, has_difference: bool) -> str:
    """Return what a table of improvements shows and how to read it."""
    advice = "It says how often a run is better, not by how much."
    difference = ""
    if has_difference:
        ceiling = "Near the ceiling a" if kind is SUCCESS else "A"
        advice = f"{ceiling} small difference can look certain: read both."
        unit = " in points" if kind is SUCCESS else ""
        difference = f", and the difference of means{unit} as the size of that effect"
    return (
        f"Probability that a run of the method scores above a run of {baseline} on the same task (ties count half)"
        f"{difference}, {phase.name}{kind.title}. {advice} {pairs} comparisons: about one in twenty intervals misses "
        "the truth, so fix beforehand which one is the claim and take the others as exploration."
    )


def _interval_kinds(phase: Phase, names: Iterable[str]) -> str:
    """Return how the intervals of means were made."""
    words = {
        "bootstrap": "stratified bootstrap",
        "t": f"t-interval below {FEW_SEEDS} seeds",
        "none": "none where no number is given",
    }
    kinds = {phase.aggregates[name].estimates["mean"].kind for name in names}
    return "; ".join(text for kind, text in words.items() if kind in kinds)
