"""Check, read and relabel files of OGBench's datasets."""

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

ACTION_MARGIN = 1e-5
"""Minimum distance of clipped actions from -1 and 1, so that their atanh is finite."""


def required_arrays(spec: DatasetSpec) -> dict[str, int]:
    """Return name -> number of axes, for the arrays that are read from OGBench's files."""
    axes = {"observations": 4 if spec.is_visual else 2, "actions": 2, "terminals": 1, "qpos": 2}
    # Tasks of these families depend on buttons, whose states `qpos` does not contain.
    if spec.family.startswith(("scene", "puzzle")):
        axes["button_states"] = 2
    return axes


@contextlib.contextmanager
def explained(path: Path) -> Iterator[None]:
    """Convert the errors of reading and checking a file to a UsageError that names the file."""
    try:
        yield
    except (UsageError, DamagedFileError, OSError) as error:
        # without the path, which these errors repeat
        problem = getattr(error, "problem", getattr(error, "strerror", error))
        raise UsageError(
            f"{path} cannot be used: {problem}; download or create it again"
        ) from error


def make_labelling_env(env_id: str) -> Any:
    """Return the environment with which :func:`relabel` computes a task's rewards; it does not render images."""
    env = make_raw_env(env_id.removeprefix(VISUAL))
    with no_startup_noise(), global_numpy_seed(0):
        env.reset()  # creates the simulator's model
    return env


def check_headers(path: Path, spec: DatasetSpec) -> None:
    """Check the names, shapes and dtypes of a file's arrays.

    Only a few kilobytes are read, even from a large file.

    :raises DamagedFileError: if the file is damaged.
    :raises UsageError: for the first array that is wrong.
    """
    headers = read_npz_headers(path)
    rows = 0
    # Find a damaged or unrelated file now, not after reading for minutes.
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
    """Check that values are finite, actions are in range, and every trajectory ends and has a transition.

    :param arrays: arrays of the dataset, each of shape (rows, ...); ``terminals`` is 1 in the last row of each
        trajectory, otherwise 0.
    :raises UsageError: for the first array that is wrong.
    """
    for name, array in arrays.items():
        refuse_bad(name, array)
    actions = arrays["actions"]
    high = np.ones(actions.shape[1])
    ActionRange(-high, high).require_inside("`actions`", actions)
    ends = arrays["terminals"]
    min_length = np.diff(np.flatnonzero(ends), prepend=-1).min(initial=len(ends))
    if not ends[-1] or min_length < 2:
        raise UsageError(
            "`terminals` must be 1 in the last row, and each trajectory must have at least 2 rows; got "
            f"{ends[-1]:g} in the last row, and a trajectory with {min_length}"
        )


def check_dataset(path: Path, spec: DatasetSpec) -> dict[str, Any]:
    """Check a dataset file completely, and warn about tasks that none of its states achieves.

    :return: ``success_states`` -> task -> the fraction of states that achieve it.
    :raises UsageError: for the first problem.
    """
    shares = {}
    with explained(path):
        _, arrays = read_arrays(path, spec)
        for task, env_id in spec.task_env_ids.items():
            with contextlib.closing(make_labelling_env(env_id)) as env:
                _, masks = relabel(arrays, env)
            shares[str(task)] = float(np.mean(masks == 0))
    # If no state achieves a task, all of its rewards are negative, so the data do not show how to achieve it.
    unsolved = [task for task, share in shares.items() if not share]
    if unsolved:
        message = f"no state achieves task {', '.join(unsolved)}"
        warnings.warn(message, stacklevel=2)
    return {"success_states": shares}


def read_arrays(path: Path, spec: DatasetSpec) -> tuple[str, dict[str, Array]]:
    """Return a file's sha256, and its checked arrays for training and relabelling; actions are clipped.

    :return: arrays by name, in OGBench's compact layout, each of shape (rows, ...).
    :raises DamagedFileError: if the file is damaged.
    :raises UsageError: for the first array that is wrong.
    """
    check_headers(path, spec)
    # computing the checksum leaves the file in the page cache, so the disk is read only once
    digest = check_checksum(path)
    arrays = read_npz(path, required_arrays(spec))
    for name in ("observations", "actions", "terminals"):
        if arrays[name].ndim < 4:  # images remain uint8
            arrays[name] = arrays[name].astype(np.float32, copy=False)
    check_values(arrays)
    # In OGBench's files, `terminals` is 1 in a trajectory's last row, whose action has no next state. In the compact
    # layout, it is also 1 in the row before, which is the last transition.
    ends = arrays["terminals"]
    arrays["valids"] = 1 - ends
    arrays["terminals"] = np.maximum(ends, np.roll(ends, -1))
    np.clip(arrays["actions"], -1.0 + ACTION_MARGIN, 1.0 - ACTION_MARGIN, out=arrays["actions"])
    return digest, arrays


def relabel(arrays: Mapping[str, Array], env: Any) -> tuple[Array, Array]:
    """Return the rewards and masks of a task, computed by OGBench's relabeller for the state before each action.

    :param arrays: ``qpos`` and, if the dataset has them, ``button_states``, each of shape (rows, ...).
    :param env: an environment from :func:`make_labelling_env`.
    :return: float32 rewards (-1 or 0 in mazes, otherwise minus the number of open sub-goals) and masks (0 if the task
        is achieved, otherwise 1), each of shape (rows,).
    :raises UsageError: if the states are not from this environment.
    """
    size = env.unwrapped.model.nq
    rows, columns = arrays["qpos"].shape
    # the relabeller would read other numbers as positions
    if columns != size:
        raise UsageError(f"`qpos` must have {size} columns as in {env.spec.id}, got {columns}")
    sources = {name: arrays[name] for name in ("qpos", "button_states") if name in arrays}
    rewards, masks = np.empty(rows, np.float32), np.empty(rows, np.float32)
    for part in pieces(rows):
        # The relabeller adds its results to this dictionary.
        labels = {name: array[part] for name, array in sources.items()}
        # mazes sample a start state with NumPy's global generator
        with no_startup_noise(), global_numpy_seed(0):
            relabel_dataset(env.spec.id, env, labels)
        rewards[part], masks[part] = labels["rewards"], labels["masks"]
    return rewards, masks
