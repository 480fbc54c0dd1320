"""Statistics of Stable-Baselines3's `VecNormalize`, stored with a model, and action noise by name.

A model trained in a normalised environment saves the statistics as plain values. ``load(path, env)`` normalises the
environment with them, and a policy saved with ``save_policy`` applies them itself:

    env = normalized_env(vec_env, {"norm_reward": False}, gamma=model_settings["gamma"])
    model = agents.FQL("MlpPolicy", env, action_noise=named_action_noise("normal", 0.1, env.action_space))
    with raw_observations(model) as policy:  # evaluation in environments without normalisation
        policy.sample_chunks(observations, noise)
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import Any, Self

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3.common.noise import (
    ActionNoise,
    NormalActionNoise,
    OrnsteinUhlenbeckActionNoise,
)
from stable_baselines3.common.running_mean_std import RunningMeanStd
from stable_baselines3.common.vec_env import VecEnv, VecNormalize, unwrap_vec_normalize
from torch import Tensor

from agents.common.observations import ObservationLayout
from agents.common.validation import boolean, suggestion

NOISES: dict[str, type[NormalActionNoise | OrnsteinUhlenbeckActionNoise]] = {
    "normal": NormalActionNoise,
    "ornstein-uhlenbeck": OrnsteinUhlenbeckActionNoise,
}
"""RL Zoo's names for SB3's action noise."""


@dataclass(frozen=True)
class Normalization:
    """Statistics and options of `VecNormalize`, under the same attribute names.

    >>> model = agents.FQL("MlpPolicy", "Pendulum-v1", net_arch=[32])
    >>> vec_env = VecNormalize(model.get_env())
    >>> Normalization.of(vec_env).observations(np.zeros(3)).dtype
    dtype('float32')
    """

    obs_rms: RunningMeanStd | dict[str, RunningMeanStd] | None
    ret_rms: RunningMeanStd
    norm_obs: bool
    norm_reward: bool
    clip_obs: float
    clip_reward: float
    gamma: float
    epsilon: float
    norm_obs_keys: list[str] | None
    training: bool

    @classmethod
    def of(cls, env: VecNormalize) -> Self:
        """Return a copy of the current statistics and options of an environment."""
        values = {name: getattr(env, name) for name in (*OPTIONS, "ret_rms")}
        values["obs_rms"] = env.obs_rms if env.norm_obs else None
        # copied, since the environment continues to update its statistics
        return cls(**copy.deepcopy(values))

    def copy_to(self, env: VecNormalize) -> None:
        """Copy the statistics to an environment; the environment's options are unchanged."""
        if self.norm_obs and env.norm_obs:
            env.obs_rms = copy.deepcopy(self.obs_rms)  # type: ignore[arg-type]  # SB3 declares a dict
        env.ret_rms = copy.deepcopy(self.ret_rms)

    def observations(self, observations: Any) -> Any:
        """Normalise observations, an array or a dict of arrays, as `VecNormalize` does."""
        if isinstance(observations, dict):
            return {key: self._normalized(key, values) for key, values in observations.items()}
        return self._normalized("", observations)

    def _normalized(self, key: str, values: NDArray[Any]) -> NDArray[Any]:
        """Normalise one part of an observation; the key is empty outside Dict spaces."""
        scale = self._scale_of(key)
        if scale is None:
            return values  # not converted to float32
        mean, std, clip = scale
        return np.clip((values - mean) / std, -clip, clip).astype(np.float32)

    def _scale_of(self, key: str) -> tuple[Any, Any, float] | None:
        """Return mean, standard deviation and clipping bound of one part; None if it is not normalised."""
        statistics = self.obs_rms.get(key) if isinstance(self.obs_rms, dict) else self.obs_rms
        if statistics is None:
            return None
        return statistics.mean, np.sqrt(statistics.var + self.epsilon), self.clip_obs

    def columns(self, layout: ObservationLayout) -> Tensor:
        """Return mean, standard deviation and clipping bound of each column of a row, float64 (3, O)."""
        columns = []
        for part in layout.parts:
            size = math.prod(part.shape)
            scale = self._scale_of(part.key) or (0.0, 1.0, np.inf)
            columns.append([np.broadcast_to(np.ravel(value), size) for value in scale])
        return torch.from_numpy(np.concatenate(columns, -1))


