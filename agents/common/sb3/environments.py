"""The part of a model that handles environments: spaces, seeds, statistics, replicas; also device selection."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.callbacks import BaseCallback, ConvertCallback, ProgressBarCallback
from stable_baselines3.common.noise import ActionNoise
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.type_aliases import GymEnv, MaybeCallback
from stable_baselines3.common.utils import get_device, safe_mean, set_random_seed
from stable_baselines3.common.vec_env import VecEnv, unwrap_vec_normalize
from torch import Tensor, nn

from agents.common.data.buffer import SequenceReplayBuffer
from agents.common.method import Method
from agents.common.normalization import Normalization, normalized_as_saved
from agents.common.observations import PARTS, Array
from agents.common.streams import Purpose, seed_for
from agents.common.validation import one_of

NO_ENVIRONMENT = (
    "`env` must be a Gymnasium environment or a VecEnv of Stable-Baselines3, got {}; create one with `gymnasium.make` "
    "or `make_vec_env`, or give `observation_space` and `action_space` to train on data alone"
)
DEVICES = ("cpu", "cuda")
"""Kinds of devices on which models run."""


class UnsupportedSpaceError(NotImplementedError, AssertionError):
    """Unsupported observation or action space; also an AssertionError, which SB3 raises for unsupported spaces."""


def check_spaces(observations: spaces.Space[Any], actions: spaces.Space[Any]) -> None:
    """Raise for unsupported spaces.

    :param observations: Box, Discrete, MultiDiscrete or MultiBinary space, or a Dict of such spaces.
    :param actions: Box of floats with finite bounds low < high.
    :raises UnsupportedSpaceError: for other spaces.
    """
    parts: list[Any] = [observations]
    if isinstance(observations, spaces.Dict):
        parts = list(observations.spaces.values())
    is_known = all(isinstance(part, PARTS) for part in parts)
    # SB3's one-hot encoding supports only discrete values that start at 0, in one dimension
    unusual = [
        p for p in parts if np.any(getattr(p, "start", 0)) or np.ndim(getattr(p, "nvec", 0)) > 1
    ]
    if unusual or not is_known or not spaces.flatdim(observations):
        raise UnsupportedSpaceError(
            "the observation space must be a non-empty Box, MultiBinary, Discrete or one-dimensional MultiDiscrete "
            "(values from 0), or a Dict of these, "
            f"got {observations}; use gymnasium.wrappers.FlattenObservation"
        )
    is_scalable = False
    if isinstance(actions, spaces.Box) and actions.dtype.kind == "f" and 0 not in actions.shape:
        # actions are scaled in float32, in which float64 bounds may be equal or infinitely far apart
        with np.errstate(over="ignore"):
            spans = actions.high.astype(np.float32) - actions.low.astype(np.float32)
        is_scalable = bool(((spans > 0) & np.isfinite(spans)).all())
    if not is_scalable:
        raise UnsupportedSpaceError(
            "actions must be a non-empty Box of floats with finite bounds low < high in float32, got "
            f"{actions}; with a gymnasium.ActionWrapper, remove constant coordinates and set missing bounds"
        )


def bounded_like(env: VecEnv, observations: spaces.Space[Any]) -> spaces.Space[Any]:
    """Return a model's observation space; if this space has no bounds, return the environment's space.

    A model trained without an environment may have an observation space without bounds.

    :param env: the environment.
    :param observations: the model's space.
    :return: the model's space if it has bounds, or if the two spaces differ in shape or dtype; else the environment's.
    """
    space = env.observation_space
    is_unbounded = isinstance(observations, spaces.Box) and not (
        observations.bounded_below.any() or observations.bounded_above.any()
    )
    if is_unbounded and (space.shape, space.dtype) == (observations.shape, observations.dtype):
        return space
    return observations


def available_device(device: torch.device | str) -> torch.device:
    """Return a device; raise if it is not available.

    :param device: ``"auto"``, ``"cpu"``, ``"cuda"``, ``"cuda:1"``, ...
    :return: the device.
    :raises ValueError: for another kind of device, or a GPU that PyTorch does not find.
    """
    try:
        chosen = get_device(device) if device == "auto" else torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise ValueError(
            f"`device` must be 'auto', 'cpu' or a CUDA device such as 'cuda:1', got {device!r}"
        ) from error
    one_of("device", chosen.type, DEVICES)
    if chosen.type == "cuda" and (chosen.index or 0) >= torch.cuda.device_count():
        raise ValueError(
            f"`device` is {device!r}, but PyTorch finds {torch.cuda.device_count()} CUDA devices; use 'cpu' or 'auto'"
        )
    return chosen


class DataOnly(gymnasium.Env[Any, Any]):
    """Placeholder environment of a model that is trained offline only: it has spaces, but cannot be stepped.

    :param observation_space: observation space of the data.
    :param action_space: action space of the data.
    """

    def __init__(self, observation_space: Any, action_space: Any) -> None:
        if observation_space is action_space is None:
            raise TypeError(NO_ENVIRONMENT.format(None))
        self.observation_space = observation_space
        self.action_space = action_space

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Return a random observation; SB3 resets environments at the start of each phase."""
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> Any:
        """Raise ValueError."""
        raise ValueError(
            "the model was created without an environment; set one: `model.set_env(env)`"
        )


