"""Tables in the terminal: the main numbers of a comparison, and how runs get on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import pandas as pd
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from zoo.run import RunTables, short_name
from zoo.run_evaluations import PHASES
from zoo.run_folder import STATES

if TYPE_CHECKING:
    from zoo.evaluation import tables


def print_tables(sentences: Iterable[str], found: Iterable[tables.Table]) -> None:
    """Print warnings, aggregates, improvements and reproduction, each in the columns that fit a terminal.

    :param sentences: the warnings.
    :param found: the tables of a report; the others stay in the report.
    """
    columns = {
        "aggregates": ("method", "mean", "IQM", "seeds", "step"),
        "improvement": None,
        "reproduction": ("phase", "where", "method", "published", "own", "difference", "verdict"),
    }
    console = Console()
    for sentence in sentences:
        console.print(f"! {sentence}", markup=False, highlight=False)
    for table in found:
        kind = table.name.split("_")[0]
        if kind not in columns:
            continue
        wanted = [k for k, name in enumerate(table.header) if name in (columns[kind] or table.header)]
        shown = _terminal_table([table.header[k] for k in wanted], table.title)
        for row in table.rows:
            entries = (row[k] for k in wanted)
            shown.add_row(*(f"[bold]{escape(e.plain)}[/bold]" if e.is_bold else escape(e.plain) for e in entries))
        console.print(shown)


def curves_table(own: RunTables) -> Table:
    """Return one row for each run: its scores over time.

    :param own: own runs, unfinished ones included.
    :return: the table.
    """
    shown = _terminal_table(["method", "environment", "seed", "curve", "step", "%", "state"])
    states = own.runs.set_index("run")["state"]
    for (method, environment, seed, run), part in own.evaluations.groupby(["method", "environment", "seed", "run"]):
        last = part.iloc[-1]
        line = "|".join(_sparkline(part.loc[part["phase"] == phase, "score"]) for phase in PHASES)
        score = f"{100 * last['score']:.1f}"
        row = (str(method), short_name(environment), str(seed), line, f"{last['step']:,}", score, states[run])
        shown.add_row(*map(escape, row))
    return shown


def state_table(own: RunTables) -> Table:
    """Return one row for each method and environment: its runs, and their success at the last step they all reached.

    :param own: own runs, those that do not count included.
    :return: the table.
    """
    shown = _terminal_table(["method", "environment", "runs", "step", "%"])
    for (method, environment), runs in own.runs.groupby(["method", "environment"]):
        counts = runs["state"].value_counts()
        states = ", ".join(f"{counts[state]} {state}" for state in STATES if state in counts)
        scores = own.evaluations[own.evaluations["run"].isin(runs["run"])]
        reached = scores.groupby("step")["run"].nunique()
        shared = reached.index[reached == len(runs)]
        step = success = "-"
        if len(shared):
            step = f"{shared[-1]:,}"
            success = f"{100 * scores.loc[scores['step'] == shared[-1], 'score'].mean():.1f}"
        shown.add_row(*map(escape, (str(method), short_name(environment), states, step, success)))
    return shown


def _terminal_table(header: Sequence[str], title: str = "") -> Table:
    """Return an empty table with as little decoration as possible: terminals are narrow."""
    table = Table(title=escape(title), title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for name in header:
        table.add_column(escape(name), overflow="fold", no_wrap=name in ("environment", "where"))
    return table


def _sparkline(scores: pd.Series) -> str:
    """Return scores from 0 to 1 as a line of blocks."""
    blocks = "▁▂▃▄▅▆▇█"
    return "".join(blocks[min(int(score * len(blocks)), len(blocks) - 1)] for score in scores)
