"""Load a set of one's own for an environment."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np

from agents.common.data.arrays import ActionRange
from agents.common.frames import channel_axis, is_image
from zoo.datasets.check import Finding, error_messages
from zoo.datasets.formats.base import COMPACT, Arrays, Reading, digest_of_arrays
from zoo.datasets.formats.minari import Minari, parts_of, recorded_parts
from zoo.datasets.formats.read import environment_of, find_format, name_of, read_source
from zoo.datasets.load import Dataset, rows_of_first_trajectories
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
    spaces = _spaces_for(source, env_id, env_kwargs)
    arrays = dict(arrays or read_source(source, Reading(reward_from=reward_from)))
    if size is not None:
        rows = rows_of_first_trajectories(arrays["valids"], size, Path(name_of(source)))
        arrays = {key: array[:rows] for key, array in arrays.items()}
    findings = list(_findings(arrays, env_id, spaces, action_range))
    if errors := error_messages(findings):
        raise UsageError(f"{source} does not fit {env_id}: {'; '.join(errors)}")
    for finding in findings:
        warnings.warn(f"{source}: {finding.message}", stacklevel=2)
    if action_range is not None:
        (low, high), box = action_range, spaces[1]
        shares = (arrays["actions"] - np.float32(low)) / np.float32(high - low)
        arrays["actions"] = (box.low + shares * (box.high - box.low)).astype(np.float32)
    path, kind = find_format(source)
    return Dataset(
        Path(name_of(source).replace("/", "-")).with_suffix(".npz"),
        **{key: arrays[key] for key in COMPACT},
        fingerprint=digest_of_arrays(arrays),
        reference_scores=kind.references(path) if kind else None,
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
        spaces = _spaces_for(source, env_id, env_kwargs)
        arrays = read_source(source, reading)
    findings = [Finding("warning", "file", str(warning.message)) for warning in told]
    return arrays, [*findings, *_findings(arrays, env_id, spaces, action_range)]


def _spaces_for(source: str | Path, env_id: str, env_kwargs: dict[str, Any]) -> tuple[gymnasium.Space[Any], Any]:
    """Return the observation and the action space of an environment, comparing it with where a set is from."""
    recorded = environment_of(source)
    if recorded is not None and recorded.rpartition(":")[2] != env_id.rpartition(":")[2]:
        warnings.warn(f"{source} was recorded in {recorded}, and --env is {env_id}", stacklevel=3)
    path, found = find_format(source)
    with contextlib.closing(make_env(env_id, **env_kwargs)) as env:
        layer: Any = env
        while isinstance(layer, gymnasium.Wrapper) and isinstance(found, Minari):
            if isinstance(layer, gymnasium.wrappers.FlattenObservation):
                here, there = parts_of(layer.env.observation_space), recorded_parts(path)
                if sorted(here) == sorted(there) and here != there:
                    raise UsageError(
                        f"{source} has the parts of an observation in the order {', '.join(there)}, and {env_id} "
                        f"flattens {', '.join(here)}: columns would be exchanged; give both the same observation space"
                    )
            layer = layer.env
        return env.observation_space, env.action_space


def _findings(
    arrays: Arrays, env_id: str, spaces: tuple[gymnasium.Space[Any], Any], action_range: Sequence[float] | None
) -> Iterator[Finding]:
    """Yield what keeps a set from being trained on in an environment, and what makes it useless for more than cloning.

    Images may have their channels first or last.

    :param action_range: what stands for the limits of actions in the set; None: the environment's.
    """
    valid = arrays["valids"] > 0
    rewards = arrays["rewards"][valid]
    if (rewards == rewards[0]).all():
        ends = int((arrays["masks"][valid] == 0).sum())
        told = "no step ends the task (`masks` = 0): there is no success, and nothing but cloning to learn"
        if ends:
            told = f"only the {ends:,} steps after which the task ends (`masks` = 0) differ; are they successes?"
        yield Finding("warning", "rewards", f"every reward is {rewards[0]:g}, and {told}")
    if isinstance(spaces[0], gymnasium.spaces.Dict):
        what = f"`observations` must be a Dict as in {env_id}, which no file holds; load it in Python (docs/pixels.md)"
        yield Finding("error", "observations", what)
        return
    fits = True
    for key, space in zip(("observations", "actions"), spaces, strict=True):
        shape, got, dtype = space.shape or (), arrays[key].shape[1:], arrays[key].dtype
        turned = 1 if is_image(space) and channel_axis(shape) == -1 else -1
        if got != shape and not (is_image(space) and got == tuple(np.roll(shape, turned))):
            fits, what = False, f"have rows of shape {space.shape} as in {env_id}, got {got}"
            yield Finding("error", key, f"`{key}` must {what}")
        elif is_image(space) != (dtype == np.uint8):
            fits, what = False, f"be {space.dtype} as in {env_id}, got {dtype}"
            yield Finding("error", key, f"`{key}` must {what}")
    if not fits:
        return
    with as_usage_error():
        box: Any = action_range
        limits = ActionRange.of(spaces[1], box)
    try:
        limits.require_inside("`actions`", arrays["actions"], valid)
    except ValueError as error:
        yield Finding("error", "actions", str(error))
