"""Collect episodes in any environment with a policy: a saved model, a function of the user, or random actions."""

import contextlib
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium import Env
from gymnasium.spaces import Dict

import agents
from agents.common.actions import played_actions
from agents.common.data.arrays import Array, Transitions
from agents.common.frames import FrameStack, frame_space, frames_of
from agents.common.model_file import read_model_file
from agents.common.streams import Purpose, seed_for, stream
from zoo.algorithms.baselines import find_named_by_file
from zoo.algorithms.packages import import_user_object
from zoo.datasets.files import progress_bar
from zoo.datasets.formats.base import Arrays, episode_of, joined
from zoo.envs.border import check_same_spaces
from zoo.envs.make import RepeatableEnv, make_env, name_of
from zoo.envs.probe import probe
from zoo.terminal.errors import UsageError, as_usage_error

Policy = Callable[[Array, bool], Any]
"""Gives the action for an observation, (O,); told whether an episode begins."""


def collect(
    policy: str,
    env_id: str,
    env_kwargs: dict[str, Any],
    *,
    episodes: int,
    seed: int = 0,
    noise: float = 0.0,
    max_steps: int | None = None,
    trust: bool = False,
) -> Transitions:
    """Play episodes and return them as a dataset.

    :param policy: ``random``, a model's ``.zip`` or the folder of its run, or ``module:function``, which is given an
        observation and returns an action.
    :param seed: decides the starts, which no evaluation has, the noise and a model's own noise.
    :param noise: standard deviation of noise on the actions, in halves of their range.
    :param max_steps: cut an episode off after so many steps, besides the environment's own limit.
    :param trust: whether a model's file may name a module to import, and run code.
    """
    with contextlib.closing(make_env(env_id, **env_kwargs)) as env:
        if isinstance(env.observation_space, Dict):
            raise UsageError(
                f"`{env_id}` has Dict observations, which a file cannot hold; collect in Python (docs/pixels.md)"
            )
        if max_steps is None and (env.spec is None or env.spec.max_episode_steps is None):
            raise UsageError(
                f"`{env_id}` has no time limit, so an episode may never end; add --max-episode-steps"
            )
        probe(env, lambda: make_env(env_id, **env_kwargs))
        act, frames = make_policy(policy, env, seed, trust)
        playing = FrameStack(env, frames) if frames > 1 else env
        played = {}
        numbers = range(episodes)
        for number in progress_bar(f"collecting in {env_id}", iterable=numbers, unit=" episodes"):
            played[f"episode {number}"] = _play(number, playing, act, seed, noise, max_steps)
    return joined(env_id, played)


def make_policy(word: str, env: Env[Any, Any], seed: int, trust: bool) -> tuple[Policy, int]:
    """Return the policy that a word names, and the number of frames that it sees."""
    space: Any = env.action_space
    if word == "random":
        generator: Any = np.random.default_rng(stream(Purpose.COLLECTED_ACTIONS, seed))
        draw = functools.partial(generator.uniform, space.low, space.high)
        return lambda observation, begins: draw(), 1
    if ":" not in word or Path(word).exists():
        return _model(word, env, seed, trust)
    function = import_user_object("POLICY", "a function, as module:function,", word)
    if not callable(function):
        kind = type(function).__name__
        raise UsageError(f"`{word}` must be a function of an observation, got {kind}")

    def act(observation: Array, begins: bool) -> Any:
        try:
            return function(observation)
        except Exception as error:
            problem = f"{type(error).__name__}: {error}"
            raise UsageError(
                f"`{word}` must return an action for an observation, got {problem}"
            ) from error

    return act, 1


def _model(word: str, env: Env[Any, Any], seed: int, trust: bool) -> tuple[Policy, int]:
    """Return the policy of a saved model, which draws its noise as in an evaluation."""
    with as_usage_error(OSError, KeyError, TypeError, ValueError):
        saved = read_model_file(word)
        if saved.algorithm_id is None:
            agents.load(saved.name)  # refuses it, and says how to load it
        entry = find_named_by_file(str(saved.algorithm_id), saved.name, trust=trust)
        model: Any = entry.algorithm.load(saved, device="cpu", trust=trust)
    frames = frames_of(model)
    trained = frame_space(model.observation_space, frames), model.action_space
    check_same_spaces(word, trained, name_of(env), (env.observation_space, env.action_space))
    model.set_random_seed(seed_for(Purpose.COLLECTED_ACTIONS, seed))
    normalization = model.normalization
    # the rest of a chunk of actions, which the policy drops where an episode begins
    state: Any = None

    def act(observation: Array, begins: bool) -> Array:
        nonlocal state
        if normalization is not None:
            observation = normalization.observations(observation)
        action, state = model.predict(observation, state, np.array([begins]), deterministic=False)
        return action

    return act, frames


def _play(
    number: int,
    env: RepeatableEnv | FrameStack,
    act: Policy,
    seed: int,
    noise: float,
    max_steps: int | None,
) -> Arrays:
    """Play one episode.

    :param number: of the episode.
    :param seed: of all episodes.
    :param max_steps: cut it off after so many steps; None: where the environment does.
    """
    name = f"episode {number}"
    space: Any = env.action_space
    low, high = space.low, space.high
    # A stream for each episode, so that its noise does not depend on the length of those before it.
    generator = np.random.default_rng(stream(Purpose.COLLECTED_NOISE, seed, number))
    observation, _ = env.reset(seed=seed_for(Purpose.COLLECTED_START, seed, number))
    observations = [observation]
    actions: list[Array] = []
    rewards: list[float] = []
    is_over = False
    while not is_over:
        action = np.asarray(act(observation, not actions), np.float64)
        if action.shape != space.shape or not np.isfinite(action).all():
            raise UsageError(
                f"the policy must return a finite action of shape {space.shape}, got {action.tolist()} in {name}, step "
                f"{len(actions)}; correct it"
            )
        if noise:
            action = action + noise * generator.standard_normal(space.shape) * (high - low) / 2
        # In single precision, as a dataset stores it: what is stored is what was played.
        played = played_actions(np.clip(action, space.low, space.high).astype(np.float32), space)
        observation, reward, terminated, truncated, _ = env.step(played)
        observations.append(observation)
        actions.append(played.astype(np.float32))
        rewards.append(reward)
        is_over = terminated or truncated or len(actions) == max_steps
    masks = np.ones(len(actions), np.float32)
    masks[-1] = 1.0 - terminated
    frames = np.array(observations)
    if isinstance(env, FrameStack):  # a dataset holds single frames, which training stacks again
        frames = env.newest(frames)
    return episode_of(name, frames, np.array(actions), np.array(rewards), masks)