def require_own_environments(
    replicas: int, env: VecEnv | None, action_noise: ActionNoise | None
) -> None:
    """Check that replicas share nothing in online training, so that each learns as in a separate run.

    :param replicas: S.
    :param env: training environments, or None.
    :param action_noise: SB3's action noise, or None.
    :raises ValueError: if there is no environment, their number is not a multiple of S, or replicas would share the
        running statistics of a `VecNormalize` or the random stream of `action_noise`.
    """
    if env is None:
        raise ValueError("the model has no environment; set one: `model.set_env(env)`")
    if env.num_envs % replicas:
        raise ValueError(
            f"{replicas} replicas need a multiple of {replicas} environments online, got {env.num_envs}; "
            f"use e.g. `make_vec_env(..., n_envs={replicas})`"
        )
    shares_statistics = getattr(unwrap_vec_normalize(env), "training", False)
    if replicas > 1 and (shares_statistics or action_noise is not None):
        raise ValueError(
            f"{replicas} replicas would share the statistics of `VecNormalize` or the random stream of `action_noise`; "
            "freeze the statistics (`env.training = False`), omit the noise, or train one seed at a time"
        )


class StepsBar(ProgressBarCallback):
    """Progress bar of `num_timesteps`; SB3's adds the number of environments at every call."""

    def _on_step(self) -> bool:
        steps = self.num_timesteps - self.model._num_timesteps_at_start
        self.pbar.update(steps - self.pbar.n)
        return True


