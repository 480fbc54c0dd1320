"""What a format is, and the episodes of any origin, checked and joined in OGBench's compact layout."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
import warnings
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from agents.common.data.arrays import Transitions, read_transitions
from agents.common.validation import unknown_name_message
from zoo.datasets.files import move_into_place
from zoo.terminal.errors import UsageError
from zoo.terminal.messages import log

COLUMNS: Mapping[str, tuple[str, ...]] = {
    "observations": ("observation.state", "observations", "observation", "state"),
    "actions": ("action", "actions"),
    "rewards": ("next.reward", "reward", "rewards"),
    "terminated": ("next.terminated", "terminated", "terminations"),
    "success": ("next.success", "success"),
    "done": ("next.done", "done", "dones"),
    "episode": ("episode_index", "episode"),
    "frame": ("frame_index", "frame"),
}
"""What is read of rows -> the names of its column, the first that is there."""


OF_CONVERT = ": a flag of `zoo dataset convert`, which writes an npz file to train on"
"""What a message adds to flags that training does not have."""

LARGEST_STEP = 1e-3
"""Of the range of a coordinate of observations: how coarse single precision may be there."""


@dataclass(frozen=True)
class ReadOptions:
    """What a format leaves open.

    :param columns: what is read -> its name in the files, see `COLUMNS`.
    :param step_reward: the reward of every step of a set that has none.
    :param done: what ends the episodes of a set that does not say: ``terminated`` or ``truncated``.
    :param reward_from: ``success`` takes rewards and masks from the flags of that name: where one is 1 the task ends
        with the reward 0, and other steps have -1.
    """

    columns: Mapping[str, str] = field(default_factory=dict)
    step_reward: float | None = None
    done: str | None = None
    reward_from: str | None = None

    def __post_init__(self) -> None:
        if self.reward_from is not None and (self.step_reward is not None or self.done is not None):
            raise UsageError(
                f"`--reward-from {self.reward_from}` says the reward of each step and where the task ends; leave out "
                "`--step-reward` and `--done`"
            )
        for name in self.columns:
            if name not in COLUMNS:
                raise UsageError(unknown_name_message("name in `--columns`", name, COLUMNS))


@dataclass(frozen=True)
class Dataset:
    """Transitions of one task.

    :param content: what an algorithm's ``load_dataset`` takes; rewards are those of the state before the action.
    :param fingerprint: sha256 of the file's content and of the settings.
    :param reference_scores: returns of a random and of an expert policy, where the files say them.
    """

    path: Path
    content: Transitions
    fingerprint: str
    reference_scores: tuple[float, float] | None = None

    @property
    def num_transitions(self) -> int:
        """Number of transitions."""
        return len(self.content.ends)


class Format:
    """A way in which datasets are stored; `zoo.datasets.formats.read.FORMATS` lists one object of each."""

    supported: Collection[str] = ()
    """Which fields of a `ReadOptions` say something that its files do not."""

    def matches(self, path: Path) -> bool:
        """Return whether a file or folder looks like one of this format; nothing of its content is trusted."""
        raise NotImplementedError

    def read(self, path: Path, options: ReadOptions) -> Transitions:
        """Return the transitions; raise UsageError if they cannot be read or trained on, with what to do."""
        raise NotImplementedError

    def environment(self, path: Path) -> str | None:
        """Return the id of the environment that a set was recorded in, where it says so."""
        return None

    def references(self, path: Path) -> tuple[float, float] | None:
        """Return the returns of a random and of an expert policy, where a set says them."""
        return None


def reject_options(path: Path, options: ReadOptions, supported: Collection[str] = ()) -> None:
    """Refuse options for what a format does not leave open."""
    given = [name for name, value in vars(options).items() if value not in (None, {}) and name not in supported]
    if given:
        flags = " and ".join(f"`--{name.replace('_', '-')}`" for name in given)
        raise UsageError(f"{path} is in a format whose arrays have fixed names and meanings; leave out {flags}")


Array: TypeAlias = NDArray[Any]
Arrays: TypeAlias = dict[str, Array]

COMPACT = ("observations", "actions", "rewards", "masks", "terminals", "valids")
"""The arrays of a set in the compact layout, as `docs/datasets.md` describes them."""


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

    def __post_init__(self) -> None:
        steps = len(self.actions)
        rows = {"observations": steps + 1, "rewards": steps, "masks": steps}
        for key, count in rows.items():
            array = getattr(self, key)
            if array.shape[:1] != (count,):
                raise UsageError(
                    f"{self.name}: `{key}` must have {count} rows for {steps} actions, got shape {array.shape}; the "
                    "observation after the last action belongs to an episode too"
                )


def joined(name: str, episodes: Iterable[Episode]) -> Transitions:
    """Return the transitions of all episodes; those without any are left out with a warning."""
    recorded = list(episodes)
    episodes = [episode for episode in recorded if len(episode.actions)]
    if not episodes:
        raise UsageError(f"{name} must hold an episode with a transition, got none; give another dataset")
    if len(episodes) < len(recorded):
        warn(
            name, f"{len(recorded) - len(episodes):,} of {len(recorded):,} episodes have no transition and are left out"
        )
    shapes = [(episode.observations.shape[1:], episode.actions.shape[1:]) for episode in episodes]
    for episode, got in zip(episodes, shapes, strict=True):
        if got != shapes[0]:
            raise UsageError(
                f"{episode.name} must have observations and actions of the shapes {shapes[0]} like the first episode, "
                f"got {got}; keep the episodes of one environment apart from others"
            )
    parts = {key: [getattr(episode, key) for episode in episodes] for key in ("actions", "rewards", "masks")}
    parts["observations"] = [episode.observations[:-1] for episode in episodes]
    parts["next_observations"] = [episode.observations[1:] for episode in episodes]
    arrays = {key: np.concatenate(each) for key, each in parts.items()}
    ends = np.zeros(len(arrays["actions"]), bool)
    ends[np.cumsum([len(episode.actions) for episode in episodes]) - 1] = True
    terminated = arrays["masks"] == 0
    return transitions_of(name, arrays | {"terminals": ends & terminated, "timeouts": ends & ~terminated})


def transitions_of(name: str, arrays: Arrays) -> Transitions:
    """Return the transitions of arrays in any layout that `docs/datasets.md` describes, after saying what is odd."""
    observations, actions = arrays["observations"], arrays["actions"]
    is_vector = observations.ndim == 2 and observations.dtype.kind in "fiub"
    is_image = observations.ndim == 4 and observations.dtype == np.uint8
    if not (is_vector or is_image) or not observations.size:
        raise UsageError(
            f"{name}: `observations` must have shape (rows, size), or be images as uint8 from 0 to 255 of shape (rows, "
            f"height, width, channels), got {observations.dtype} of shape {observations.shape}; convert them"
        )
    if actions.ndim != 2 or actions.dtype.kind != "f" or not actions.size:
        raise UsageError(
            f"{name}: `actions` must be continuous, of shape (rows, size) with at least one row, got {actions.dtype} "
            f"of shape {actions.shape}; convert them to float32 if they are numbers of one Box"
        )
    if is_vector:
        _warn_of_lost_digits(name, observations)
    try:
        found = read_transitions(arrays, observations.shape[1:], actions.shape[1], images=is_image)
    except (TypeError, ValueError) as error:
        raise UsageError(f"{name} cannot be used: {error}") from error
    for note in found.warnings:
        warn(name, note)
    kind = np.uint8 if is_image else np.float32
    kinds = dict.fromkeys(found.arrays, np.float32) | {"observations": kind}
    stored = {key: np.asarray(array, kinds[key]) for key, array in found.arrays.items()}
    return replace(found, arrays=stored, final_observations=found.final_observations.astype(kind), warnings=())


def _warn_of_lost_digits(name: str, observations: Array) -> None:
    """Warn of coordinates whose changes get lost in single precision, e.g. times since 1970.

    :param observations: (rows, O).
    """
    low, high = observations.min(0).astype(np.float64), observations.max(0).astype(np.float64)
    largest = np.maximum(np.abs(low), np.abs(high))
    with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is refused elsewhere
        lost = np.flatnonzero(np.spacing(largest.astype(np.float32)) > LARGEST_STEP * (high - low))
    lost = lost[low[lost] < high[lost]]
    if lost.size:
        k = int(lost[0])
        warn(
            name,
            f"`observations` reach from {low[k]:.10g} to {high[k]:.10g} in coordinate {k}, where single precision, in "
            "which they are trained on, cannot tell close values apart; subtract an offset",
        )


def warn_without_success(name: str, successes: Array) -> None:
    """Warn of a set in which no step achieves the task."""
    if not successes.any():
        warn(name, "no step achieves the task, so that nothing but cloning can be learnt; give data with successes")


def warn(name: str, doubt: str) -> None:
    """Warn of something in a set."""
    warnings.warn(f"{name}: {doubt}", stacklevel=3)


def compact(found: Transitions) -> Arrays:
    """Return transitions in the compact layout, with a row after the last transition of each trajectory."""
    arrays = {**found.arrays, "valids": found.valid.astype(np.float32)}
    if not found.valid.all():
        return arrays
    arrays["terminals"] = found.ends.astype(np.float32)
    after = np.flatnonzero(found.ends) + 1
    last: dict[str, Any] = {
        "observations": found.final_observations,
        "actions": 0,
        "rewards": 0,
        "masks": 1,
        "terminals": 1,
        "valids": 0,
    }
    return {key: np.insert(arrays[key], after, last[key], axis=0) for key in COMPACT}


def digest_of_arrays(arrays: Arrays) -> str:
    """Return the SHA-256 of a set in the compact layout."""
    digest = hashlib.sha256()
    for key in COMPACT:
        digest.update(f"{key} {arrays[key].shape} ".encode())
        digest.update(np.ascontiguousarray(arrays[key]).data)
    return digest.hexdigest()


def write_set(path: Path, found: Transitions) -> None:
    """Write a set as an ``.npz`` file, which appears when it is whole, and its checksum beside it."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            np.savez(file, allow_pickle=False, **compact(found))
        move_into_place(temporary, path)
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror or error}; choose another place") from error
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def explaining_damage(path: Path, kind: str) -> Iterator[None]:
    """Turn whatever a library raises over a damaged file into a UsageError that names it.

    :param kind: the format of the file.
    """
    try:
        yield
    except UsageError:
        raise
    except Exception as error:
        text = " ".join(str(error).split()) or type(error).__name__
        raise UsageError(f"{path} cannot be read as {kind}: {text}; get or make the file again") from error


