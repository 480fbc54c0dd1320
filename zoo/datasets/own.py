"""Load a set of one's own for an environment."""

from __future__ import annotations

import contextlib
import functools
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np

from agents.common.data.arrays import ActionRange, in_pieces
from agents.common.frames import channel_axis, is_image
from zoo.datasets.check import Finding
from zoo.datasets.formats.base import COMPACT, Arrays, Reading, digest_of_arrays
from zoo.datasets.formats.minari import Minari, parts_of, recorded_parts
from zoo.datasets.formats.read import environment_of, find_format, name_of, read_source, references_of
from zoo.datasets.load import Dataset, rows_of_first_trajectories
from zoo.envs.lasting import find_lasting_state
from zoo.envs.make import make_env
from zoo.errors import UsageError, as_usage_error


def load_own(
    source: str | Path,
    env_id: str,
    env_kwargs: dict[str, Any],
    *,
    size: int | None = None,
    action_range: Sequence[float] | None = None,
    reward_from: str | None = None,
    arrays: Arrays | None = None,
) -> Dataset:
    """Return a set of one's own; refuse one that does not fit the environment.

    :param source: what `zoo.datasets.formats.read.read_source` reads.
    :param size: use the first whole trajectories that have this many transitions; None uses all.
    :param action_range: what stands for the low and the high of the environment's actions in the set; None: they
        are in the environment's units.
    :param reward_from: ``success`` takes rewards from the set's successes: -1 a step, and 0 where the task is achieved.
    :param arrays: the set, where it was read before.
    """
    spaces = spaces_for(source, env_id, env_kwargs)
    arrays = dict(arrays or read_source(source, Reading(reward_from=reward_from)))
    if size is not None:
        rows = rows_of_first_trajectories(arrays["valids"], size, Path(name_of(source)))
        arrays = {key: array[:rows] for key, array in arrays.items()}
    findings = list(find_misfits(arrays, env_id, spaces, action_range))
    if findings:
        raise UsageError(f"{source} does not fit {env_id}: {'; '.join(finding.message for finding in findings)}")
    for finding in find_doubts(arrays):
        warnings.warn(f"{source}: {finding.message}", stacklevel=2)
    if action_range is not None:
        arrays["actions"] = _in_units_of(spaces[1], arrays["actions"], action_range)
    name = Path(name_of(source).replace("/", "-")).with_suffix(".npz")
    return Dataset(
        name,
        **{key: arrays[key] for key in COMPACT},
        fingerprint=digest_of_arrays(arrays),
        reference_scores=references_of(source),
    )


def check_own(
    source: str | Path,
    env_id: str,
    env_kwargs: dict[str, Any],
    reading: Reading | None = None,
    action_range: Sequence[float] | None = None,
) -> tuple[Arrays, list[Finding]]:
    """Return a set in the compact layout, with all that training would refuse or warn of."""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        spaces = spaces_for(source, env_id, env_kwargs)
        arrays = read_source(source, reading)
    with contextlib.closing(make_env(env_id, **env_kwargs)) as env:
        lasting = find_lasting_state(env, functools.partial(make_env, env_id, **env_kwargs))
    findings = [Finding("error", "environment", lasting)] if lasting else []
    findings += [Finding("warning", "file", str(warning.message)) for warning in told]
    return arrays, [*findings, *find_misfits(arrays, env_id, spaces, action_range), *find_doubts(arrays)]


def spaces_for(source: str | Path, env_id: str, env_kwargs: dict[str, Any]) -> tuple[gymnasium.Space[Any], ...]:
    """Return the observation and the action space of an environment, comparing it with where a set is from."""
    with contextlib.closing(make_env(env_id, **env_kwargs)) as env:
        spaces = env.observation_space, env.action_space
        flattened = _flattened_space(env)
    recorded = environment_of(source)
    if recorded is not None and recorded.rpartition(":")[2] != env_id.rpartition(":")[2]:
        warnings.warn(f"{source} was recorded in {recorded}, and --env is {env_id}", stacklevel=3)
    path, found = find_format(source)
    if flattened is not None and isinstance(found, Minari):
        here, there = parts_of(flattened), recorded_parts(path)
        if sorted(here) == sorted(there) and here != there:
            raise UsageError(
                f"{source} has the parts of an observation in the order {', '.join(there)}, and {env_id} flattens "
                f"{', '.join(here)}: columns would be exchanged; give both the same observation space"
            )
    return spaces


