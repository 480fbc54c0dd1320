"""Try an environment before work: whether it follows Gymnasium's API, and whether its episodes are independent."""

import contextlib
import copy
import math
import time
import warnings
from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
from gymnasium.utils.env_checker import check_env

from agents.common.streams import Purpose, seed_for
from zoo.envs.border import ReturnError, unpack_reset, unpack_step
from zoo.envs.make import RepeatableEnv, global_numpy_seed, is_ogbench, name_of
from zoo.terminal.errors import EnvironmentApiFault, UsageError
from zoo.terminal.messages import log

MAX_STEPS = 1000
MAX_EPISODES = 10
SECONDS = 0.3
"""Time limit of playing one episode, and of all other episodes together."""
# Gymnasium's check resets nine times; of slower environments it would delay the start
SECONDS_PER_RESET = 0.03
TOLERANCE = 1e-4  # a simulator may leave traces as small as that

Transition = dict[str, np.ndarray]
"""What a reset or a step returned, by name."""


def probe(env: RepeatableEnv, make: Callable[[], RepeatableEnv]) -> None:
    """Refuse an environment that breaks Gymnasium's API or whose state outlives a reset, within about a second.

    OGBench's own environments are skipped: they are tested here (`tests/zoo/envs`), and slow to reset.

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
        require_independent_episodes(env, make)
    except UsageError:
        raise
    except EnvironmentApiFault as error:
        raise UsageError(str(error)) from error
    except Exception:  # random actions may do what no policy does; a fault that matters comes again in the work itself
        require_api(env)
    else:
        warn_of_departures(env)


def require_api(env: RepeatableEnv) -> None:
    """Explain an exception of Gymnasium's wrappers: they fail on returns of another form without saying whose it is.

    :raises UsageError: if the environment below the wrappers returns another form than Gymnasium's API asks for.
    """
    bare = env.unwrapped
    try:
        with global_numpy_seed(0):
            unpack_reset(bare.reset(seed=0))
            bare.action_space.seed(0)
            unpack_step(bare.step(bare.action_space.sample()))
    except ReturnError as error:
        fault = f"{error} from `{name_of(env)}`; correct the environment, or {error.remedy}"
        raise UsageError(fault) from error
    except Exception:  # what the environment raises by itself is no matter of form
        return


def warn_of_departures(env: RepeatableEnv) -> None:
    """Warn of the first departure from Gymnasium's API that its own check finds, where that takes no time."""
    begin = time.monotonic()
    env.reset(seed=0)
    if time.monotonic() - begin > SECONDS_PER_RESET:
        return
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # advice on style, such as symmetric action spaces
            # without the other infos, which may count episodes or seconds
            check_env(
                RepeatableEnv(env.env, keep_info=False),
                skip_render_check=True,
                skip_close_check=True,
            )
    except (AssertionError, gymnasium.error.Error) as error:
        log.warning("`%s` departs from Gymnasium's API: %s", name_of(env), error)
    except Exception:  # the environment's own fault with a random action, which no policy may take
        return


def require_independent_episodes(env: RepeatableEnv, make: Callable[[], RepeatableEnv]) -> None:
    """Refuse an environment whose state outlives a reset: an episode would depend on the episodes before it.

    Plays the same seed and actions before and after other episodes, for about a second at most. Where the two plays
    differ, a new environment decides: if it repeats the first play, state outlives a reset; if it does not, the
    environment is not repeatable at all, and a warning says so.

    :param env: a new environment.
    :param make: makes another one.
    :raises UsageError: if state outlives a reset.
    """
    first = _play(env, 0, seconds=SECONDS)
    end = time.monotonic() + SECONDS
    for episode in range(1, MAX_EPISODES + 1):
        if episode == 1 or time.monotonic() < end:
            _play(env, episode, len(first))
    difference = _difference(first, _play(env, 0, len(first)))
    if difference is None:
        return
    with contextlib.closing(make()) as new_env:
        is_repeatable = _difference(first, _play(new_env, 0, len(first))) is None
    name = name_of(env)
    if is_repeatable:
        raise UsageError(
            f"an episode of `{name}` must not depend on those before it, got {difference} after the same reset seed "
            "and actions; begin every episode in the same way: scale observations by the data (`observation_scale`), "
            "and make the stage of a curriculum an argument (--env-kwargs)"
        )
    log.warning(
        "`%s` is not repeatable: the same reset seed and actions lead to %s in a new one too",
        name,
        difference,
    )


def _play(
    env: RepeatableEnv, episode: int, max_rows: int = MAX_STEPS, seconds: float = math.inf
) -> list[Transition]:
    """Play the beginning of an episode, whose seed and actions depend on its number alone.

    :param max_rows: rows to play, the reset included.
    """
    # a copy: users draw from the environment's own space
    space = copy.deepcopy(env.action_space)
    space.seed(seed_for(Purpose.CHECKS, 0))
    observation, _ = env.reset(seed=seed_for(Purpose.CHECKS, 1, episode))
    rows = [_row(observation)]
    end = time.monotonic() + seconds
    is_over = False
    while not is_over and len(rows) < max_rows and time.monotonic() <= end:
        observation, reward, terminated, truncated, info = env.step(space.sample())
        is_over = terminated or truncated
        success = info.get("success") or 0
        ends = {"termination": terminated, "truncation": truncated}
        rows.append(_row(observation, reward=reward, success=success, **ends))
    return rows


def _row(observation: Any, **values: float) -> Transition:
    parts = {"": observation}
    if isinstance(observation, dict):
        parts = observation
    named = {f"observation {key}".strip(): part for key, part in parts.items()} | values
    return {name: np.asarray(value) for name, value in named.items()}


def _difference(first: list[Transition], second: list[Transition]) -> str | None:
    """Return in what two plays differ first, in words, or None."""
    for step, (expected, actual) in enumerate(zip(first, second, strict=False)):
        for name, value in expected.items():
            if not np.allclose(value, actual[name], TOLERANCE, TOLERANCE):
                return f"another {name} at step {step}"
    return None
