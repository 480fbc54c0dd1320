"""The evaluations of one run, read back from ``evaluations.npz`` and checked."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pandas as pd

from zoo.runs.history import PHASES
from zoo.runs.scores import RETURN, SUCCESS

_ARRAYS = ("timesteps", "results", "ep_lengths", "phase")


class UnreadableRun(Exception):
    """A run folder that lacks something or holds nonsense; the message says what."""


def read_evaluations(folder: Path) -> pd.DataFrame:
    """Return the evaluations of a run, scored by success where the file has it, else by the return.

    :param folder: the run folder.
    :return: one row an evaluation: ``run``, ``phase``, ``step``, ``successes``, ``episodes``, ``kind`` (of the score),
        ``score``, ``return`` and ``length``.
    :raises UnreadableRun: if the file is missing, damaged or holds nonsense.
    """
    try:
        with np.load(folder / "evaluations.npz", allow_pickle=False) as file:
            missing = [name for name in _ARRAYS if name not in file.files]
            if missing:
                raise UnreadableRun(f"evaluations.npz lacks {', '.join(missing)}")
            steps, returns, lengths, phase = (file[name] for name in _ARRAYS)
            successes = file["successes"] if "successes" in file.files else None
    except FileNotFoundError as error:
        raise UnreadableRun("evaluations.npz is missing") from error
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise UnreadableRun(f"evaluations.npz cannot be read: {error!s}") from error
    _check_shapes(steps, phase, {"successes": successes, "results": returns, "ep_lengths": lengths})
    _check_values(steps, phase, returns, successes)
    episodes = returns.shape[1]
    total = pd.array([pd.NA] * len(steps) if successes is None else successes.sum(axis=1), dtype="Int64")
    average = returns.mean(axis=1)
    return pd.DataFrame(
        {
            "run": str(folder),
            "phase": np.asarray(PHASES)[phase.astype(int)],
            "step": steps.astype(int),
            "successes": total,
            "episodes": episodes,
            "kind": (RETURN if successes is None else SUCCESS).name,
            "score": average if successes is None else total.to_numpy(int) / episodes,
            "return": average,
            "length": lengths.mean(axis=1),
        }
    )


def _check_shapes(steps: np.ndarray, phase: np.ndarray, episodes: Mapping[str, np.ndarray | None]) -> None:
    """Raise if the arrays of an evaluations file have shapes that do not fit together."""
    (first, array), *others = ((name, array) for name, array in episodes.items() if array is not None)
    shape = array.shape
    if len(shape) != 2 or 0 in shape:
        _refuse(f"{first} have shape {shape} instead of (evaluations, episodes)")
    wanted = {"timesteps": (steps, shape[:1]), **{name: (a, shape) for name, a in others}, "phase": (phase, shape[:1])}
    if any(found.shape != expected for found, expected in wanted.values()):
        *names, last = wanted
        shapes = ", ".join(str(found.shape) for found, _ in wanted.values())
        _refuse(f"{', '.join(names)} and {last} have shapes {shapes} beside {first} {shape}")


def _check_values(steps: np.ndarray, phase: np.ndarray, returns: np.ndarray, successes: np.ndarray | None) -> None:
    """Raise if the arrays of an evaluations file hold what no evaluation gives."""
    if successes is not None and not np.isin(successes, (0, 1)).all():
        _refuse("successes are not all 0 or 1")
    if successes is None and not np.isfinite(returns).all():
        _refuse("results are not all finite, and there are no successes to score the run by")
    if not np.isin(phase, (0, 1)).all() or (np.diff(phase.astype(int)) < 0).any():
        _refuse("phase is not 0 and then 1")
    if (np.diff(steps.astype(int)) < 0).any():
        _refuse("timesteps decrease")


def _refuse(wrong: str) -> NoReturn:
    """Raise because the arrays of an evaluations file do not fit together."""
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
