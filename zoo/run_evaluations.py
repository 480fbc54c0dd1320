"""The evaluations of one run, read back from ``evaluations.npz`` and checked."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

PHASES = ("offline", "online")
"""Names of the values 0 and 1 of ``phase`` in ``evaluations.npz``."""

_ARRAYS = ("timesteps", "results", "ep_lengths", "successes", "phase")


class UnreadableRun(Exception):
    """A run folder that lacks something or holds nonsense; the message says what."""


def read_evaluations(folder: Path) -> pd.DataFrame:
    """Return the evaluations of a run.

    :param folder: the run folder.
    :return: one row an evaluation: ``run``, ``phase``, ``step``, ``successes``, ``episodes``, ``score``, ``return`` and
        ``length``.
    :raises UnreadableRun: if the file is missing, damaged or holds nonsense.
    """
    try:
        with np.load(folder / "evaluations.npz", allow_pickle=False) as file:
            missing = [name for name in _ARRAYS if name not in file.files]
            if missing:
                raise UnreadableRun(f"evaluations.npz lacks {', '.join(missing)}")
            steps, returns, lengths, successes, phase = (file[name] for name in _ARRAYS)
    except FileNotFoundError as error:
        raise UnreadableRun("evaluations.npz is missing") from error
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise UnreadableRun(f"evaluations.npz cannot be read: {error!s}") from error
    _check_arrays(steps, returns, lengths, successes, phase)
    episodes = successes.shape[1]
    total = successes.sum(axis=1).astype(int)
    return pd.DataFrame(
        {
            "run": str(folder),
            "phase": np.asarray(PHASES)[phase.astype(int)],
            "step": steps.astype(int),
            "successes": total,
            "episodes": episodes,
            "score": total / episodes,
            "return": returns.mean(axis=1),
            "length": lengths.mean(axis=1),
        }
    )


def _check_arrays(
    steps: np.ndarray, returns: np.ndarray, lengths: np.ndarray, successes: np.ndarray, phase: np.ndarray
) -> None:
    """Raise if the arrays of an evaluations file do not fit together."""
    shape = successes.shape
    wrong = None
    if len(shape) != 2 or 0 in shape:
        wrong = f"successes have shape {shape} instead of (evaluations, episodes)"
    elif returns.shape != shape or lengths.shape != shape or steps.shape != shape[:1] or phase.shape != shape[:1]:
        shapes = f"{steps.shape}, {returns.shape}, {lengths.shape}, {phase.shape}"
        wrong = f"timesteps, results, ep_lengths and phase have shapes {shapes} beside successes {shape}"
    elif not np.isin(successes, (0, 1)).all():
        wrong = "successes are not all 0 or 1"
    elif not np.isin(phase, (0, 1)).all() or (np.diff(phase.astype(int)) < 0).any():
        wrong = "phase is not 0 and then 1"
    elif (np.diff(steps.astype(int)) < 0).any():
        wrong = "timesteps decrease"
    if wrong:
        raise UnreadableRun(f"evaluations.npz does not fit together: {wrong}")


def check_complete(row: Mapping[str, Any], evaluations: pd.DataFrame) -> None:
    """Check that a finished run was evaluated at the end of each of its phases.

    :param row: ``offline_steps`` and ``online_steps`` of the run.
    :param evaluations: what `read_evaluations` returned.
    :raises UnreadableRun: if it was not.
    """
    last = evaluations.groupby("phase")["step"].max()
    ends = {"offline": row["offline_steps"], "online": row["offline_steps"] + row["online_steps"]}
    for phase, wanted in ends.items():
        if not row[f"{phase}_steps"]:
            continue
        if phase not in last or last[phase] < wanted:
            got = f"{last[phase]:,}" if phase in last else "none"
            raise UnreadableRun(f"its last {phase} evaluation is at step {got}, expected {wanted:,}")
