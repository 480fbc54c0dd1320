"""The tables of a comparison, in words for readers and in numbers for programs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pandas as pd

from zoo.report.comparison import (
    MARGIN,
    Cell,
    Comparison,
    Outcome,
    Phase,
    by_value,
    places_of,
    ranking,
)
from zoo.report.statistics.estimates import MIN_SEEDS, SIGNIFICANT, Estimate
from zoo.report.table_entries import (
    NOT_KNOWN,
    Row,
    Table,
    TableEntry,
    digits_of,
    number_entry,
    number_text,
    range_text,
    score_entries,
)
from zoo.runs.folder import short_name
from zoo.runs.protocol import PROTOCOL, shortened, show

_NOT_STATED = "not stated"


def only_task(comparison: Comparison) -> str:
    """Return in short the one task that all scores are of, which leaves nothing to average over; else ``""``."""
    tasks = set().union(*(phase.per_task for phase in comparison.phases.values()))
    if len(tasks) > 1:
        return ""
    return "".join(map(short_name, tasks))


def verdict_table(comparison: Comparison, phase: Phase) -> Table:
    """Return how the subject of a phase compares with each other method; without rows where nothing is compared."""
    kind = comparison.kind
    decision = phase.decision
    differences = [v.difference for v in decision.verdicts]
    digits = digits_of(kind, differences)
    rows = {}
    for v in decision.verdicts:
        over_tasks = number_entry(v.over_tasks, kind.scale, digits)
        rows[v.method] = {
            "difference": number_entry(v.difference, kind.scale, digits),
            "over tasks": replace(over_tasks, text=over_tasks.detail or NOT_KNOWN, detail=""),
            "p": TableEntry(p_text(v.p_value), value=v.p_value),
            "P(better)": number_entry(v.probability, 1, 2),
            "verdict": TableEntry(v.outcome, is_bold=v.outcome in (Outcome.BETTER, Outcome.WORSE)),
        }
    subject = comparison.methods[str(decision.subject)].title if rows else ""
    caption = ""
    if any(differences):
        caption += (
            f"Difference: the mean of {subject} minus the other's, with a {100 * (1 - decision.level):.4g}% "
            "t-interval over seeds. "
        )
    if any(v.over_tasks and v.over_tasks.interval for v in decision.verdicts):
        caption += "Over tasks: its 95% t-interval for other tasks like these. "
    if decision.tested:
        caption += f"p and verdict: {decision.tested}"
        if any(differences):
            caption += "; the difference's interval has the level of Holm's last step, and excludes 0 where p is at "
            caption += f"most {SIGNIFICANT:g}"
        caption += ". "
        if kind.is_comparable and any(differences):
            caption += f"Equal: surely less than {100 * MARGIN:g} points apart. "
    if any(v.outcome == Outcome.NOT_COMPARABLE for v in decision.verdicts):
        caption += "Not comparable: own runs are shorter than the published ones. "
    caption += (
        f"P(better): probability that a run of {subject} beats one of the other on the same task."
    )
    title = f"{subject} against each other method"
    return _phase_table("verdict", title, comparison, phase, caption, rows, heading="against")


def p_text(p_value: float | None) -> str:
    """Return a p value as text."""
    if p_value is None:
        return NOT_KNOWN
    if p_value < 0.001:  # 0.000 would claim that chance is impossible
        return "< 0.001"
    return f"{p_value:.3f}"


def aggregates_table(comparison: Comparison, phase: Phase) -> Table:
    """Return the aggregates of methods in one phase; without rows where nothing can be averaged."""
    kind = comparison.kind
    cells = phase.aggregates
    means = _scores(comparison, cells)
    iqms = score_entries({name: cell.iqm for name, cell in cells.items()}, kind, _complete(cells))
    rows = {}
    for name, cell in cells.items():
        hours = comparison.methods[name].hours
        rows[name] = {
            "mean": means[name],
            "IQM": iqms[name],
            "seeds": range_text(cell.seeds),
            "finished": None if cell.tally.is_complete else str(cell.tally),
            "steps": range_text(phase.step_ranges[name]),
            "hours": None if hours is None else f"{hours:.3g}",
        }
    where = only_task(comparison) or phase.tasks_label
    # a suite's name says which tasks there are
    if not only_task(comparison) and phase.suite is None:
        where += f" ({', '.join(places_of(phase.tasks))})"
    caption = (
        f"{kind.caption} on {where}, with 95% intervals over seeds: t for the mean, bootstrap for the IQM (the mean of "
        f"the middle half of all runs) from {MIN_SEEDS} seeds on. Bold: the best; this is not a test."
    )
    if any(comparison.methods[name].hours for name in cells):
        caption += " Hours: of one seed, the median of finished runs, evaluations included, whatever their machines."
    title = "Scores" if only_task(comparison) else "Aggregates"
    return _phase_table("aggregates", title, comparison, phase, caption, rows)


def domains_table(comparison: Comparison, phase: Phase) -> Table:
    """Return the mean of each method on each domain; without rows where all scores are of one task."""
    columns = {
        f"{domain} ({len(phase.domain_tasks[domain])})": _scores(comparison, cells)
        for domain, cells in sorted(phase.domains.items())
        if not only_task(comparison)
    }
    rows = pd.DataFrame(columns, dtype=object).fillna(NOT_KNOWN).to_dict("index")
    caption = (
        "Success in %, mean over the tasks of a domain (their number in brackets), with 95% t-intervals over seeds; "
        "-: not all of them were run. Bold: the best of the column."
    )
    return _phase_table("domains", "Domains", comparison, phase, caption, rows)


def tasks_table(comparison: Comparison, phase: Phase) -> Table:
    """Return the mean of each method on each task; without rows where all scores are of one task."""
    rows = []
    tasks = {} if only_task(comparison) else phase.per_task
    for task, cells in tasks.items():
        scores = _scores(comparison, cells)
        row: dict[str, Any] = {"environment": TableEntry(short_name(task), value=task)}
        for name in ranking(comparison, phase):
            row[comparison.methods[name].title] = scores.get(name)
        rows.append(row)
    caption = f"{comparison.kind.caption}, mean over seeds, with 95% t-intervals. Bold: the best of the row."
    return _phase_table("tasks", "Tasks", comparison, phase, caption, rows)


def pairs_table(comparison: Comparison, phase: Phase) -> Table:
    """Return the probability of improvement and the difference of every pair; without rows below three methods."""
    kind = comparison.kind
    # methods that are comparable with no other have no row
    names = [x for x in ranking(comparison, phase) if any(x in pair for pair in phase.improvements)]
    if len(names) < 3:  # two are one pair, which the verdict has already
        names = []
    differences = [
        pair.difference for pair in phase.improvements.values() if pair.difference is not None
    ]
    digits = kind.digits(differences)
    entries = {}
    for pair, improvement in phase.improvements.items():
        difference = ""
        if improvement.difference is not None:
            difference = number_text(kind.scale * improvement.difference, digits, sign="+")
        is_clear = improvement.p_value is not None and improvement.p_value <= SIGNIFICANT
        chance = improvement.probability
        entries[pair] = TableEntry(number_text(chance, 2), difference, is_clear, chance)
    rows = {}
    for x in names:
        rows[x] = {comparison.methods[y].title: entries.get((x, y)) for y in names}
    caption = (
        "Probability that a run of the row's method scores above one of the column's on the same task (ties count "
        "half), and the difference of means."
    )
    if phase.decision.tested:
        caption += f" Bold: clearly different, by {phase.decision.tested}."
    return _phase_table("pairs", "All pairs", comparison, phase, caption, rows)


def protocol_table(comparison: Comparison) -> Table:
    """Return how each score was made, one row for each protocol; fields that nobody states are left out."""
    merged: dict[tuple[str, str, tuple[Any, ...]], list[str]] = {}
    for name, method in comparison.methods.items():
        fields_by_place = {}
        for place, protocol in method.protocols.items():
            # a set may say otherwise, such as the mean of the last three evaluations
            scoring = method.scoring or "the last evaluation"
            fields_by_place[place] = (*map(protocol.get, PROTOCOL), scoring)
        for fields, places in by_value(fields_by_place).items():
            key = (method.source, ", ".join(places_of(places)), fields)
            merged.setdefault(key, []).append(name)
    rows = []
    for (source, where, fields), names in sorted(
        merged.items(), key=lambda item: (item[0][:2], item[1][0])
    ):
        methods = TableEntry(", ".join(shortened(names)), value=", ".join(names))
        row: dict[str, Any] = {"source": source, "methods": methods, "where": where}
        for field, value in zip((*PROTOCOL, "score"), fields, strict=True):
            text = _NOT_STATED if value is None else show(value)
            row[field.replace("_", " ")] = TableEntry(text, value=value)
        rows.append(row)
    caption = "How each score was made."
    # what all rows share is said once, below the table
    for heading in list(rows[0])[3:] if rows else ():
        texts = {row[heading].text for row in rows}
        if len(texts) > 1 or (len(rows) == 1 and texts != {_NOT_STATED}):
            continue
        if texts != {_NOT_STATED}:
            caption += f" All: {heading} {texts.pop()}."
        for row in rows:
            del row[heading]
    return Table.of("protocol", "Protocol", caption, rows)


def _phase_table(
    name: str,
    title: str,
    comparison: Comparison,
    phase: Phase,
    caption: str,
    rows: Mapping[str, Row] | Sequence[Row],
    heading: str = "method",
) -> Table:
    """Return a table about one phase and kind of scores.

    :param rows: the rows, or method -> the rest of its row, which are put into the order of the ranking.
    :param heading: what the column of methods is called.
    """
    kind = comparison.kind
    if isinstance(rows, Mapping):
        ordered = [method for method in ranking(comparison, phase) if method in rows]
        titles = {m: TableEntry(comparison.methods[m].title, value=m) for m in ordered}
        rows = [{heading: titles[method], **rows[method]} for method in ordered]
    if any(comparison.methods[method].tally().failed for method in phase.coverage):
        caption += " ‡: runs of the method failed; it is never bold."
    title = f"{title}, {phase.name}{kind.title}"
    if phase.aggregates and name in ("verdict", "aggregates", "pairs"):
        title += f", {only_task(comparison) or phase.tasks_label}"
    return Table.of(f"{name}_{phase.name}{kind.suffix}", title, caption, rows)


def _scores(comparison: Comparison, cells: Mapping[str, Cell]) -> dict[str, TableEntry]:
    """Return the means of methods at one place, those that are compared with one another."""
    means: dict[str, Estimate | None] = {name: cell.mean for name, cell in cells.items()}
    return score_entries(means, comparison.kind, _complete(cells))


def _complete(cells: Mapping[str, Cell]) -> list[str]:
    """Return the methods all of whose runs finished."""
    return [name for name, cell in cells.items() if cell.tally.is_complete]
