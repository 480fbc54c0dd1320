"""Find what is wrong with a set that can be read: scales, shifted actions, last observations, ends of trajectories.

A set is compared with its environment, in which some steps are taken with random actions.
"""

from __future__ import annotations

import contextlib
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np

from agents.common.data.action_range import ActionRange, clipped_message, in_pieces
from zoo.datasets.check import Finding, error_messages
from zoo.datasets.formats.episodes import Array, Arrays
from zoo.datasets.own import shape_findings
from zoo.envs.make import make_env

RANDOM_STEPS, MOST_SECONDS = 1000, 10.0
MOST_ROWS = 50_000  # of a set that are looked at closely
SMALL_ACTIONS = 0.05  # of the box
STEEP = 30.0  # ratio of two ranges that cannot both be right
JUMP = 10.0  # how much farther than with random actions no policy goes in a step, in the median
SHIFTS = {-1: "one step late", 1: "one step early"}
CLEARLY_BETTER = 0.03  # difference of two correlations


@dataclass(frozen=True)
class Steps:
    """Transitions: ``before``, ``actions`` and ``after``, (n, ...); ``follows``: whether the next row goes on, (n,)."""

    before: Array
    actions: Array
    after: Array
    follows: Array


def check_set(arrays: Arrays, env_id: str, env_kwargs: dict[str, Any]) -> list[Finding]:
    """Return what is wrong, or looks wrong, with a set in the compact layout for an environment."""
    with contextlib.closing(make_env(env_id, **env_kwargs)) as env:
        spaces = env.observation_space, env.action_space
        if misfits := shape_findings(arrays, env_id, spaces):
            return misfits
        limit = None if env.spec is None else env.spec.max_episode_steps
        findings = list(_check_actions(arrays, spaces[1]))
        if arrays["observations"].ndim == 2:  # what is looked for in observations are scales of numbers
            steps, random = _steps_of(arrays), _random_steps(env)
            scales = list(_check_scales(steps, random, spaces[0]))
            findings += scales
            if not scales and not error_messages(findings):
                findings += [*_check_order(steps, random), *_check_shift(steps, random)]
    return [*findings, *_check_last(arrays), *_check_ends(arrays, limit)]


def _steps_of(arrays: Arrays) -> Steps:
    """Return the first transitions of a set."""
    rows = np.flatnonzero(arrays["valids"][:MOST_ROWS] > 0)
    rows = rows[rows + 1 < len(arrays["valids"])]
    observations = arrays["observations"]
    follows = arrays["valids"][rows + 1] > 0
    return Steps(observations[rows], arrays["actions"][rows], observations[rows + 1], follows)


def _random_steps(env: gymnasium.Env[Any, Any]) -> Steps:
    """Take steps with random actions."""
    space = env.action_space
    assert isinstance(space, gymnasium.spaces.Box)
    generator, rows = np.random.default_rng(0), list[Any]()
    low, high = (np.nan_to_num(bound, posinf=1.0, neginf=-1.0) for bound in (space.low, space.high))
    observation, _ = env.reset(seed=0)
    begin = time.monotonic()
    while len(rows) < RANDOM_STEPS and time.monotonic() - begin < MOST_SECONDS:
        action = generator.uniform(low, high).astype(space.dtype)
        after, _, terminated, truncated, _ = env.step(action)
        is_over = terminated or truncated
        rows.append((observation, action, after, not is_over))
        observation = env.reset(seed=len(rows))[0] if is_over else after
    return Steps(*(np.asarray(column) for column in zip(*rows, strict=True)))


# -- scales -----------------------------------------------------------------------------------------------------------


def _check_actions(arrays: Arrays, space: gymnasium.Space[Any]) -> Iterator[Finding]:
    """Find actions outside of the environment's, and such as hardly move it."""
    assert isinstance(space, gymnasium.spaces.Box)
    actions = arrays["actions"][arrays["valids"] > 0]
    if not (np.isfinite(space.low).all() and np.isfinite(space.high).all()):
        text = "`actions` must have limits, got an environment without; say what stands for them with `--action-range`"
        yield Finding("error", "actions", text)
        return
    outside = ActionRange.of(space).find_outside(in_pieces(actions))
    if outside is not None and outside.refused:
        low, high = actions.min(), actions.max()
        way = f"if they are in other units, add `--action-range {low:.4g},{high:.4g}`, or what their limits are"
        yield Finding("error", "actions", f"`actions` {outside.describe_refused()}; {way}")
    elif outside is not None:
        yield Finding("warning", "actions", clipped_message(outside.clipped, outside.rows, outside.excess))
    middle, half = (space.high + space.low) / 2, (space.high - space.low) / 2
    used = float(np.quantile(np.abs((actions - middle) / half), 0.99))
    if used < SMALL_ACTIONS:
        text = f"`actions` use {used:.1%} of the environment's range in 99 of 100 values; are they in other units?"
        yield Finding("warning", "actions", f"{text} `--action-range LOW,HIGH` says in which")


