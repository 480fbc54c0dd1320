"""Algorithms of Stable-Baselines3 and sb3-contrib, with this zoo's datasets, evaluations and run folders.

They train online. With ``--offline-data preload``, the replay buffer starts with the dataset; with ``balanced``, half
of every batch is sampled from the dataset; with ``none``, the dataset is not used.
"""

import inspect
import re
from collections.abc import Mapping
from functools import partial
from typing import Any

import sb3_contrib
import stable_baselines3
import torch
from numpy.typing import ArrayLike
from stable_baselines3.common.type_aliases import ReplayBufferSamples
from stable_baselines3.common.vec_env import VecNormalize

from agents import registry
from agents.common.common_settings import checked_frequency
from agents.common.data.arrays import ArraySource
from agents.common.data.buffer import SequenceReplayBuffer
from agents.common.data.shards import Shards
from agents.common.sb3.constructor import with_named_classes
from agents.common.sb3.environments import available_device, find_divergence
from agents.common.sb3.stored_model import StoredModel
from agents.common.settings import (
    Check,
    Configurable,
    Search,
    Setting,
    choice,
    log_range,
    setting,
)
from agents.common.validation import integer, number

# arguments of SB3's constructors that are not settings here, e.g. the environment and options of the replay buffer
NOT_SETTINGS = {
    "policy", "env", "replay_buffer_class", "replay_buffer_kwargs", "optimize_memory_usage", "n_steps",
    "action_noise", "use_sde", "sde_sample_freq", "use_sde_at_warmup", "stats_window_size", "tensorboard_log",
    "policy_kwargs", "verbose", "seed", "device", "_init_setup_model",
}  # fmt: skip

CHECKS: dict[str, Check] = {
    "learning_rate": partial(number, above=0),
    "tau": partial(number, above=0, at_most=1),
    "gamma": partial(number, at_least=0, at_most=1),
    "buffer_size": partial(integer, at_least=1),
    "learning_starts": partial(integer, at_least=0),
    "batch_size": partial(integer, at_least=1),
    "gradient_steps": partial(integer, at_least=-1),
    "train_freq": checked_frequency,
}
"""Checks of settings whose ranges SB3 does not check."""

SEARCHES: dict[str, Search] = {
    "learning_rate": log_range(3e-5, 3e-3),
    "batch_size": choice(128, 256, 512, 1024),
    "tau": log_range(0.001, 0.05),
    "gradient_steps": choice(1, 2, 4),
    "top_quantiles_to_drop_per_net": choice(0, 1, 2, 3, 5),
}
"""Search spaces for tuning SB3's settings."""


class TransitionReplayBuffer(SequenceReplayBuffer):
    """Replay buffer that samples single transitions without a seed axis, as SB3's algorithms expect."""

    def sample(self, batch_size: int, env: VecNormalize | None = None) -> ReplayBufferSamples:  # type: ignore[override]
        """Sample a batch of transitions, each array (B, ...)."""
        batch = super().sample(batch_size, env)
        return ReplayBufferSamples(
            observations=batch.observations,
            actions=batch.actions,
            next_observations=batch.next_observations,
            # the buffer's gamma is 1, so the discount of a transition is its mask: 0 if it terminates, else 1
            dones=1 - batch.discounts.unsqueeze(1),
            rewards=batch.rewards.unsqueeze(1),
        )


class OwnSettings(Configurable):
    """Settings that this zoo adds to SB3's algorithms."""

    net_arch: list[int] | dict[str, list[int]] | None = setting(
        default=None, doc="Sizes of the hidden layers; None keeps SB3's sizes."
    )
    sparse: bool = setting(
        default=False,
        doc="Replace nonzero online rewards by -1 (a dataset's rewards are replaced at loading).",
    )
    balanced_sampling: bool = setting(
        default=False, doc="Sample half of every batch from the dataset."
    )


