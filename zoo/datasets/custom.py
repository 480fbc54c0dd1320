"""Load a user's dataset for an environment, or for a placeholder if there is no environment."""

import hashlib
import re
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from gymnasium import Env, Space, Wrapper
from gymnasium.spaces import Box, Dict
from gymnasium.wrappers import FlattenObservation

from agents.common.data.arrays import ActionRange, Transitions
from agents.common.frames import FrameStack, is_image
from agents.common.sb3.environments import DataOnly
from zoo.datasets.files import Folder
from zoo.datasets.formats.base import COMPACT, Dataset, Metadata, compact, first_trajectories
from zoo.datasets.formats.minari import MINARI, minari_folder, parts_of
from zoo.datasets.formats.read import metadata_of, name_of, read_source
from zoo.datasets.formats.robomimic import FILE, HOST, demonstrations_file
from zoo.envs.checks import env_name
from zoo.envs.tasks import Task
from zoo.terminal.errors import UsageError, as_usage_error


def find_data(task: Task, dataset_dir: Folder, *, generate: bool = False) -> str:
    """Return the path or Minari id of a task's data, for `zoo.datasets.formats.read.read_source`.

    :param dataset_dir: folder of datasets; None for the default folder of the benchmark's package.
    :param generate: whether the user asked to generate the data, which is impossible and raises UsageError.
    :raises UsageError: if ``generate`` is true, or robomimic's file is missing; the message contains its URL.
    """
    if generate:
        raise UsageError(
            f"the data of {task.name} cannot be generated; leave out `--dataset generate`"
        )
    path = task_path(task, dataset_dir)
    if task.benchmark == "robomimic":
        if not path.is_file():
            url = f"{HOST}/{task.domain.replace('-', '/')}/{FILE}"
            raise UsageError(
                f"there are no demonstrations of {task.name} at {path}; download them with "
                f"`curl -L --create-dirs -o {path} {url}`, or pass another file with `--dataset PATH`"
            )
    elif dataset_dir is None:
        return f"{MINARI}{task.name}"
    return str(path)


def task_path(task: Task, dataset_dir: Folder) -> Path:
    """Return the path of a task's data, whether it exists or not."""
    if task.benchmark == "robomimic":
        return demonstrations_file(task, dataset_dir)
    return minari_folder(task.name, dataset_dir)


def load_custom(
    source: str | Path,
    env: Env[Any, Any],
    *,
    size: int | None = None,
    action_range: tuple[float, float] | None = None,
    reward_from: str | None = None,
    content: Transitions | None = None,
) -> Dataset:
    """Return a user's dataset; reject it if it does not fit the environment.

    :param source: the path of a file or folder, or ``minari:ID``.
    :param size: keep whole trajectories from the start until they total this many transitions; None for all.
    :param action_range: values in the data that correspond to the bounds of the action space; None if the actions
        are in the environment's units.
    :param reward_from: ``success`` derives rewards from successes: 0 for a step with success, otherwise -1.
    :param content: the dataset's content, if it has been read already.
    """
    metadata = metadata_of(source)
    spaces = spaces_for(source, metadata, env)
    content = content or read_source(source, reward_from)
    if size is not None:
        content = first_trajectories(content, size, name_of(source))
    check_fit(source, content, env_name(env), spaces, action_range)
    if action_range is not None:
        # convert actions to the environment's units, so that the fingerprint depends on the action range
        low, high = action_range
        _, action_space = spaces
        shares = (content.arrays["actions"] - np.float32(low)) / np.float32(high - low)
        units = action_space.high - action_space.low
        actions = (action_space.low + shares * units).astype(np.float32)
        content = replace(content, arrays={**content.arrays, "actions": actions})
    arrays = compact(content)
    # Hash the content, not the file, so that a run can resume after its dataset was moved or converted.
    digest = hashlib.sha256()
    for key in COMPACT:
        digest.update(f"{key} {arrays[key].shape} ".encode())
        digest.update(np.ascontiguousarray(arrays[key]).data)  # the bytes, without copying them
    name = name_of(source).replace("/", "-")  # a Minari id has slashes
    return Dataset(name, content, digest.hexdigest(), metadata.reference_scores)


