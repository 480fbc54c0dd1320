"""What runs came to: the result that a program prints, and evaluations in a line of text."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from zoo.playing.evaluate import EpisodeResults
from zoo.runs.history import EvaluationHistory

LEARNING_CURVE = "learning_curve.png"


def result_of(folder: Path, seed: int, history: EvaluationHistory) -> dict[str, Any]:
    """Return the result of one finished run.

    :param folder: the run folder.
    :param seed: the run's seed.
    :param history: its evaluations.
    :return: success and return of the last evaluation, None where there is none.
    """
    curve = folder / LEARNING_CURVE
    result = {"run": str(folder), "seed": seed, "success": None, "return": None, "episodes": 0, "steps": None}
    if len(history):
        arrays, rates = history.arrays(), history.success_rates()
        result["success"] = None if rates is None else float(rates[-1])
        result["return"] = float(arrays["results"][-1].mean())
        result["episodes"], result["steps"] = arrays["results"].shape[1], int(arrays["timesteps"][-1])
    return result | ({"learning_curve": str(curve)} if curve.exists() else {})


def result_of_failed(folder: Path, seed: int, failure: dict[str, Any]) -> dict[str, Any]:
    """Return the result of a replica that has failed while others went on.

    :param folder: the run folder.
    :param seed: the run's seed.
    :param failure: reason and step.
    :return: the result, without a score.
    """
    head = {"run": str(folder), "seed": seed, "success": None, "return": None, "steps": failure.get("step")}
    return {**head, **failure}


def joint_result(
    algo: str, env: str, updates_per_second: float | None, results: list[dict[str, Any]]
) -> dict[str, Any]:
    """Return the result that the training program prints.

    :param algo: algorithm id.
    :param env: environment name.
    :param updates_per_second: speed of the offline phase, or None.
    :param results: one per seed.
    :return: that of the only seed, or all of them as ``runs``.
    """
    speed = None if updates_per_second is None else round(updates_per_second, 2)
    head = {"algo": algo, "env": env, "updates_per_s": speed}
    return head | (results[0] if len(results) == 1 else {"runs": results})


def describe_evaluation(step: int, phase: str, results: EpisodeResults, seeds: Sequence[int]) -> str:
    """Return an evaluation in one line.

    :param step: its position on the curve.
    :param phase: the phase's name.
    :param results: what was played.
    :param seeds: the replicas' seeds.
    :return: success if there is such a thing, mean return and mean length; of several replicas the mean of each, and
        every one's score.
    """
    played = np.flatnonzero(results.played)
    returns, lengths = results.returns[played], results.lengths[played]
    name, scores = ("mean return", returns) if results.successes is None else ("success", results.successes[played])
    text = f"{name} {scores.mean():.2f} over {returns.shape[1]} episodes"
    if len(seeds) > 1:
        each = (f"{seeds[replica]}: {own.mean():.2f}" for replica, own in zip(played, scores, strict=True))
        text += f" (seeds {', '.join(each)})"
    if results.successes is not None:
        text += f", mean return {returns.mean():.2f}"
    return f"evaluation at step {step} ({phase}): {text}, mean length {lengths.mean():.1f}"
