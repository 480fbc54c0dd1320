"""Load a set of one's own for an environment."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np

from agents.common.data.action_range import ActionRange, in_pieces
from agents.common.frames import channel_axis, is_image
from zoo.datasets.check import Finding
from zoo.datasets.formats.episodes import COMPACT, Arrays, digest_of_arrays
from zoo.datasets.formats.read import environment_of, name_of, read_source, references_of
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
) -> Dataset:
    """Return a set of one's own; refuse one that does not fit the environment.

    :param source: what `zoo.datasets.formats.read.read_source` reads.
    :param size: use the first whole trajectories that have this many transitions; None uses all.
    :param action_range: what stands for the low and the high of the environment's actions in the set; None: they
        are in the environment's units.
    """
    with contextlib.closing(make_env(env_id, **env_kwargs)) as env:
        spaces = env.observation_space, env.action_space
    _tell_of_another_environment(source, env_id)
    arrays = read_source(source)
    if size is not None:
        rows = rows_of_first_trajectories(arrays["valids"], size, Path(name_of(source)))
        arrays = {key: array[:rows] for key, array in arrays.items()}
    if misfits := shape_findings(arrays, env_id, spaces):
        raise UsageError(f"{source} does not fit {env_id}: {'; '.join(finding.message for finding in misfits)}")
    arrays["actions"] = in_units_of(spaces[1], source, arrays, action_range)
    name = Path(name_of(source).replace("/", "-")).with_suffix(".npz")
    parts = {key: arrays[key] for key in COMPACT}
    return Dataset(name, **parts, fingerprint=digest_of_arrays(arrays), reference_scores=references_of(source))


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


def in_units_of(space: gymnasium.Space[Any], source: str | Path, arrays: Arrays, action_range: Any) -> np.ndarray:
    """Return a set's actions in an environment's units; refuse those outside of the range that stands for its limits.

    :param source: what to call the set.
    :param action_range: that range; None: the limits.
    """
    assert isinstance(space, gymnasium.spaces.Box)
    actions = arrays["actions"]
    with as_usage_error():
        outside = ActionRange.of(space, action_range).find_outside(in_pieces(actions), arrays["valids"] > 0)
    if outside is not None and outside.refused:
        raise UsageError(
            f"{source}: `actions` {outside.describe_refused()}; they reach from {outside.span[0]:.4g} to "
            f"{outside.span[1]:.4g}: if they are in other units than the environment's, say what stands for its limits "
            "with `--action-range`"
        )
    if action_range is None:
        return actions
    low, high = action_range
    scaled: np.ndarray = space.low + (actions - np.float32(low)) / np.float32(high - low) * (space.high - space.low)
    return scaled.astype(np.float32)


def _tell_of_another_environment(source: str | Path, env_id: str) -> None:
    recorded = environment_of(source)
    if recorded is not None and recorded.rpartition(":")[2] != env_id.rpartition(":")[2]:
        warnings.warn(f"{source} was recorded in {recorded}, and --env is {env_id}", stacklevel=2)
