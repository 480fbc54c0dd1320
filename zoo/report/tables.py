"""The tables of a comparison: texts for readers, and unrounded numbers for programs."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import pandas as pd

from zoo.report.comparison import (
    MARGIN,
    Cell,
    Comparison,
    Methods,
    Outcome,
    Phase,
    by_value,
    failed_runs,
    places_of,
    ranking,
)
from zoo.report.statistics import MIN_SEEDS, SIGNIFICANT, Estimate
from zoo.runs.folder import short_name
from zoo.runs.protocol import PROTOCOL, show
from zoo.runs.scores import ScoreKind
from zoo.terminal.errors import shortened

NOT_KNOWN = "-"
"""Text of an unknown entry."""
LONGEST_NAME = 40
"""Longest line of a method's name, in characters; a name that lists many settings is wrapped onto several lines."""


@dataclass(frozen=True)
class TableEntry:
    """One entry of a table.

    :param detail: an interval, or other text in small print.
    :param numbers: values in the CSV file instead of the text: suffix of the column name -> unrounded number;
        success rates are fractions.
    """

    text: str
    detail: str = ""
    is_bold: bool = False
    numbers: Mapping[str, Any] | None = None

    @property
    def plain(self) -> str:
        """The entry on one line."""
        return f"{self.text} {self.detail}".strip()

    @property
    def written(self) -> Mapping[str, Any]:
        """Values of this entry in the CSV file: suffix of the column name -> value."""
        if self.numbers is not None:
            return self.numbers
        # an empty field is a missing value
        return {} if self.text == NOT_KNOWN else {"": self.text}


Row = Mapping[str, Any]
"""Heading -> a `TableEntry`, a text, or None if unknown."""


@dataclass(frozen=True)
class Table:
    """One table; each cell of its frame is a `TableEntry`."""

    name: str
    title: str
    caption: str
    frame: pd.DataFrame

    @classmethod
    def of(cls, name: str, title: str, captions: Mapping[str, str], rows: Sequence[Row]) -> Table:
        """Return a table of rows that share their headings; columns in which every entry is unknown are omitted.

        :param captions: heading -> part of the caption, which is omitted with its column.
        """
        # dtype object, because pandas would otherwise convert None to NaN
        frame = pd.DataFrame(rows, dtype=object).map(_entry)
        is_known = frame.map(lambda entry: entry.text != NOT_KNOWN)
        frame = frame.loc[:, is_known.any()]
        parts = [text for heading, text in captions.items() if text and heading in frame]
        return cls(name, title, " ".join(parts), frame)

    @property
    def header(self) -> list[str]:
        """Headings of the columns."""
        return list(self.frame)

    @cached_property
    def rows(self) -> list[list[TableEntry]]:
        """Entries of the table, row by row."""
        return self.frame.to_numpy().tolist()


def _entry(content: TableEntry | str | None) -> TableEntry:
    if isinstance(content, TableEntry):
        return content
    return TableEntry(content or NOT_KNOWN)


def digits_of(kind: ScoreKind, estimates: Iterable[Estimate | None]) -> int:
    """Return the number of decimals for estimates that are shown together."""
    values = []
    for estimate in filter(None, estimates):
        values += [estimate.point, *(estimate.interval or ())]
    return kind.digits(values)


def number_text(value: float, digits: int) -> str:
    """Return a number as text, with ``digits`` decimals and a true minus sign."""
    # round off floating-point error first, because it could decide how a half is rounded; `z` removes the sign of zero
    return f"{round(value, 9):z,.{digits}f}".replace("-", "\N{MINUS SIGN}")


def number_entry(estimate: Estimate | None, scale: float, digits: int) -> TableEntry:
    """Return an estimate with its interval."""
    if estimate is None:
        return TableEntry(NOT_KNOWN)
    numbers = {"": estimate.point}
    detail = ""
    if estimate.interval is not None:
        low, high = (number_text(scale * end, digits) for end in estimate.interval)
        detail = f"[{low}, {high}]"
        numbers |= zip((" [low]", " [high]"), estimate.interval, strict=True)
    return TableEntry(number_text(scale * estimate.point, digits), detail, numbers=numbers)


def _interval_entry(estimate: Estimate | None, scale: float, digits: int) -> TableEntry:
    """Return the interval of an estimate, without its point."""
    entry = number_entry(estimate, scale, digits)
    numbers = {ending: number for ending, number in entry.written.items() if ending}
    return TableEntry(entry.detail or NOT_KNOWN, numbers=numbers)


