"""Tables in the terminal: the main numbers of a comparison, and the progress of runs."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence

import pandas as pd
from rich import box
from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from zoo.errors import UsageError
from zoo.report import entries
from zoo.report.inputs import Request, nothing_counts, read_own
from zoo.report.references import normalise_returns, read_references
from zoo.runs.history import PHASES
from zoo.runs.liveness import SHOWN_STATES
from zoo.runs.read import RunTables, short_name
from zoo.runs.scores import KINDS, SUCCESS, Kind
from zoo.texts import printable


def print_tables(verdicts: Iterable[str], warnings: Iterable[str], found: Sequence[entries.Table]) -> None:
    """Print verdicts, warnings, aggregates, improvements and reproduction, each in the columns that fit a terminal.

    Where nothing can be averaged, the means of the tasks stand in for the aggregates.
    """
    columns = {
        "aggregates": ("method", "mean", "IQM", "seeds", "finished", "step"),
        "improvement": None,
        "verdict": None,
        "differences": None,
        "reproduction": ("phase", "where", "method", "published", "own", "difference", "verdict"),
    }
    averaged = {table.name.removeprefix("aggregates") for table in found if table.name.startswith("aggregates")}
    columns |= {
        t.name: None for t in found if t.name.startswith("tasks") and t.name.removeprefix("tasks") not in averaged
    }
    console = Console()
    for text in (*verdicts, *(f"! {sentence}" for sentence in warnings)):
        console.print(printable(text), markup=False, highlight=False)
    for table in found:
        kind = table.name if table.name in columns else table.name.split("_")[0]
        if kind not in columns:
            continue
        wanted = [k for k, name in enumerate(table.header) if name in (columns[kind] or table.header)]
        shown = _terminal_table([table.header[k] for k in wanted], table.title)
        for row in table.rows:
            texts = ((_literal(row[k].plain), row[k].is_bold) for k in wanted)
            shown.add_row(*(f"[bold]{text}[/bold]" if is_bold else text for text, is_bold in texts))
        console.print(shown)


def print_curves(request: Request) -> RunTables:
    """Print each run's scores over time, unfinished runs included, and return the runs."""
    own, _ = read_own(request)
    if own.evaluations.empty:
        raise UsageError(nothing_counts(own, request.paths))
    for table in _curve_tables(own):
        Console().print(table)
    return own


def watch(request: Request, seconds: float) -> RunTables:
    """Show the state of all runs again and again until none is running, or until Ctrl-C, and return the runs."""
    own = request.read_runs()
    references = read_references(request.reference_scores, own)
    with Live(auto_refresh=False) as live:
        try:
            while True:
                live.update(_state_table(normalise_returns(own, references)), refresh=True)
                if len(own.runs) and not (own.runs["state"] == "running").any():
                    break
                time.sleep(seconds)
                own = request.read_runs()
        except KeyboardInterrupt:  # the way to stop watching; the runs continue
            pass
    return own


def _curve_tables(own: RunTables) -> list[Table]:
    """Return one table for each kind of scores, with one row for each run: its scores over time.

    The bars of success rates go from 0 to 1, those of returns from the lowest to the highest of the environment.
    """
    result = []
    states = own.runs.set_index("run")["state"]
    for kind in KINDS.values():
        evaluations = own.evaluations[own.evaluations["kind"] == kind.name]
        if evaluations.empty:
            continue
        title = "" if kind is SUCCESS else f"{kind.name} (bars span its range on each environment)"
        shown = _terminal_table(["method", "environment", "seed", "curve", "step", _heading(kind), "state"], title)
        scores = evaluations.groupby("environment")["score"]
        limits = {name: kind.limits if kind is SUCCESS else (part.min(), part.max()) for name, part in scores}
        for (method, environment, seed, run), part in evaluations.groupby(["method", "environment", "seed", "run"]):
            last = part.iloc[-1]
            phases = (part.loc[part["phase"] == phase, "score"] for phase in PHASES)
            line = "|".join(_sparkline(values, *limits[environment]) for values in phases)
            score = _shown(last["score"], kind, max(map(abs, limits[environment])))
            row = (str(method), short_name(environment), str(seed), line, f"{last['step']:,}", score, states[run])
            shown.add_row(*map(_literal, row))
        result.append(shown)
    return result


def _state_table(own: RunTables) -> Table:
    """Return one row for each method and environment: its runs, and their score at the last step they all reached."""
    kinds = [kind for kind in KINDS.values() if (own.evaluations["kind"] == kind.name).any()] or [SUCCESS]
    shown = _terminal_table(["method", "environment", "runs", "step", *map(_heading, kinds)])
    for (method, environment), runs in own.runs.groupby(["method", "environment"]):
        counts = runs["state"].value_counts()
        states = ", ".join(f"{counts[state]} {state}" for state in SHOWN_STATES if state in counts)
        scores = own.evaluations[own.evaluations["run"].isin(runs["run"])]
        reached = scores.groupby("step")["run"].nunique()
        shared = reached.index[reached == len(runs)]
        step, last = "-", scores.iloc[:0]
        if len(shared):
            step, last = f"{shared[-1]:,}", scores[scores["step"] == shared[-1]]
        means = [last.loc[last["kind"] == kind.name, "score"].mean() for kind in kinds]
        texts = [
            "-" if pd.isna(mean) else _shown(mean, kind, abs(mean)) for mean, kind in zip(means, kinds, strict=True)
        ]
        shown.add_row(*map(_literal, (str(method), short_name(environment), states, step, *texts)))
    return shown


def _terminal_table(header: Sequence[str], title: str = "") -> Table:
    """Return an empty table with as little decoration as possible: terminals are narrow."""
    table = Table(title=_literal(title), title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for name in header:
        table.add_column(_literal(name), overflow="fold", no_wrap=name in ("environment", "where"))
    return table


def _heading(kind: Kind) -> str:
    return "%" if kind is SUCCESS else kind.name


def _shown(score: float, kind: Kind, largest: float) -> str:
    """Return a score beside others of which the largest is given."""
    return f"{kind.scale * score:,.{kind.digits([largest])}f}"


def _sparkline(scores: pd.Series, low: float, high: float) -> str:
    """Return scores between two limits as a line of blocks."""
    blocks = "▁▂▃▄▅▆▇█"
    heights = (scores - low) / ((high - low) or 1.0)
    return "".join(blocks[min(int(height * len(blocks)), len(blocks) - 1)] for height in heights)


def _literal(text: str) -> str:
    """Return a text that Rich shows as it is, without control bytes."""
    return escape(printable(text))
