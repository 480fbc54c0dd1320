"""The evaluations of one run so far, in the columns of Stable-Baselines3's ``EvalCallback``."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from zoo.errors import EnvironmentFault
from zoo.playing.episodes import PARTLY_REPORTED, EpisodeResults

PHASES = ("offline", "online")
"""Names of the values 0 and 1 of ``phase``."""
OFFLINE, ONLINE = range(2)
COLUMNS = ("timesteps", "phase", "results", "ep_lengths", "episode_seeds")
"""What every evaluation has; ``successes`` is there where the environment knows success."""


class EvaluationHistory:
    """Evaluations of one seed in the order of their time steps.

    Row t of every array is one evaluation: ``timesteps`` (T,), ``phase`` (T,) 0 offline or 1 online, and per episode
    ``results`` (returns), ``ep_lengths``, ``episode_seeds`` and, where the environment knows success, ``successes``,
    each (T, episodes).

    :param arrays: earlier evaluations, as `arrays` returned them.
    """

    def __init__(self, arrays: Mapping[str, np.ndarray] | None = None) -> None:
        columns = arrays or {}
        rows = range(len(columns["timesteps"]) if columns else 0)
        self._rows = [{name: column[row] for name, column in columns.items()} for row in rows]

    def __len__(self) -> int:
        return len(self._rows)

    def append(self, timesteps: int, phase: int, results: EpisodeResults, replica: int = 0) -> None:
        """Add an evaluation.

        :param timesteps: when it was made: gradient steps since the end of pretraining, then environment steps on top.
        :param phase: 0 offline, 1 online.
        :param replica: whose episodes to keep, from 0 to S - 1.
        """
        row = {
            "timesteps": np.array(timesteps, np.int64),
            "phase": np.array(phase, np.int64),
            "results": results.returns[replica],
            "ep_lengths": results.lengths[replica],
            "episode_seeds": results.seeds,
        }
        row |= {name: values[replica] for name, values in results.estimates.items()}
        if results.successes is not None:
            row["successes"] = results.successes[replica]
        if self._rows and row.keys() != self._rows[-1].keys():
            raise EnvironmentFault(PARTLY_REPORTED)
        if self._rows and (row["phase"], row["timesteps"]) <= ((last := self._rows[-1])["phase"], last["timesteps"]):
            raise ValueError(
                f"an evaluation must come after the last one (phase {last['phase']}, step {last['timesteps']}), "
                f"got phase {phase}, step {timesteps}"
            )
        self._rows.append(row)

    def arrays(self) -> dict[str, np.ndarray]:
        """Return all evaluations, one array for each column."""
        names = self._rows[0] if self._rows else COLUMNS
        return {name: np.array([row[name] for row in self._rows]) for name in names}

    def success_rates(self) -> np.ndarray | None:
        """Return the mean success of each evaluation, shape (T,), or None if the environment does not know success."""
        successes = self.arrays().get("successes")
        return None if successes is None else successes.mean(axis=1)