# -- what arrays must be ----------------------------------------------------------------------------------------------


def require_keys(name: str, there: Iterable[str], needed: Iterable[str]) -> None:
    """Refuse a set that lacks arrays."""
    there, needed = list(there), list(needed)
    if missing := [key for key in needed if key not in there]:
        hint = ", or give `--reward-from success`" * (missing == ["rewards"] and "success" in there)
        raise UsageError(
            f"{name} must have the arrays {', '.join(needed)}; missing: {', '.join(missing)}, got "
            f"{', '.join(there[:12]) or 'none'}; rename or add them (docs/data.md lists what is read){hint}"
        )


def require_flags(name: str, key: str, flags: Array, steps: int) -> Array:
    """Return where flags, shape (T,), are 1; refuse anything but 0 and 1."""
    if flags.shape != (steps,) or flags.dtype.kind not in "fiub":
        got = f"{flags.dtype} of shape {flags.shape}"
    elif (wrong := np.flatnonzero(~np.isin(flags, (0, 1)))).size:
        got = f"{flags[wrong[0]]} in row {wrong[0]}"
    else:
        return flags > 0
    raise UsageError(f"{name}: `{key}` must be 0 or 1 in each of the {steps:,} steps, got {got}; correct it")


def masks_of(name: str, terminated: Array, steps: int) -> Array:
    """Return an episode's masks, given whether it terminated: one flag, or one for each step, shape (T,)."""
    if terminated.size == 1 and steps:
        terminated = np.append(np.zeros(steps - 1, terminated.dtype), terminated.reshape(-1))
    ends = require_flags(name, "terminated", terminated, steps)
    if ends[:-1].any():
        raise UsageError(
            f"{name}: `terminated` is 1 in row {int(np.argmax(ends))}, but the episode goes on to row {steps - 1}; "
            "split it there, or, if the task is achieved and goes on, give `masks` instead"
        )
    return 1 - ends


