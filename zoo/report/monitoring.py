"""What the terminal shows of runs under way: their states and how far they are."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from zoo.runs.folder import DEAD, SHOWN_STATES, RunFolder, short_name
from zoo.runs.read import RunTables, read_speed
from zoo.runs.scores import SCORE_KINDS, SUCCESS, ScoreKind
from zoo.terminal.tables import make_table

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
    names = set(tables.evaluations["kind"].unique()) or {SUCCESS.name}
    headings = {}  # of the kinds of scores that there are
    for name, kind in SCORE_KINDS.items():
        if name in names:
            headings[kind] = name.replace(" ", "\n")  # as narrow as its numbers
    if SUCCESS in headings:
        headings[SUCCESS] = "%"
    header = ["method", "environment", "runs", "step", "left", *headings.values(), "at"]
    runs = tables.runs
    counted = runs[runs["replaced_by"].isna()]
    scores = _scores_of_runs(counted, tables.evaluations)
    at, last = _last_scores(counted, scores)
    progress = _progress(runs, scores.groupby("run")["step"].max())
    states = runs.groupby(_PLACE)["state"].value_counts().unstack(fill_value=0)
    rows = []
    for place, counts in states.to_dict("index").items():
        method, environment = place
        counts_of_states = [f"{counts[s]} {s}" for s in SHOWN_STATES if counts.get(s)]
        rows.append(
            (
                method,
                short_name(environment),
                ", ".join(counts_of_states),
                *progress[place],
                *(_shown(last.get((*place, kind.name)), kind) for kind in headings),
                _short(at.get(place, math.nan)),
            )
        )
    # numbers are never broken; names and states are
    return make_table("", header, rows, unbroken=header[3:])


def _scores_of_runs(runs: pd.DataFrame, evaluations: pd.DataFrame) -> pd.DataFrame:
    """Return method, environment, kind, run (its index), step and score of each evaluation of some runs."""
    # As categories of the runs, the texts of hundreds of thousands of rows are not compared.
    categories = runs[[*_PLACE, "kind"]].astype("category")
    rows = pd.Index(runs["run"]).get_indexer(evaluations["run"])
    is_of_runs = rows >= 0
    scores = categories.iloc[rows[is_of_runs]].rename_axis("run").reset_index()
    return scores.assign(
        step=evaluations["step"].to_numpy()[is_of_runs],
        score=evaluations["score"].to_numpy()[is_of_runs],
    )


def _last_scores(
    runs: pd.DataFrame, scores: pd.DataFrame
) -> tuple[dict[_Place, int], dict[tuple[str, str, str], float]]:
    """Return the last step at which all runs of a method and environment were evaluated, and their mean scores there.

    :return: the steps, by method and environment; the scores, by the kind of score too.
    """
    evaluated = scores.drop_duplicates(["run", "step"]).groupby([*_PLACE, "step"], observed=True)
    reached = evaluated.size().reset_index("step", name="runs")
    started = runs.groupby(_PLACE).size().reindex(reached.index)
    at = reached.loc[reached["runs"] == started, "step"].groupby(_PLACE, observed=True).max()
    places = scores.groupby(_PLACE, observed=True)
    at_last = (
        scores["step"].to_numpy() == at.reindex(places.size().index).to_numpy()[places.ngroup()]
    )
    last = scores[at_last].groupby([*_PLACE, "kind"], observed=True)["score"].mean()
    return at.to_dict(), last.to_dict()


def _progress(runs: pd.DataFrame, evaluated: pd.Series) -> dict[_Place, tuple[str, str]]:
    """Return how far the last run of each method and environment is, and the time until all of them have ended.

    Runs that have ended are looked at only where none is running.

    :param evaluated: the step of each run's last evaluation, by its index in `runs`.
    """
    runs = runs[runs["method"].notna()]  # others cannot be read
    is_running = runs["state"] == "running"
    has_running = is_running.groupby([runs[name] for name in _PLACE]).transform("any")
    runs = runs.loc[is_running | ~has_running, _STEPS]
    # Status and last evaluation may each be older than the other, and than the log.
    steps = (runs["offline_step"] + runs["online_step"]).clip(
        lower=evaluated.reindex(runs.index, fill_value=0)
    )
    runs = runs.assign(step=steps, end=runs["offline_steps"] + runs["online_steps"], seconds=np.nan)
    for index, run in runs[runs["state"] == "running"].iterrows():
        logged = read_speed(RunFolder(Path(run["run"])))
        if logged is None:
            continue
        now, speed = logged
        if not run["pretrained_actor"]:
            now -= run["pretraining_steps"]
        seconds = max(0, run["end"] - now) / speed
        runs.loc[index, ["step", "seconds"]] = max(run["step"], now), seconds
    runs["rest"] = runs["end"] - runs["step"]
    last = runs.sort_values("rest", ascending=False, kind="stable").drop_duplicates(_PLACE)
    # Infinite where the time of one run is not known.
    slowest = runs["seconds"].fillna(math.inf).groupby([runs[name] for name in _PLACE]).max()
    result = {}
    for run in last.to_dict("records"):
        place = run["method"], run["environment"]
        left = "-"
        if math.isfinite(slowest[place]):
            minutes, second = divmod(round(slowest[place]), 60)
            left = f"{minutes // 60}:{minutes % 60:02}:{second:02}"
        result[place] = f"{_short(run['step'])}/{_short(run['end'])}", left
    return result


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
