"""The result of a run that a program prints, and an evaluation in one line of text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from zoo.playing.episodes import REPORTED, EpisodeResults, Scoring
from zoo.runs.folder import RunFolder
from zoo.runs.history import EvaluationHistory


def result_of(folder: RunFolder, seed: int, history: EvaluationHistory, scoring: Scoring = REPORTED) -> dict[str, Any]:
    """Return the result of one finished run: success and return of its last evaluation, None where there is none.

    :param scoring: adds the normalised return where it knows the returns of a random and an expert policy.
    """
    result = {"run": str(folder.path), "seed": seed, "success": None, "return": None, "episodes": 0, "steps": None}
    if len(history):
        arrays, rates = history.arrays(), history.success_rates()
        result["success"] = None if rates is None else float(rates[-1])
        result["return"] = mean = float(arrays["results"][-1].mean())
        if rates is None and scoring.reference_scores is not None:
            result["normalised_return"] = scoring.normalised(mean)
        result["episodes"], result["steps"] = arrays["results"].shape[1], int(arrays["timesteps"][-1])
    return result | ({"learning_curve": str(folder.learning_curve)} if folder.learning_curve.exists() else {})


def result_of_failed(folder: RunFolder, seed: int, failure: Mapping[str, Any]) -> dict[str, Any]:
    """Return the result of a replica that failed while others continued; a failure is reason and step."""
    head = {"run": str(folder.path), "seed": seed, "success": None, "return": None, "steps": failure.get("step")}
    return {**head, **failure}


def joint_result(
    algo: str, env: str, updates_per_second: float | None, results: list[dict[str, Any]]
) -> dict[str, Any]:
    """Return what the training program prints: the result of its only seed, or those of all seeds as ``runs``."""
    speed = None if updates_per_second is None else round(updates_per_second, 2)
    head = {"algo": algo, "env": env, "updates_per_s": speed}
    return head | (results[0] if len(results) == 1 else {"runs": results})


def describe_evaluation(
    step: int, phase: str, results: EpisodeResults, seeds: Sequence[int], scoring: Scoring = REPORTED
) -> str:
    """Return an evaluation in one line: success where it is the score, mean return and mean length.

    Several seeds have the mean over all of them, and the score of each.
    """
    played = np.flatnonzero(results.played).tolist()
    returns, lengths = results.returns[played], results.lengths[played]
    name, scores, digits = "mean return", returns, ".2f"
    if results.successes is not None:
        name, scores, digits = scoring.success, results.successes[played], ".1%"
    text = f"{name} {scores.mean():{digits}} over {returns.shape[1]} episodes"
    if len(seeds) > 1:
        each = (f"seed {seeds[replica]}: {own.mean():{digits}}" for replica, own in zip(played, scores, strict=True))
        text += f" ({', '.join(each)})"
    if results.successes is not None:
        text += f", mean return {returns.mean():.2f}"
    elif scoring.reference_scores is not None:
        text += f", normalised return {scoring.normalised(float(returns.mean())):.1%}"
    return f"evaluation at step {step} ({phase}): {text}, mean length {lengths.mean():.1f}"
