"""What a study has found: a table of all trials, figures, and the best settings as a file for ``-conf``."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import optuna
import pandas as pd
from optuna.trial import FrozenTrial, TrialState

from agents.common.files import atomic_path
from zoo import plain_yaml
from zoo.runs.versions import command_line
from zoo.tables import print_table
from zoo.texts import csv_cells
from zoo.tuning.figures import draw_figures
from zoo.tuning.options import Plan
from zoo.tuning.trials import SETTINGS, best_first

STATE_NAMES = {TrialState.FAIL: "failed"}
SHOWN_TRIALS = 10


def summarise(study: optuna.Study, plan: Plan) -> dict[str, Any]:
    """Write the results of a study so far to its folder, print its best trials, and return what the program prints."""
    trials = study.get_trials()
    complete = best_first([trial for trial in trials if trial.state == TrialState.COMPLETE])
    table = tabulate(trials, plan.seeds, list(plan.space.searches))
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
        "figures": [str(path) for path in draw_figures(study, complete, plan.folder, plan.space.searches)],
    }


def tabulate(trials: Sequence[FrozenTrial], seeds: Sequence[int], searched: Sequence[str]) -> pd.DataFrame:
    """Return one row for each trial: number, state, score, score of each seed, settings, seconds, reason and runs."""
    rows = []
    for trial in trials:
        scores = trial.user_attrs.get("scores") or []
        settings = trial.user_attrs.get(SETTINGS, {})
        rows.append(
            {
                "number": trial.number,
                "state": _state(trial),
                "score": trial.value,
                **{f"seed {seed}": score for seed, score in zip(seeds, scores or [None] * len(seeds), strict=True)},
                **{name: settings.get(name) for name in searched},
                "seconds": trial.user_attrs.get("seconds"),
                "retry_of": trial.user_attrs.get("retry_of"),
                "reason": trial.user_attrs.get("reason", ""),
                "runs": " ".join(trial.user_attrs.get("runs", [])),
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


def _state(trial: FrozenTrial) -> str:
    """Return the state of a trial in a word."""
    if "retried" in trial.user_attrs:
        return "retried"
    return STATE_NAMES.get(trial.state, trial.state.name.lower())


def _finite(value: float | None) -> float | None:
    """Return a score for JSON, which knows no infinity."""
    return value if value is not None and math.isfinite(value) else None
