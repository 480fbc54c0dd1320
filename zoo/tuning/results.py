"""What a study has found: a table of all trials, figures, and the best settings as a file for ``-conf``."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd
from matplotlib import rc_context
from matplotlib.figure import Figure
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
from optuna.trial import FrozenTrial, TrialState

from agents.common.files import atomic_path
from agents.common.search import Range, Search
from zoo import plain_yaml
from zoo.report.figures.drawing import PAGE, literal, save
from zoo.runs.versions import command_line
from zoo.tables import print_table
from zoo.texts import csv_cells
from zoo.tuning.options import Plan
from zoo.tuning.trials import SETTINGS, best_first

SHOWN_TRIALS = 10
FEWEST_FOR_IMPORTANCE = 8


def summarise(study: optuna.Study, plan: Plan) -> dict[str, Any]:
    """Write the results of a study so far to its folder, print its best trials, and return what the program prints."""
    trials = study.get_trials()
    complete = best_first([trial for trial in trials if trial.state == TrialState.COMPLETE])
    table = tabulate(trials, plan.seeds, list(plan.searches))
    with atomic_path(plan.folder / "trials.csv") as temporary:
        csv_cells(table).to_csv(temporary, index=False)
    result: dict[str, Any] = {
        "study": plan.name,
        "storage": str(plan.journal),
        "folder": str(plan.folder),
        "algo": plan.request.config.algo,
        "env": plan.request.config.env,
        "trials": table["state"].value_counts().to_dict(),
        "best": None,
    }
    if not complete:
        return result
    _print_best(complete, plan)
    best = complete[0]
    write_best(best, plan)
    return result | {
        "best": {
            "trial": best.number,
            "score": _finite(best.value),
            "scores": [_finite(score) for score in best.user_attrs["scores"]],
            "seeds": plan.seeds,
            "settings": best.user_attrs[SETTINGS],
            "runs": best.user_attrs["runs"],
        },
        "best_conf": str(plan.folder / "best.yml"),
        "figures": [str(path) for path in draw_figures(study, complete, plan)],
    }


def tabulate(trials: Sequence[FrozenTrial], seeds: Sequence[int], searched: Sequence[str]) -> pd.DataFrame:
    """Return one row for each trial: number, state, score, score of each seed, settings, seconds, reason and runs."""
    rows = []
    for trial in trials:
        found = trial.user_attrs
        scores = found.get("scores") or [None] * len(seeds)
        own = {name: found.get(SETTINGS, {}).get(name) for name in searched}
        state = {"FAIL": "failed"}.get(trial.state.name, trial.state.name.lower())
        rows.append(
            {
                "number": trial.number,
                "state": "retried" if "retried" in found else state,
                "score": trial.value,
                **{f"seed {seed}": score for seed, score in zip(seeds, scores, strict=True)},
                **own,
                "seconds": found.get("seconds"),
                "retry_of": found.get("retry_of"),
                "reason": found.get("reason", ""),
                "runs": " ".join(found.get("runs", [])),
            }
        )
    names = [
        "number", "state", "score", *(f"seed {seed}" for seed in seeds), *searched, "seconds", "retry_of", "reason",
        "runs",
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=names)


def write_best(best: FrozenTrial, plan: Plan) -> None:
    """Write the settings of the best trial as a file that ``-conf`` accepts."""
    entry = {
        "source": f"study {plan.name}, trial {best.number}: score {best.value:.4g} in the last evaluation, mean of "
        f"seeds {', '.join(map(str, plan.seeds))}",
        "status": "tuned here",
        **best.user_attrs[SETTINGS],
    }
    text = f"# {command_line()}\n" + plain_yaml.write({plan.request.config.env: entry})
    with atomic_path(plan.folder / "best.yml") as temporary:
        temporary.write_text(text, encoding="utf-8")


def _print_best(complete: Sequence[FrozenTrial], plan: Plan) -> None:
    """Print the best trials as a table."""
    rows = [
        (
            str(trial.number),
            f"{trial.value:.4g}",
            " ".join(f"{score:.4g}" for score in trial.user_attrs["scores"]),
            in_words(trial.user_attrs[SETTINGS]),
        )
        for trial in complete[:SHOWN_TRIALS]
    ]
    title = f"Best trials of study {plan.name}: last evaluation, mean over seeds {', '.join(map(str, plan.seeds))}"
    print_table(title, ("trial", "score", "of each seed", "settings"), rows, wrapped=("settings",))


def in_words(settings: Mapping[str, Any]) -> str:
    """Return settings in short."""
    shown = {name: f"{value:.4g}" if isinstance(value, float) else value for name, value in settings.items()}
    return ", ".join(f"{name} {value}" for name, value in shown.items())


def _finite(value: float | None) -> float | None:
    """Return a score for JSON, which knows no infinity."""
    return value if value is not None and math.isfinite(value) else None


def draw_figures(study: optuna.Study, complete: Sequence[FrozenTrial], plan: Plan) -> list[Path]:
    """Write the figures that the trials allow to the study's folder; return their paths."""
    shown = [trial for trial in complete if math.isfinite(trial.value or 0.0)]
    if not shown:
        return []
    paths = []
    with rc_context(PAGE.fonts):
        figures = {"history": plot_history(shown), "slices": plot_slices(shown, plan.searches)}
        if (importances := plot_importances(study, shown)) is not None:
            figures["importances"] = importances
    for name, figure in figures.items():
        paths.append(plan.folder / f"{name}.png")
        with atomic_path(paths[-1]) as temporary:
            save(figure, temporary, "png")
    return paths


