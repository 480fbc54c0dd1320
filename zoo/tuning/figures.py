"""Figures of a study: how its scores developed, which settings mattered, and where their good values are."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import optuna
from matplotlib import rc_context
from matplotlib.figure import Figure
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
from optuna.trial import FrozenTrial

from agents.common.files import atomic_path
from agents.common.search import Range, Search
from zoo.report.figures.drawing import PAGE, literal, save
from zoo.tuning.trials import SETTINGS

FEWEST_FOR_IMPORTANCE = 8


def draw_figures(
    study: optuna.Study, complete: Sequence[FrozenTrial], folder: Path, searches: Mapping[str, Search]
) -> list[Path]:
    """Write the figures that the trials allow to a folder; return their paths."""
    shown = [trial for trial in complete if trial.value is not None and math.isfinite(trial.value)]
    figures: dict[str, Figure | None] = {}
    with rc_context(PAGE.fonts):
        if shown:
            figures = {
                "history": plot_history(shown),
                "slices": plot_slices(shown, searches),
                "importances": plot_importances(study, [trial.value for trial in shown]),
            }
    paths = []
    for name, figure in figures.items():
        if figure is not None:
            paths.append(folder / f"{name}.png")
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


def plot_importances(study: optuna.Study, scores: Sequence[float | None]) -> Figure | None:
    """Return how much each setting decides whether a trial is among the best.

    :return: None for few trials, equal scores, or one setting.
    """
    if len(scores) < FEWEST_FOR_IMPORTANCE or len(set(scores)) < 2:
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