class TrainedModel(OffPolicyAlgorithm):
    """The part of a model that handles training environments, seeds and statistics of replicas."""

    method: Method
    """The algorithm with its settings; models of SB3's own algorithms do not have this attribute."""
    replay_buffer: SequenceReplayBuffer  # type: ignore[assignment]  # SB3's buffer stores single transitions
    """None in a model returned by `replica`, which cannot be trained."""
    offline_steps: int
    """How many of the steps in `num_timesteps` are offline gradient steps; the others are environment steps."""
    _last_info: dict[str, Tensor]
    """Losses and diagnostics of the last update, each (S,), on the device."""
    _saved_normalization: dict[str, Any] | None = None
    """Fields of the :class:`Normalization` from a file or a checkpoint."""
    action_spaces: list[spaces.Space[Any]]
    """Action space of each replica, for sampling uniform actions; the first is the model's action space."""

    @property
    def normalization(self) -> Normalization | None:
        """Statistics of the model's `VecNormalize`, or else the saved ones; None if there are none.

        ``model.predict`` expects normalised observations, as the model's environment returns them. For raw
        observations, use ``model.predict(model.normalization.observations(observation))``.
        """
        if self._vec_normalize_env is not None:
            return Normalization.of(self._vec_normalize_env)
        if self._saved_normalization is None:
            return None
        return Normalization(**self._saved_normalization)

    @staticmethod
    def _wrap_env(env: GymEnv, verbose: int = 0, monitor_wrapper: bool = True) -> VecEnv:
        """Wrap an environment as SB3 does.

        :param env: a Gymnasium or vectorised environment.
        :param verbose: if at least 1, SB3 prints which wrappers it adds.
        :param monitor_wrapper: whether a single environment is wrapped in a `Monitor`.
        :return: a vectorised environment.
        :raises TypeError: if `env` is not an environment.
        :raises UnsupportedSpaceError: for unsupported spaces.
        """
        if not isinstance(env, gymnasium.Env | VecEnv):
            raise TypeError(NO_ENVIRONMENT.format(repr(env)))
        check_spaces(env.observation_space, env.action_space)
        return OffPolicyAlgorithm._wrap_env(env, verbose, monitor_wrapper)

    def set_env(self, env: GymEnv, force_reset: bool = True) -> None:
        """Set the environment, wrapped in a `VecNormalize` if the model has statistics of one.

        :param env: environment with as many copies as the previous one; an unvectorised environment is one copy.
        :param force_reset: whether training starts with a reset.
        """
        env = self._wrap_env(env)
        if self.normalization is not None:
            env = normalized_as_saved(env, vars(self.normalization))
        own_space = self.observation_space
        # SB3 requires equal spaces of model and environment
        self.observation_space = bounded_like(env, own_space)
        try:
            super().set_env(env, force_reset)
        finally:
            self.observation_space = own_space

    def _init_callback(self, callback: MaybeCallback, progress_bar: bool = False) -> BaseCallback:
        """Initialise callbacks as SB3 does, with a :class:`StepsBar` as progress bar."""
        if progress_bar:
            callbacks = callback if isinstance(callback, list) else [callback]
            callback = [c if isinstance(c, BaseCallback) else ConvertCallback(c) for c in callbacks]
            callback.append(StepsBar())
        return super()._init_callback(callback)

    def set_random_seed(self, seed: int | None = None) -> None:
        """Seed Python, NumPy, PyTorch, the action space and the environments' next reset.

        :param seed: 0 to 2^32 - 1; None seeds nothing.
        """
        self._seed_everything([] if seed is None else [seed])

    def _seed_everything(self, seeds: Sequence[int]) -> None:
        """Seed the generators that SB3 seeds, unless `seeds` is empty; each replica has its own seed."""
        other_spaces = [copy.deepcopy(self.action_space) for _ in seeds[1:]]
        self.action_spaces = [self.action_space, *other_spaces]
        if not seeds:
            return
        set_random_seed(seed_for(Purpose.GLOBALS, seeds), using_cuda=self.device.type == "cuda")
        for space, seed in zip(self.action_spaces, seeds, strict=True):
            space.seed(seed_for(Purpose.WARM_UP, seed))
        if self.env is not None:
            n_envs = self.env.num_envs
            envs_each = max(n_envs // len(seeds), 1)
            starts: list[int | None] = []
            for index in range(n_envs):
                seed = seeds[index * len(seeds) // n_envs]
                starts.append(seed_for(Purpose.TRAINING_START, seed, index % envs_each))
            self.env.seed(starts[0])  # a vector environment may override `seed`
            # SB3 uses consecutive seeds, which other runs may use too
            self.env.unwrapped._seeds = starts

    def require_statistics(self) -> None:
        """Raise if `observation_scale` is set and there are no statistics.

        :raises ValueError: if the statistics are missing.
        """
        # `set_parameters` sets statistics too
        is_known = (
            self.policy.keeps_statistics or self._n_updates or self.replay_buffer.dataset_size
        )
        if self.method.observation_scale is not None and not is_known:
            raise ValueError(
                "`observation_scale` needs a dataset for its statistics; load a dataset, or set `observation_scale` to "
                "None (-params observation_scale=null)"
            )

    def _warn_of_no_effect(self, online_steps: int) -> None:
        """Warn of an online phase without updates, and of `balanced_sampling` without a dataset.

        :param online_steps: number of environment steps when the phase ends.
        """
        learning_starts = self.method.learning_starts
        if 0 < online_steps <= learning_starts:
            warnings.warn(
                f"no update will be performed: `learning_starts` is {learning_starts}, but there are only "
                f"{online_steps} online steps; change one of them",
                stacklevel=4,
            )
        if self.method.balanced_sampling and not self.replay_buffer.dataset_size:
            warnings.warn(
                "`balanced_sampling` has no effect without a dataset; call `load_dataset`",
                stacklevel=4,
            )

    def _warn_of_short_episodes(self) -> None:
        """Warn if no episode so far is long enough to learn from."""
        lengths = [episode["l"] for episode in self.ep_info_buffer or ()]
        min_length = self.replay_buffer.min_length
        # a short episode in one environment does not imply short episodes in the others
        if len(lengths) > self.n_envs and max(lengths) < min_length:
            warnings.warn(
                f"no episode so far reaches `horizon_length` = {min_length} transitions (the longest has "
                f"{max(lengths)}), so nothing is learnt from them; lower `horizon_length`",
                stacklevel=3,
            )

    def _update_info_buffer(self, infos: list[dict[str, Any]], dones: Array | None = None) -> None:
        """Store finished episodes as SB3 does, with their replica and, if reported, success."""
        for index, info in enumerate(infos):
            if "episode" in info:
                # environments are grouped by replica
                info["episode"]["replica"] = index * len(self.action_spaces) // len(infos)
                if "is_success" in info:
                    info["episode"]["success"] = info["is_success"]
        super()._update_info_buffer(infos, dones)

    def replica_values(self) -> dict[str, Array]:
        """Return the logged means of each replica: name -> values (S,); empty for a single replica."""
        values: dict[str, Array] = {}
        count = len(self.action_spaces)
        if count == 1:
            return values
        for name, key in (("ep_rew_mean", "r"), ("ep_len_mean", "l"), ("success_rate", "success")):
            means = []
            for replica in range(count):
                replica_values = [
                    episode[key]
                    for episode in self.ep_info_buffer or ()
                    if episode["replica"] == replica and key in episode
                ]
                means.append(safe_mean(replica_values))  # NaN without a recent episode
            if not np.isnan(means).all():
                values[f"rollout/{name}"] = np.array(means)
        return values


# -- replicas ---------------------------------------------------------------------------------------------------------


class DivergedError(FloatingPointError):
    """All replicas have diverged: losses, parameters or sampled actions are NaN or infinite."""


class OneReplica(nn.Module):
    """Wrapper of a network with one replica; the wrapper's inputs and output lack the leading axis S.

    :param network: network with inputs and output (1, ...).
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    @property
    def features_extractor(self) -> nn.Module | None:
        """The network's features extractor, under SB3's name; None if there is none."""
        return getattr(self.network, "features_extractor", None)

    def forward(self, observations: Tensor, *inputs: Tensor) -> Tensor:
        """Apply the network to observations (B, ...) and other inputs (B, ...)."""
        rows = observations.reshape(1, len(observations), -1)  # discrete observations are (B,)
        output: Tensor = self.network(rows, *(value.unsqueeze(0) for value in inputs))
        return output.squeeze(0)


def find_divergence(tensors: Mapping[str, Sequence[Tensor]]) -> dict[int, str]:
    """Find replicas whose tensors contain NaN or infinity, with a single device synchronisation.

    :param tensors: description -> tensors (S, ...), possibly none.
    :return: replica -> first description that applies, e.g. ``parameters of critic are not finite``.
    """
    finite = {}
    for name, group in tensors.items():
        if group:
            rows = [t.detach().isfinite().reshape(len(t), -1).all(1) for t in group]
            finite[name] = torch.stack(rows).all(0)
    names = np.array(list(finite))
    table = torch.stack(list(finite.values())).cpu().numpy()  # (len(names), S)
    diverged = np.flatnonzero(~table.all(0)).tolist()
    return {k: f"{names[~table[:, k]][0]} not finite" for k in diverged}
