"""The results of played episodes, and intervals of their means."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
from scipy import stats

from zoo.settings.record import RunRecord
from zoo.terminal.errors import EnvironmentFault

UNREPORTED = -1
"""The success of an episode whose last step says none, though others do."""
PARTLY_REPORTED = (
    "an environment must report success at the last step of every episode or of none, got it for some only; report 0 "
    "in the others in a wrapper, or score by the return with --score return"
)


@dataclass(frozen=True)
class EpisodeResults:
    """What S replicas did in the same episodes.

    :param successes: success (0 or 1, or `UNREPORTED`) of each episode's last step, shape (S, episodes); None where the
        environment does not know success.
    :param returns: undiscounted sums of rewards, shape (S, episodes).
    :param lengths: environment steps, shape (S, episodes).
    :param seeds: reset seeds, shape (episodes,).
    :param played: whether a replica played all its episodes, shape (S,). One that did not take part, or that planned
        NaN or infinity, has zeros in its rows.
    :param estimates: without an environment, what else is known of each replica by name, (S,); `returns` are value
        estimates for the first states of held-out trajectories then.
    """

    successes: np.ndarray | None
    returns: np.ndarray
    lengths: np.ndarray
    seeds: np.ndarray
    played: np.ndarray
    estimates: Mapping[str, np.ndarray] = field(default_factory=dict)

    def successes_of(self, replica: int) -> np.ndarray | None:
        """Return the success of a replica's episodes, or None where the environment does not know success."""
        return None if self.successes is None else self.successes[replica]


@dataclass(frozen=True)
class ScoringRule:
    """How played episodes are scored.

    :param score: ``"return"``, or ``"value"``, an estimate from data without an environment; None is success where the
        environment reports it, else the return.
    :param success_return: the return from which an episode is a success.
    :param reference_scores: returns of a random and of an expert policy.
    """

    score: str | None = None
    success_return: float | None = None
    reference_scores: tuple[float, float] | None = None

    @classmethod
    def of_run(cls, record: RunRecord) -> ScoringRule:
        """Return what a run is scored by."""
        references = record.run.reference_scores or (record.dataset or {}).get("reference_scores")
        return cls(record.run.score, record.run.success_return, tuple(references) if references else None)

    @classmethod
    def read(cls, content: Mapping[str, Any]) -> ScoringRule:
        """Return what :meth:`plain` returned."""
        references = content.get("reference_scores")
        return cls(content.get("score"), content.get("success_return"), tuple(references) if references else None)

    def plain(self) -> dict[str, Any]:
        """Return what differs from :data:`REPORTED` as plain values."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    def apply(self, results: EpisodeResults) -> EpisodeResults:
        """Return results with the successes that count: none of them where the return is the score.

        :raises EnvironmentFault: if an environment reports the success of some episodes only, and it is the score.
        """
        if self.score is not None:
            return replace(results, successes=None)
        if self.success_return is None:
            if results.successes is not None and (results.successes == UNREPORTED).any():
                raise EnvironmentFault(PARTLY_REPORTED)
            return results
        return replace(results, successes=(results.returns >= self.success_return).astype(np.int64))

    def success_of(self, reported: int | None, episode_return: float) -> int | None:
        """Return whether one episode is a success, as :meth:`apply` does for many."""
        if self.score is not None:
            return None
        return reported if self.success_return is None else int(episode_return >= self.success_return)

    def normalised(self, episode_return: float) -> float | None:
        """Return where a return lies between those of a random and of an expert policy, if these are known."""
        if self.reference_scores is None:
            return None
        random, expert = self.reference_scores
        return (episode_return - random) / (expert - random)

    @property
    def success(self) -> str:
        """What success is called in a line of text."""
        return "success" if self.success_return is None else f"success (return >= {self.success_return:g})"


REPORTED = ScoringRule()
"""Success as the environment reports it, else the return."""


# -- intervals over the episodes of one agent -------------------------------------------------------------------------


LEVEL = 0.95


def interval_of_successes(won: int, episodes: int) -> tuple[float, float]:
    """Return Wilson's 95% interval of a success rate."""
    interval = stats.binomtest(won, episodes).proportion_ci(LEVEL, method="wilson")
    return float(interval.low), float(interval.high)


def interval_of_mean(values: np.ndarray) -> tuple[float, float]:
    """Return Student's 95% interval of a mean; of one value it is all numbers."""
    if len(values) < 2:
        return -math.inf, math.inf
    mean, error = float(values.mean()), float(stats.sem(values))
    if error == 0:
        return mean, mean
    low, high = stats.t.interval(LEVEL, len(values) - 1, mean, error)
    return float(low), float(high)
