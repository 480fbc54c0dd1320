"""The results of played episodes, and intervals of their means."""

from __future__ import annotations

from collections.abc import Mapping
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
