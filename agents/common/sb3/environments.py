"""Environments as a model plays in them: their spaces, their values, and who shares them; and the device of a model."""

from __future__ import annotations

import copy
from textwrap import shorten
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.noise import ActionNoise
from stable_baselines3.common.utils import get_device
from stable_baselines3.common.vec_env import VecEnv, unwrap_vec_normalize

from agents.common.observations import PARTS


class UnsupportedSpaceError(NotImplementedError, AssertionError):
    """An observation or action space that models are not built for; SB3 raises AssertionError there."""


def require_env(env: object) -> None:
    """Refuse what is no environment.

    :param env: what is given as one.
    :raises TypeError: if it is not; `load` alone does without one.
    """
    if not isinstance(env, gymnasium.Env | VecEnv):
        raise TypeError(
            f"`env` must be a Gymnasium or vectorised environment, got {env!r}; make one with `gymnasium.make`"
        )


def check_spaces(observations: spaces.Space[Any], actions: spaces.Space[Any]) -> None:
    """Refuse spaces that models are not built for, by name.

    :param observations: must be a Box, Discrete, MultiDiscrete or MultiBinary space, or a Dict of such spaces.
    :param actions: must be a bounded Box of floats, each of whose coordinates has a width.
    :raises UnsupportedSpaceError: if they are not.
    """
    parts: list[Any] = [observations]
    if isinstance(observations, spaces.Dict):
        parts = list(observations.spaces.values())
    is_known = all(isinstance(part, PARTS) for part in parts)
    # SB3 makes one-hot only choices that begin at 0, and no tables of them
    unusual = [
        p for p in parts if np.any(getattr(p, "start", 0)) or np.ndim(getattr(p, "nvec", 0)) > 1
    ]
    if unusual or not is_known or not spaces.flatdim(observations):
        raise UnsupportedSpaceError(
            "models support non-empty Box, MultiBinary, Discrete and one-dimensional MultiDiscrete observations (from "
            f"0 on) and Dicts of these, got {observations}; use gymnasium.wrappers.FlattenObservation"
        )
    is_bounded = isinstance(actions, spaces.Box) and actions.is_bounded() and 0 not in actions.shape
    if not isinstance(actions, spaces.Box) or not is_bounded or actions.dtype.kind != "f":
        raise UnsupportedSpaceError(
            f"models support non-empty bounded Box actions of floats, got {actions}; "
            "use an environment with continuous actions between finite bounds"
        )
    # actions are scaled in float32, in which a width of a box of float64 may be 0 or infinite
    low, high = (bound.astype(np.float32) for bound in (actions.low, actions.high))
    with np.errstate(over="ignore"):
        widths = (high - low).ravel()
    unscalable = np.flatnonzero(~((widths > 0) & np.isfinite(widths)))
    if unscalable.size:
        place = unscalable[0]
        raise UnsupportedSpaceError(
            "models scale actions to [-1, 1], so low < high and high - low must hold in float32, got "
            f"[{low.ravel()[place]:g}, {high.ravel()[place]:g}] in coordinate {place} of {actions}; with a "
            "gymnasium.ActionWrapper, leave out a coordinate that never changes, and give real limits to one without"
        )


def available_device(device: torch.device | str) -> torch.device:
    """Return a device, refusing one that is not there.

    :param device: ``"auto"``, ``"cpu"``, ``"cuda"``, ``"cuda:1"``, ...
    :return: the device.
    :raises ValueError: if the name is not a device, or PyTorch cannot compute on it here.
    """
    try:
        chosen = get_device(device) if device == "auto" else torch.device(device)
    except RuntimeError as error:
        raise ValueError(
            f"`device` must be 'auto', 'cpu' or a CUDA device such as 'cuda:1', got {device!r}"
        ) from error
    if chosen.type == "cuda" and (chosen.index or 0) >= torch.cuda.device_count():
        raise ValueError(
            f"`device` is {device!r}, but PyTorch finds {torch.cuda.device_count()} CUDA devices here; use 'cpu' or "
            "'auto'"
        )
    if chosen.type not in ("cpu", "cuda"):
        try:
            # rows of large datasets are drawn in float64
            torch.zeros(1, dtype=torch.float64, device=chosen).cpu()
        except (RuntimeError, NotImplementedError, AssertionError, TypeError) as error:
            # PyTorch lists all its backends after the reason, in some 70 lines
            reason = shorten(str(error), 120, placeholder="...")
            raise ValueError(
                f"`device` is {device!r}, on which PyTorch cannot compute in float64 here: {reason}; use 'cpu', or "
                "'cuda' where there is one"
            ) from error
    return chosen


class DataOnly(gymnasium.Env[Any, Any]):
    """Stands for the environment of a model that is trained on data alone: it has spaces and cannot be stepped.

    :param observation_space: of the data.
    :param action_space: of the data.
    """

    def __init__(self, observation_space: Any, action_space: Any) -> None:
        if observation_space is action_space is None:
            require_env(None)
        self.observation_space = observation_space
        self.action_space = action_space

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Return some observation, which SB3 asks for at the beginning of each phase."""
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> Any:
        """Refuse to play."""
        raise ValueError(
            "the model was made for data alone, and nothing can be played; give it an environment, `model.set_env(env)`"
        )


class CopiedObservations(gymnasium.ObservationWrapper[Any, Any, Any]):
    """Return observations that stay as they are while the environment writes into its own array.

    SB3 keeps the last observation of an episode, without a copy, over the reset that follows.

    :param env: the environment.
    """

    copies_observations = True
    """Attribute of wrappers that copy already; no other one is put around them."""

    def reset(self, **arguments: Any) -> tuple[Any, dict[str, Any]]:
        """Begin an episode; an environment whose ``reset`` takes no options is given none, as by SB3.

        :param arguments: seed and options.
        :return: the first observation, and the info.
        """
        observation, info = self.env.reset(**arguments)
        return self.observation(observation), info

    def observation(self, observation: Any) -> Any:
        """Return a copy.

        :param observation: of the environment.
        :return: the copy.
        """
        return copy.deepcopy(observation)


def require_own_environments(
    replicas: int, env: VecEnv | None, action_noise: ActionNoise | None
) -> None:
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
    normalizer = unwrap_vec_normalize(env)  # type: ignore[arg-type]  # None has none
    shares_statistics = normalizer is not None and normalizer.training
    if replicas > 1 and (shares_statistics or action_noise is not None):
        raise ValueError(
            f"{replicas} replicas would share the statistics of `VecNormalize` or the stream of `action_noise`, so a "
            "seed would learn otherwise than alone; freeze the one (`env.training = False`), leave out the other, or "
            "train one seed at a time"
        )
