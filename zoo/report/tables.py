"""The tables of a comparison, in words for readers and in numbers for programs."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pandas as pd

from agents.common.validation import count
from zoo.report.comparison import (
    FAILED_BELOW,
    Cell,
    Comparison,
    Outcome,
    Phase,
    baseline_of,
    by_value,
    places_of,
    ranking,
)
from zoo.report.cost import NUMBERS, Costs
from zoo.report.significance import can_plan, seed_plan
from zoo.report.statistics.estimates import MIN_SEEDS, Estimate
from zoo.report.statistics.means import MAX_PLANNED_SEEDS
from zoo.report.table_entries import (
    NO_INTERVAL,
    NOT_KNOWN,
    ROUNDED,
    Row,
    Table,
    TableEntry,
    digits_of,
    number_entry,
    number_text,
    range_text,
    score_entry,
)
from zoo.runs.folder import short_name
from zoo.runs.protocol import PROTOCOL, shortened, show
from zoo.runs.scores import METRICS, SUCCESS, ScoreKind

_NOT_STATED = "not stated"
SHOWN_METRICS = ("mean", "iqm")
"""The aggregates that tables show; the median and the optimality gap are in the JSON only."""


def only_task(comparison: Comparison) -> str:
    """Return in short the one task that all scores are of, which leaves nothing to average over; else ``""``."""
    tasks = set().union(*(phase.per_task for phase in comparison.phases.values()))
    if len(tasks) > 1:
        return ""
    return "".join(map(short_name, tasks))


def is_compared(phase: Phase) -> bool:
    """Return whether the verdict of a phase says something: not where all own runs are shorter than published ones."""
    return any(v.outcome != Outcome.NOT_COMPARABLE for v in phase.decision.verdicts)


def shown_metrics(cells: Mapping[str, Cell]) -> list[str]:
    """Return the aggregates to show; the IQM of fewer than four runs is their mean, and is left out."""
    for cell in cells.values():
        if "iqm" in cell.estimates and cell.tasks * cell.seeds[1] >= 4:
            return list(SHOWN_METRICS)
    return ["mean"]


def method_entry(comparison: Comparison, name: str) -> TableEntry:
    """Return the name of a method, marked if runs failed."""
    return TableEntry(comparison.methods[name].title, value=name)


def verdict_table(comparison: Comparison, phase: Phase) -> Table:
    """Return how the subject of a phase compares with each other method; without rows where nothing is compared."""
    kind = comparison.kind
    decision = phase.decision
    verdicts = decision.verdicts if is_compared(phase) else ()
    differences = [v.improvement.difference for v in verdicts]
    digits = digits_of(kind, differences)
    rows = {}
    for v in verdicts:
        pair = v.improvement
        if v.p_value is None:
            p_text = NOT_KNOWN
        elif v.p_value < 0.001:  # 0.000 would claim that chance is impossible
            p_text = "< 0.001"
        else:
            p_text = f"{v.p_value:.3f}"
        over_tasks = number_entry(v.over_tasks, kind.scale, digits)
        rows[v.other] = {
            "difference of means": number_entry(pair.difference, kind.scale, digits),
            "difference over tasks": replace(
                over_tasks, text=over_tasks.detail or NOT_KNOWN, detail=""
            ),
            "p value (Holm)": TableEntry(p_text, value=v.p_value),
            "probability of improvement": number_entry(pair.probability, 1, 2),
            "tasks won / lost / undecided": str(pair.tasks),
            "verdict": TableEntry(v.outcome, is_bold=v.outcome.is_clear),
        }
    subject = ""
    if rows:
        subject = comparison.methods[str(decision.subject)].title
    caption = ""
    if all(differences):
        caption = (
            f"Difference: the mean of {subject} minus the other's on these tasks, with a "
            f"{100 * (1 - decision.level):.4g}% t-interval over seeds, the level of Holm's last step: it excludes 0 "
            "exactly where the difference is clear. Over tasks: its 95% t-interval for new tasks. "
        )
    if decision.tested:
        caption += f"Verdict and p value: {decision.tested}. "
        if kind.is_comparable:
            points = f"{100 * comparison.resolve:g} points"
            caption += (
                f"Better, worse: beyond chance by more than {points}; slightly ahead, behind: by less; ahead, behind: "
                f"by more or less. Equal: surely less than {points} apart. Both fail or solve: means below "
                f"{FAILED_BELOW:.0%} or above {1 - FAILED_BELOW:.0%}. "
            )
    caption += "Tasks are won or lost by a family of their own, which decides no verdict."
    title = f"{subject} against each other method"
    return _phase_table("verdict", title, comparison, phase, caption, rows, heading="against")


def aggregates_table(comparison: Comparison, phase: Phase) -> Table:
    """Return the aggregates of methods in one phase; without rows where nothing can be averaged."""
    kind = comparison.kind
    cells = phase.aggregates
    columns = {}
    metrics = shown_metrics(cells)
    for metric in metrics:
        columns[METRICS[metric]] = _scores(cells, kind, metric, metrics)
    rows = pd.DataFrame(columns, dtype=object).to_dict("index")
    for name, cell in cells.items():
        rows[name] |= {
            "seeds": range_text(cell.seeds),
            "finished": None if cell.tally.is_complete else str(cell.tally),
            "steps": range_text(phase.step_ranges[name]),
        }
    title = "Aggregates"
    tasks = phase.tasks_label
    where = tasks
    if only_task(comparison):
        title = "Scores"
        tasks = where = only_task(comparison)
    elif phase.suite is None:
        where += f" ({', '.join(places_of(phase.tasks))})"
    intervals = f"mean: t; IQM: bootstrap, from {MIN_SEEDS} seeds on" if "iqm" in metrics else "t"
    caption = f"{kind.caption} on {where}, with 95% intervals over seeds ({intervals})."
    table = _phase_table("aggregates", title, comparison, phase, caption, rows, best="")
    return replace(table, title=f"{table.title}, {tasks}")


def improvement_table(comparison: Comparison, phase: Phase) -> Table:
    """Return how each method compares with the baseline; without rows where that has no single runs."""
    kind = comparison.kind
    baseline = baseline_of(comparison)
    pairs = {x: pair for (x, y), pair in phase.improvements.items() if y == baseline}
    digits = digits_of(kind, [pair.difference for pair in pairs.values()])
    rows = {}
    for name, pair in pairs.items():
        rows[name] = {
            "probability of improvement": number_entry(pair.probability, 1, 2),
            "difference of means": number_entry(pair.difference, kind.scale, digits),
        }
    caption = (
        f"Probability that a run scores above one of {baseline} on the same task (ties count half), and the difference "
        f"of means{' in points' if kind is SUCCESS else ''} where scores can be averaged, each with its 95% interval. "
        f"{count(len(rows), 'comparison')}, not adjusted: about one in twenty intervals misses the truth."
    )
    title = f"Improvement over {baseline}"
    return _phase_table("improvement", title, comparison, phase, caption, rows)


def domains_table(comparison: Comparison, phase: Phase) -> Table:
    """Return the mean of each method on each domain; without rows where all scores are of one task."""
    columns = {
        f"{domain} ({len(phase.domain_tasks[domain])})": _scores(cells, comparison.kind)
        for domain, cells in sorted(phase.domains.items())
        if not only_task(comparison)
    }
    rows = pd.DataFrame(columns, dtype=object).fillna(NOT_KNOWN).to_dict("index")
    caption = "Success in %, mean over the tasks of a domain (their number in brackets); -: not all of them were run."
    best = " in the column"
    return _phase_table("domains", "Domains", comparison, phase, caption, rows, best)


def tasks_table(comparison: Comparison, phase: Phase) -> Table:
    """Return the mean of each method on each task; the page leaves out the intervals of success rates.

    It has no rows where all scores are of one task, on which the table of aggregates has the same.
    """
    kind = comparison.kind
    rows = []
    tasks = {} if only_task(comparison) else phase.per_task
    for task, cells in tasks.items():
        scores = _scores(cells, kind)
        row: dict[str, Any] = {"environment": TableEntry(short_name(task), value=task)}
        for name in ranking(comparison, phase):
            row[comparison.methods[name].title] = scores.get(name)
        rows.append(row)
    intervals = "in files with" if kind is SUCCESS else "with"
    caption = f"{kind.caption}, mean over seeds, {intervals} 95% intervals."
    return _phase_table("tasks", "Tasks", comparison, phase, caption, rows, " in the row")


def pairs_table(comparison: Comparison, phase: Phase) -> Table:
    """Return P(row > column) and the difference of means of every pair; without rows below three methods."""
    kind = comparison.kind
    decision = phase.decision
    names = [name for name in ranking(comparison, phase) if name in phase.compared]
    if len(names) < 3:  # two are one pair, which the table of improvements has already
        names = []
    digits = digits_of(kind, [pair.difference for pair in phase.improvements.values()])
    entries = {}
    for (x, y), pair in phase.improvements.items():
        chance = pair.probability.point
        difference = ""
        if pair.difference is not None:
            difference = number_text(kind.scale * pair.difference.point, digits, sign="+")
        is_clear = decision.is_clear(x, y)
        entries[x, y] = TableEntry(number_text(chance, 2), difference, is_clear, chance)
    rows = {}
    for x in names:
        rows[x] = {comparison.methods[y].title: entries.get((x, y)) for y in names}
    caption = (
        "Probability that a run of the row's method scores above one of the column's on the same task (ties count "
        "half), and the difference of means."
    )
    if decision.tested:
        caption += f" Bold: clearly different, by {decision.tested}."
    return _phase_table("pairs", "All pairs", comparison, phase, caption, rows)


def seeds_needed_table(comparison: Comparison, phase: Phase) -> Table:
    """Return how many seeds each method and the focus, or else the baseline, need.

    It has no rows where scores share no scale.
    """
    points = 100 * comparison.resolve
    baseline = baseline_of(comparison)
    if comparison.focus in phase.compared:
        baseline = str(comparison.focus)
    rows = {}
    for method in phase.compared:
        if can_plan(comparison, phase, (method, baseline)):
            plan = seed_plan(comparison, phase, (method, baseline))
            half = TableEntry(NOT_KNOWN)
            needed = TableEntry("unknown")
            if plan is not None:
                low, high = map(_seed_count, plan.interval)
                half = TableEntry(number_text(100 * plan.half_width, 1), value=plan.half_width)
                needed = TableEntry(_seed_count(plan.seeds), f"[{low}, {high}]", value=plan.seeds)
            seeds = phase.samples["seeds"][method]
            rows[method] = {
                "seeds": range_text((seeds.min(), seeds.max())),
                "half width (points)": half,
                f"seeds to resolve {points:g} points": needed,
            }
    caption = (
        f"The least number of seeds of each of two methods on each task for which half the width of the 95% t-interval "
        f"of the difference of means from {comparison.methods[baseline].title} is below {points:g} "
        f"{'points' if comparison.kind is SUCCESS else 'points (hundredths)'}, if runs go on to vary as they do. In "
        "brackets: the same at the ends of the 95% interval of that variance. Half width: that of today."
    )
    return _phase_table("seeds_needed", "Seeds needed", comparison, phase, caption, rows)


def _seed_count(seeds: int | None) -> str:
    if seeds is None:
        return f"more than {MAX_PLANNED_SEEDS:,}"
    return f"{seeds:,}"


def reproduction_table(reproductions: pd.DataFrame, tolerance: float) -> Table:
    """Return own scores beside published ones, of `zoo.report.reproduction.reproduce`; the tolerance is a fraction."""
    rows = []
    for r in reproductions.itertuples():
        own_detail = count(range_text(r.own_seeds), "seed")
        if not r.tally.is_complete:
            own_detail += f", {r.tally} runs finished"
        source = f"{r.source}, {count(r.published_seeds, 'seed')}"
        rows.append({
            "phase": r.phase,
            "where": TableEntry(short_name(r.where), value=r.where),
            "method": r.method,
            "published": TableEntry(number_text(100 * r.published_mean, 1), source, value=r.published_mean),
            "own": TableEntry(number_text(100 * r.own_mean, 1), own_detail, value=r.own_mean),
            "difference": number_entry(r.difference, 100, 1),
            "verdict": TableEntry(r.verdict, is_bold=r.verdict == "differs"),
            "protocol": _enumeration(r.protocol),
        })  # fmt: skip
    caption = (
        f"Own minus published mean in points, with its 95% t-interval. It agrees if the whole interval is within "
        f"{100 * tolerance:g} points, differs if all of it is outside, and is open in between. Where the protocol is "
        "not the same, the verdict is about that difference, not about an error."
    )
    return Table.of("reproduction", "Reproduction", caption, rows)


def _enumeration(phrases: Sequence[str], separator: str = "; ") -> TableEntry:
    """Return the first phrases, with all of them in the CSV file."""
    return TableEntry(separator.join(shortened(phrases)) or "same", value=separator.join(phrases))


def protocol_table(comparison: Comparison) -> Table:
    """Return how each score was made, one row for each protocol; fields that nobody states are left out."""
    merged: dict[tuple[str, str, tuple[Any, ...]], list[str]] = {}
    for name, method in comparison.methods.items():
        fields_by_place = {
            place: tuple(map(protocol.get, PROTOCOL))
            for place, protocol in method.protocols.items()
        }
        for fields, places in by_value(fields_by_place).items():
            key = (method.source, ", ".join(places_of(places)), fields)
            merged.setdefault(key, []).append(name)
    rows = []
    for (source, where, fields), names in sorted(
        merged.items(), key=lambda item: (item[0][:2], item[1][0])
    ):
        row: dict[str, Any] = {
            "source": source,
            "methods": _enumeration(names, ", "),
            "where": where,
        }
        for field, value in zip(PROTOCOL, fields, strict=True):
            text = _NOT_STATED if value is None else show(value)
            row[field.replace("_", " ")] = TableEntry(text, value=value)
        rows.append(row)
    alike = []
    # what all rows share is said once, below the table
    for field in PROTOCOL:
        heading = field.replace("_", " ")
        texts = {row[heading].text for row in rows}
        if texts != {_NOT_STATED}:
            if len(rows) < 2 or len(texts) > 1:
                continue
            alike.append(f"{heading} {texts.pop()}")
        for row in rows:
            del row[heading]
    caption = "How each score was made."
    if alike:
        caption += f" All: {', '.join(alike)}."
    caption += _scoring_note(comparison, comparison.methods)
    return Table.of("protocol", "Protocol", caption, rows)


def cost_table(comparisons: Sequence[Comparison], costs: Costs) -> Table:
    """Return updates per second and hours of own methods, a row for each machine and number of seeds at once."""
    order = []  # `index` finds the first place of a method that has scores of several kinds
    for comparison in comparisons:
        order += ranking(comparison)
    rows = []
    for method, numbers in sorted(costs.groups(), key=lambda group: order.index(group[0])):
        rows.append({
            "method": method_entry(comparisons[0], method),
            "machine": numbers["machine"],
            "seeds at once": str(numbers["seeds_at_once"]),
            "runs": f"{numbers['runs']:,}",
            **{heading: _range_entry(numbers[name]) for name, heading in NUMBERS.items()},
        })  # fmt: skip
    caption = (
        "Median over the finished own runs, and their range, by the runs' own logs. Seeds trained at once share their "
        "time. Rows of different machines, or numbers of seeds at once, do not compare methods."
    )
    if costs.unknown:
        examples = shortened([f"{run} ({why})" for run, why in costs.unknown.items()], 2)
        caption += (
            f" The time of {count(len(costs.unknown), 'run')} is not known: {'; '.join(examples)}."
        )
    return Table.of("cost", "Cost", caption, rows)


def scored_otherwise(comparison: Comparison, names: Collection[str]) -> dict[str, list[str]]:
    """Return way of scoring -> methods among some, for scores that may not be those of the last evaluation."""
    scorings = by_value({name: comparison.methods[name].scoring for name in names})
    return {scoring: names for scoring, names in scorings.items() if scoring}


def _phase_table(
    name: str,
    title: str,
    comparison: Comparison,
    phase: Phase,
    caption: str,
    rows: Mapping[str, Row] | Sequence[Row],
    best: str | None = None,
    heading: str = "method",
) -> Table:
    """Return a table about one phase and kind of scores, whose caption explains every mark in it.

    :param rows: the rows, or method -> the rest of its row, which are put into the order of the ranking.
    :param best: where the best score is bold, e.g. `` in the row``; None for tables without scores.
    :param heading: what the column of methods is called.
    """
    kind = comparison.kind
    ranked = ranking(comparison, phase)
    if isinstance(rows, Mapping):
        rows = [
            {heading: method_entry(comparison, method), **rows[method]}
            for method in ranked
            if method in rows
        ]
    if best is not None and len(phase.coverage) > 1:
        threshold = ""  # returns as they are have none: a poor one may be any number
        if kind is SUCCESS:
            threshold = f", where that is at least {FAILED_BELOW:.0%}"
        elif kind.is_comparable:
            threshold = f", where that is at least {FAILED_BELOW:g}"
        caption += f" Bold: the best{best}{threshold}; †: its interval reaches the best. Neither is a test."
    table = Table.of(
        f"{name}_{phase.name}{kind.suffix}", f"{title}, {phase.name}{kind.title}", "", rows
    )
    # a column without any entry, such as IQM where only means are published, says nothing
    frame = table.frame.loc[:, (table.frame != TableEntry(NOT_KNOWN)).any()]
    details = {entry.detail for entry in frame.to_numpy().ravel()}
    if ROUNDED in details:
        caption += f" {ROUNDED}: both ends of the interval round to the number."
    if NO_INTERVAL in details:
        caption += " No interval: all resamples of so few seeds give this number, which says nothing about other seeds."
    names = [name for name in ranked if name in phase.coverage]
    caption += _scoring_note(comparison, names) + _finished_note(comparison, names)
    return replace(table, caption=caption, frame=frame)


def _scoring_note(comparison: Comparison, names: Collection[str]) -> str:
    """Return, after a space, how methods were scored whose scores may not be those of the last evaluation."""
    text = ""
    for scoring, shown in scored_otherwise(comparison, names).items():
        text += f" Scoring of {', '.join(shown)}: {scoring}."
    return text


def _finished_note(comparison: Comparison, names: Collection[str]) -> str:
    """Return, after a space, which methods have runs that did not finish, and what the mark means."""
    counts = []
    mark = ""
    for name in names:
        method = comparison.methods[name]
        tally = method.tally()
        text = f"{method.title} {tally}"
        if tally.failed:
            mark = "‡: runs failed. "
            text += f" ({tally.failed} failed)"
        if not tally.is_complete:
            counts.append(text)
    if not counts:
        return ""
    shown = "; ".join(counts)
    return f" {mark}Finished runs: {shown}; a method is not bold where runs are missing."


def _scores(
    cells: Mapping[str, Cell],
    kind: ScoreKind,
    metric: str = "mean",
    beside: Sequence[str] = ("mean",),
) -> dict[str, TableEntry]:
    """Return the scores of methods at one place, those that are compared with one another.

    :param beside: the metrics that are shown there, with equally many decimals.
    """
    shown: list[Estimate | None] = []
    points = []
    for cell in cells.values():
        shown.extend(map(cell.estimates.get, beside))
        if metric in cell.estimates:
            points.append(cell.estimates[metric].point)
    digits = digits_of(kind, shown)
    best = max(points, default=0.0)
    if len(points) == 1:
        best = math.inf  # a method alone is not the best
    entries = {}
    for name, cell in cells.items():
        estimate = cell.estimates.get(metric)
        entries[name] = score_entry(estimate, kind, digits, best, cell.tally.is_complete)
    return entries


def _range_entry(values: Mapping[str, float] | None) -> TableEntry:
    """Return a median with the range that it is from."""
    if values is None:
        return TableEntry(NOT_KNOWN)
    ends = (values["min"], values["max"])
    low, high = map(_three_digits, ends)
    detail = "" if low == high else f"[{low}, {high}]"
    median = values["median"]
    return TableEntry(_three_digits(median), detail, value=median, interval=ends)


def _three_digits(value: float) -> str:
    # whole hours of slow runs, and fractions of fast ones
    digits = 0
    if value > 0:  # zero has no first digit
        digits = 2 - math.floor(math.log10(value))
    return f"{value:,.{min(max(digits, 0), 6)}f}"
