"""Refuse environments whose state outlives a reset: what an episode is like depends on the episodes before it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from agents.common.streams import Purpose, seed_for, stream
from zoo.envs.make import RepeatableEnv, is_ocbench, is_ogbench
from zoo.terminal.errors import UsageError
from zoo.terminal.messages import log

MOST_STEPS, MOST_EPISODES, SECONDS = 1000, 10, 0.3
ROUNDING = 1e-4  # a simulator may leave traces as small as that

Row = dict[str, np.ndarray]
"""What a reset or a step returned, by name."""


def require_new_episodes(env: RepeatableEnv, make: Callable[[], RepeatableEnv]) -> None:
    """Refuse an environment whose state outlives a reset.

    Plays the same seed and actions before and after other episodes, for about a second at most. Where the two plays
    differ, a new environment decides: if it repeats the first play, state outlives a reset; if it does not, the
    environment is not repeatable at all, and a warning says so. The benchmarks' own environments are skipped.

    :param env: a new environment; it is left in the middle of an episode.
    :param make: makes another one.
    :raises UsageError: if state outlives a reset.
    """
    spec = env.spec
    if spec is not None and not spec.additional_wrappers and (is_ogbench(spec) or is_ocbench(spec)):
        return
    try:
        first = _play(env, 0)
        end = time.monotonic() + SECONDS
        for episode in range(1, MOST_EPISODES + 1):
            if episode == 1 or time.monotonic() < end:
                _play(env, episode, len(first))
        difference = _difference(first, _play(env, 0, len(first)))
        if difference is None:
            return
        with contextlib.closing(make()) as other:
            is_repeatable = _difference(first, _play(other, 0, len(first))) is None
    except Exception:  # random actions may do what no policy does; a fault that matters comes again in the work itself
        return
    name = spec.id if spec else str(env.unwrapped)
    if is_repeatable:
        raise UsageError(
            f"an episode of `{name}` must not depend on those before it, got {difference} after the same reset seed "
            "and actions; begin every episode in the same way: scale observations by the data (`observation_scale`), "
            "and make the stage of a curriculum an argument (--env-kwargs)"
        )
    log.warning("`%s` is not repeatable: the same reset seed and actions lead to %s in a new one too", name, difference)


def _play(env: RepeatableEnv, episode: int, steps: int | None = None) -> list[Row]:
    """Play the beginning of an episode; what it is like without state from before depends on its number alone.

    :param steps: how many rows there are to be; None: as many as there is time for.
    """
    generator = np.random.default_rng(stream(Purpose.CHECKS, 0, 2))
    space: Any = env.action_space
    low, high = (np.nan_to_num(bound, posinf=1.0, neginf=-1.0) for bound in (space.low, space.high))
    rows = [_row(env.reset(seed=seed_for(Purpose.CHECKS, 1, episode))[0])]
    end, is_over = time.monotonic() + SECONDS, False
    while not is_over and (len(rows) < steps if steps else len(rows) < MOST_STEPS and time.monotonic() < end):
        observation, reward, terminated, truncated, info = env.step(generator.uniform(low, high).astype(low.dtype))
        is_over = terminated or truncated
        success = info.get("success") or 0
        rows.append(_row(observation, reward=reward, termination=terminated, truncation=truncated, success=success))
    return rows


def _row(observation: Any, **rest: float) -> Row:
    parts = observation if isinstance(observation, dict) else {"": observation}
    named = {f"observation {key}".strip(): part for key, part in parts.items()} | rest
    return {name: np.asarray(value) for name, value in named.items()}


def _difference(first: list[Row], again: list[Row]) -> str | None:
    """Return in what two plays differ first, in words, or None."""
    for step, (one, other) in enumerate(zip(first, again, strict=False)):
        for name, before in one.items():
            if not np.allclose(before, other[name], ROUNDING, ROUNDING):
                return f"another {name} at step {step}"
    return None
