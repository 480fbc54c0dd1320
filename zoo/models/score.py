"""The score of an agent in an evaluation."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import stats

from zoo.runs.scores import RETURN, SCORE_KINDS, SUCCESS, EpisodeResults


@dataclass(frozen=True)
class Score:
    """A score of one agent.

    :param kind: name of a kind of score in `zoo.runs.scores`: success rate or return.
    :param mean: mean over the episodes.
    :param low: lower end of the 95% interval; Wilson's for success, Student's t for returns.
    :param high: upper end of the interval.
    :param episodes: number of episodes.
    """

    kind: str
    mean: float
    low: float
    high: float
    episodes: int

    @classmethod
    def of(cls, results: EpisodeResults) -> Score:
        """Return the score of one agent in an evaluation.

        :param results: results of `ScoringRule.apply`, of one replica.
        """
        (returns,) = results.returns
        if results.successes is None:
            return cls(RETURN.name, float(returns.mean()), *interval_of_mean(returns), len(returns))
        (successes,) = results.successes
        episodes = len(successes)
        won = int(successes.sum())
        interval = stats.binomtest(won, episodes).proportion_ci(method="wilson")
        low, high = map(float, interval)
        return cls(SUCCESS.name, won / episodes, low, high, episodes)

    @property
    def interval(self) -> tuple[float, float] | None:
        """Both ends of the interval; None if they are infinite, as for a single return, since JSON has no infinity."""
        return (self.low, self.high) if math.isfinite(self.low) else None

    @property
    def interval_text(self) -> str:
        """The interval as text, e.g. ``[83.8, 97.9]``, in percent for success."""
        return f"[{self._shown(self.low)}, {self._shown(self.high)}]"

    @property
    def text(self) -> str:
        """The score as text, e.g. ``success 94.0% [83.8, 97.9]``."""
        unit = "%" if SCORE_KINDS[self.kind].is_comparable else ""
        text = f"{self.kind} {self._shown(self.mean)}{unit}"
        if self.interval is None:
            return text
        return f"{text} {self.interval_text}"

    def _shown(self, value: float) -> str:
        """Format the mean or an end of the interval; all get the same number of decimals, and success is in percent."""
        kind = SCORE_KINDS[self.kind]
        digits = kind.digits((self.mean, self.low, self.high))
        return f"{kind.scale * value:.{digits}f}"


def interval_of_mean(values: np.ndarray) -> tuple[float, float]:
    """Return the 95% t-interval of the mean of some values, (n,); it is infinite for a single value."""
    if len(values) < 2:
        return -math.inf, math.inf
    mean = values.mean()
    error = stats.sem(values)
    low, high = stats.t.interval(0.95, len(values) - 1)
    return float(mean + error * low), float(mean + error * high)
