"""Make a comparison: read its inputs, decide it once, and write or print what is asked for."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from rich.console import Console
from rich.text import Text

from agents.common.files import write_text
from zoo.report.compute import compare_kinds
from zoo.report.inputs import collect, read_labels, relabelled
from zoo.report.page import Content, check_folder, write_report
from zoo.report.request import CompareRequest
from zoo.report.tables import TableEntry
from zoo.runs.versions import git_commit
from zoo.terminal.tables import make_table

_PRINTED = ("verdict", "aggregates")
"""The tables in the terminal."""


def run(request: CompareRequest) -> dict[str, Any]:
    """Make a comparison, write and print what is asked for, and return the program's result."""
    request.check()
    if request.output:
        check_folder(request.output)  # before minutes of work
    inputs = collect(request)
    focus = inputs.focus(request.focus, request.baseline)
    names = read_labels(request.labels, inputs.methods)
    inputs = relabelled(inputs, names)
    comparisons = compare_kinds(
        inputs,
        request.reps,
        curves=request.output is not None,
        focus=focus and names[focus],
        baseline=request.baseline and names[request.baseline],
    )
    result: dict[str, Any] = {
        "methods": len(inputs.methods),
        "runs": len(inputs.own_runs.runs),
        "skipped": len(inputs.own_runs.skipped()),
    }
    origin = f"{datetime.now(UTC):%Y-%m-%d}, commit {(git_commit() or 'unknown')[:12]}"
    content = Content(inputs, comparisons, request, origin)
    if request.json:
        request.json.parent.mkdir(parents=True, exist_ok=True)
        write_text(request.json, content.results)
        result["json"] = str(request.json)
    if request.output:
        result["report"] = str(write_report(request.output, content))
    if not (request.json or request.output):
        _print_tables(content)
    elif request.output:
        _print_sentences(content)
    return result


def _print_sentences(content: Content) -> None:
    """Print the verdicts, and what a reader must know before believing a number."""
    console = Console(markup=False, highlight=False)
    for verdict in content.verdicts:
        console.print(verdict)
    for text in content.notes:
        console.print(f"! {text}")


def _print_tables(content: Content) -> None:
    """Print sentences, verdicts and aggregates; where nothing can be averaged, the means of the tasks instead."""
    console = Console(markup=False)
    names = [table.name for table in content.tables]
    _print_sentences(content)
    for table in content.tables:
        kind, _, phase = table.name.partition("_")
        is_stand_in = kind == "tasks" and f"aggregates_{phase}" not in names
        if kind in _PRINTED or is_stand_in:
            rows = table.frame.map(_text).to_numpy().tolist()
            console.print(make_table(table.title, table.header, rows, unbroken=table.header[:1]))


def _text(entry: TableEntry) -> Text:
    return Text(entry.plain, style="bold" if entry.is_bold else "")
