"""Results of played episodes, the rule by which they are scored, and the kinds of scores.

A run is scored by its success where its environment knows success, and by its return elsewhere or where it was asked
to be. Success may also be a return above a threshold. Scores of two kinds never meet in one column, figure or average.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import numpy as np

from zoo.settings.record import RunRecord

UNREPORTED = -1
"""The success of a step, or of an episode, that reports none."""


@dataclass(frozen=True)
class EpisodeResults:
    """Results of S replicas in the same episodes.

    :param successes: success of each episode's last step, 0, 1 or `UNREPORTED`, shape (S, episodes); None where no
        episode reported any. After `ScoringRule.apply`: the success that counts, 0 or 1, or None for another score.
    :param returns: undiscounted sums of rewards, shape (S, episodes).
    :param lengths: environment steps, shape (S, episodes).
    :param seeds: reset seeds, shape (episodes,).
    :param played: whether a replica played all its episodes, shape (S,). One that did not take part, or that planned
        NaN or infinity, has zeros in its rows.
    :param any_successes: as `successes`, of any step of an episode.
    """

    successes: np.ndarray | None
    returns: np.ndarray
    lengths: np.ndarray
    seeds: np.ndarray
    played: np.ndarray
    any_successes: np.ndarray | None = None

    def successes_of(self, replica: int) -> np.ndarray | None:
        """Return the success of a replica's episodes, or None where the score is another."""
        return None if self.successes is None else self.successes[replica]


@dataclass(frozen=True)
class ScoringRule:
    """How played episodes are scored.

    Many environments put ``success`` into an info only when it is true. So success is the score of an environment as
    soon as one of its episodes reports any, and an episode that reports none is a failure there.

    :param score: ``"success"`` or ``"return"``; None is success where the environment reports it, else the return.
    :param success_return: the return from which an episode is a success.
    :param success_at: ``"any"`` for success at any step of an episode; None for its last step.
    :param reference_scores: returns of a random and of an expert policy.
    """

    score: str | None = None
    success_return: float | None = None
    success_at: str | None = None
    reference_scores: tuple[float, float] | None = None

    @classmethod
    def of_run(cls, record: RunRecord) -> ScoringRule:
        """Return the rule of a run."""
        settings = record.run.settings()
        dataset = record.dataset or {}
        settings["reference_scores"] = settings["reference_scores"] or dataset.get(
            "reference_scores"
        )
        return cls.read(settings)

    @classmethod
    def read(cls, content: Mapping[str, Any]) -> ScoringRule:
        """Return the rule of a mapping, e.g. of :meth:`plain`."""
        entries = {entry.name: content.get(entry.name) for entry in fields(cls)}
        references = entries["reference_scores"]
        if references is not None:  # a list, where it is from a file
            entries["reference_scores"] = tuple(references)
        return cls(**entries)

    def plain(self) -> dict[str, Any]:
        """Return the entries that differ from :data:`REPORTED` as plain values."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    @property
    def follows_environment(self) -> bool:
        """Whether the environment decides between success and return, by what it reports."""
        return self.score is None and self.success_return is None

    def with_success(self) -> ScoringRule:
        """Return this rule for an environment that is known to report success."""
        return replace(self, score="success") if self.follows_environment else self

    def apply(self, results: EpisodeResults, is_reported: bool = False) -> EpisodeResults:
        """Return results with the successes that count: None where another score does.

        :param is_reported: whether the environment has reported success in other episodes.
        """
        if self.score not in (None, "success"):
            return replace(results, successes=None)
        successes = results.any_successes if self.success_at == "any" else results.successes
        if self.success_return is not None:
            successes = (results.returns >= self.success_return).astype(np.int64)
        elif successes is not None:  # where one episode reports success, silence is a failure
            successes = np.where(successes == UNREPORTED, 0, successes)
        elif is_reported or self.score == "success":
            successes = np.zeros(results.returns.shape, np.int64)
        return replace(results, successes=successes)

    def normalised(self, episode_return: float) -> float | None:
        """Return a return normalised by those of a random (0) and of an expert policy (1), or None without these."""
        if self.reference_scores is None:
            return None
        random, expert = self.reference_scores
        return (episode_return - random) / (expert - random)

    @property
    def success(self) -> str:
        """Name of the success in a line of text."""
        if self.success_return is not None:
            return f"success (return >= {self.success_return:g})"
        return "success at any step" if self.success_at == "any" else "success"


REPORTED = ScoringRule()
"""Success as the environment reports it, else the return."""


# -- kinds of scores -------------------------------------------------------------------------------------------------


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
