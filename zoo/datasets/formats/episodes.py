"""Episodes of any origin, checked, and joined in OGBench's compact layout."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from agents.common.data.arrays import OTHER_NAMES
from agents.common.files.bounded import require_memory, size_text
from agents.common.validation import closest_names
from zoo.datasets.files import publish
from zoo.errors import UsageError, as_usage_error
from zoo.terminal.messages import log

Array: TypeAlias = NDArray[Any]
Arrays: TypeAlias = dict[str, Array]

COMPACT = ("observations", "actions", "rewards", "masks", "terminals", "valids")
"""The arrays of a set in the compact layout, as `docs/datasets.md` describes them."""
_TELL_BYTES = 1 << 28


@dataclass(frozen=True)
class Episode:
    """One trajectory of T transitions.

    :param name: what to call it in messages.
    :param observations: shape (T + 1, O), or images: the last one follows the last action.
    :param actions: shape (T, A).
    :param rewards: shape (T,).
    :param masks: 0 where the task terminates, else 1, shape (T,).
    """

    name: str
    observations: Array
    actions: Array
    rewards: Array
    masks: Array


@dataclass(frozen=True)
class Size:
    """How much a set holds, at most: known before it is read.

    :param observation: entries of an observation; ``action``: of an action.
    :param image: shape of an observation, if it is an image.
    """

    episodes: int
    transitions: int
    observation: int
    action: int
    image: tuple[int, ...] | None = None

    @property
    def observation_shape(self) -> tuple[int, ...]:
        """Shape of an observation."""
        return self.image or (self.observation,)

    @property
    def bytes(self) -> int:
        """Memory of its arrays in the compact layout."""
        seen = self.observation * (1 if self.image else 4)
        return (self.episodes + self.transitions) * (seen + (self.action + len(COMPACT) - 2) * 4)


def checked_episode(
    name: str, observations: Array, actions: Array, rewards: Array, *, terminated: Array | None, masks: Array | None
) -> Episode:
    """Return an episode; refuse arrays that are none.

    :param terminated: 1 if the episode ended because its task did, a number or shape (T,); or:
    :param masks: shape (T,).
    """
    actions = require_continuous(name, actions)
    steps = len(actions)
    observations = require_observations(name, observations)
    if len(observations) == steps:
        raise UsageError(
            f"{name}: `observations` must have {steps + 1} rows, one more than the {steps} actions, got {steps}: the "
            "one after the last action is missing; add it, or leave out the last action, its reward and its flags"
        )
    require_rows(name, "observations", observations, steps + 1)
    rewards = require_numbers(name, "rewards", rewards)
    require_rows(name, "rewards", rewards, steps, ())
    if masks is None:
        assert terminated is not None
        masks = 1 - _at_end(name, terminated, steps)
    masks = require_numbers(name, "masks", masks)
    require_rows(name, "masks", masks, steps, ())
    return Episode(name, observations, actions, rewards, masks)


def join(name: str, episodes: Iterable[Episode], size: Size) -> Arrays:
    """Return all episodes as one set, whose memory is taken once.

    :param size: what there is at most, as the headers of the files say.
    """
    tell_memory(name, size.bytes)
    rows = size.episodes + size.transitions
    shapes = {"observations": size.observation_shape, "actions": (size.action,)}
    kinds = {"observations": np.uint8} if size.image else {}
    with np.errstate(over="ignore"):  # infinite then, which is refused
        arrays = {key: np.zeros((rows, *shapes.get(key, ())), kinds.get(key, np.float32)) for key in COMPACT}
        end = 0
        for episode in episodes:
            begin, steps = end, len(episode.actions)
            end = begin + steps + 1
            got = (episode.observations.shape[1:], episode.actions.shape[1])
            if end > rows or got != (size.observation_shape, size.action):
                wanted, there = (" x ".join(map(str, shape)) for shape in (size.observation_shape, got[0]))
                raise UsageError(
                    f"{episode.name} must have observations of {wanted} and actions of {size.action} "
                    f"numbers like the first one, and the episodes {size.transitions:,} transitions in all, got "
                    f"{there} and {got[1]}; keep the episodes of one environment apart from others"
                )
            arrays["observations"][begin:end] = episode.observations
            for key in ("actions", "rewards", "masks"):
                arrays[key][begin : end - 1] = getattr(episode, key)
            arrays["masks"][end - 1] = 1.0
            arrays["valids"][begin : end - 1] = 1.0
            arrays["terminals"][end - 2 : end] = 1.0
    if end == 0:
        raise UsageError(f"{name} must hold an episode with a transition, got none; give another set")
    return {key: array[:end] for key, array in arrays.items()}


def with_next_observations(name: str, rows: Arrays, ends: Array, terminated: Array) -> Arrays:
    """Return trajectories whose last observations are missing in the regular layout.

    Where a trajectory terminates nothing is bootstrapped from what follows, so its last observation is repeated. Where
    it was cut off its last action and reward are dropped, and the observation before them is the last one.

    :param rows: ``observations``, ``actions`` and ``rewards`` of trajectories that follow one another, (n, ...).
    :param ends: where a trajectory ends, (n,); ``terminated``: where it does so because the task did.
    """
    cut = ends & ~terminated
    kept = np.flatnonzero(~cut)
    if not len(kept):
        raise UsageError(f"{name} must hold an episode with a transition, got none; give another set")
    log.info(
        "%s has no observation after the last action: repeated in %d trajectories, which terminate; in the %d that "
        "were cut off the last transition is dropped",
        *(name, int(terminated.sum()), int(cut.sum())),
    )
    arrays = {key: rows[key][kept] for key in ("observations", "actions", "rewards")}
    arrays["next_observations"] = rows["observations"][kept + ~terminated[kept]]
    return arrays | {"terminals": terminated[kept], "timeouts": np.append(cut, False)[kept + 1] & ~terminated[kept]}


def digest_of_arrays(arrays: Arrays) -> str:
    """Return the SHA-256 of a set in the compact layout."""
    digest = hashlib.sha256()
    for key in COMPACT:
        digest.update(f"{key} {arrays[key].shape} ".encode())
        digest.update(np.ascontiguousarray(arrays[key]).data)
    return digest.hexdigest()


def write_set(path: Path, arrays: Mapping[str, Array]) -> None:
    """Write a set as an ``.npz`` file, which appears when it is whole, and its checksum beside it."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            np.savez(file, allow_pickle=False, **arrays)
        publish(temporary, path)
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror or error}; choose another place") from error
    finally:
        temporary.unlink(missing_ok=True)