class Baseline(StoredModel):
    """Base class that gives an SB3 algorithm the interface that ``zoo train`` expects."""

    offline_steps = pretraining_steps = 0  # SB3's algorithms train only online

    def __init__(
        self,
        policy: Any,
        env: Any,
        *,
        replay_buffer_kwargs: dict[str, Any] | None = None,
        policy_kwargs: dict[str, Any] | None = None,
        verbose: int = 0,
        device: torch.device | str = "auto",
        _init_setup_model: bool = True,
        **settings: Any,
    ) -> None:
        checked = self.checked(settings)
        # pass on only the given settings, so that missing ones keep SB3's defaults
        settings = {name: checked[name] for name in settings}
        names = OwnSettings.declared().keys() & settings
        own_settings = OwnSettings(**{name: settings.pop(name) for name in names})
        named = with_named_classes("policy_kwargs", policy_kwargs)
        # SB3's policies accept no class that is None
        policy_kwargs = {name: value for name, value in named.items() if value is not None}
        if own_settings.net_arch is not None:
            policy_kwargs.setdefault("net_arch", own_settings.net_arch)
        self.algorithm_id = registry.name_of(type(self))  # stored in a saved model
        self._last_info: dict[str, torch.Tensor] = {}
        super().__init__(
            policy,
            env,
            **settings,
            replay_buffer_class=TransitionReplayBuffer,  # type: ignore[arg-type]  # it has SB3's interface
            replay_buffer_kwargs={
                "gamma": 1.0,  # SB3's algorithms apply the discount factor themselves
                "sparse": own_settings.sparse,
                "balanced": own_settings.balanced_sampling,
                **(replay_buffer_kwargs or {}),
            },
            policy_kwargs=policy_kwargs,
            verbose=verbose,
            device=available_device(device),
            _init_setup_model=_init_setup_model,  # type: ignore[call-arg]  # an argument of the algorithm, not of the base class
        )

    @classmethod
    def declared(cls) -> dict[str, Setting]:
        """Return name -> setting: first SB3's settings, described by SB3's docstrings, then `OwnSettings`."""
        # the method resolution order is cls, Baseline, StoredModel, TrainedModel, SB3's class
        algorithm = cls.__mro__[4]
        text = f"{inspect.getdoc(algorithm)}\n\n{inspect.getdoc(cls)}"
        meanings = dict(re.findall(r":param (\w+): (.*?)(?=\n:|\n\n|\Z)", text, flags=re.DOTALL))
        settings = {}
        for name, parameter in inspect.signature(algorithm).parameters.items():
            if name in NOT_SETTINGS:
                continue
            meaning = " ".join(meanings.get(name, "").split())
            declaration: Any = setting(
                default=parameter.default,
                doc=meaning,
                check=CHECKS.get(name),
                search=SEARCHES.get(name),
            )
            declaration.name = name
            declaration.type = Any
            declaration.annotation = inspect.formatannotation(parameter.annotation)
            settings[name] = declaration
        return settings | OwnSettings.declared()

    @classmethod
    def checked(cls, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Return all settings, with defaults for missing ones; raises TypeError or ValueError for an invalid value."""
        checked: dict[str, Any] = {}
        for name, declaration in cls.declared().items():
            checked[name] = declaration.default
            if name in settings:
                checked[name] = declaration.checked(settings[name])
        # settings in declared order first, then SB3's other arguments, e.g. `action_noise`
        return checked | {name: value for name, value in settings.items() if name not in checked}

    def find_divergence(self) -> dict[int, str]:
        """Return {0: message} if a parameter is NaN or infinite, otherwise {}; this waits for the device."""
        return find_divergence(
            {"parameters of policy are": [p.unsqueeze(0) for p in self.policy.parameters()]}
        )

    def train(self, gradient_steps: int, batch_size: int = 64) -> None:
        """Load the next dataset shard if it is due, then update the networks."""
        assert isinstance(self.replay_buffer, TransitionReplayBuffer)
        self.replay_buffer.rotate_dataset(self._n_updates)
        super().train(gradient_steps, batch_size)

    def load_dataset(self, dataset: ArraySource | Shards) -> None:
        """Load a dataset into the replay buffer, before transitions are collected.

        :param dataset: arrays as OGBench's loader returns them, the path of an ``.npz`` file with such arrays, or
            shards that are used in turn. Actions are in the environment's units.
        """
        assert isinstance(self.replay_buffer, TransitionReplayBuffer)
        action_range: tuple[ArrayLike, ArrayLike] | None = None
        if not isinstance(dataset, Shards):
            # SB3 scales online actions to [-1, 1], which rounds them; the dataset's actions are rounded in the same way
            action_space: Any = self.action_space
            action_range = (action_space.low, action_space.high)
        self.replay_buffer.load_dataset(dataset, action_range)


class SAC(Baseline, stable_baselines3.SAC):
    """Soft actor-critic."""


class TD3(Baseline, stable_baselines3.TD3):
    """Twin delayed deep deterministic policy gradient."""


class TQC(Baseline, sb3_contrib.TQC):
    """Truncated quantile critics."""


class CrossQ(Baseline, sb3_contrib.CrossQ):
    """SAC with batch normalisation and without target networks.

    :param policy_delay: critic updates per actor update, >= 1.
    """
