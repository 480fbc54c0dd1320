"""What the terminal shows of runs under way: their states and how far they are."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator, Mapping
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
_PLACE = ["method", "environment"]
_STEPS = [
    *_PLACE, "run", "state", "offline_step", "online_step", "offline_steps", "online_steps", "pretraining_steps",
    "pretrained_actor",
]  # fmt: skip
_Place = tuple[str, str]


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
            headings[kind] = name.replace(" ", "\n")  # as narrow as its numbers
    if SUCCESS in headings:
        headings[SUCCESS] = "%"
    header = ["method", "environment", "runs", "step", "left", *headings.values(), "at"]
    # numbers are never broken; names and states are
    shown = empty_table("", header, unbroken=header[3:])
    runs = tables.runs
    counted = runs[runs["replaced_by"].isna()]
    is_counted = tables.evaluations["run"].isin(counted["run"])
    scores = tables.evaluations.loc[is_counted, [*_PLACE, "run", "kind", "step", "score"]]
    at, last = _last_scores(counted, scores)
    progress = _progress(runs, scores)
    for place, counts in runs.groupby(_PLACE)["state"].value_counts().unstack().iterrows():
        states = [f"{counts[s]:.0f} {s}" for s in SHOWN_STATES if counts.get(s, 0) > 0]
        shown.add_row(
            place[0],
            short_name(place[1]),
            ", ".join(states),
            *progress[place],
            *(_shown(last.get((*place, kind.name)), kind) for kind in headings),
            _short(at.get(place, math.nan)),
        )
    return shown


def _last_scores(
    runs: pd.DataFrame, scores: pd.DataFrame
) -> tuple[pd.Series, dict[tuple[str, str, str], float]]:
    """Return the last step at which all runs of a method and environment were evaluated, and their mean scores there.

    :return: the steps, by method and environment; the scores, by the kind of score too.
    """
    # As categories, the texts of hundreds of thousands of rows are compared once.
    scores = scores.astype(dict.fromkeys([*_PLACE, "run", "kind"], "category"))
    places = scores.groupby(_PLACE, observed=True)
    evaluated = scores.drop_duplicates(["run", "step"]).groupby([*_PLACE, "step"], observed=True)
    reached = evaluated.size().reset_index("step", name="runs")
    started = runs.groupby(_PLACE).size().reindex(reached.index)
    at = reached.loc[reached["runs"] == started, "step"].groupby(_PLACE, observed=True).max()
    at_last = (
        scores["step"].to_numpy() == at.reindex(places.size().index).to_numpy()[places.ngroup()]
    )
    last = scores[at_last].groupby([*_PLACE, "kind"], observed=True)["score"].mean()
    return at, last.to_dict()


def _progress(runs: pd.DataFrame, scores: pd.DataFrame) -> dict[_Place, tuple[str, str]]:
    """Return how far the last run of each method and environment is, and the time until all of them have ended.

    Runs that have ended are looked at only where none is running.
    """
    evaluated = scores.groupby("run")["step"].max().to_dict()
    runs = runs.loc[runs["method"].notna(), _STEPS]  # others cannot be read
    is_running = runs["state"] == "running"
    has_running = is_running.groupby([runs[name] for name in _PLACE]).transform("any")
    progresses: dict[_Place, list[tuple[int, int, float]]] = {}
    for run in runs[is_running | ~has_running].to_dict("records"):
        place = run["method"], run["environment"]
        progress = _progress_of(run, int(evaluated.get(run["run"], 0)))
        progresses.setdefault(place, []).append(progress)
    result = {}
    for place, progresses_of_place in progresses.items():
        steps, ends, seconds = np.array(progresses_of_place).T
        last = np.argmax(ends - steps)
        slowest = seconds.max()  # NaN if one is
        left = "-"
        if not np.isnan(slowest):
            minutes, second = divmod(round(slowest), 60)
            left = f"{minutes // 60}:{minutes % 60:02}:{second:02}"
        result[place] = f"{_short(steps[last])}/{_short(ends[last])}", left
    return result


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
