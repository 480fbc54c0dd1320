"""Base class of dataset formats, and functions to check, join and write episodes in OGBench's compact layout."""

import contextlib
import warnings
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from agents.common.data.arrays import Array, Transitions, read_transitions, refuse_bad
from agents.common.data.shards import Shards
from agents.common.validation import count
from zoo.datasets.files import dataset_file
from zoo.terminal.errors import UsageError, one_line
from zoo.terminal.messages import log

_COLUMNS = """
observations  observation.state observations observation state
actions       action actions
rewards       next.reward reward rewards
terminated    next.terminated terminated terminations
success       next.success success
done          next.done done dones
episode       episode_index episode
frame         frame_index frame
"""
COLUMNS = {name: usual for name, *usual in map(str.split, _COLUMNS.strip().splitlines())}
"""Field of a row -> possible names of its column; the first one that exists is read."""

NO_TRANSITION = "contains no transitions"


@dataclass(frozen=True)
class Dataset:
    """Transitions of one task, loaded as a whole or stored in several files that training uses in turn.

    :param name: name under which a run records the dataset.
    :param content: the transitions, for an algorithm's ``load_dataset``; in OGBench's datasets, rewards are for the
        state before the action.
    :param fingerprint: sha256 of the data and of the settings with which they were loaded.
    :param reference_scores: returns of a random and of an expert policy, if the files contain them.
    :param origin: ``sha256`` of the file and, if known, its generator's ``mujoco`` version and ``seed``.
    """

    name: str
    content: Transitions | Shards
    fingerprint: str
    reference_scores: tuple[float, float] | None = None
    origin: Mapping[str, Any] = field(default_factory=dict)

    @property
    def transitions(self) -> Transitions:
        """The transitions of a dataset that has only one file.

        :raises UsageError: if the dataset has several files.
        """
        if isinstance(self.content, Shards):
            raise UsageError(f"{self.name} has several files; name one of them with `--dataset`")
        return self.content


@dataclass(frozen=True)
class Metadata:
    """Metadata of a dataset.

    :param environment: id of the environment in which the dataset was recorded.
    :param reference_scores: returns of a random and of an expert policy.
    :param parts: names of the arrays of an observation, in the order of the recorded space; empty if the space
        is unknown.
    """

    environment: str | None = None
    reference_scores: tuple[float, float] | None = None
    parts: Sequence[str] = ()


class Format:
    """A storage format of datasets; `zoo.datasets.formats.read.FORMATS` contains instances of the subclasses."""

    has_success = False
    """Whether files may have an array `success`, from which rewards can be derived."""

    rewards_follow_success = False
    """Whether rewards are always 0 in steps with success and -1 in others, whatever the environment's rewards are."""

    def matches(self, path: Path) -> bool:
        """Return whether a file with this format's extension, or a folder, is in this format."""
        return True

    def read(self, path: Path, reward_from: str | None = None) -> Transitions:
        """Return the transitions.

        :param reward_from: ``success`` derives rewards and masks from the array `success`: a step whose flag is 1 ends
            the task with a reward of 0, and other steps have a reward of -1.
        :raises UsageError: if the dataset cannot be read or trained on; the message contains a remedy.
        """
        raise NotImplementedError

    def metadata(self, path: Path) -> Metadata:
        """Return the metadata of a dataset; no code in the dataset is executed."""
        return Metadata()


Arrays: TypeAlias = dict[str, Array]

COMPACT = ("observations", "actions", "rewards", "masks", "terminals", "valids")
"""The arrays of a dataset in the compact layout, as `docs/data.md` describes them."""


def episode_of(
    name: str,
    observations: Array,
    actions: Array,
    rewards: Array,
    masks: Array,
    ends: Array | bool = False,
) -> Arrays:
    """Return the arrays of T consecutive transitions, of one or several trajectories, in the regular layout.

    :param name: name of the episode in messages.
    :param observations: shape (T + 1, O), or images; the last one is observed after the last action.
    :param actions: shape (T, A).
    :param rewards: shape (T,).
    :param masks: 0 if the task terminates, else 1, shape (T,).
    :param ends: whether a step ends a trajectory, shape (T,); the last step always ends one.
    """
    steps = len(actions)
    arrays = {"actions": actions, "rewards": rewards, "masks": masks}
    for key, array in {"observations": observations, **arrays}.items():
        rows = steps
        if key == "observations":
            rows += 1
        if array.shape[:1] != (rows,):
            raise UsageError(
                f"{name}: `{key}` must have {count(rows, 'row')} for {count(steps, 'action')}, got shape "
                f"{array.shape}; an episode includes the observation after the last action"
            )
    refuse_bad_values(name, {"observations": observations, **arrays})
    terminals = np.zeros(steps, bool) | ends
    terminals[-1:] = True
    arrays |= {"observations": observations[:-1], "next_observations": observations[1:]}
    return arrays | {"terminals": terminals}


