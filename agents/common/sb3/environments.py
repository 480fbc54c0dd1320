"""The part of a model that plays in environments: their spaces, seeds and values, and who shares them."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Mapping, Sequence
from textwrap import shorten
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.noise import ActionNoise
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.type_aliases import GymEnv
from stable_baselines3.common.utils import get_device, set_random_seed
from stable_baselines3.common.vec_env import VecEnv, unwrap_vec_normalize
from torch import Tensor, nn

from agents.common.data.buffer import SequenceReplayBuffer
from agents.common.method import Method
from agents.common.normalization import Normalization, normalized_as_saved
from agents.common.observations import PARTS, Array
from agents.common.streams import Purpose, seed_for

NO_ENVIRONMENT = (
    "`env` must be a Gymnasium or vectorised environment, got {}; make one with `gymnasium.make`"
)


class UnsupportedSpaceError(NotImplementedError, AssertionError):
    """An observation or action space that models are not built for; SB3 raises AssertionError there."""


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
    is_scalable = False
    if isinstance(actions, spaces.Box) and actions.dtype.kind == "f" and 0 not in actions.shape:
        # actions are scaled in float32, in which a width of a box of float64 may be 0 or infinite
        with np.errstate(over="ignore"):
            widths = actions.high.astype(np.float32) - actions.low.astype(np.float32)
        is_scalable = bool(((widths > 0) & np.isfinite(widths)).all())
    if not is_scalable:
        raise UnsupportedSpaceError(
            "models support non-empty Box actions of floats, each between finite bounds low < high in float32, got "
            f"{actions}; with a gymnasium.ActionWrapper, leave out a coordinate that never changes, and give real "
            "limits to one without"
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
            raise TypeError(NO_ENVIRONMENT.format(None))
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


class TrainedModel(OffPolicyAlgorithm):
    """The part of a model that plays in training environments, with seeds and statistics of its replicas."""

    method: Method
    """What is learnt and how; baselines have none."""
    replay_buffer: SequenceReplayBuffer  # type: ignore[assignment]  # SB3's stores transitions alone
    """None in a replica that was taken out of a model, which has nothing to train on."""
    offline_steps: int
    """Gradient steps offline; the other steps were made in environments."""
    _last_info: dict[str, Tensor]
    """Losses and diagnostics of the last update."""
    _saved_normalization: dict[str, Any] | None = None
    """Fields of the :class:`Normalization` that a file or a checkpoint holds."""
    _other_action_spaces: Sequence[spaces.Space[Any]] = ()

    @property
    def action_spaces(self) -> list[spaces.Space[Any]]:
        """The action space of each replica, from which its uniform actions are drawn; the first is the model's."""
        return [self.action_space, *self._other_action_spaces]

    @property
    def normalization(self) -> Normalization | None:
        """Statistics of the model's `VecNormalize`, else those that it was saved with; None without any.

        ``model.predict`` takes what the model's environment returns. Where there is none,
        ``model.predict(model.normalization.observations(observation))`` acts as in training.
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
        :param verbose: whether SB3 says what it wraps.
        :param monitor_wrapper: whether a single environment is put into a `Monitor`.
        :raises UnsupportedSpaceError: for spaces that are not supported, which SB3 would refuse by an assertion.
        :return: a vectorised environment.
        """
        if not isinstance(env, gymnasium.Env | VecEnv):
            raise TypeError(NO_ENVIRONMENT.format(repr(env)))
        check_spaces(env.observation_space, env.action_space)
        return OffPolicyAlgorithm._wrap_env(env, verbose, monitor_wrapper)

    def set_env(self, env: GymEnv, force_reset: bool = True) -> None:
        """Go on with an environment; one that is not normalised is, if the model has statistics of a `VecNormalize`.

        :param env: with as many environments as the model has.
        :param force_reset: whether training begins with a reset.
        """
        if self.normalization is not None:
            env = normalized_as_saved(self._wrap_env(env), vars(self.normalization))
        super().set_env(env, force_reset)

    def set_random_seed(self, seed: int | None = None) -> None:
        """Seed Python, NumPy, PyTorch, the action space and the environments' next reset.

        :param seed: any from 0 to 2^32 - 1; None leaves all of them as they are.
        """
        if seed is not None:
            self._seed_everything([seed])

    def _seed_everything(self, seeds: Sequence[int]) -> None:
        """Seed what SB3 seeds; how an environment starts depends on the seed of its own replica alone."""
        set_random_seed(seed_for(Purpose.GLOBALS, seeds), using_cuda=self.device.type == "cuda")
        of_replicas = [self.action_space, *(copy.deepcopy(self.action_space) for _ in seeds[1:])]
        self._other_action_spaces = of_replicas[1:]
        for space, seed in zip(of_replicas, seeds, strict=True):
            space.seed(seed_for(Purpose.WARM_UP, seed))
        if self.env is not None:
            n_envs = self.env.num_envs
            counts: Counter[int] = Counter()  # environments of each replica so far
            starts: list[int | None] = []
            for index in range(n_envs):
                owner = index * len(seeds) // n_envs
                starts.append(seed_for(Purpose.TRAINING_START, seeds[owner], counts[owner]))
                counts[owner] += 1
            self.env.seed(starts[0])  # for vector environments with a method of their own
            # SB3 gives neighbours consecutive seeds, which other runs have too
            self.env.unwrapped._seeds = starts

    def _update_info_buffer(self, infos: list[dict[str, Any]], dones: Array | None = None) -> None:
        """Remember finished episodes as SB3 does, each with its replica and with its success if it is reported."""
        for index, info in enumerate(infos):
            if "episode" in info:
                # environments are grouped by the replica that they are played for
                info["episode"]["replica"] = index * len(self.action_spaces) // len(infos)
                if "is_success" in info:
                    info["episode"]["success"] = info["is_success"]
        super()._update_info_buffer(infos, dones)

    def replica_values(self) -> dict[str, Array]:
        """Return the values of each replica, (S,), in place of their mean in a log, by its name; none of one alone."""
        values: dict[str, Array] = {}
        count = len(self.action_spaces)
        if count == 1:
            return values
        for name, key in (("ep_rew_mean", "r"), ("ep_len_mean", "l"), ("success_rate", "success")):
            # NaN stays where none of the last episodes is a replica's
            means = np.full(count, np.nan)
            for replica in range(count):
                of_replica = [
                    episode[key]
                    for episode in self.ep_info_buffer or ()
                    if episode["replica"] == replica and key in episode
                ]
                if of_replica:
                    means[replica] = np.mean(of_replica)
            if not np.isnan(means).all():
                values[f"rollout/{name}"] = means
        return values


# -- replicas


class DivergedError(FloatingPointError):
    """All replicas have diverged: losses, parameters or planned actions of each are NaN or infinite."""


class OneReplica(nn.Module):
    """A network of one replica as users see it, without the leading axis S.

    :param network: takes observations and other tensors (1, ...), and returns one.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, observations: Tensor, *inputs: Tensor) -> Tensor:
        """Return what the network makes of observations (B, ...) and further inputs (B, ...)."""
        rows = observations.reshape(1, len(observations), -1)  # SB3 has a choice as (B,)
        output: Tensor = self.network(rows, *(value.unsqueeze(0) for value in inputs))
        return output.squeeze(0)


def find_divergence(tensors: Mapping[str, Sequence[Tensor]]) -> dict[int, str]:
    """Return which replicas hold a NaN or an infinity, and where, waiting for the device once.

    :param tensors: description -> tensors (S, ...), or none.
    :return: replica -> the first description that applies, e.g. ``parameters of critic are not finite``.
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