def _score_entries(
    comparison: Comparison, cells: Mapping[str, Cell], field: str = "mean"
) -> dict[str, TableEntry]:
    """Return the scores of a row or column; the best is bold, unless its method has unfinished runs.

    Bold marks the best score whether or not its lead is significant, so it cannot contradict a test.

    :param field: the field of `Cell` that contains the scores.
    """
    kind = comparison.kind
    estimates = {name: getattr(cell, field) for name, cell in cells.items()}
    points = [estimate.point for estimate in estimates.values() if estimate]
    digits = digits_of(kind, estimates.values())
    entries = {}
    for name, estimate in estimates.items():
        entry = number_entry(estimate, kind.scale, digits)
        # if all scores are equal, none is bold
        if estimate and cells[name].tally.is_complete and min(points) < max(points):
            entry = replace(entry, is_bold=math.isclose(estimate.point, max(points)))
        entries[name] = entry
    return entries


def range_text(ends: tuple[int, int]) -> str:
    """Return a range of integers as text, e.g. ``"1,000"`` or ``"3 to 12"``."""
    return " to ".join(f"{end:,}" for end in dict.fromkeys(ends))


def p_text(p_value: float | None) -> str:
    """Return a p value as text."""
    if p_value is None:
        return NOT_KNOWN
    if p_value < 0.001:  # "0.000" would look like a p value of exactly 0
        return "< 0.001"
    return f"{p_value:.3f}"


# -- the tables -------------------------------------------------------------------------------------------------------


def verdict_table(comparison: Comparison, phase: Phase) -> Table:
    """Return the table of verdicts against the other methods; it has no rows if nothing is compared."""
    kind = comparison.kind
    decision = phase.decision
    digits = digits_of(kind, [v.difference for v in decision.verdicts])
    rows = []
    for v in decision.verdicts:
        row = {
            "against": v.method,
            "difference": number_entry(v.difference, kind.scale, digits),
            "over tasks": _interval_entry(v.over_tasks, kind.scale, digits),
            # the text is rounded, the number in the CSV file is not
            "p": TableEntry(p_text(v.p_value), numbers={"": v.p_value}),
            "P(better)": number_entry(v.probability, 1, 2),
            "verdict": TableEntry(v.outcome, is_bold=v.outcome in (Outcome.BETTER, Outcome.WORSE)),
        }
        rows.append(row)
    subject = decision.subject
    outcomes = {v.outcome for v in decision.verdicts}
    meanings = {
        Outcome.EQUAL: f"Equal: significantly less than {100 * MARGIN:g} points apart.",
        Outcome.NOT_COMPARABLE: "Not comparable: your runs are shorter.",
    }
    captions = {
        "difference": (
            f"Difference: mean of {subject} minus mean of the other method, with a {100 * (1 - decision.level):.4g}% "
            f"t-interval over seeds; the interval excludes 0 if p is at most {SIGNIFICANT:g}."
        ),
        "over tasks": "Over tasks: 95% t-interval of the difference on new tasks like these.",
        "p": f"p and verdict: {decision.tested}.",
        "P(better)": (
            f"P(better): probability that a run of {subject} beats a run of the other method on the same task."
        ),
        "verdict": " ".join(text for outcome, text in meanings.items() if outcome in outcomes),
    }
    title = f"{subject} against the other methods"
    return _phase_table("verdict", title, comparison, phase, captions, rows)


def aggregates_table(comparison: Comparison, phase: Phase) -> Table:
    """Return the table of the methods' aggregates in one phase; it has no rows if nothing can be averaged."""
    kind = comparison.kind
    cells = phase.aggregates
    means = _score_entries(comparison, cells)
    iqms = _score_entries(comparison, cells, "iqm")
    rows = {}
    for name, cell in cells.items():
        rows[name] = {
            "mean": means[name],
            "IQM": iqms[name],
            "seeds": range_text(cell.seeds),
            "finished": None if cell.tally.is_complete else str(cell.tally),
            "steps": range_text(phase.step_ranges[name]),
        }
    caption = f"{kind.caption}. Bold: the best, if all its runs finished; its lead may not be significant."
    # the title contains the name of a single task or of a suite
    if len(phase.tasks) > 1 and phase.suite is None:
        caption += f" Tasks: {', '.join(places_of(phase.tasks))}."
    captions = {
        "method": caption,
        "mean": "Mean: with a 95% t-interval over seeds, if single runs are known.",
        "IQM": (
            "IQM: mean of the middle half of all runs, with a 95% bootstrap interval over seeds if there are at least "
            f"{MIN_SEEDS} seeds."
        ),
    }
    return _phase_table("aggregates", "Scores", comparison, phase, captions, rows)


def domains_table(comparison: Comparison, phase: Phase) -> Table:
    """Return the table of each method's mean on each domain; it has no rows for a single task."""
    columns = {
        f"{domain} ({len(phase.domain_tasks[domain])})": _score_entries(comparison, cells)
        for domain, cells in sorted(phase.domains.items())
        if not comparison.has_one_task
    }
    rows = pd.DataFrame(columns).fillna(NOT_KNOWN).to_dict("index")
    caption = (
        "Success in %, mean over the tasks of a domain (their number in brackets), with 95% t-intervals over seeds; "
        "-: not all tasks of the domain were run. Bold: the best of the column, if all its runs finished."
    )
    return _phase_table("domains", "Domains", comparison, phase, {"method": caption}, rows)