def tell_memory(name: str, needed: int) -> None:
    """Say how much memory a large set takes, and refuse one that there is no memory for."""
    with as_usage_error():
        require_memory(name, needed)
    if needed >= _TELL_BYTES:
        log.info("%s takes %s of memory", name, size_text(needed))


def require_numbers(name: str, key: str, array: Array) -> Array:
    """Return an array of real numbers; refuse anything else."""
    if array.dtype.kind not in "fiub":
        raise UsageError(f"{name}: `{key}` must hold numbers, got dtype {array.dtype}; convert it to float32")
    return array


def require_vectors(name: str, observations: Array) -> Array:
    """Return observations, shape (rows, O); refuse images and texts."""
    require_numbers(name, "observations", observations)
    if observations.ndim == 2 and 0 not in observations.shape:
        return observations
    what = ": these are images" if observations.ndim in (4, 5) else ""
    raise UsageError(
        f"{name}: `observations` must have shape (rows, size), got {observations.shape} of {observations.dtype}{what}; "
        "give vectors, e.g. the robot's state"
    )


def require_observations(name: str, observations: Array) -> Array:
    """Return observations, shape (rows, O) or images of uint8; refuse anything else."""
    if observations.ndim == 4 and 0 not in observations.shape:
        require_bytes(name, observations.dtype)
        return observations
    return require_vectors(name, observations)


def require_bytes(name: str, dtype: np.dtype[Any]) -> None:
    """Refuse images that are not uint8: nothing says their scale."""
    if dtype != np.uint8:
        raise UsageError(
            f"{name}: images must be uint8 from 0 to 255, got {dtype}; convert them, e.g. "
            "`(255 * images).round().astype(np.uint8)` where they are from 0 to 1"
        )


def require_continuous(name: str, actions: Array) -> Array:
    """Return actions, shape (rows, A); refuse discrete ones."""
    require_numbers(name, "actions", actions)
    if actions.dtype.kind != "f":
        raise UsageError(
            f"{name}: `actions` must be continuous, got {actions.dtype}, which a Discrete or MultiDiscrete action "
            "space has; choose an environment with a Box of actions, or convert them to float32 if they are numbers of "
            "one"
        )
    if actions.ndim != 2 or 0 in actions.shape:
        raise UsageError(
            f"{name}: `actions` must have shape (rows, size) with at least one row, got {actions.shape}; reshape them"
        )
    return actions


def require_keys(name: str, there: Iterable[str], needed: Iterable[str]) -> None:
    """Refuse a set that lacks arrays; name those that may be meant."""
    there = list(there)
    missing = [key for key in needed if key not in there]
    if not missing:
        return
    meant = {other: key for other, key in OTHER_NAMES.items() if other in there and key in missing}
    meant |= {close: key for key in missing for close in closest_names(key, there)[:1] if _is_alike(close, key)}
    hints = "".join(f"; `{other}` may be meant as `{key}`" for other, key in meant.items())
    raise UsageError(
        f"{name} must have the arrays {', '.join(needed)}; missing: {', '.join(missing)}, got "
        f"{', '.join(there[:12]) or 'none'}{hints}; rename them (docs/data.md lists what is read)"
    )


def _is_alike(name: str, key: str) -> bool:
    return name.rstrip("s").endswith(key.rstrip("s")) or key.startswith(name.rstrip("s"))


def require_rows(name: str, key: str, array: Array, rows: int, shape: tuple[int, ...] | None = None) -> None:
    """Refuse an array that has not so many rows, or not of that shape."""
    wanted = (rows, *(array.shape[1:] if shape is None else shape))
    if array.shape != wanted:
        raise UsageError(f"{name}: `{key}` must have shape {wanted} like the actions, got {array.shape}; check it")


def require_flags(name: str, key: str, flags: Array, steps: int, remedy: str = "correct it") -> Array:
    """Return where flags, shape (T,), are 1; refuse anything but 0 and 1."""
    if flags.shape != (steps,) or flags.dtype.kind not in "fiub" or not np.isin(flags, (0, 1)).all():
        got = flags[~np.isin(flags, (0, 1))][0] if flags.shape == (steps,) else flags.shape
        raise UsageError(f"{name}: `{key}` must be 0 or 1 in each of the {steps:,} steps, got {got}; {remedy}")
    return flags > 0


def _at_end(name: str, flags: Array, steps: int) -> Array:
    """Return where an episode terminates, from a flag or one for each step, shape (T,)."""
    flags = np.asarray(flags)
    if flags.size == 1:
        flags = np.append(np.zeros(steps - 1, flags.dtype), flags.reshape(-1))
    ends = require_flags(name, "terminated", flags, steps)
    if ends[:-1].any():
        raise UsageError(
            f"{name}: `terminated` is 1 in row {int(np.argmax(ends))}, but the episode goes on to row {steps - 1}; "
            "split it there, or, if the task is achieved and goes on, give `masks` instead"
        )
    return ends
