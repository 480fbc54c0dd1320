"""The evaluations of one run so far, in the file format of Stable-Baselines3's ``EvalCallback``."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Self

import numpy as np

from agents.common.files import atomic_path
from zoo.errors import UsageError
from zoo.playing.evaluate import EpisodeResults

OFFLINE, ONLINE = 0, 1
PHASES = ("offline", "online")
"""Names of the values 0 and 1 of ``phase``."""
COLUMNS = ("timesteps", "phase", "results", "ep_lengths", "episode_seeds")


class EvaluationHistory:
    """Evaluations of one seed in the order of their time steps.

    Row t of every array is one evaluation: ``timesteps`` (T,), ``phase`` (T,) 0 offline or 1 online, and per episode
    ``results`` (returns), ``ep_lengths``, ``episode_seeds`` and, where the environment knows success, ``successes``,
    each (T, episodes).
    """

    def __init__(self) -> None:
        self._rows: list[dict[str, np.ndarray]] = []

    def __len__(self) -> int:
        return len(self._rows)

    def append(self, timesteps: int, phase: int, results: EpisodeResults, replica: int = 0) -> None:
        """Add an evaluation.

        :param timesteps: when it was made: gradient steps since the end of pretraining, then environment steps on top.
        :param phase: 0 offline, 1 online.
        :param results: what was played.
        :param replica: whose episodes to keep, from 0 to S - 1.
        :raises ValueError: if it does not come after the last one, or has other columns or another number of episodes.
        """
        row = {
            "timesteps": np.array(timesteps, np.int64),
            "phase": np.array(phase, np.int64),
            "results": results.returns[replica],
            "ep_lengths": results.lengths[replica],
            "episode_seeds": results.seeds,
        }
        if results.successes is not None:
            row["successes"] = results.successes[replica]
        if phase not in (OFFLINE, ONLINE):
            raise ValueError(f"`phase` must be 0 (offline) or 1 (online), got {phase}")
        if self._rows:
            last = self._rows[-1]
            if (phase, timesteps) <= (int(last["phase"]), int(last["timesteps"])):
                raise ValueError(
                    f"an evaluation must come after the last one (phase {last['phase']}, step {last['timesteps']}), "
                    f"got phase {phase}, step {timesteps}; call `discard_after` when training went back"
                )
            if {name: column.shape for name, column in row.items()} != {n: c.shape for n, c in last.items()}:
                raise ValueError(
                    f"an evaluation must have the columns and episodes of the last one, {_shapes(last)}, "
                    f"got {_shapes(row)}; use a new run for another number of episodes"
                )
        self._rows.append(row)

    def discard_after(self, timesteps: int) -> None:
        """Forget evaluations later than a time step, for training that goes on from an older checkpoint.

        :param timesteps: the checkpoint's time step; an evaluation made at it stays.
        """
        self._rows = [row for row in self._rows if row["timesteps"] <= timesteps]

    def arrays(self) -> dict[str, np.ndarray]:
        """Return all evaluations, one array a column.

        :return: name to array, as in the file.
        """
        names = self._rows[0] if self._rows else COLUMNS
        return {name: np.array([row[name] for row in self._rows]) for name in names}

    def success_rates(self) -> np.ndarray | None:
        """Return the mean success of each evaluation, shape (T,), or None if the environment does not know success."""
        successes = self.arrays().get("successes")
        return None if successes is None else successes.mean(axis=1)

    def save(self, path: Path) -> None:
        """Write the file, whole or not at all; equal histories give equal bytes.

        :param path: ``evaluations.npz``.
        """
        with atomic_path(path) as temporary:
            np.savez(temporary, allow_pickle=False, **self.arrays())

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a file back.

        :param path: ``evaluations.npz``.
        :return: the history.
        :raises UsageError: if it is no such file.
        """
        try:
            with np.load(path, allow_pickle=False) as file:
                columns = {name: file[name] for name in file.files}
            history = cls()
            if len({len(column) for column in columns.values()}) != 1 or not set(COLUMNS) <= set(columns):
                raise ValueError(f"its columns are {_shapes(columns)}")
        except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
            raise UsageError(f"`{path}` is no evaluation history: {error}") from error
        history._rows = [
            {name: column[row] for name, column in columns.items()} for row in range(len(columns["timesteps"]))
        ]
        return history


def _shapes(columns: dict[str, np.ndarray]) -> str:
    """Return names and shapes in words."""
    return ", ".join(f"{name} {column.shape}" for name, column in sorted(columns.items()))
