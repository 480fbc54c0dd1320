"""Load a set of one's own for an environment."""

from __future__ import annotations

import contextlib
import warnings
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

from agents.common.data.arrays import ActionRange, Array, Transitions, compact_transitions, pieces
from agents.common.frames import FrameStack, is_image
from zoo.datasets.files import DatasetError
from zoo.datasets.formats.base import Dataset, ReadOptions, compact, digest_of_arrays
from zoo.datasets.formats.minari import Minari, parts_of, recorded_parts
from zoo.datasets.formats.read import find_format, name_of, read_source
from zoo.datasets.load import first_trajectories
from zoo.envs.make import make_env
from zoo.terminal.errors import UsageError, as_usage_error

OUTSIDE = 1e-3
"""How far observations may lie outside a space of real numbers without a warning, as a share of its limits above 1."""


def load_custom(
    source: str | Path,
    env_id: str,
    env_kwargs: dict[str, Any],
    *,
    size: int | None = None,
    action_range: tuple[float, float] | None = None,
    reward_from: str | None = None,
    content: Transitions | None = None,
    env: gymnasium.Env[Any, Any] | None = None,
) -> Dataset:
    """Return a set of one's own; refuse one that does not fit the environment.

    :param source: what `zoo.datasets.formats.read.read_source` reads.
    :param size: use the first whole trajectories that have this many transitions; None uses all.
    :param action_range: what stands for the low and the high of the environment's actions in the set; None: they
        are in the environment's units.
    :param reward_from: ``success`` takes rewards from the set's successes: -1 a step, and 0 where the task is achieved.
    :param content: the set, where it was read before.
    :param env: the environment, where it was built before.
    """
    spaces = spaces_for(source, env_id, env_kwargs, env)
    content = content or read_source(source, ReadOptions(reward_from=reward_from))
    if size is not None:
        content = first_trajectories(content, size, Path(name_of(source)))
    check_fit(source, content, env_id, spaces, action_range)
    arrays = compact(content)
    if action_range is not None:
        (low, high), box = action_range, spaces[1]
        shares = (arrays["actions"] - np.float32(low)) / np.float32(high - low)
        arrays["actions"] = (box.low + shares * (box.high - box.low)).astype(np.float32)
        content = compact_transitions(arrays)
    path, kind = find_format(source)
    return Dataset(
        Path(name_of(source).replace("/", "-")).with_suffix(".npz"),
        content,
        fingerprint=digest_of_arrays(arrays),
        reference_scores=kind.references(path) if kind else None,
    )


def spaces_for(
    source: str | Path, env_id: str, env_kwargs: dict[str, Any], env: gymnasium.Env[Any, Any] | None = None
) -> tuple[gymnasium.Space[Any], Any]:
    """Return the observation and the action space of an environment, comparing it with where a set is from.

    :param env: the environment, where it was built before; data hold single images, which it may stack.
    """
    path, found = find_format(source)
    recorded = found.environment(path) if found else None
    if recorded is not None and recorded.rpartition(":")[2] != env_id.rpartition(":")[2]:
        warnings.warn(f"{source} was recorded in {recorded}, and --env is {env_id}", stacklevel=3)
    if env is None:
        with contextlib.closing(make_env(env_id, **env_kwargs)) as env:
            return spaces_for(source, env_id, env_kwargs, env)
    observations = env.observation_space
    layer: Any = env
    while isinstance(layer, gymnasium.Wrapper):
        if isinstance(layer, FrameStack):
            observations = layer.env.observation_space
        if isinstance(layer, gymnasium.wrappers.FlattenObservation) and isinstance(found, Minari):
            here, there = list(parts_of(layer.env.observation_space)), recorded_parts(path)
            if sorted(here) == sorted(there) and here != there:
                raise UsageError(
                    f"{source} has the parts of an observation in the order {', '.join(there)}, and {env_id} "
                    f"flattens {', '.join(here)}: columns would be exchanged; give both the same observation space"
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
    """Refuse a set that cannot be trained on in an environment; warn of one that is useless for more than cloning.

    Images may have their channels first or last.

    :param action_range: what stands for the limits of actions in the set; None: the environment's.
    :raises DatasetError: for the first array that does not fit.
    """
    arrays, valid = content.arrays, content.valid
    warn_of_constant_rewards(source, content)
    if isinstance(spaces[0], gymnasium.spaces.Dict):
        what = f"`observations` must be a Dict as in {env_id}, which no file holds; load it in Python (docs/pixels.md)"
        raise DatasetError("observations", what)
    for key, space in zip(("observations", "actions"), spaces, strict=True):
        shape, got, dtype = space.shape or (), arrays[key].shape[1:], arrays[key].dtype
        fits = sorted(got) == sorted(shape) if is_image(space) else got == shape
        if not fits or is_image(space) != (dtype == np.uint8):
            raise DatasetError(
                key,
                f"{source}: `{key}` must have rows of {space.dtype} and shape {shape} as in {env_id}, got {dtype} "
                f"and {got}",
            )
    if not is_image(spaces[0]):
        for rows in (arrays["observations"], content.final_observations):
            _check_values(source, "observations", rows, spaces[0])
    if action_range is None:
        _check_values(source, "actions", arrays["actions"], spaces[1], valid)
    with as_usage_error():
        limits = ActionRange.of(spaces[1], action_range)
    try:
        limits.require_inside("`actions`", arrays["actions"], valid)
    except ValueError as error:
        raise DatasetError("actions", f"{source}: {error}") from error


def warn_of_constant_rewards(source: str | Path, content: Transitions) -> None:
    """Warn of a dataset whose rewards are all the same."""
    rewards = content.arrays["rewards"][content.valid]
    if (rewards == rewards[0]).all():
        ends = int((content.arrays["masks"][content.valid] == 0).sum())
        warnings.warn(
            f"{source}: every reward is {rewards[0]:g}, and {ends:,} steps end the task (`masks` = 0); if those are no "
            "successes, there is nothing but cloning to learn",
            stacklevel=3,
        )


def _check_values(
    source: str | Path, key: str, values: Array, space: gymnasium.spaces.Box, valid: NDArray[np.bool_] | None = None
) -> None:
    """Refuse values that a space of integers does not hold; warn of observations outside a space of real numbers.

    :param values: the array `key`, (rows, size).
    :param valid: which rows count, (rows,); None: all.
    """
    is_integer = space.dtype.kind in "iub"
    if key == "actions" and not is_integer:
        return  # `ActionRange` checks their limits, and clips what rounding puts outside
    margin = 0.0 if is_integer else OUTSIDE * np.maximum(1.0, np.abs(space.high.astype(np.float64)))
    for piece in pieces(len(values)):
        part = values[piece]
        is_wrong = (part < space.low - margin) | (part > space.high + margin)
        if is_integer:
            is_wrong |= part != np.round(part)
        if valid is not None:
            is_wrong &= valid[piece, None]
        if not is_wrong.any():
            continue
        row, column = np.argwhere(is_wrong)[0]
        limits = f"from {space.low[column]:g} to {space.high[column]:g}"
        got = f"got {part[row, column]:g} in row {piece.start + row}, coordinate {column}"
        if is_integer:
            raise DatasetError(
                key,
                f"{source}: `{key}` must be integers {limits} as in the environment, whose space is of {space.dtype}, "
                f"{got}; store what the environment returned or played, or give it a space of floats",
            )
        warnings.warn(
            f"{source}: `{key}` lie {limits} in the environment, {got}; if they are in other units, convert them",
            stacklevel=4,
        )
        return
