"""Kinds of scores, and the interval of a success rate.

A run is scored by its success where its environment knows success, and by its return elsewhere or where it was asked
to be. Success may also be a return above a threshold. Scores of two kinds never meet in one column, figure or average.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from statistics import NormalDist


@dataclass(frozen=True)
class ScoreKind:
    """What a score is and how it is shown.

    :param limits: the lowest and the highest possible score, infinite where there is none.
    :param scale: what a score is multiplied by before it is shown.
    :param is_comparable: whether scores of different environments share a scale, so that they may be averaged.
    """

    name: str
    caption: str
    limits: tuple[float, float] = (0.0, 1.0)
    scale: float = 100.0
    is_comparable: bool = True

    @property
    def unit(self) -> str:
        """What axes and headings call it."""
        if self.scale == 100:
            return f"{self.name} (%)"
        return self.name

    def digits(self, scores: Iterable[float]) -> int:
        """Return how many decimals to show of scores side by side.

        A percentage has one; returns have four significant digits of the largest, and more where that is not enough to
        tell them apart.
        """
        if self.is_comparable:
            return 1
        finite = list(filter(math.isfinite, scores))
        largest = max(map(abs, finite), default=0.0)
        if not largest:  # zero has no first digit
            return 1
        return max(0, 3 - math.floor(math.log10(largest)), spread_digits(finite))


def spread_digits(scores: Iterable[float]) -> int:
    """Return with how many decimals two digits differ between the lowest and the highest of some scores.

    Equal scores have two significant digits. NaN and infinity do not count.
    """
    finite = list(filter(math.isfinite, scores))
    if not finite:
        return 0
    lowest = min(finite)
    highest = max(finite)
    spread = highest - lowest
    if math.isclose(highest, lowest):
        spread = abs(highest)
    if not spread:  # zero has no first digit
        return 0
    # The power of ten of the spread has the first digit, and the next one is the second.
    return max(0, 1 - math.floor(math.log10(spread)))


SUCCESS = ScoreKind("success", "Success in %")
RETURN = ScoreKind("return", "Return", (-math.inf, math.inf), 1.0, is_comparable=False)
NORMALISED_RETURN = ScoreKind(
    "normalised return", "Normalised return (0 is random, 100 is the expert)", RETURN.limits
)
SCORE_KINDS = {kind.name: kind for kind in (SUCCESS, RETURN, NORMALISED_RETURN)}
"""All kinds, in the order of a report."""


def interval_of_successes(won: int, episodes: int) -> tuple[float, float]:
    """Return Wilson's 95% interval of a success rate."""
    z = NormalDist().inv_cdf(0.975)
    middle = won + z**2 / 2
    half = z * math.sqrt(won * (episodes - won) / episodes + z**2 / 4)
    low, high = ((middle + sign * half) / (episodes + z**2) for sign in (-1, 1))
    return max(0.0, low), min(1.0, high)