def tasks_table(comparison: Comparison, phase: Phase) -> Table:
    """Return the table of each method's mean on each task; it has no rows for a single task."""
    rows = []
    tasks = {} if comparison.has_one_task else phase.per_task
    for task, cells in tasks.items():
        scores = _score_entries(comparison, cells)
        row: dict[str, Any] = {"environment": TableEntry(short_name(task), numbers={"": task})}
        for name in ranking(phase):
            row[name] = scores.get(name)
        rows.append(row)
    caption = (
        f"{comparison.kind.caption}, mean over seeds, with 95% t-intervals. Bold: the best of the row, if all its runs "
        "finished."
    )
    return _phase_table("tasks", "Tasks", comparison, phase, {"environment": caption}, rows)


def protocol_table(methods: Methods) -> Table:
    """Return the protocols of scores, one row per protocol; fields that no protocol states are omitted."""
    merged: dict[tuple[str, str, tuple[Any, ...]], list[str]] = {}
    for name, method in methods.items():
        fields_by_environment = {}
        for environment, protocol in method.protocols.items():
            fields_by_environment[environment] = tuple(map(protocol.get, PROTOCOL))
        for fields, environments in by_value(fields_by_environment).items():
            key = (method.source, ", ".join(places_of(environments)), fields)
            merged.setdefault(key, []).append(name)
    rows = []
    for (source, location, fields), names in sorted(merged.items(), key=lambda item: item[0][:2]):
        entry = TableEntry(", ".join(shortened(names)), numbers={"": ", ".join(names)})
        row: dict[str, Any] = {"source": source, "methods": entry, "where": location}
        for field, value in zip(PROTOCOL, fields, strict=True):
            text = NOT_KNOWN if value is None else show(value)
            row[field.replace("_", " ")] = TableEntry(text, numbers={"": value})
        rows.append(row)
    table = Table.of("protocol", "Protocol", {}, rows)
    sentence = [f"Protocol of each score ({NOT_KNOWN}: not stated)"]
    texts = table.frame.map(lambda entry: entry.text)
    # move values that all rows share into the caption
    shared = [name for name in list(texts)[3:] if len(rows) > 1 and texts[name].nunique() == 1]
    sentence += [f"{name} {texts[name].iloc[0]}" for name in shared]
    return replace(table, caption=f"{'; '.join(sentence)}.", frame=table.frame.drop(columns=shared))


def _phase_table(
    name: str,
    title: str,
    comparison: Comparison,
    phase: Phase,
    captions: Mapping[str, str],
    rows: Mapping[str, Row] | Sequence[Row],
) -> Table:
    """Return a table about one phase and kind of scores.

    :param rows: rows of the table. If they are a mapping, method -> row, they are sorted by `ranking`, and a column of
        methods is added.
    """
    if isinstance(rows, Mapping):
        ordered = [method for method in ranking(phase) if method in rows]
        rows = [{"method": method, **rows[method]} for method in ordered]
    title = f"{title}, {phase.name}{comparison.title}"
    if name in ("verdict", "aggregates"):
        title += f", {phase.tasks_label}"
    table = Table.of(f"{name}_{phase.name}{comparison.suffix}", title, captions, rows)
    failed = failed_runs(comparison.methods)
    if failed:
        table = replace(table, caption=f"{table.caption} Failed runs: {failed}.")
    return table


# -- tables as CSV and LaTeX ------------------------------------------------------------------------------------------


def to_csv(table: Table) -> str:
    """Return a table as CSV: numbers are unrounded, success rates are fractions, and intervals have two columns."""
    columns = []
    for name, entries in table.frame.items():
        written = pd.DataFrame([entry.written for entry in entries], dtype=object)
        columns.append(written.add_prefix(str(name)))
    return pd.concat(columns, axis="columns").to_csv(index=False)


def to_latex(table: Table) -> str:
    """Return a table as LaTeX code, which requires the package booktabs."""

    def cell(entry: TableEntry) -> str:
        text = latex(entry.plain)
        return rf"\textbf{{{text}}}" if entry.is_bold else text

    return (
        table.frame.map(cell)
        .rename(columns=latex)
        .to_latex(
            index=False,
            column_format="l" + "c" * (len(table.header) - 1),
            caption=latex(f"{table.title}. {table.caption}"),
            label=f"tab:{table.name}",
            position="t",
        )
    )


_LATEX = str.maketrans({
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
    "<": "$<$", ">": "$>$", "~": r"$\sim$", "^": r"\^{}", "\\": r"$\backslash$",
    "\N{MINUS SIGN}": "$-$",
})  # fmt: skip


def latex(text: str) -> str:
    """Return a text escaped for LaTeX, including true minus signs, which pandas does not escape."""
    return text.translate(_LATEX)
