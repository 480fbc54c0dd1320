"""Environments as a model plays in them."""

from __future__ import annotations

import copy
from typing import Any

import gymnasium
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.noise import ActionNoise
from stable_baselines3.common.vec_env import VecEnv, unwrap_vec_normalize


class CopiedObservations(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Return observations that stay as they are while the environment writes into its own array.

    SB3 keeps the last observation of an episode, without a copy, over the reset that follows.

    :param env: the environment.
    """

    copies_observations = True
    """What a wrapper says that does so already; no other one is put around it."""

    def reset(self, **how: Any) -> tuple[Any, dict[str, Any]]:
        """Begin an episode.

        :param how: seed and options.
        :return: the first observation, and the info.
        """
        observation, info = self.env.reset(**how)
        return copy.deepcopy(observation), info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Take a step.

        :param action: the action.
        :return: observation, reward, whether the episode terminated and whether it was cut off, and the info.
        """
        observation, *rest = self.env.step(action)
        return copy.deepcopy(observation), *rest


def copy_observations(env: VecEnv) -> VecEnv:
    """Let environments of this process return copies, below the `Monitor` that a user may look for.

    :param env: changed in place; environments of other processes stay as they are.
    :return: the same.
    """
    envs = getattr(env.unwrapped, "envs", [])
    for index, one in enumerate(envs):
        if isinstance(one, gymnasium.Env) and not one.has_wrapper_attr("copies_observations"):
            if isinstance(one, Monitor):
                one.env = CopiedObservations(one.env)
            else:
                envs[index] = CopiedObservations(one)
    return env


def require_own_environments(replicas: int, env: VecEnv | None, action_noise: ActionNoise | None) -> None:
    """Check that replicas can train online without sharing anything: each is to learn as it would alone.

    :param replicas: S.
    :param env: the training environments; None in a model that has none.
    :param action_noise: SB3's noise on executed actions.
    :raises ValueError: if the number of environments is no multiple of S, or several replicas would share the running
        statistics of a `VecNormalize` or the stream of `action_noise`.
    """
    if env is not None and env.num_envs % replicas:
        raise ValueError(
            f"{replicas} replicas need a multiple of {replicas} environments online, got {env.num_envs}; "
            f"make the model with as many, e.g. `make_vec_env(..., n_envs={replicas})`"
        )
    if replicas == 1:
        return
    normalizer = unwrap_vec_normalize(env) if env is not None else None
    if normalizer is not None and normalizer.training:
        raise ValueError(
            f"`VecNormalize` takes its statistics from the environments of all {replicas} replicas together, so a "
            "seed would learn otherwise than alone; freeze it (`env.training = False`), or train one seed at a time"
        )
    if action_noise is not None:
        raise ValueError(
            f"{replicas} replicas would draw from one `action_noise`, so a seed would act otherwise than alone; train "
            "one seed at a time"
        )
