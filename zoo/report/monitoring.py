"""Terminal table of runs: states, steps, time left and scores."""

from __future__ import annotations

import math
from pathlib import Path

import pandas as pd
from rich.console import Group, RenderableType

from zoo.runs.folder import DEAD, DIVERGED, SHOWN_STATES, RunFolder, short_name
from zoo.runs.read import RunTables, read_speed
from zoo.runs.scores import SCORE_KINDS
from zoo.terminal.errors import shortened
from zoo.terminal.tables import make_table

_KEY = ["method", "environment"]
_HEADER = ("method", "environment", "runs", "step", "left", "score", "at")


def show_states(tables: RunTables) -> RenderableType:
    """Return a table with one row for each method and environment, followed by the problems of individual runs.

    A row contains the states, steps and time left of its runs, and their mean score at the last common step.
    """
    scores = _shared_scores(tables)
    rows = []
    for key, runs in tables.runs.groupby(_KEY):
        states = runs["state"].value_counts()
        shown = ", ".join(f"{states[name]} {name}" for name in SHOWN_STATES if name in states)
        score = scores.get(key, ("-", "-"))
        rows.append([key[0], short_name(key[1]), shown, *_progress(runs), *score])
    # wrap names and states, not numbers
    return Group(make_table("", _HEADER, rows, unbroken=_HEADER[3:]), *_problems(tables.runs))


def _shared_scores(tables: RunTables) -> dict[tuple[str, str], tuple[str, str]]:
    """Return (method, environment) -> mean score at the last step at which all runs were evaluated, and that step."""
    runs = tables.runs[tables.runs["replaced_by"].isna()]
    evaluations = tables.evaluations[tables.evaluations["run"].isin(runs["run"])]
    started = runs.groupby(_KEY).size()
    result = {}
    for (method, environment, step), rows in evaluations.groupby([*_KEY, "step"]):
        # groups are sorted by step, so the last common step overwrites earlier ones
        if len(rows) == started[method, environment]:
            kind = SCORE_KINDS[rows["kind"].iloc[0]]
            score = rows["score"].mean()
            unit = "%" if kind.scale == 100 else ""
            text = f"{kind.scale * score:,.{kind.digits([score])}f}{unit}"
            result[method, environment] = text, _short(step)
    return result


def _progress(runs: pd.DataFrame) -> tuple[str, str]:
    """Return the step of the run with the most steps left, and the time until all runs finish.

    If some runs are running, the remaining runs are ignored.
    """
    is_running = runs["state"] == "running"
    steps = []
    seconds = [0.0]  # a run may end a few steps late
    for run in (runs[is_running] if is_running.any() else runs).to_dict("records"):
        end = int(run["offline_steps"] + run["online_steps"])
        # the step of the last checkpoint, from which --resume continues a dead run; a running run may be past it
        step = int(run["offline_step"] + run["online_step"])
        logged = read_speed(RunFolder(Path(run["run"]))) if run["state"] == "running" else None
        left = math.inf  # kept if the run's speed is unknown
        if logged is not None:
            now, speed = logged
            if not run["pretrained_actor"]:
                now -= run["pretraining_steps"]
            left = (end - now) / speed
            step = max(step, now)
        seconds.append(left)
        steps.append((end - step, step, end))
    _, step, end = max(steps)
    text = "-"
    if math.isfinite(max(seconds)):
        minutes, second = divmod(round(max(seconds)), 60)
        text = f"{minutes // 60}:{minutes % 60:02}:{second:02}"
    return f"{_short(step)}/{_short(end)}", text


def _problems(runs: pd.DataFrame) -> list[str]:
    """Return a line for each of the first ten failed, diverged, dead or unreadable runs, and the number of others."""
    broken_runs = runs[runs["state"].isin(["failed", DIVERGED, DEAD, "unknown"])]
    return shortened((f"! {row.run}: {row.problem}" for row in broken_runs.itertuples()), 10)


def _short(steps: float) -> str:
    """Return a number of steps with three digits, e.g. ``1.25M``."""
    if steps < 999.5:  # larger numbers round to 1k
        return str(int(steps))
    if steps < 999_500:
        return f"{steps / 1e3:.3g}k"
    return f"{steps / 1e6:.3g}M"
