"""What an agent scores in an evaluation: success or return, with the interval that its episodes allow."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy import stats

from zoo.errors import UsageError
from zoo.playing.episodes import EpisodeResults
from zoo.playing.scoring import REPORTED, Scoring
from zoo.runs.scores import KINDS, RETURN, SUCCESS, SUCCESS_BY_RETURN

LEVEL = 0.95


@dataclass(frozen=True)
class Interval:
    """Where a score lies.

    :param kind: of the score: the name of success or return in `zoo.runs.scores`.
    """

    kind: str
    low: float
    high: float

    def contains(self, score: Score) -> bool:
        """Return whether a score is of this kind and lies in the interval."""
        return score.kind == self.kind and self.low <= score.mean <= self.high

    @property
    def text(self) -> str:
        """The interval in words, e.g. ``[83.8, 97.9]``, in percent for success."""
        return f"[{_shown(self.kind, self.low)}, {_shown(self.kind, self.high)}]"


@dataclass(frozen=True)
class Score:
    """A score of one agent.

    :param kind: the name of success or return in `zoo.runs.scores`.
    :param mean: over the episodes.
    :param low: lower end of the 95% interval; Wilson's for success, Student's for returns.
    :param high: its upper end.
    :param episodes: how many.
    """

    kind: str
    mean: float
    low: float
    high: float
    episodes: int

    @classmethod
    def of(cls, results: EpisodeResults, scoring: Scoring = REPORTED) -> Score:
        """Return the score of the only replica in an evaluation.

        :param scoring: what the results were scored by: it has been applied to them.
        """
        if results.successes is None:
            returns = results.returns[0]
            return cls(RETURN.name, float(returns.mean()), *_interval_of_mean(returns), len(returns))
        won, episodes = int(results.successes[0].sum()), results.successes.shape[1]
        interval = stats.binomtest(won, episodes).proportion_ci(LEVEL, method="wilson")
        kind = SUCCESS if scoring.success_return is None else SUCCESS_BY_RETURN
        return cls(kind.name, won / episodes, float(interval.low), float(interval.high), episodes)

    @classmethod
    def read(cls, content: Mapping[str, Any]) -> Score:
        """Return what :meth:`plain` returned."""
        numbers = {name: float(content[name]) for name in ("mean", "low", "high")}
        return cls(kind=str(content["kind"]), episodes=int(content["episodes"]), **numbers)

    def plain(self) -> dict[str, Any]:
        """Return the score as plain values."""
        return asdict(self)

    @property
    def interval(self) -> Interval:
        """Its interval."""
        return Interval(self.kind, self.low, self.high)

    @property
    def mean_text(self) -> str:
        """The mean as it is shown, in percent for success."""
        return _shown(self.kind, self.mean)

    @property
    def text(self) -> str:
        """The score in words, e.g. ``success 94.0% [83.8, 97.9]``."""
        unit = "%" if self.kind == SUCCESS.name else ""
        return f"{self.kind} {self.mean_text}{unit} {self.interval.text}"


def stated_interval(kind: str, low: float, high: float) -> Interval:
    """Return the interval that somebody states for a score.

    :raises UsageError: if it is no interval of such scores.
    """
    least, most = KINDS[kind].limits
    if not least <= low <= high <= most:
        limits = " of fractions from 0 to 1" if kind == SUCCESS.name else ""
        raise UsageError(f"`--interval` must be an interval{limits}, the lower end first, got {low:g} {high:g}")
    return Interval(kind, low, high)


def _shown(kind: str, value: float) -> str:
    """Return a score as it is shown: success in percent, and by return as a fraction, as in a report."""
    return f"{KINDS[kind].scale * value:.{3 if kind == SUCCESS_BY_RETURN.name else 1}f}"


def _interval_of_mean(values: np.ndarray) -> tuple[float, float]:
    """Return Student's interval of a mean; of one value it is all numbers."""
    if len(values) < 2:
        return -math.inf, math.inf
    mean, error = float(values.mean()), float(stats.sem(values))
    if error == 0:
        return mean, mean
    low, high = stats.t.interval(LEVEL, len(values) - 1, mean, error)
    return float(low), float(high)