def joined(name: str, episodes: Mapping[str, Arrays]) -> Transitions:
    """Return the transitions of all episodes; empty episodes are left out with a warning.

    :param episodes: name -> arrays from :func:`episode_of`.
    """
    # Empty episodes are common, e.g. from recordings that were stopped immediately, so they do not raise an error.
    parts = {key: arrays for key, arrays in episodes.items() if len(arrays["actions"])}
    if not parts:
        raise UsageError(f"{name} {NO_TRANSITION}")
    first, *_ = parts.values()
    for key, arrays in parts.items():
        for array, rows in arrays.items():
            expected = first[array].shape[1:]
            if rows.shape[1:] != expected:
                raise UsageError(
                    f"{key}: `{array}` must have rows of shape {expected} like the first episode, got "
                    f"{rows.shape[1:]}; correct it, or use a separate dataset for each environment"
                )
    num_empty = len(episodes) - len(parts)
    if num_empty:
        warn(
            name, f"{num_empty:,} of {len(episodes):,} episodes have no transition and are left out"
        )
    concatenated = {}
    for key in arrays:
        concatenated[key] = np.concatenate([part[key] for part in parts.values()])
    return transitions_of(name, concatenated)


def transitions_of(name: str, arrays: Arrays) -> Transitions:
    """Return the transitions in arrays of any layout that `docs/data.md` describes."""
    observations = arrays["observations"]
    actions = arrays["actions"]
    is_image = observations.ndim == 4
    if observations.ndim != 2 and not is_image:
        raise UsageError(
            f"{name}: `observations` must have shape (rows, size), or be images as uint8 from 0 to 255 of shape (rows, "
            f"height, width, channels), got {observations.dtype} of shape {observations.shape}; reshape them"
        )
    # Integers are rejected: a flow cannot interpolate between the choices of a Discrete space.
    if actions.ndim != 2 or actions.dtype.kind != "f":
        raise UsageError(
            f"{name}: `actions` must be continuous, of shape (rows, size), got {actions.dtype} of shape "
            f"{actions.shape}; reshape single numbers with `actions[:, None]`, or convert integers that represent "
            "quantities to float32"
        )
    try:
        transitions = read_transitions(
            arrays, observations.shape[1:], actions.shape[1], images=is_image
        )
    except ValueError as error:
        raise UsageError(f"{name} cannot be used: {error}") from error
    for note in transitions.warnings:
        warn(name, note)
    # Convert to the dtypes that training stores, so that the fingerprint does not depend on the dtypes in the files.
    observation_kind = np.uint8 if is_image else np.float32
    stored = {}
    for key, array in transitions.arrays.items():
        kind = observation_kind if key == "observations" else np.float32
        stored[key] = np.asarray(array, kind)
    final_observations = transitions.final_observations.astype(observation_kind)
    return replace(transitions, arrays=stored, final_observations=final_observations, warnings=())


def refuse_bad_values(name: str, arrays: Arrays, steps: Array | None = None) -> None:
    """Raise UsageError for numbers that are not finite; the message states the row in the episode or file.

    :param steps: whether each row is a transition, (rows,); None if all are. Only observations are checked in the rest.
    """
    for key in ("observations", "actions", "rewards"):
        try:
            refuse_bad(key, arrays[key], None if key == "observations" else steps)
        except ValueError as error:
            raise UsageError(f"{name}: {error}") from error


def warn(name: str, message: str) -> None:
    """Issue a warning about the dataset ``name``."""
    warnings.warn(f"{name}: {message}", stacklevel=3)


def compact(transitions: Transitions) -> Arrays:
    """Return transitions in the compact layout, with a row after the last transition of each trajectory."""
    arrays = {**transitions.arrays, "valids": transitions.valid.astype(np.float32)}
    if not transitions.valid.all():  # the transitions are in this layout already
        return arrays
    # In this layout, `terminals` marks every end; only `masks` distinguishes terminations from truncations.
    arrays["terminals"] = transitions.ends.astype(np.float32)
    rows_after = np.flatnonzero(transitions.ends) + 1
    last_row: dict[str, Any] = {
        "observations": transitions.final_observations,
        "actions": 0,
        "rewards": 0,
        "masks": 1,
        "terminals": 1,
        "valids": 0,
    }
    return {key: np.insert(arrays[key], rows_after, last_row[key], axis=0) for key in COMPACT}


def write_set(path: Path, transitions: Transitions) -> None:
    """Write a dataset atomically as an ``.npz`` file, and its checksum next to it."""
    with dataset_file(path) as temporary:
        np.savez(temporary, allow_pickle=False, **compact(transitions))


@contextlib.contextmanager
def explaining_damage(path: Path, kind: str) -> Iterator[None]:
    """Turn any exception that a library raises for a damaged file into a UsageError that names the file.

    :param kind: the format of the file.
    """
    try:
        yield
    except UsageError:
        raise
    except Exception as error:
        # the library's message may repeat the path, even several times
        problem = one_line(error).rpartition(f"'{path}': ")[-1].rstrip(".")
        raise UsageError(
            f"{path} cannot be read as {kind}: {problem}; if it is damaged, download or create it again"
        ) from error


