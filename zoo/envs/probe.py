"""Try an environment before work: whether it follows Gymnasium's API, and whether its episodes are independent."""

import contextlib
import copy
import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from agents.common.streams import Purpose, seed_for
from zoo.envs.checks import OLD_API
from zoo.envs.make import is_ogbench
from zoo.envs.repeatable import RepeatableEnv, name_of
from zoo.terminal.errors import EnvironmentApiFault, UsageError
from zoo.terminal.messages import log

MAX_STEPS = 1000
MAX_EPISODES = 10
SECONDS = 0.3
"""Time limit of playing one episode, and of all other episodes together."""
TOLERANCE = 1e-4  # a simulator may leave traces as small as that


def probe(env: RepeatableEnv, make: Callable[[], RepeatableEnv]) -> None:
    """Refuse an environment that violates Gymnasium's API or whose state outlives a reset, within about a second.

    OGBench's own environments are skipped: the tests of this package cover them, and they are slow to reset.

    :param env: a new environment; it is left in the middle of an episode.
    :param make: makes another one.
    :raises UsageError: if it does.
    """
    spec = env.spec
    if spec is not None and is_ogbench(spec):
        wrappers = [wrapper.entry_point for wrapper in spec.additional_wrappers]
        if all(name.startswith(("agents.", "zoo.")) for name in wrappers):
            return
    try:
        _require_independent_episodes(env, make)
    except UsageError:
        raise
    except EnvironmentApiFault as error:
        raise UsageError(str(error)) from error
    except Exception as error:
        # a wrapper of Gymnasium's below the checks, which does not say whose fault it is
        if isinstance(error, ValueError) and "values to unpack" in str(error):
            raise UsageError(
                f"`step` of `{name_of(env)}` must return (observation, reward, terminated, truncated, info), got "
                f"{error}; correct the environment, or {OLD_API}"
            ) from error
        # Random actions may do what no policy does; a fault that matters comes again in the work itself.


def _require_independent_episodes(env: RepeatableEnv, make: Callable[[], RepeatableEnv]) -> None:
    """Refuse an environment in which an episode depends on the episodes before it.

    Plays the same seed and actions before and after other episodes. Where the two plays differ, a new environment
    decides: if it repeats the first play, state outlives a reset; if it does not, the environment is not
    deterministic, and a warning says so.
    """
    # How much is played follows from the time it takes: simulators differ a thousandfold in speed.
    first = _play(env, 0, seconds=SECONDS)
    end = time.monotonic() + SECONDS
    for episode in range(1, MAX_EPISODES + 1):
        if episode == 1 or time.monotonic() < end:
            _play(env, episode, len(first))
    changed = _first_difference(first, _play(env, 0, len(first)))
    if changed is None:
        return
    with contextlib.closing(make()) as new_env:
        is_repeatable = _first_difference(first, _play(new_env, 0, len(first))) is None
    name = name_of(env)
    if is_repeatable:
        raise UsageError(
            f"an episode of `{name}` must not depend on those before it, got another step {changed} after the same "
            "reset seed and actions; begin every episode in the same way: scale observations by the data "
            "(`observation_scale`), and make the stage of a curriculum an argument (--env-kwargs)"
        )
    log.warning(
        "`%s` is not deterministic: a fresh instance with the same seed and actions differs at step %d",
        name,
        changed,
    )


def _play(
    env: RepeatableEnv, episode: int, max_rows: int = MAX_STEPS, seconds: float = math.inf
) -> list[np.ndarray]:
    """Play the beginning of an episode, whose seed and actions depend on its number alone.

    :param max_rows: rows to play, the reset included.
    :return: the numbers that the reset and each step returned, one array each.
    """
    # a copy: users draw from the environment's own space
    space = copy.deepcopy(env.action_space)
    space.seed(seed_for(Purpose.CHECKS, 0))
    observation, _ = env.reset(seed=seed_for(Purpose.CHECKS, 1, episode))
    rows = [_numbers(observation)]
    end = time.monotonic() + seconds
    is_over = False
    while not is_over and len(rows) < max_rows and time.monotonic() <= end:
        observation, reward, terminated, truncated, info = env.step(space.sample())
        is_over = terminated or truncated
        success = info.get("success") or 0
        rows.append(_numbers(observation, reward, terminated, truncated, success))
    return rows


def _numbers(observation: Any, *values: float) -> np.ndarray:
    parts = observation.values() if isinstance(observation, dict) else [observation]
    return np.concatenate([np.ravel(part) for part in (*parts, *values)])


def _first_difference(first: list[np.ndarray], second: list[np.ndarray]) -> int | None:
    """Return the first step in which two plays differ, or None."""
    for step, (expected, actual) in enumerate(zip(first, second, strict=False)):
        if not np.allclose(expected, actual, TOLERANCE, TOLERANCE):
            return step
    return None
