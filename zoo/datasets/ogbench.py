"""Check, read and relabel the files of OGBench's datasets."""

import contextlib
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from ogbench.relabel_utils import relabel_dataset

from agents.common.data.arrays import ActionRange, Array, pieces, refuse_bad
from agents.common.files import DamagedFileError
from agents.common.files.npz import read_npz, read_npz_headers
from zoo.datasets.files import check_checksum
from zoo.datasets.names import DatasetSpec
from zoo.envs.checks import global_numpy_seed
from zoo.envs.make import make_raw_env, no_startup_noise
from zoo.envs.rendering import VISUAL
from zoo.terminal.errors import UsageError, as_usage_error

BROKEN = (UsageError, DamagedFileError, OSError)
"""Exceptions of the checks for a file that cannot be trained on."""
ACTION_MARGIN = 1e-5
"""Actions are kept this far inside [-1, 1], so that atanh of them is finite."""


def required_arrays(spec: DatasetSpec) -> dict[str, int]:
    """Return the arrays of OGBench's files that are used, and how many axes each has."""
    axes = {"observations": 4 if spec.is_visual else 2, "actions": 2, "terminals": 1, "qpos": 2}
    # The tasks of these are about buttons, which `qpos` does not have.
    if spec.family.startswith(("scene", "puzzle")):
        axes["button_states"] = 2
    return axes


@contextlib.contextmanager
def explained(path: Path) -> Iterator[None]:
    """Name the file in the error of a check."""
    try:
        yield
    except BROKEN as error:
        problem = getattr(error, "problem", error)
        raise UsageError(
            f"{path} cannot be used: {problem}; download or create it again"
        ) from error


def make_labelling_env(env_id: str) -> Any:
    """Return the environment with which :func:`relabel` computes a task's rewards; it renders no images."""
    return make_raw_env(env_id.removeprefix(VISUAL))


def check_headers(path: Path, spec: DatasetSpec) -> None:
    """Check that the arrays, dtypes and lengths of a file fit together.

    Reads only a few kilobytes, even of a large file.

    :raises DamagedFileError: if the file is corrupt.
    :raises UsageError: for the first array that is wrong.
    """
    headers = read_npz_headers(path)
    rows = 0
    # A damaged or foreign file is found now, and not after minutes of reading.
    for name, axes in required_arrays(spec).items():
        if name not in headers:
            raise UsageError(f"expected an array `{name}`, got only {', '.join(headers) or 'none'}")
        shape, dtype = headers[name]
        kinds, content = ("u", "images as uint8") if axes == 4 else ("fiub", "numbers")
        if shape:
            rows = rows or shape[0]
        if len(shape) != axes or dtype.kind not in kinds or shape[0] != rows or rows < 2:
            raise UsageError(
                f"`{name}` must be {content} with {axes} axes and as many rows as `observations`, at least 2, got "
                f"{dtype} of shape {shape}"
            )


@as_usage_error()
def check_values(arrays: Mapping[str, Array]) -> None:
    """Check that values are finite, actions in range, and every trajectory ended and with a transition.

    :param arrays: arrays of the dataset, each of shape (rows, ...); ``terminals`` is 1 at the last row of each
        trajectory, else 0.
    :raises UsageError: for the first array that is wrong.
    """
    for name, array in arrays.items():
        refuse_bad(name, array)
    actions = arrays["actions"]
    low, high = np.full((2, actions.shape[1]), [[-1.0], [1.0]])
    ActionRange(low, high).require_inside("`actions`", actions)
    ends = arrays["terminals"]
    min_length = np.diff(np.flatnonzero(ends), prepend=-1).min(initial=len(ends))
    if not ends[-1] or min_length < 2:
        raise UsageError(
            "`terminals` must end with 1, and leave at least 2 rows to each trajectory, got "
            f"{ends[-1]:g} at the end, and {min_length} rows at least"
        )


def check_dataset(path: Path, spec: DatasetSpec) -> dict[str, Any]:
    """Check everything about a dataset file, and warn of tasks that no state of it achieves.

    It raises one of `BROKEN` for the first thing that is wrong.

    :return: the share of states that achieve each task.
    """
    check_headers(path, spec)
    _, arrays = read_arrays(path, spec)
    shares = {}
    for task, env_id in spec.task_env_ids.items():
        with contextlib.closing(make_labelling_env(env_id)) as env:
            _, masks = relabel(arrays, env)
        shares[str(task)] = float(np.mean(masks == 0))
    # A task that no state achieves has rewards of -1 only: there is nothing but cloning to learn.
    unsolved = [task for task, share in shares.items() if not share]
    if unsolved:
        message = f"no state achieves task {', '.join(unsolved)}"
        warnings.warn(message, stacklevel=2)
    return {"success_states": shares}


def read_arrays(path: Path, spec: DatasetSpec) -> tuple[str, dict[str, Array]]:
    """Return a file's sha256, and its checked arrays for training and relabelling, with clipped actions.

    :return: arrays by name, in OGBench's compact layout, each of shape (rows, ...).
    :raises DamagedFileError: if the file is damaged.
    :raises UsageError: for the first array that is wrong.
    """
    digest = check_checksum(path)  # brings the file into the page cache: the disk is read once
    arrays = read_npz(path, required_arrays(spec))
    for name in ("observations", "actions", "terminals"):
        if arrays[name].ndim < 4:  # images stay bytes
            arrays[name] = arrays[name].astype(np.float32, copy=False)
    check_values(arrays)
    # In OGBench's files `terminals` is 1 in a trajectory's last row, whose action has no next state. The compact
    # layout has a 1 also in the row before, which is the last transition.
    ends = arrays["terminals"]
    arrays["valids"] = 1 - ends
    arrays["terminals"] = np.minimum(ends + np.append(ends[1:], np.float32(1)), 1)
    np.clip(arrays["actions"], -1.0 + ACTION_MARGIN, 1.0 - ACTION_MARGIN, out=arrays["actions"])
    return digest, arrays


def relabel(arrays: Mapping[str, Array], env: Any) -> tuple[Array, Array]:
    """Return the rewards and masks of a task, by OGBench's relabeller.

    :param arrays: ``qpos`` and, if the dataset has them, ``button_states``, each of shape (rows, ...).
    :param env: environment of :func:`make_labelling_env`.
    :return: float32 rewards (sparse -1/0 in mazes, else minus the number of unsatisfied sub-goals) and masks (0 if
        the task is achieved, else 1) of the state before each action, each of shape (rows,).
    """
    sources = {name: arrays[name] for name in ("qpos", "button_states") if name in arrays}
    rows = len(sources["qpos"])
    rewards, masks = np.empty(rows, np.float32), np.empty(rows, np.float32)
    for part in pieces(rows):
        # The relabeller adds its arrays to it.
        labels = {name: array[part] for name, array in sources.items()}
        with no_startup_noise(), global_numpy_seed(0):  # mazes draw a start position from it
            relabel_dataset(env.spec.id, env, labels)
        rewards[part], masks[part] = labels["rewards"], labels["masks"]
    return rewards, masks
