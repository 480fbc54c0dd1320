"""What an episode is scored by: success as the environment reports it, a threshold on the return, or the return."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from zoo.playing.episodes import EpisodeResults


@dataclass(frozen=True)
class Scoring:
    """How played episodes are scored.

    :param score: ``"return"``; None is success where the environment reports it, else the return.
    :param success_return: the return from which an episode is a success.
    :param reference_scores: returns of a random and of an expert policy.
    """

    score: str | None = None
    success_return: float | None = None
    reference_scores: tuple[float, float] | None = None

    def apply(self, results: EpisodeResults) -> EpisodeResults:
        """Return results with the successes that count: none of them where the return is the score."""
        if self.score == "return":
            return replace(results, successes=None)
        if self.success_return is None:
            return results
        return replace(results, successes=(results.returns >= self.success_return).astype(np.int64))

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


REPORTED = Scoring()
"""Success as the environment reports it, else the return."""
