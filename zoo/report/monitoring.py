"""What the terminal shows of runs under way: their states, how far they are, and their curves."""

from __future__ import annotations

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
from zoo.runs.scores import KINDS, SUCCESS, Kind
from zoo.terminal.tables import empty_table

_MOST_PROBLEMS = 10


def show_states(own: RunTables) -> RenderableType:
    """Return a table with one row for each method and environment, and what is wrong with single runs."""
    return Group(_state_table(own), *_problems(own.runs))


def show_curves(own: RunTables) -> RenderableType:
    """Return one table for each kind of scores, with one row for each run, and what is wrong with single runs."""
    tables: list[RenderableType] = list(_curve_tables(own)) or [Text("no run has been evaluated yet")]
    return Group(*tables, *_problems(own.runs))


def count_states(own: RunTables) -> dict[str, int]:
    """Return the number of runs, and of those in each state."""
    return {"runs": len(own.runs)} | {str(state): int(n) for state, n in own.runs["state"].value_counts().items()}


def _state_table(own: RunTables) -> Table:
    """Return the states of runs, their steps, the time left, and their scores at the last step that all reached."""
    kinds = [kind for kind in KINDS.values() if (own.evaluations["kind"] == kind.name).any()] or [SUCCESS]
    header = ["method", "environment", "runs", "step", "left", *map(_heading, kinds), "at"]
    shown = empty_table("", header, whole=["environment"])
    evaluated = dict(list(own.evaluations.groupby(["method", "environment"])))
    for key, runs in own.runs.groupby(["method", "environment"]):
        method, environment = key
        counts = runs["state"].value_counts()
        states = ", ".join(f"{counts[state]} {state}" for state in SHOWN_STATES if state in counts)
        counted = runs.loc[runs["replaced_by"].isna(), "run"]
        scores = evaluated.get(key, own.evaluations.iloc[:0])
        scores = scores[scores["run"].isin(counted)]
        reached = scores.groupby("step")["run"].nunique()
        shared = reached.index[reached == len(counted)]
        step, last = "-", scores.iloc[:0]
        if len(shared):
            step, last = _short(shared[-1]), scores[scores["step"] == shared[-1]]
        means = [last.loc[last["kind"] == kind.name, "score"].mean() for kind in kinds]
        texts = [
            "-" if pd.isna(mean) else _shown(mean, kind, abs(mean)) for mean, kind in zip(means, kinds, strict=True)
        ]
        row = (str(method), short_name(environment), states, *_progress(runs, scores), *texts, step)
        shown.add_row(*row)
    return shown


def _progress(runs: pd.DataFrame, scores: pd.DataFrame) -> tuple[str, str]:
    """Return how far the last of some runs is, and the time until all of them have ended.

    Runs that have ended are looked at only where none is running.
    """
    running = runs[runs["state"] == "running"]
    evaluated = scores.groupby("run")["step"].max()
    records = (runs if running.empty else running).to_dict("records")
    found = [_progress_of(run, int(evaluated.get(run["run"], 0))) for run in records]
    step, end, _ = max(found, key=lambda progress: progress[1] - progress[0])
    known = [seconds for _, _, seconds in found if seconds is not None]
    return f"{_short(step)}/{_short(end)}", _duration(max(known)) if len(known) == len(found) else "-"


def _progress_of(run: Mapping[Hashable, Any], evaluated: int) -> tuple[int, int, float | None]:
    """Return a run's step, its last one, both from the end of pretraining, and the seconds left if they are known.

    Its status and last evaluation may be older than its log.
    """
    end = int(run["offline_steps"] + run["online_steps"])
    step = max(int(run["offline_step"] + run["online_step"]), evaluated)
    logged = read_speed(RunFolder(Path(run["run"]))) if run["state"] == "running" else None
    if logged is None:
        return step, end, None
    now = logged[0] - (0 if run["pretrained_actor"] else int(run["pretraining_steps"]))
    return max(step, now), end, max(0, end - now) / logged[1]


def _short(steps: int) -> str:
    """Return a number of steps with three digits, e.g. ``1.25M``."""
    for size, unit in ((1_000_000, "M"), (1_000, "k")):
        if steps >= 0.9995 * size:  # which three digits round to the next unit
            return f"{steps / size:.3g}{unit}"
    return str(steps)


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    hours, days = minutes // 60, minutes // 1440
    if days:
        return f"{days} d {hours % 24} h"
    if hours:
        return f"{hours} h {minutes % 60} min"
    return f"{minutes} min" if minutes else "< 1 min"


def _curve_tables(own: RunTables) -> Iterator[Table]:
    """Yield the scores of each run over time.

    The bars of success rates go from 0 to 1, those of returns from the lowest to the highest of the environment.
    """
    states = own.runs.set_index("run")["state"]
    for kind in KINDS.values():
        evaluations = own.evaluations[own.evaluations["kind"] == kind.name]
        if evaluations.empty:
            continue
        title = "" if kind is SUCCESS else f"{kind.name} (bars span its range on each environment)"
        header = ["method", "environment", "seed", "curve", "step", _heading(kind), "state"]
        shown = empty_table(title, header, whole=["environment"])
        limits = _limits(evaluations, kind)
        for (method, environment, seed, run), part in evaluations.groupby(["method", "environment", "seed", "run"]):
            last = part.iloc[-1]
            phases = part.groupby("phase")["score"]  # offline before online
            bars = "|".join(_sparkline(scores, *limits[environment]) for _, scores in phases)
            score = _shown(last["score"], kind, max(map(abs, limits[environment])))
            row = (str(method), short_name(environment), str(seed), bars, f"{last['step']:,}", score, states[run])
            shown.add_row(*row)
        yield shown


def _limits(evaluations: pd.DataFrame, kind: Kind) -> Mapping[str, tuple[float, float]]:
    """Return environment -> the lowest and the highest score that its bars stand for."""
    scores = evaluations.groupby("environment")["score"]
    return {str(name): kind.limits if kind is SUCCESS else (part.min(), part.max()) for name, part in scores}


def _problems(runs: pd.DataFrame) -> Iterator[Text]:
    """Yield one line for each run that has failed, is dead or cannot be read, unless another one replaces it."""
    has_ended = runs["state"].isin(["failed", DEAD, "unknown"])
    found = runs[has_ended & runs["problem"].notna() & runs["replaced_by"].isna()]
    for row in found.head(_MOST_PROBLEMS).to_dict("records"):
        yield Text(f"! {row['run']}: {row['problem']}")
    if len(found) > _MOST_PROBLEMS:
        yield Text(f"! and {len(found) - _MOST_PROBLEMS} more; `zoo compare PATH -o DIR` lists all in runs.csv")


def _heading(kind: Kind) -> str:
    return "%" if kind is SUCCESS else kind.name


def _shown(score: float, kind: Kind, largest: float) -> str:
    """Return a score beside others of which the largest is given."""
    return f"{kind.scale * score:,.{kind.digits([largest])}f}"


def _sparkline(scores: pd.Series, low: float, high: float) -> str:
    """Return scores between two limits as a line of blocks."""
    blocks = "▁▂▃▄▅▆▇█"
    heights = np.asarray((scores - low) / ((high - low) or 1.0))
    return "".join(blocks[min(int(height * len(blocks)), len(blocks) - 1)] for height in heights)
