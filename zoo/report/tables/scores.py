"""Tables of a comparison, in words for readers and in numbers for programs: scores, and what follows from them."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

from zoo.report.comparison import LEAST_BEST, Cell, Comparison, Phase, Tally, baseline_of, by_domain, ranking
from zoo.report.cost import NUMBERS, Costs
from zoo.report.reproduction import Reproduction
from zoo.report.statistics.seeds_needed import MOST_SEEDS
from zoo.report.tables.entries import (
    NO_INTERVAL,
    NOT_KNOWN,
    ROUNDED,
    SHOWN_METRICS,
    Entry,
    Table,
    digits_of,
    method_entry,
    number_entry,
    range_text,
    score_entry,
    with_minus,
)
from zoo.runs.protocol import PROTOCOL, count, shortened, show, what_differs
from zoo.runs.read import RunTables, short_name
from zoo.runs.scores import METRICS, SUCCESS, Kind


def aggregates_table(comparison: Comparison, phase: Phase, suite: str | None = None) -> Table:
    """Return the aggregates of methods in one phase; without rows where nothing can be averaged.

    :param suite: a suite of `Phase.suite_aggregates`; None takes the tasks that all methods have.
    """
    kind = comparison.kind
    found = phase.aggregates if suite is None else phase.suite_aggregates[suite]
    cells = {name: found[name] for name in ranking(comparison, phase) if name in found}
    if suite is not None:  # the ranking is that of the common tasks
        cells = dict(sorted(cells.items(), key=lambda item: -item[1].estimates["mean"].point))
    label = phase.tasks_label
    if suite is not None:
        label = f"{count(max((cell.tasks for cell in cells.values()), default=0), 'task')} of {suite}"
    columns = [_scores(cells, list(cells), kind, metric, SHOWN_METRICS) for metric in SHOWN_METRICS]
    rows = []
    for (name, cell), *scores in zip(cells.items(), *columns, strict=True):
        finished = NOT_KNOWN if is_complete(cell) else str(cell.tally)
        texts = range_text(cell.seeds), finished, range_text(phase.step_ranges[name])
        rows.append([method_entry(comparison.methods[name]), *scores, *map(Entry, texts)])
    header = ["method", *(METRICS[metric] for metric in SHOWN_METRICS), "seeds", "finished", "steps"]
    where = f" ({_places(phase.tasks)})" if suite is None and phase.suite is None else ""
    caption = f"{kind.caption} on {label}{where}, with 95% intervals over seeds (mean: t; IQM: bootstrap)."
    table = phase_table("aggregates", "Aggregates", comparison, phase, caption, header, rows, cells, best="")
    name = table.name if suite is None else f"{table.name}_{suite}"
    return replace(table, name=name, title=f"{table.title}, {label}")


def improvement_table(comparison: Comparison, phase: Phase) -> Table:
    """Return how each method compares with the baseline; without rows where that has no single runs."""
    kind, baseline = comparison.kind, baseline_of(comparison)
    found = {name: phase.improvements.get((name, baseline)) for name in ranking(comparison, phase)}
    pairs = {name: pair for name, pair in found.items() if pair is not None}
    digits = digits_of(kind, (pair.difference for pair in pairs.values()))
    header = ["method", "probability of improvement", "difference of means"]
    rows = [
        [
            method_entry(comparison.methods[name]),
            number_entry(pair.probability, 1, 2),
            Entry(NOT_KNOWN) if pair.difference is None else number_entry(pair.difference, kind.scale, digits),
        ]
        for name, pair in pairs.items()
    ]
    caption = (
        f"Probability that a run scores above one of {baseline} on the same task (ties count half), and the difference "
        f"of means{' in points' if kind is SUCCESS else ''} where scores can be averaged, each with its 95% interval. "
        f"{count(len(rows), 'comparison')}, not adjusted: about one in twenty intervals misses the truth."
    )
    names = [*pairs, baseline]
    return phase_table("improvement", f"Improvement over {baseline}", comparison, phase, caption, header, rows, names)


def domains_table(comparison: Comparison, phase: Phase) -> Table:
    """Return the mean of each method on each domain."""
    domains = {name: phase.domains[name] for name in sorted(phase.domains)}
    names = [name for name in ranking(comparison, phase) if any(name in cells for cells in domains.values())]
    columns = [_scores(cells, names, comparison.kind) for cells in domains.values()]
    rows = [[method_entry(comparison.methods[n]), *(column[k] for column in columns)] for k, n in enumerate(names)]
    header = ["method", *(f"{name} ({len(phase.domain_tasks[name])})" for name in domains)]
    caption = "Success in %, mean over the tasks of a domain (their number in brackets); -: not all of them were run."
    return phase_table("domains", "Domains", comparison, phase, caption, header, rows, names, best=" in the column")


def tasks_table(comparison: Comparison, phase: Phase) -> Table:
    """Return the mean of each method on each task; the page leaves out the intervals of success rates."""
    kind = comparison.kind
    names = [name for name in ranking(comparison, phase) if any(name in cells for cells in phase.per_task.values())]
    rows = [
        [Entry(short_name(task), value=task), *_scores(cells, names, kind)] for task, cells in phase.per_task.items()
    ]
    intervals = "in files with" if kind is SUCCESS else "with"
    caption = f"{kind.caption}, mean over seeds, {intervals} 95% intervals."
    header = ["environment", *(comparison.methods[name].title for name in names)]
    return phase_table("tasks", "Tasks", comparison, phase, caption, header, rows, names, best=" in the row")


def pairs_table(comparison: Comparison, phase: Phase) -> Table:
    """Return P(row > column) and the difference of means of every pair; without rows below three methods."""
    kind, family = comparison.kind, phase.decision.family
    names = [name for name in ranking(comparison, phase) if any(name in pair for pair in phase.improvements)]
    names = names if len(names) > 2 else []  # two are one pair, which the table of improvements has already
    digits = digits_of(kind, (pair.difference for pair in phase.improvements.values()))
    rows = []
    for x in names:
        rows.append([method_entry(comparison.methods[x])])
        for y in names:
            if x == y:
                rows[-1].append(Entry(NOT_KNOWN))
                continue
            pair, difference = phase.improvements[x, y], ""
            if pair.difference is not None:
                difference = with_minus(f"{kind.scale * pair.difference.point:+z,.{digits}f}")
            chance = pair.probability.point
            rows[-1].append(Entry(f"{chance:.2f}", difference, family.is_clear(x, y), chance))
    caption = (
        "Probability that a run of the row's method scores above one of the column's on the same task (ties count "
        f"half), and the difference of means. Bold: clearly different, by {family.describe()}"
        f"{'' if family.focus is None else '; other pairs are not tested'}."
    )
    header = ["method", *(comparison.methods[name].title for name in names)]
    return phase_table("pairs", "All pairs", comparison, phase, caption, header, rows, names)


def seeds_needed_table(comparison: Comparison, phase: Phase) -> Table:
    """Return how many seeds each method and the focus, or else the baseline, need.

    It has no rows where scores share no scale.
    """
    kind, points = comparison.kind, 100 * comparison.resolve
    baseline = comparison.focus if comparison.focus and comparison.focus in phase.spreads else baseline_of(comparison)
    names = [method for method in ranking(comparison, phase) if method in phase.spreads and method != baseline]
    if not kind.is_comparable or baseline not in phase.spreads:
        names = []
    rows = []
    for method in names:
        plan, spread = phase.decision.plans[method, baseline], phase.spreads[method]
        entries = [Entry(NOT_KNOWN), Entry("unknown")]
        if plan is not None:
            counts = (plan.seeds, *plan.interval)
            needed, low, high = (f"more than {MOST_SEEDS:,}" if n is None else f"{n:,}" for n in counts)
            half = Entry(f"{100 * plan.half_width:.1f}", value=plan.half_width)
            entries = [half, Entry(needed, f"[{low}, {high}]", value=plan.seeds)]
        seeds = (int(spread.seeds.min()), int(spread.seeds.max()))
        rows.append([method_entry(comparison.methods[method]), Entry(range_text(seeds)), *entries])
    header = ["method", "seeds", "half width (points)", f"seeds to resolve {points:g} points"]
    unit = "points" if kind is SUCCESS else "points (hundredths)"
    caption = (
        f"The least number of seeds of each of two methods on each task for which half the width of the 95% t-interval "
        f"of the difference of means from {comparison.methods[baseline].title} is below {points:g} {unit}, if runs go "
        "on to vary as they do. In brackets: the same at the ends of the 95% interval of that variance. Half width: "
        "that of today."
    )
    return phase_table("seeds_needed", "Seeds needed", comparison, phase, caption, header, rows, [*names, baseline])


def reproduction_table(found: Sequence[Reproduction], tolerance: float) -> Table:
    """Return own scores beside published ones; the tolerance is a fraction."""
    header = ["phase", "where", "method", "published", "own", "difference", "verdict", "protocol"]
    rows = [
        [
            Entry(r.phase),
            Entry(short_name(r.where), value=r.where),
            Entry(r.method),
            _mean_entry(r.published_mean, f"{r.source}, {count(r.published_seeds, 'seed')}"),
            _mean_entry(r.own, count(range_text(r.own_seeds), "seed") + finished_text(r.tally)),
            number_entry(r.difference, 100, 1),
            Entry(r.verdict, is_bold=r.verdict == "differs"),
            Entry("; ".join(shortened(r.protocol)) or "same", value="; ".join(r.protocol)),
        ]
        for r in found
    ]
    caption = (
        f"Own minus published mean in points, with its 95% t-interval. It agrees if the whole interval is within "
        f"{100 * tolerance:g} points, differs if all of it is outside, and is open in between. Where the protocol is "
        "not the same, the verdict is about that difference, not about an error."
    )
    return Table("reproduction", "Reproduction", caption, header, rows)


def protocol_table(comparison: Comparison) -> Table:
    """Return how each score was made, one row for each protocol; fields that nobody states are left out."""
    places: dict[tuple[Any, ...], list[str]] = {}  # (source, method, protocol) -> where
    for name, method in comparison.methods.items():
        for where, protocol in method.protocols.items():
            places.setdefault((method.source, name, *map(protocol.get, PROTOCOL)), []).append(where)
    merged: dict[tuple[Any, ...], list[str]] = {}  # (source, where, protocol) -> methods
    for (source, name, *values), everywhere in places.items():
        merged.setdefault((source, _places(everywhere), *values), []).append(name)
    stated = [k for k in range(len(PROTOCOL)) if any(key[2 + k] is not None for key in merged)]
    alike = [k for k in stated if len(merged) > 1 and len({key[2 + k] for key in merged}) == 1]
    shared = ", ".join(f"{PROTOCOL[k].replace('_', ' ')} {show(next(iter(merged))[2 + k])}" for k in alike)
    columns = [k for k in stated if k not in alike]
    rows = []
    for (source, where, *values), names in sorted(merged.items(), key=lambda item: (item[0][:2], item[1])):
        entries = [Entry("not stated" if values[k] is None else show(values[k]), value=values[k]) for k in columns]
        rows.append([Entry(source), Entry(", ".join(shortened(names)), value=", ".join(names)), Entry(where), *entries])
    header = ["source", "methods", "where", *(PROTOCOL[k].replace("_", " ") for k in columns)]
    caption = f"How each score was made.{f' All: {shared}.' if shared else ''}"
    return Table("protocol", "Protocol", caption + _scoring_note(comparison, comparison.methods), header, rows)


def cost_table(comparisons: Sequence[Comparison], costs: Costs) -> Table:
    """Return updates per second and hours of own methods, a row for each machine and number of seeds at once."""
    order = list(dict.fromkeys(name for comparison in comparisons for name in ranking(comparison)))
    rows = []
    for (method, machine, replicas), found in sorted(costs.groups(), key=lambda group: order.index(group[0][0])):
        texts = machine, str(replicas), f"{found['runs']:,}"
        numbers = [_range_entry(found[name]) for name in NUMBERS]
        rows.append([method_entry(comparisons[0].methods[method]), *map(Entry, texts), *numbers])
    header = ["method", "machine", "seeds at once", "runs", "updates/s", "hours per run", "hours per seed"]
    caption = (
        "Median over the finished own runs, and their range, by the runs' own logs. Seeds trained at once share their "
        "time. Rows of different machines, or numbers of seeds at once, do not compare methods."
    )
    if costs.unknown:
        examples = shortened([f"{run} ({why})" for run, why in costs.unknown.items()], 2)
        caption += f" The time of {count(len(costs.unknown), 'run')} is not known: {'; '.join(examples)}."
    return Table("cost", "Cost", caption, header, rows)


def differences_table(own: RunTables, methods: Collection[str]) -> Table:
    """Return where methods of one label differ, a row each; without rows where every label is one method."""
    found = what_differs(own.runs, methods)
    rows = []
    for name, fields in found.items():
        texts = [f"{field} {value}" for field, value in fields.items()]
        rows.append([Entry(name), Entry("; ".join(shortened(texts)), value="; ".join(texts))])
    caption = (
        "What differs between methods of one label, on the environments that they share; several values, which differ "
        "between environments, are divided by a slash."
    )
    return Table("differences", "What differs", caption, ["method", "settings"], rows)


def scored_otherwise(comparison: Comparison) -> dict[str, list[str]]:
    """Return way of scoring -> methods, for scores that may not be those of the last evaluation."""
    result: dict[str, list[str]] = {}
    for name, method in comparison.methods.items():
        if method.scoring is not None:
            result.setdefault(method.scoring, []).append(name)
    return result


def is_complete(cell: Cell) -> bool:
    """Return whether all runs behind a cell finished, as far as that is known."""
    return cell.tally is None or cell.tally.is_complete


def finished_text(tally: Tally | None) -> str:
    """Return, after a comma, how many runs finished where some did not."""
    return "" if tally is None or tally.is_complete else f", {tally} runs finished"


def phase_table(
    name: str,
    title: str,
    comparison: Comparison,
    phase: Phase,
    caption: str,
    header: list[str],
    rows: list[list[Entry]],
    names: Collection[str],
    *,
    best: str | None = None,
) -> Table:
    """Return a table about one phase and kind of scores, whose caption explains every mark in it.

    :param names: the methods that it is about.
    :param best: where the best score is bold, e.g. `` in the row``; None for tables without scores.
    """
    kind = comparison.kind
    if best is not None:
        least = f"{LEAST_BEST:.0%}" if kind is SUCCESS else f"{LEAST_BEST:g}"
        least = "" if not kind.is_comparable else f", where that is at least {least}"
        caption += f" Bold: the best{best}{least}; †: its interval reaches the best. Neither is a test."
    known = [k for k in range(len(header)) if any(row[k].text != NOT_KNOWN for row in rows)]
    header, rows = [header[k] for k in known], [[row[k] for k in known] for row in rows]
    details = {entry.detail for row in rows for entry in row}
    if ROUNDED in details:
        caption += f" {ROUNDED}: both ends of the interval round to the number."
    if NO_INTERVAL in details:
        caption += " No interval: all resamples of so few seeds give this number, which says nothing about other seeds."
    caption += _scoring_note(comparison, names) + _finished_note(comparison, names)
    return Table(f"{name}_{phase.name}{kind.suffix}", f"{title}, {phase.name}{kind.title}", caption, header, rows)


def _scoring_note(comparison: Comparison, names: Collection[str]) -> str:
    """Return, after a space, how methods were scored whose scores may not be those of the last evaluation."""
    notes = {scoring: [n for n in found if n in names] for scoring, found in scored_otherwise(comparison).items()}
    return "".join(f" Scoring of {', '.join(shown)}: {scoring}." for scoring, shown in notes.items() if shown)


def _finished_note(comparison: Comparison, names: Collection[str]) -> str:
    """Return, after a space, which methods have runs that did not finish, and what the mark means."""
    tallies = {m.title: m.tally(m.tallies) for m in (comparison.methods[name] for name in names)}
    found = {title: tally for title, tally in tallies.items() if tally is not None and not tally.is_complete}
    if not found:
        return ""
    counts = "; ".join(f"{title} {t}{f' ({t.failed} failed)' if t.failed else ''}" for title, t in found.items())
    mark = "‡: runs failed. " if any(tally.failed for tally in found.values()) else ""
    return f" {mark}Finished runs: {counts}; a method is not bold where runs are missing."


def _scores(
    cells: Mapping[str, Cell],
    names: Sequence[str],
    kind: Kind,
    metric: str = "mean",
    beside: Sequence[str] = ("mean",),
) -> list[Entry]:
    """Return the scores of methods at one place, those that are compared with one another.

    :param beside: the metrics that are shown there, with equally many decimals.
    """
    found = {name: cell.estimates.get(metric) for name, cell in cells.items()}
    digits = digits_of(kind, (cell.estimates.get(each) for cell in cells.values() for each in beside))
    best = max((estimate.point for estimate in found.values() if estimate is not None), default=0.0)
    return [
        score_entry(found.get(name), kind, digits, best, name not in cells or is_complete(cells[name]))
        for name in names
    ]


def _mean_entry(mean: float, detail: str) -> Entry:
    return Entry(f"{100 * mean:.1f}", detail, value=mean)


def _places(environments: Sequence[str]) -> str:
    """Return environments as text, several tasks of a domain together."""
    return ", ".join(
        short_name(names[0]) if len(names) == 1 else f"{domain} ({len(names)} tasks)"
        for domain, names in by_domain(environments).items()
    )


def _range_entry(values: Mapping[str, float] | None) -> Entry:
    """Return a median with the range that it is from."""
    if values is None:
        return Entry(NOT_KNOWN)
    low, high = _three_digits(values["min"]), _three_digits(values["max"])
    detail, ends = "" if low == high else f"[{low}, {high}]", (values["min"], values["max"])
    return Entry(_three_digits(values["median"]), detail, value=values["median"], interval=ends)


def _three_digits(value: float) -> str:
    digits = 2 - math.floor(math.log10(value)) if value > 0 else 0
    return f"{value:,.{min(max(digits, 0), 6)}f}"