def _check_scales(steps: Steps, random: Steps, space: gymnasium.Space[Any]) -> Iterator[Finding]:
    """Find observations that were normalised, or are in other units."""
    assert isinstance(space, gymnasium.spaces.Box)
    way = "give the observations as the environment returns them; `observation_scale` normalises while training"
    varied = steps.before.std(0, np.float64) > 0
    observed, known = steps.before[:, varied], random.before[:, varied]
    if len(observed) > 100 and varied.any() and _is_normalised(observed) and not _is_normalised(known):
        text = "`observations` have mean 0 and standard deviation 1 in every coordinate, unlike in the environment"
        yield Finding("error", "observations", f"{text}: they were normalised; {way}")
        return
    wrong = _other_units(steps, random, space)
    if len(wrong):
        k = int(wrong[0])
        (a, b), (c, d) = ((part[:, k].min(), part[:, k].max()) for part in (steps.before, random.before))
        more = f" (and {len(wrong) - 1} others)" if len(wrong) > 1 else ""
        text = (
            f"`observations` reach from {a:.4g} to {b:.4g} in coordinate {k}{more}, and from {c:.4g} to {d:.4g} in the "
            f"environment: they seem to be in other units; {way}"
        )
        yield Finding("warning", "observations", text)


def _other_units(steps: Steps, random: Steps, space: gymnasium.spaces.Box) -> Array:
    """Return the coordinates that leave the environment's limits, or those of another scale if they are most of all.

    A single one of another scale may be something that random actions never move.
    """
    low, high = space.low.astype(np.float64), space.high.astype(np.float64)
    excess = np.maximum(low - steps.before.min(0), steps.before.max(0) - high)
    beyond = excess > 0.01 * np.maximum(high - low, 1)
    if beyond.any():
        return np.flatnonzero(beyond)
    (spread, reach), (spread_there, reach_there) = (
        (part.before.std(0, np.float64), np.abs(part.before).max(0)) for part in (steps, random)
    )
    both = (spread > 0) & (spread_there > 1e-6)
    larger = (spread > STEEP * spread_there) & (reach > STEEP * reach_there)
    smaller = (STEEP * spread < spread_there) & (STEEP * reach < reach_there)
    far = both & (larger | smaller)
    return np.flatnonzero(far) if 2 * far.sum() >= both.sum() else np.empty(0, int)


def _is_normalised(observations: Array) -> bool:
    mean, spread = observations.mean(0, np.float64), observations.std(0, np.float64)
    return bool((np.abs(mean) < 0.1).all() and (np.abs(spread - 1) < 0.1).all())


# -- order ------------------------------------------------------------------------------------------------------------


def _check_order(steps: Steps, random: Steps) -> Iterator[Finding]:
    """Find rows that do not follow one another although they are said to."""
    unit = (random.after - random.before).std(0)
    # an object that random actions hardly touch shows nothing: it moves farther with any policy that does
    moved = unit > 1e-3 * np.maximum(steps.before.std(0), random.before.std(0))
    if not moved.any():
        return
    size, size_there = (_median_step(part, moved, unit) for part in (steps, random))
    if size > JUMP * size_there > 0:
        text = (
            f"`observations` change {size / size_there:.0f} times as much in a step as in the environment: "
            "trajectories are mixed, or rows were shuffled or left out; give each trajectory's rows together, in order"
        )
        yield Finding("warning", "observations", text)


def _median_step(steps: Steps, moved: Array, unit: Array) -> float:
    return float(np.median(np.abs((steps.after - steps.before)[:, moved] / unit[moved]).mean(1)))


def _check_shift(steps: Steps, random: Steps) -> Iterator[Finding]:
    """Find actions that belong to another row: what they do in the environment is seen a step before or after them."""
    scores = _shift_scores(steps, random)
    best = max(scores, key=lambda shift: scores[shift])
    if best != 0 and scores[best] > scores[0] + CLEARLY_BETTER:
        text = (
            f"`actions` seem to be stored {SHIFTS[best]}: what they do in the environment correlates with the "
            f"observations' changes by {scores[best]:.2f} there, and by {scores[0]:.2f} in their own rows; row i must "
            "hold the action taken after observation i"
        )
        yield Finding("warning", "actions", text)