# -- steps without the observation after an episode's last action, as D4RL and LeRobot write them ---------------------


def add_rewards(name: str, rows: Arrays, options: ReadOptions) -> None:
    """Give each step the same reward where there is none; or take rewards and masks from its success."""
    if options.reward_from is not None:
        require_keys(name, rows, ("success",))
        success = require_flags(name, "success", rows.pop("success"), len(rows["actions"]))
        rows |= {"rewards": success - np.float32(1), "masks": np.float32(1) - success}
        return
    if "rewards" in rows:
        if options.step_reward is not None:
            raise UsageError(f"{name} has rewards; leave out `--step-reward`")
        return
    if options.step_reward is None:
        raise UsageError(
            f"{name} has no rewards; name their column with `--columns rewards=NAME`, give each step the same one with "
            f"`--step-reward -1`, or take them from successes with `--reward-from success`{OF_CONVERT}"
        )
    rows["rewards"] = np.full(len(rows["actions"]), options.step_reward, np.float32)


def episodes_of_rows(name: str, rows: Arrays, ends: Array, masks: Array) -> Iterator[Episode]:
    """Yield the episodes of trajectories whose last observations are missing.

    Where a trajectory terminates nothing is bootstrapped from what follows, so its last observation is repeated. Where
    it was cut off its last action and reward are dropped, and the observation before them is the last one.

    :param rows: ``observations``, ``actions`` and ``rewards``, (n, ...).
    :param ends: where a trajectory ends, (n,).
    :param masks: 0 where the task terminates, (n,).
    """
    if not rows["actions"].size:
        raise UsageError(f"{name} must hold an episode with a transition, got none; give another dataset")
    for key in ("observations", "rewards"):
        if rows[key].shape[:1] != rows["actions"].shape[:1]:
            raise UsageError(f"{name}: `{key}` must have as many rows as `actions`, got shape {rows[key].shape}")
    ends = np.append(ends[:-1], True)
    log.info(
        "%s has no observation after the last action: repeated in %d trajectories, which terminate; in the others, "
        "which were cut off, the last transition is dropped",
        name,
        int((ends & (masks == 0)).sum()),
    )
    for begin, end in itertools.pairwise([0, *(np.flatnonzero(ends) + 1)]):
        observations = rows["observations"][begin:end]
        if masks[end - 1] == 0:
            observations = np.append(observations, observations[-1:], axis=0)
        steps = slice(begin, begin + len(observations) - 1)
        if steps.start < steps.stop:
            yield Episode(name, observations, rows["actions"][steps], rows["rewards"][steps], masks[steps])
