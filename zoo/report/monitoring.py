"""What the terminal shows of runs under way: their states and how far they are."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from zoo.runs.folder import DEAD, SHOWN_STATES, RunFolder, short_name
from zoo.runs.read import RunTables, read_speed
from zoo.runs.scores import SCORE_KINDS, SUCCESS, ScoreKind
from zoo.terminal.tables import empty_table

_MAX_PROBLEMS = 10


def show_states(tables: RunTables) -> RenderableType:
    """Return a table with one row for each method and environment, and what is wrong with single runs."""
    return Group(_state_table(tables), *_problems(tables.runs))


def count_states(tables: RunTables) -> dict[str, int]:
    """Return the number of runs, and of those in each state."""
    return {"runs": len(tables.runs)} | tables.runs["state"].value_counts().to_dict()


def _state_table(tables: RunTables) -> Table:
    """Return the states of runs, their steps, the time left, and their scores at the last step that all reached."""
    names = set(tables.evaluations["kind"]) or {SUCCESS.name}
    headings = {}  # of the kinds of scores that there are
    for name, kind in SCORE_KINDS.items():
        if name in names:
            headings[kind] = name
    if SUCCESS in headings:
        headings[SUCCESS] = "%"
    header = ["method", "environment", "runs", "step", "left", *headings.values(), "at"]
    # numbers are never broken; names and states are
    shown = empty_table("", header, unbroken=header[3:])
    key = ["method", "environment"]
    evaluations = dict(iter(tables.evaluations.groupby(key)))
    for place, runs in tables.runs.groupby(key):
        counts = runs["state"].value_counts()
        states = [f"{counts[state]} {state}" for state in SHOWN_STATES if state in counts]
        counted = runs.loc[runs["replaced_by"].isna(), "run"]
        scores = evaluations.get(place, tables.evaluations.iloc[:0])
        scores = scores[scores["run"].isin(counted)]
        reached = scores.groupby("step")["run"].nunique()
        at = reached.index[reached == len(counted)].max()  # NaN where there is no such step
        last = scores[scores["step"] == at].groupby("kind")["score"].mean()
        shown.add_row(
            place[0],
            short_name(place[1]),
            ", ".join(states),
            *_progress(runs, scores),
            *(_shown(last.get(kind.name), kind) for kind in headings),
            _short(at),
        )
    return shown


def _progress(runs: pd.DataFrame, scores: pd.DataFrame) -> tuple[str, str]:
    """Return how far the last of some runs is, and the time until all of them have ended.

    Runs that have ended are looked at only where none is running.
    """
    running = runs[runs["state"] == "running"]
    evaluated = scores.groupby("run")["step"].max()
    progresses = []
    if running.empty:
        running = runs
    for run in running.to_dict("records"):
        progresses.append(_progress_of(run, int(evaluated.get(run["run"], 0))))
    steps, ends, seconds = np.array(progresses).T
    last = np.argmax(ends - steps)
    slowest = seconds.max()  # NaN if one is
    left = "-"
    if not np.isnan(slowest):
        left = str(timedelta(seconds=round(slowest)))
    return f"{_short(steps[last])}/{_short(ends[last])}", left


def _progress_of(run: Mapping[Hashable, Any], evaluated: int) -> tuple[int, int, float]:
    """Return a run's step, its last one, both from the end of pretraining, and the seconds left, NaN if not known.

    Its status and last evaluation may be older than its log.
    """
    end = int(run["offline_steps"] + run["online_steps"])
    step = max(int(run["offline_step"] + run["online_step"]), evaluated)
    logged = read_speed(RunFolder(Path(run["run"]))) if run["state"] == "running" else None
    if logged is None:
        return step, end, math.nan
    now, speed = logged
    if not run["pretrained_actor"]:
        now -= int(run["pretraining_steps"])
    return max(step, now), end, max(0, end - now) / speed


def _short(steps: float) -> str:
    """Return a number of steps with three digits, e.g. ``1.25M``."""
    if np.isnan(steps):
        return "-"
    if steps < 999.5:  # what three digits round to the next unit has that
        return str(int(steps))
    if steps < 999_500:
        return f"{steps / 1e3:.3g}k"
    return f"{steps / 1e6:.3g}M"


def _problems(runs: pd.DataFrame) -> Iterator[Text]:
    """Yield a line for each of the first runs that failed, are dead or cannot be read, unless another replaces them."""
    has_ended = runs["state"].isin(["failed", DEAD, "unknown"])
    broken_runs = runs[has_ended & runs["problem"].notna() & runs["replaced_by"].isna()]
    for row in broken_runs.head(_MAX_PROBLEMS).itertuples():
        yield Text(f"! {row.run}: {row.problem}")


def _shown(score: float | None, kind: ScoreKind) -> str:
    """Return a score with the decimals that it needs."""
    if score is None:
        return "-"
    return f"{kind.scale * score:,.{kind.digits([score])}f}"