def first_trajectories(transitions: Transitions, size: int, path: str | Path) -> Transitions:
    """Keep whole trajectories from the start until they total at least ``size`` transitions."""
    # number of transitions up to the end of each trajectory
    cumulative = np.flatnonzero(transitions.ends) + 1
    last = np.searchsorted(cumulative, size)
    if last == len(cumulative):
        raise UsageError(
            f"`--dataset-size` {size} exceeds the {cumulative[-1]} transitions in {path}; use fewer"
        )
    return transitions.keep(np.arange(len(cumulative)) <= last)


# -- checks of arrays --------------------------------------------------------------------------------------------------


def require_keys(
    name: str,
    keys: Collection[str],
    required: Iterable[str],
    advice: str = "rename or add them (docs/data.md lists the names)",
) -> None:
    """Raise UsageError if a dataset lacks arrays.

    :param keys: the names of the dataset's arrays.
    """
    missing = [key for key in required if key not in keys]
    if missing == ["rewards"] and "success" in keys:
        advice += ", or pass `--reward-from success`"
    if missing:
        raise UsageError(
            f"{name} must have the arrays {', '.join(required)}; missing: {', '.join(missing)}, got "
            f"{', '.join(list(keys)[:12]) or 'none'}; {advice}"
        )


def require_flags(name: str, key: str, flags: Array, steps: int) -> Array:
    """Return flags, shape (T,), as booleans; raises UsageError for values other than 0 and 1."""
    if flags.shape != (steps,):
        problem = f"{flags.dtype} of shape {flags.shape}"
    else:
        wrong_rows = np.flatnonzero(~np.isin(flags, (0, 1)))
        if not wrong_rows.size:
            return flags > 0
        problem = f"{flags[wrong_rows[0]]} in row {wrong_rows[0]}"
    raise UsageError(
        f"{name}: `{key}` must be 0 or 1 in each of the {steps:,} steps, got {problem}; correct it"
    )


def masks_of(name: str, terminated: Array, steps: int) -> Array:
    """Return an episode's masks, shape (T,).

    :param terminated: whether the episode terminated: one flag, or one for each step, shape (T,).
    """
    if not steps:
        return np.zeros(0)
    if terminated.size == 1:  # a single flag is for the last step
        terminated = np.append(np.zeros(steps - 1, terminated.dtype), terminated)
    ends = require_flags(name, "terminated", terminated, steps)
    if ends[:-1].any():
        raise UsageError(
            f"{name}: `terminated` is 1 in row {int(np.argmax(ends))}, but the episode continues to row {steps - 1}; "
            "split the episode there or, if it should continue after success, use `masks` instead"
        )
    return 1 - ends


# -- datasets without the observation after an episode's last action, as D4RL and LeRobot write them ------------------


def add_rewards(name: str, rows: Arrays, reward_from: str | None) -> None:
    """Derive rewards and masks from successes if requested; existing rewards and masks are replaced.

    :param reward_from: see :meth:`Format.read`.
    """
    if reward_from is not None:
        success = require_flags(name, "success", rows.pop("success"), len(rows["actions"]))
        rows |= {"rewards": success - np.float32(1), "masks": np.float32(1) - success}


def transitions_of_rows(name: str, rows: Arrays, ends: Array, masks: Array) -> Transitions:
    """Return the transitions of trajectories that lack the observation after their last action.

    If a trajectory terminates, the TD target of its last step does not bootstrap, so the last observation can be
    repeated. If a trajectory was truncated, its last action and reward are dropped, and the observation before them
    becomes the final one.

    :param rows: ``observations``, ``actions`` and ``rewards``, (n, ...).
    :param ends: whether a step ends a trajectory, (n,).
    :param masks: 0 if the task terminates, (n,).
    """
    steps = len(rows["actions"])
    for key in ("observations", "rewards"):
        if rows[key].shape[:1] != (steps,):
            raise UsageError(
                f"{name}: `{key}` must have {count(steps, 'row')} like `actions`, got shape {rows[key].shape}"
            )
    ends[-1:] = True  # rows after the last marked end also form a trajectory
    is_terminated = ends & (masks == 0)
    is_kept = is_terminated | ~ends
    if not is_kept.any():
        raise UsageError(
            f"{name} {NO_TRANSITION}: a trajectory that does not terminate must have two rows"
        )
    log.info(
        "%s lacks the observation after the last action of each trajectory, so the last transition is dropped in %s "
        "without a termination",
        name,
        count((~is_kept).sum(), "trajectory"),
    )
    observations = rows["observations"]
    # The TD target of a termination does not bootstrap, so any next observation will do.
    next_rows = np.where(is_terminated, np.arange(steps), np.arange(steps) + 1)
    arrays = {
        "next_observations": observations[np.minimum(next_rows, steps - 1)],
        "masks": masks,
        # The row before a dropped row is the last of its trajectory.
        "terminals": is_terminated | np.append(~is_kept[1:], False),
    }
    refuse_bad_values(name, rows, is_kept)
    for key in ("observations", "actions", "rewards"):
        arrays[key] = rows[key]
    return transitions_of(name, {key: array[is_kept] for key, array in arrays.items()})