def plot_history(trials: Sequence[FrozenTrial]) -> Figure:
    """Return the score of every complete trial, and the best so far."""
    ordered = sorted(trials, key=lambda trial: trial.number)
    numbers, scores = [trial.number for trial in ordered], [trial.value for trial in ordered]
    figure = Figure(figsize=(4.8, 3.0), layout="constrained")
    ax = figure.subplots()
    ax.plot(numbers, scores, "o", markersize=4, color="#7a7a7a", label="trial")
    ax.step(numbers, np.maximum.accumulate(scores), where="post", color="#0072b2", label="best so far")
    ax.set(xlabel="trial", ylabel="score of the last evaluation")
    ax.xaxis.get_major_locator().set_params(integer=True)
    ax.grid(alpha=0.25)
    ax.legend(frameon=False)
    return figure


def plot_slices(trials: Sequence[FrozenTrial], searches: Mapping[str, Search]) -> Figure:
    """Return one panel for each setting: the scores against its values."""
    figure = Figure(figsize=(2.6 * len(searches) + 0.6, 2.8), layout="constrained")
    axes = figure.subplots(1, len(searches), sharey=True, squeeze=False)[0]
    for ax, (name, search) in zip(axes, searches.items(), strict=True):
        values = [trial.user_attrs[SETTINGS][name] for trial in trials]
        is_range = isinstance(search, Range)
        x = values if is_range else [search.values.index(value) for value in values]
        dots = ax.scatter(x, [trial.value for trial in trials], c=[t.number for t in trials], s=16, cmap="viridis")
        if is_range:
            ax.set_xscale("log" if search.log else "linear")
        else:
            ax.set_xticks(range(len(search.values)), map(str, search.values))
        ax.set_xlabel(literal(name))
        ax.grid(alpha=0.25)
    axes[0].set_ylabel("score of the last evaluation")
    figure.colorbar(dots, ax=list(axes), label="trial")
    return figure


def plot_importances(study: optuna.Study, trials: Sequence[FrozenTrial]) -> Figure | None:
    """Return how much each setting decides whether a trial is among the best.

    :return: None for few trials, equal scores, or one setting.
    """
    if len(trials) < FEWEST_FOR_IMPORTANCE or len({trial.value for trial in trials}) < 2:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about trials that are left out
        found = get_param_importances(study, evaluator=PedAnovaImportanceEvaluator(), normalize=True)
    if len(found) < 2:
        return None
    figure = Figure(figsize=(4.2, 0.4 + 0.35 * len(found)), layout="constrained")
    ax = figure.subplots()
    ax.barh([literal(name) for name in found], list(found.values()), color="#0072b2", height=0.6)
    ax.invert_yaxis()
    ax.set_xlabel("importance")
    ax.grid(axis="x", alpha=0.25)
    return figure