def _flattened_space(env: gymnasium.Env[Any, Any]) -> gymnasium.Space[Any] | None:
    """Return the space that `FlattenObservation` makes a vector of, or None if an environment has none."""
    while isinstance(env, gymnasium.Wrapper):
        if isinstance(env, gymnasium.wrappers.FlattenObservation):
            return env.env.observation_space
        env = env.env
    return None


def find_misfits(
    arrays: Arrays, env_id: str, spaces: tuple[gymnasium.Space[Any], ...], action_range: Sequence[float] | None = None
) -> Iterator[Finding]:
    """Yield what keeps a set from being trained on in an environment: sizes, and actions out of range.

    :param action_range: what stands for the limits of actions in the set; None: the environment's.
    """
    misfits = shape_findings(arrays, env_id, spaces)
    yield from misfits
    if misfits:
        return
    with as_usage_error():
        box: Any = action_range
        outside = ActionRange.of(spaces[1], box).find_outside(in_pieces(arrays["actions"]), arrays["valids"] > 0)
    if outside is not None and outside.refused:
        text = (
            f"`actions` {outside.describe_refused()}; they reach from {outside.span[0]:.4g} to {outside.span[1]:.4g}: "
            "if they are in other units than the environment's, say what stands for its limits with `--action-range`"
        )
        yield Finding("error", "actions", text)


def find_doubts(arrays: Arrays) -> Iterator[Finding]:
    """Yield what makes a set useless for more than cloning, although it can be trained on."""
    rewards = arrays["rewards"][arrays["valids"] > 0]
    if (rewards == rewards[0]).all():
        ends = int((arrays["masks"][arrays["valids"] > 0] == 0).sum())
        text = f"every reward is {rewards[0]:g}, and "
        if ends:
            text += f"only the {ends:,} steps after which the task ends (`masks` = 0) differ; are they successes?"
        else:
            text += "no step ends the task (`masks` = 0): there is no success, and nothing but cloning to learn"
        yield Finding("warning", "rewards", text)


def shape_findings(arrays: Arrays, env_id: str, spaces: tuple[gymnasium.Space[Any], ...]) -> list[Finding]:
    """Return where the sizes of a set are not those of an environment; images may have their channels first or last."""
    if isinstance(spaces[0], gymnasium.spaces.Dict):
        what = f"`observations` must be a Dict as in {env_id}, which no file holds; load it in Python (docs/pixels.md)"
        return [Finding("error", "observations", what)]
    findings = []
    for key, space in zip(("observations", "actions"), spaces, strict=True):
        shape, got = space.shape or (), arrays[key].shape[1:]
        if got != shape and not (is_image(space) and got == _turned(shape)):
            what = f"`{key}` must have rows of shape {space.shape} as in {env_id}, got {got}"
            findings.append(Finding("error", key, what))
        elif is_image(space) != (arrays[key].dtype == np.uint8):
            what = f"`{key}` must be {space.dtype} as in {env_id}, got {arrays[key].dtype}"
            findings.append(Finding("error", key, what))
    return findings


def _turned(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return an image's shape with its channels at the other end."""
    return (shape[-1], *shape[:-1]) if channel_axis(shape) == -1 else (*shape[1:], shape[0])


def _in_units_of(space: gymnasium.Space[Any], actions: np.ndarray, action_range: Sequence[float]) -> np.ndarray:
    """Return actions in an environment's units, given what stands for its limits."""
    assert isinstance(space, gymnasium.spaces.Box)
    low, high = action_range
    scaled: np.ndarray = space.low + (actions - np.float32(low)) / np.float32(high - low) * (space.high - space.low)
    return scaled.astype(np.float32)