OPTIONS = [field.name for field in fields(Normalization) if not field.name.endswith("_rms")]
"""Arguments of `VecNormalize` except the environment."""


def normalized_env(env: VecEnv, normalize: bool | Mapping[str, Any], gamma: float) -> VecEnv:
    """Normalise an environment according to RL Zoo's setting `normalize`.

    :param env: vectorised environment.
    :param normalize: False, True for observations and rewards, or options of `VecNormalize`.
    :param gamma: discount of the algorithm, for the return statistics; an option `gamma` overrides it.
    :return: the environment, inside a `VecNormalize` unless `normalize` is False.
    :raises ValueError: if images or discrete values would be normalised.
    """
    if normalize is False:
        return env
    options = {} if normalize is True else normalize
    layout = ObservationLayout(env.observation_space)
    parts = {part.key or "observation": part for part in layout.parts}
    # an encoder does not accept an image of normalised numbers
    vectors = {name for name, part in parts.items() if part.count is None}
    keys = options.get("norm_obs_keys")
    unsuitable = {*(parts if keys is None else keys)} - vectors
    if options.get("norm_obs", True) and unsuitable:
        raise ValueError(
            f"`normalize` needs vectors, got {', '.join(sorted(unsuitable))}; list vectors of a Dict in its option "
            "`norm_obs_keys`, or set its option `norm_obs` to false"
        )
    return VecNormalize(env, **{"gamma": gamma, **options})


def checked_normalize(value: object) -> Any:
    """Validate a value of the setting `normalize`.

    :param value: the value.
    :return: the value.
    :raises TypeError: for another type, or an unknown option; the message names the closest ones.
    """
    if not isinstance(value, Mapping):
        return boolean("normalize", value)
    for option in value:
        if option not in OPTIONS:
            raise TypeError(
                f"unknown option `{option}` of VecNormalize in `normalize`; {suggestion(option, OPTIONS)}"
            )
    return value


def named_action_noise(noise_type: str, noise_std: float, action_space: spaces.Box) -> ActionNoise:
    """Return SB3's action noise, which is added to actions scaled to [-1, 1].

    :param noise_type: ``normal`` or ``ornstein-uhlenbeck``, as in RL Zoo.
    :param noise_std: standard deviation, > 0.
    :param action_space: action space of one environment; a model samples separate noise for each environment.
    :return: noise with mean 0, for the argument `action_noise` of a model.
    """
    shape = action_space.shape
    return NOISES[noise_type](mean=np.zeros(shape), sigma=np.full(shape, noise_std))


def normalized_as_saved(env: VecEnv, values: Mapping[str, Any]) -> VecEnv:
    """Return an environment that normalises with the statistics of a saved model.

    A `VecNormalize` that has already collected statistics keeps them.
    """
    saved = Normalization(**values)
    normalizer = unwrap_vec_normalize(env)
    if normalizer is None:
        normalizer = env = VecNormalize(env, **{name: getattr(saved, name) for name in OPTIONS})
    # the count starts at 1e-4, and every step adds the number of environments
    if normalizer.ret_rms.count >= 1:
        return env
    saved.copy_to(normalizer)
    return env


@contextmanager
def raw_observations(model: Any) -> Iterator[Any]:
    """Yield a model's policy, which accepts raw observations inside the block.

    :param model: a :class:`~agents.common.sb3.stored_model.StoredModel`, with or without `VecNormalize`.
    :yields: its policy.
    """
    policy = model.policy
    previous = getattr(policy, "normalization", None)
    policy.normalization = model.normalization
    try:
        yield policy
    finally:
        policy.normalization = previous
