"""Results of evaluation episodes, their scoring rule, and the kinds of scores.

Runs are scored by success if the environment reports it, otherwise (or on request) by return. Success may also be
defined as reaching a given return. Scores of different kinds never share a column, figure or average.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from agents.common.validation import count
from zoo.settings.record import RunRecord

EVALUATION = np.dtype(
    [
        ("phase", np.int8),
        ("step", np.int64),
        ("episodes", np.int64),
        ("successes", np.int64),
        ("return", np.float64),
        ("length", np.float64),
    ]
)
"""Summary of an evaluation: phase, step, numbers of episodes and successes, mean return and mean length."""
NO_SUCCESS = -1
"""Value of ``successes`` for an evaluation that is scored by return."""
UNREPORTED = -1
"""Success of a step or an episode that reports neither success nor failure."""


@dataclass(frozen=True)
class EpisodeResults:
    """Results of S replicas in the same episodes.

    :param successes: success at each episode's last step, 0, 1 or `UNREPORTED`, shape (S, episodes); None if no
        episode reported it. After `ScoringRule.apply`: success by that rule, 0 or 1, or None if scored by return.
    :param returns: undiscounted sums of rewards, shape (S, episodes).
    :param lengths: environment steps, shape (S, episodes).
    :param seeds: reset seeds, shape (episodes,).
    :param played: whether a replica finished all its episodes, shape (S,). Successes, returns and
        lengths are 0 for a replica that was not evaluated, or whose actions were NaN or infinite.
    :param any_successes: like `successes`, but success at any step of an episode.
    """

    successes: np.ndarray | None
    returns: np.ndarray
    lengths: np.ndarray
    seeds: np.ndarray
    played: np.ndarray
    any_successes: np.ndarray | None = None


@dataclass(frozen=True)
class ScoringRule:
    """Rule that scores episodes.

    Many environments add ``success`` to ``info`` only if it is true. Therefore success is the score if any
    episode reports it, and episodes that do not report it are failures.

    :param score: ``"success"`` or ``"return"``; None for success if the environment reports it, otherwise return.
    :param success_return: lowest return of a successful episode; None if success is not defined by the return.
    :param success_at: ``"any"`` for success at any step of an episode; None for its last step.
    :param reference_scores: returns of a random and of an expert policy.
    """

    score: str | None = None
    success_return: float | None = None
    success_at: str | None = None
    reference_scores: tuple[float, float] | None = None

    @classmethod
    def from_run(cls, record: RunRecord) -> ScoringRule:
        """Return the rule of a run."""
        settings = record.run.settings()
        dataset = record.dataset or {}
        settings["reference_scores"] = settings["reference_scores"] or dataset.get(
            "reference_scores"
        )
        return cls.read(settings)

    @classmethod
    def read(cls, content: Mapping[str, Any]) -> ScoringRule:
        """Return the rule stored in a mapping, such as the result of :meth:`plain`."""
        entries = {entry.name: content.get(entry.name) for entry in fields(cls)}
        references = entries["reference_scores"]
        if references is not None:  # files store it as a list
            entries["reference_scores"] = tuple(references)
        return cls(**entries)

    def plain(self) -> dict[str, Any]:
        """Return the entries that differ from :data:`REPORTED`, as JSON-serialisable values."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    @property
    def follows_environment(self) -> bool:
        """Whether success is the score if, and only if, the environment reports it."""
        return self.score is None and self.success_return is None

    def with_success(self) -> ScoringRule:
        """Return a rule that always scores by success if this rule follows the environment, otherwise this rule."""
        return replace(self, score="success") if self.follows_environment else self

    def apply(self, results: EpisodeResults, is_reported: bool = False) -> EpisodeResults:
        """Return the results with successes by this rule; `successes` is None if the score is the return.

        :param is_reported: whether the environment has reported success in other episodes.
        """
        if self.score not in (None, "success"):
            return replace(results, successes=None)
        successes = results.any_successes if self.success_at == "any" else results.successes
        if self.success_return is not None:
            successes = (results.returns >= self.success_return).astype(np.int64)
        elif successes is not None:
            # as some episodes report success, those that do not are failures
            successes = np.where(successes == UNREPORTED, 0, successes)
        elif is_reported or self.score == "success":
            successes = np.zeros(results.returns.shape, np.int64)
        return replace(results, successes=successes)

    def normalised(self, episode_return: float) -> float | None:
        """Normalise a return to 0 for a random and 1 for an expert policy; None without reference scores."""
        if self.reference_scores is None:
            return None
        random, expert = self.reference_scores
        return (episode_return - random) / (expert - random)

    @property
    def success(self) -> str:
        """Description of success in messages."""
        if self.success_return is not None:
            return f"success (return >= {self.success_return:g})"
        return "success at any step" if self.success_at == "any" else "success"


