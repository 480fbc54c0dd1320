"""Make a comparison: read its inputs, decide it once, and write or print what is asked for."""

from __future__ import annotations

import gc
from datetime import UTC, datetime
from typing import Any

from rich.console import Console
from rich.text import Text

from zoo.report.compute import compare_kinds
from zoo.report.cost import read_costs
from zoo.report.inputs import collect, read_labels, relabelled
from zoo.report.page.report import Content, refuse_foreign_files, write_report
from zoo.report.request import CompareRequest
from zoo.report.table_entries import Table, TableEntry, write_file
from zoo.runs.versions import git_commit
from zoo.terminal.messages import log
from zoo.terminal.tables import make_table

# what imports made stays, 160,000 objects that each full collection of garbage would visit
gc.freeze()
_PRINTED = ("aggregates", "improvement", "verdict", "differences", "reproduction")
"""The tables in the terminal."""


def run(request: CompareRequest) -> dict[str, Any]:
    """Make a comparison, write and print what is asked for, and return the program's result."""
    request.check()
    if request.output:
        refuse_foreign_files(request.output)  # before minutes of work
    inputs = collect(request)
    baseline = request.baseline or inputs.default_baseline()
    focus = None
    if not request.no_focus:
        focus = request.focus or inputs.default_focus(baseline, request.suite_focus)
    names = read_labels(request.labels, inputs.methods)
    inputs = relabelled(inputs, names)
    comparisons = compare_kinds(
        inputs,
        request.reps,
        curves=request.output is not None,
        order=[names[name] for name in dict.fromkeys(request.order) if name in names],
        baseline=names[baseline],
        focus=focus and names[focus],
        resolve=request.resolve / 100,
    )
    costs = None
    # the terminal shows no costs, and every run's log is read for them
    if request.json or request.output:
        costs = read_costs(inputs)
    result: dict[str, Any] = {
        "methods": len(inputs.methods),
        "runs": len(inputs.own_runs.runs),
        "skipped": len(inputs.own_runs.skipped()),
    }
    origin = f"{datetime.now(UTC):%Y-%m-%d}, commit {(git_commit() or 'unknown')[:12]}"
    content = Content(inputs, comparisons, request, costs, origin)
    if request.json:
        write_file(request.json, content.results)
        result["json"] = str(request.json)
    if request.output:
        result["report"] = str(write_report(request.output, content))
    if request.prints or not (request.json or request.output):
        _print_tables(content)
    elif request.output:
        _print_sentences(content)
    elif inputs.uncovered:
        log.info(inputs.uncovered)  # the other two print it, as the first sentence
    return result


def _print_sentences(content: Content) -> None:
    """Print the verdicts, and what a reader must know before believing a number."""
    console = Console(markup=False, highlight=False)
    for verdict in content.verdicts:
        console.print(" ".join(verdict).strip())
    for text in content.warnings:
        console.print(f"! {text}")


def _print_tables(content: Content) -> None:
    """Print sentences, aggregates, improvements and reproduction, each in the columns that fit a terminal.

    Where nothing can be averaged, the means of the tasks stand in for the aggregates.
    """
    console = Console(markup=False)
    names = [table.name for table in content.tables]
    _print_sentences(content)
    for table in content.tables:
        kind, _, phase = table.name.partition("_")
        is_stand_in = kind == "tasks" and f"aggregates_{phase}" not in names
        if kind not in _PRINTED and not is_stand_in:
            continue
        frame = table.frame
        if kind == "reproduction":
            # sentences, which would leave the numbers no room
            frame = frame.drop(columns="protocol")
        rows = frame.map(_text).to_numpy().tolist()
        unbroken = _whole_columns(table, console.width)
        console.print(make_table(table.title, [*frame], rows, unbroken))


def _text(entry: TableEntry) -> Text:
    text = Text(entry.plain)
    if entry.is_bold:
        text.style = "bold"
    return text


def _whole_columns(table: Table, width: int) -> list[str]:
    """Return the columns whose text is not to be broken: those of numbers if names have room beside them, else names.

    :param width: of the terminal.
    """
    numbers = []
    letters = 0
    for name, entries in table.frame.items():
        texts = [entry.plain for entry in entries]
        if not any(map(str.isalpha, "".join(texts))):
            numbers.append(name)
            letters += max(map(len, (name, *texts))) + 1
    if letters <= width / 2:
        return numbers
    return ["environment", "where"]
