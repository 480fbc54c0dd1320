"""The results of played episodes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class EpisodeResults:
    """What S replicas did in the same episodes.

    :param successes: success (0 or 1) of each episode's last step, shape (S, episodes); None where the
        environment does not know success.
    :param returns: undiscounted sums of rewards, shape (S, episodes).
    :param lengths: environment steps, shape (S, episodes).
    :param seeds: reset seeds, shape (episodes,).
    :param played: whether a replica played all its episodes, shape (S,). One that did not take part, or that planned
        NaN or infinity, has zeros in its rows.
    """

    successes: np.ndarray | None
    returns: np.ndarray
    lengths: np.ndarray
    seeds: np.ndarray
    played: np.ndarray