REPORTED = ScoringRule()
"""Success if the environment reports it, otherwise return."""


# -- printed results --------------------------------------------------------------------------------------------------


def result_of(
    run: Path,
    seed: int,
    scoring: ScoringRule,
    rows: np.ndarray,
    failure: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """Return the printed result of one finished run.

    Success and return are from the run's last evaluation, or None if unknown.

    :param run: folder of the run.
    :param scoring: rule of the run; with reference scores, results scored by return include the normalised return.
    :param rows: evaluations of the run, as an array of dtype `EVALUATION`.
    :param failure: reason and step, if the run's replica failed while others continued; else None.
    """
    result: dict[str, Any] = {"run": str(run), "seed": seed}
    result |= {"success": None, "return": None, "episodes": 0, "steps": None}
    if failure is not None:
        return {**result, "steps": failure["step"], **failure}
    if len(rows):
        last = dict(zip(EVALUATION.names or (), rows[-1].item(), strict=True))
        result |= {"return": last["return"], "episodes": last["episodes"], "steps": last["step"]}
        if last["successes"] != NO_SUCCESS:
            result["success"] = last["successes"] / last["episodes"]
        elif scoring.reference_scores is not None:
            result["normalised_return"] = scoring.normalised(last["return"])
    return result


def joint_result(
    record: RunRecord, updates_per_second: float | None, results: list[dict[str, Any]]
) -> dict[str, Any]:
    """Return the printed result of training: the result of a single seed, or all seeds' results as ``runs``."""
    head = {"algo": record.algo, "env": record.env, "updates_per_s": updates_per_second}
    if len(results) == 1:
        return head | results[0]
    return {**head, "runs": results}


def describe_evaluation(
    step: int,
    phase: str,
    results: EpisodeResults,
    seeds: Sequence[int],
    scoring: ScoringRule,
) -> str:
    """Return an evaluation as one line: success rate (if success is the score), mean return and mean length.

    For several seeds, the line contains the mean over the seeds that finished, and the score of each.
    """
    played = np.flatnonzero(results.played).tolist()
    returns = results.returns[played]
    name = "mean return"
    scores = returns
    digits = ".2f"
    if results.successes is not None:
        name = scoring.success
        scores = results.successes[played]
        digits = ".1%"
    episodes = count(returns.shape[1], "episode")
    text = f"evaluation at step {step} ({phase}): {name} {scores.mean():{digits}} over {episodes}"
    if len(seeds) > 1:
        seed_texts = []
        for replica, mean in zip(played, scores.mean(axis=1), strict=True):
            seed_texts.append(f"seed {seeds[replica]}: {mean:{digits}}")
        text += f" ({', '.join(seed_texts)})"
    if results.successes is not None:
        text += f", mean return {returns.mean():.2f}"
    elif scoring.reference_scores is not None:
        text += f", normalised return {scoring.normalised(float(returns.mean())):.1%}"
    return f"{text}, mean length {results.lengths[played].mean():.1f}"


# -- kinds of scores -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ScoreKind:
    """A kind of score and its format.

    :param limits: the lowest and the highest possible score; infinite if unbounded.
    :param scale: factor by which displayed scores are multiplied.
    :param is_comparable: whether scores of different environments have a common scale and may be averaged.
    """

    name: str
    caption: str
    limits: tuple[float, float] = (0.0, 1.0)
    scale: float = 100.0
    is_comparable: bool = True

    @property
    def unit(self) -> str:
        """Name of the score, with its unit, for axes and headings."""
        if self.scale == 100:
            return f"{self.name} (%)"
        return self.name

    def digits(self, scores: Iterable[float]) -> int:
        """Return the number of decimals of scores shown together.

        Percentages have one decimal; the largest return is shown with four significant digits.
        """
        if self.is_comparable:
            return 1
        largest = max(map(abs, filter(math.isfinite, scores)), default=0.0)
        if largest < 1e-9:  # zero, up to floating-point error
            return 1
        return max(0, 3 - math.floor(math.log10(largest)))


SUCCESS = ScoreKind("success", "Success in %")
RETURN = ScoreKind("return", "Return", (-math.inf, math.inf), 1.0, is_comparable=False)
NORMALISED_RETURN = ScoreKind(
    "normalised return", "Normalised return (0 is random, 100 is the expert)", RETURN.limits
)
SCORE_KINDS = {kind.name: kind for kind in (SUCCESS, RETURN, NORMALISED_RETURN)}
"""All kinds, in the order of a report."""
