"""Find environments whose state outlives a reset: what an episode is like depends on the episodes before it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np

from agents.common.streams import Purpose, seed_for, stream
from zoo.envs.make import RepeatableEnv, is_of_benchmark
from zoo.errors import UsageError
from zoo.terminal.messages import log

MOST_STEPS, MOST_EPISODES, SECONDS = 1000, 10, 0.3
ROUNDING = 1e-4  # a simulator may leave traces as small as that
WHAT_TO_DO = (
    "begin every episode in the same way: scale observations by the data (`observation_scale`), give a wrapper fixed "
    "statistics (`update_running_mean = False`), and make the stage of a curriculum an argument (--env-kwargs)"
)

Row = dict[str, np.ndarray]
"""What a reset or a step returned, by name."""


def require_new_episodes(env: RepeatableEnv, make: Callable[[], RepeatableEnv]) -> None:
    """Refuse an environment whose state outlives a reset; see :func:`find_lasting_state`.

    :raises UsageError: if it does.
    """
    if found := find_lasting_state(env, make):
        raise UsageError(found)


def find_lasting_state(env: RepeatableEnv, make: Callable[[], RepeatableEnv]) -> str | None:
    """Return how an environment's episodes depend on those before, and what to do; None if nothing shows that they do.

    Plays the same seed and actions before and after other episodes, for about a second at most. Where the two plays
    differ, a new environment decides: if it repeats the first play, state outlives a reset; if it does not, the
    environment is not repeatable at all, and a warning says so. The benchmarks' own environments are skipped.

    :param env: a new environment; it is left in the middle of an episode.
    :param make: makes another one.
    :return: the message of a refusal, or None.
    """
    if env.spec is not None and is_of_benchmark(env.spec):
        return None
    name = env.spec.id if env.spec else str(env.unwrapped)
    subject = f"an episode of `{name}` must not depend on those before it"
    if wrapper := find_running_statistics(env):
        return f"{subject}, got the wrapper {wrapper}, whose statistics go on; {WHAT_TO_DO}"
    try:
        first = _play(env, 0)
        end = time.monotonic() + SECONDS
        for episode in range(1, MOST_EPISODES + 1):
            if episode == 1 or time.monotonic() < end:
                _play(env, episode, len(first))
        difference = _difference(first, _play(env, 0, len(first)))
        if difference is None:
            return None
        with contextlib.closing(make()) as other:
            is_repeatable = _difference(first, _play(other, 0, len(first))) is None
    except Exception:  # random actions may do what no policy does; a fault that matters comes again in the work itself
        return None
    if is_repeatable:
        return f"{subject}, got {difference} after the same reset seed and actions; {WHAT_TO_DO}"
    log.warning(
        "`%s` is not repeatable: the same reset seed and actions lead to %s, in a new environment too; the same policy "
        "and seed have another score each time",
        *(name, difference),
    )
    return None


def find_running_statistics(env: gymnasium.Env[Any, Any]) -> str | None:
    """Return the name of a wrapper that gathers statistics for its scale, as Gymnasium's do, unless it is frozen."""
    while isinstance(env, gymnasium.Wrapper):
        if getattr(env, "update_running_mean", False):
            return type(env).__name__
        env = env.env
    return None


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
    """Return the first difference between two plays in words, or None."""
    for step, (one, other) in enumerate(zip(first, again, strict=False)):
        for name, before in one.items():
            after = other[name]
            if not np.allclose(before, after, ROUNDING, ROUNDING):
                where = np.unravel_index(np.argmax(np.abs(np.subtract(before, after, dtype=float))), before.shape)
                return f"the {name} {before[where]:.6g} and then {after[where]:.6g} at step {step}"
    return None
