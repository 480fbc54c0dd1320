"""Rows of steps that lack the observation after an episode's last action, as D4RL and LeRobot write them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np

from zoo.datasets.formats.base import Reading
from zoo.datasets.formats.episodes import Array, Arrays, Episode, require_rows
from zoo.errors import UsageError
from zoo.terminal.messages import log


def add_rewards(name: str, rows: Arrays, reading: Reading) -> None:
    """Give each step the same reward where there is none."""
    if "rewards" in rows:
        if reading.step_reward is not None:
            raise UsageError(f"{name} has rewards; leave out `--step-reward`")
        return
    if reading.step_reward is None:
        raise UsageError(
            f"{name} has no rewards; name their column with `--columns rewards=NAME`, or give each step the same one "
            "with `--step-reward -1`"
        )
    rows["rewards"] = np.full(len(rows["actions"]), reading.step_reward, np.float32)


def episodes_of_rows(name: str, rows: Arrays, ends: Array, masks: Array) -> Iterator[Episode]:
    """Yield the episodes of trajectories whose last observations are missing.

    Where a trajectory terminates nothing is bootstrapped from what follows, so its last observation is repeated. Where
    it was cut off its last action and reward are dropped, and the observation before them is the last one.

    :param rows: ``observations``, ``actions`` and ``rewards``, (n, ...).
    :param ends: where a trajectory ends, (n,).
    :param masks: 0 where the task terminates, (n,).
    """
    for key in ("observations", "rewards"):
        require_rows(name, key, rows[key], len(rows["actions"]))
    ends = np.append(ends[:-1], True)
    log.info(
        "%s has no observation after the last action: repeated in %d trajectories, which terminate; in the others, "
        "which were cut off, the last transition is dropped",
        *(name, int((ends & (masks == 0)).sum())),
    )
    for begin, end in itertools.pairwise([0, *(np.flatnonzero(ends) + 1)]):
        observations = rows["observations"][begin:end]
        if masks[end - 1] == 0:
            observations = np.append(observations, observations[-1:], axis=0)
        steps = slice(begin, begin + len(observations) - 1)
        if steps.start < steps.stop:
            yield Episode(name, observations, rows["actions"][steps], rows["rewards"][steps], masks[steps])