def spaces_for(
    source: str | Path, metadata: Metadata, env: Env[Any, Any]
) -> tuple[Space[Any], Any]:
    """Return an environment's observation space, before frames are stacked, and its action space.

    A warning is issued if the dataset was recorded in another environment.

    :param metadata: metadata of the dataset.
    :raises UsageError: if the environment flattens the parts of an observation in an order other than the recorded one.
    """
    recorded_in = metadata.environment
    env_id = env_name(env)
    # In `module:Id`, the environment's name is `Id`; the module registers it.
    is_known = recorded_in is None or recorded_in.rpartition(":")[2] == env_id
    if not is_known and not isinstance(env.unwrapped, DataOnly):
        warnings.warn(
            f"{source} was recorded in {recorded_in}, but --env is {env_id}", stacklevel=3
        )
    observations = env.observation_space
    layer: Any = env
    while isinstance(layer, Wrapper):
        if isinstance(layer, FrameStack):
            observations = layer.env.observation_space
        if isinstance(layer, FlattenObservation):
            recorded = list(metadata.parts)
            flattened = list(parts_of(layer.env.observation_space))
            if sorted(flattened) == sorted(recorded) and flattened != recorded:
                raise UsageError(
                    f"{source} stores the parts of an observation in the order {', '.join(recorded)}, but {env_id} "
                    f"flattens them in the order {', '.join(flattened)}, which would swap columns; use the same "
                    "observation space for both"
                )
        layer = layer.env
    return observations, env.action_space


def check_fit(
    source: str | Path,
    content: Transitions,
    env_id: str,
    spaces: tuple[Any, Any],
    action_range: tuple[float, float] | None,
) -> None:
    """Reject a dataset that does not fit the environment.

    The channels of images may be the first or the last axis.

    :param action_range: values in the data that correspond to the action bounds; None for the environment's bounds.
    :raises UsageError: for the first array that does not fit.
    """
    arrays = content.arrays
    observation_space, action_space = spaces
    warn_of_constant_rewards(source, content)
    if isinstance(observation_space, Dict):
        raise UsageError(
            f"{env_id} has Dict observations, which dataset files cannot contain; load the data in Python "
            "(docs/pixels.md)",
        )
    for key, space in zip(("observations", "actions"), spaces, strict=True):
        expected = space.shape
        shape = arrays[key].shape[1:]
        # training transposes the channels of images
        fits = expected in (shape, shape[-1:] + shape[:-1], shape[1:] + shape[:1])
        if not fits or is_image(space) != (arrays[key].dtype == np.uint8):
            raise UsageError(
                f"{source}: `{key}` must have rows of {space.dtype} and shape {expected} as in {env_id}, got "
                f"{arrays[key].dtype} and {shape}",
            )
    with as_usage_error():
        limits = ActionRange.of(action_space, action_range)
        limits.require_inside(f"{source}: `actions`", arrays["actions"], content.valid)


def warn_of_constant_rewards(source: str | Path, content: Transitions) -> None:
    """Warn if all rewards of a dataset are equal."""
    rewards = content.arrays["rewards"][content.valid]
    if (rewards == rewards[0]).all():
        ends = int((content.arrays["masks"][content.valid] == 0).sum())
        warnings.warn(
            f"{source}: all rewards are {rewards[0]:g} and {ends:,} steps are terminal (`masks` = 0); unless these "
            "steps are successes, training can only clone the data",
            stacklevel=3,
        )


# -- data without an environment --------------------------------------------------------------------------------------


def dataset_only_id(name: str) -> str:
    """Return the id of the placeholder environment for a dataset."""
    return re.sub(r"[^\w.-]", "-", f"data-{name}")


def register_dataset_only_env(
    env_id: str,
    content: Transitions,
    limits: tuple[float, float] | None,
) -> None:
    """Register a placeholder environment for data without an environment.

    :param content: the data.
    :param limits: the lowest and the highest action. None means -1 and 1 if all actions are in this range, otherwise
        the range of each action coordinate in the data, extended to include 0.
    :raises UsageError: for images.
    """
    # Action bounds must come from the data, because nothing else describes the recorded environment.
    observations = content.arrays["observations"]
    actions = content.arrays["actions"][content.valid].astype(np.float32)
    if observations.ndim > 2:
        raise UsageError(
            "`--no-env` needs vectors as observations, got images; train with an environment, or embed the images"
        )
    ends: Any = limits or (-1, 1)
    if not limits and np.abs(actions).max() > 1:
        # Include 0, which usually means no motion.
        ends = np.minimum(actions.min(0), 0), np.maximum(actions.max(0), 0)
    low, high = (np.full(actions.shape[1:], end, np.float32) for end in ends)
    # without this, a coordinate that is always 0 would have an empty range
    high = np.where(high > low, high, low + 1)
    # Gymnasium would warn if a process registered the same data again with other limits.
    gymnasium.registry.pop(env_id, None)
    gymnasium.register(
        env_id,
        entry_point="agents.common.sb3.environments:DataOnly",
        kwargs={
            "observation_space": Box(-np.inf, np.inf, observations.shape[1:]),
            "action_space": Box(low, high),
        },
        max_episode_steps=1,  # without it, `zoo evaluate` would warn that episodes may never end
        disable_env_checker=True,
    )