def _shift_scores(steps: Steps, random: Steps) -> dict[int, float]:
    """Return how well actions explain what happens in the row before (1), their own (0), and the row after (-1).

    A linear model of the environment's steps tells what random actions do; no policy that chose them by the state can
    deceive it. What it expects of a set's actions is correlated with what happened in the set.
    """
    size = random.before.shape[1]
    mean, spread = random.before.mean(0), random.before.std(0) + 1e-6
    unit = (random.after - random.before).std(0) + 1e-9
    inputs = np.c_[(random.before - mean) / spread, random.actions, np.ones(len(random.before))]
    ridge = 1e-5 * len(inputs) * np.eye(inputs.shape[1])
    weights = np.linalg.solve(inputs.T @ inputs + ridge, inputs.T @ ((random.after - random.before) / unit))
    state = np.c_[(steps.before - mean) / spread, np.ones(len(steps.before))] @ weights[[*range(size), -1]]
    surprise = np.clip((steps.after - steps.before) / unit - state, -20, 20)
    effect = steps.actions @ weights[size:-1]
    inside = np.flatnonzero(steps.follows[:-2] & steps.follows[1:-1]) + 1
    if len(inside) < 10:
        return dict.fromkeys((-1, 0, 1), 0.0)
    # a late action stands a row after the step that it caused, where the search is with +1
    return {-shift: _correlation(surprise[inside], effect[inside + shift]) for shift in (-1, 0, 1)}


def _correlation(a: Array, b: Array) -> float:
    a, b = a - a.mean(0), b - b.mean(0)
    return float((a * b).sum() / (np.sqrt((a**2).sum() * (b**2).sum()) + 1e-12))


# -- ends -------------------------------------------------------------------------------------------------------------


def _check_last(arrays: Arrays) -> Iterator[Finding]:
    """Find last observations that are missing: the one before repeated, or the next trajectory's first instead."""
    observations = arrays["observations"]
    if observations.ndim > 2:  # sums tell images apart, and take no memory
        observations = np.array([[zlib.crc32(image.tobytes())] for image in observations])
    last = np.flatnonzero(arrays["valids"] == 0)
    cut = last[arrays["masks"][last - 1] > 0]  # what follows a termination is never used
    moves = (observations[1:] != observations[:-1]).any(1)
    if len(cut) and not moves[cut - 1].any() and moves.mean() > 0.5:
        text = f"the last observation equals the one before in all {len(cut):,} trajectories that were cut off"
        yield Finding("warning", "observations", f"{text}: it seems to be missing; leave out their last transition")
    inner = last[:-1]
    again = (observations[inner] == observations[inner + 1]).all(1)
    begins = np.append(0, inner + 1)
    differ = len(np.unique(observations[begins], axis=0)) > 1
    if again.sum() >= max(2, 0.1 * len(inner)) and differ:
        text = (
            f"after {int(again.sum()):,} of {len(last):,} trajectories the last observation is the first one of the "
            "next: either they do not end there, and `terminals` mark something else, e.g. successes, or the last "
            "observations are missing, and the next rows took their place; correct `terminals`, or leave out those "
            "last transitions"
        )
        yield Finding("warning", "terminals", text)


def _check_ends(arrays: Arrays, limit: int | None) -> Iterator[Finding]:
    """Find time limits that are marked as terminations, and terminations that are not marked."""
    last = np.flatnonzero(arrays["valids"] == 0)
    lengths = np.diff(last, prepend=-1) - 1
    terminated = arrays["masks"][last - 1] == 0
    if limit is not None and (terminated & (lengths == limit)).sum() > 0.5 * len(last):
        text = (
            f"`masks` are 0 where {int((terminated & (lengths == limit)).sum()):,} of {len(last):,} trajectories end "
            f"after {limit} steps, the environment's time limit: there they were cut off, and what follows has a "
            "value; mark them by `timeouts`, or as truncated"
        )
        yield Finding("warning", "masks", text)
    short = limit is not None and (lengths < limit).mean() > 0.5
    if short and not terminated.any() and (arrays["masks"] > 0).all() and len(np.unique(lengths)) > 1:
        text = (
            f"no trajectory terminates, and {int((lengths < (limit or 0)).sum()):,} of {len(last):,} end before the "
            f"environment's limit of {limit} steps: if the task ended them, mark that (`masks` 0, `terminated` 1)"
        )
        yield Finding("warning", "masks", text)
