"""The constructor arguments of models, and how they are split into the method's settings and SB3's arguments."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.noise import ActionNoise
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import nn

from agents.common.data.buffer import SequenceReplayBuffer
from agents.common.method import Method
from agents.common.nets.pretrained import PretrainedFlow
from agents.common.nets.specs import require_behaviour
from agents.common.sb3.environments import available_device
from agents.common.settings import Configurable, setting
from agents.common.streams import MAX_SEED
from agents.common.validation import integer


def _seeds(name: str, value: Any) -> list[int]:
    if np.ndim(value) != 1 or not len(value):
        raise ValueError(
            f"`{name}` must be a list of at least one seed, got {value!r}; use `seed` to train one replica"
        )
    return [integer(name, seed, at_least=0, at_most=MAX_SEED) for seed in value]


def _buffer_class(name: str, value: Any) -> type[SequenceReplayBuffer]:
    if not isinstance(value, type) or not issubclass(value, SequenceReplayBuffer):
        raise TypeError(f"`{name}` must be a subclass of SequenceReplayBuffer, got {value!r}")
    return value


POLICY_SETTINGS = {"n_critics": "ensemble_size", "net_arch": "net_arch"}
"""Policy argument of SB3 -> the method's setting that it sets."""
FROM_MODEL = {"observation_space", "action_space", "lr_schedule", "method", "seeds"}
"""Policy arguments that the model passes."""
POLICY_CLASSES: dict[str, tuple[type, Any]] = {
    "activation_fn": (nn.Module, nn),
    "optimizer_class": (torch.optim.Optimizer, torch.optim),
    "features_extractor_class": (BaseFeaturesExtractor, None),
}
"""Policy argument that takes a class -> required base class, and module in which a name is looked up (or None)."""


def with_named_classes(name: str, value: Any) -> dict[str, Any]:
    """Replace names of classes in `policy_kwargs`, e.g. ``ReLU``, by the classes.

    Files and command lines contain only names, which are looked up; nothing is evaluated or imported.

    :param name: name of the argument, for messages.
    :param value: arguments of a policy, or None.
    :return: the arguments with classes; empty for None.
    :raises TypeError: if `value` is not a mapping, or a class is unknown or has the wrong base.
    """
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise TypeError(f"`{name}` must be a mapping of names to values, got {value!r}")
    arguments = dict(value)
    for argument in POLICY_CLASSES.keys() & arguments:
        base, module = POLICY_CLASSES[argument]
        kind = arguments[argument]
        if isinstance(kind, str):
            kind = getattr(module, kind, None)
        if kind is arguments[argument] is None:
            continue
        if not isinstance(kind, type) or not issubclass(kind, base):
            in_module = f", or its name in {module.__name__}" if module else ""
            raise TypeError(
                f"`{name}.{argument}` must be a subclass of {base.__name__}{in_module}, got {arguments[argument]!r}"
            )
        arguments[argument] = kind
    return arguments


def check_policy_kwargs(policy: type[Any], arguments: Mapping[str, Any]) -> None:
    """Raise for arguments that a policy does not accept.

    :param policy: class of the policy.
    :param arguments: arguments of the policy besides those that the model passes.
    :raises TypeError: for an unknown argument; the message names the allowed ones.
    """
    parameters = inspect.signature(policy).parameters
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return  # a subclass with `**kwargs` accepts any name
    allowed = {*parameters, *POLICY_SETTINGS} - FROM_MODEL
    for name in arguments:
        if name not in allowed:
            raise TypeError(
                f"unknown argument `{name}` in `policy_kwargs`; allowed are {', '.join(sorted(allowed))}"
            )


EXTRA_ARGUMENTS = (
    "n_steps", "seeds", "behaviour", "observation_space", "action_space", "_init_setup_model",
)  # fmt: skip
"""Arguments that are not passed to SB3's constructor."""


class Arguments(Configurable):
    """Constructor arguments other than the method's settings.

    >>> space = gymnasium.spaces.Box(-1, 1, (3,))
    >>> model = agents.QAM("MlpPolicy", None, observation_space=space, action_space=space, seeds=[0, 1], net_arch=[32])
    >>> model.policy.num_replicas
    2
    """

    n_steps: int | None = setting(
        default=None,
        at_least=1,
        doc="SB3's n-step returns: short for `horizon_length=n_steps`, `action_chunking=False` and "
        "`shorten_returns=True`; None leaves these three settings as they are.",
    )
    observation_space: spaces.Space[Any] | None = setting(
        default=None,
        doc="Observation space, for a model without `env` (offline training only).",
    )
    action_space: spaces.Box | None = setting(
        default=None, doc="Action space, for a model without `env`."
    )
    action_noise: ActionNoise | None = setting(
        default=None, doc="SB3's action noise, added to actions in online training."
    )
    replay_buffer_class: type[SequenceReplayBuffer] | None = setting(
        default=None,
        check=_buffer_class,
        doc="Subclass of `SequenceReplayBuffer`; None for `SequenceReplayBuffer` itself.",
    )
    replay_buffer_kwargs: dict[str, Any] | None = setting(
        default=None,
        doc='More arguments of the replay buffer; `{"storage": "host"}` keeps data in host memory.',
    )
    policy_kwargs: dict[str, Any] | None = setting(
        default=None,
        check=with_named_classes,
        doc="Arguments of the policy. SB3's `net_arch` and `n_critics` set `net_arch` and `ensemble_size`; "
        "`activation_fn` and `optimizer_class` may be names of PyTorch classes, e.g. `ReLU` and `AdamW`.",
    )
    stats_window_size: int = setting(
        default=100, at_least=1, doc="Number of episodes to average rollout statistics over."
    )
    tensorboard_log: str | None = setting(default=None, doc="Folder for TensorBoard logs, or None.")
    verbose: int = setting(default=0, doc="0 silent, 1 info, 2 debug.")
    seed: int | None = setting(
        default=None, at_least=0, at_most=MAX_SEED, doc="Random seed, or None."
    )
    seeds: Sequence[int] | None = setting(
        default=None,
        check=_seeds,
        doc="One seed per replica, to train replicas in parallel; None trains one replica with `seed`.",
    )
    behaviour: PretrainedFlow | None = setting(
        default=None,
        doc="Custom flow or diffusion network, trained or not, that replaces the behaviour flow; see "
        "`agents.PretrainedFlow`.",
    )
    device: torch.device | str = setting(
        default="auto",
        check=lambda _, value: available_device(value) and value,  # as given, for the default too
        doc='`"auto"`, `"cpu"`, `"cuda"`...',
    )
    _init_setup_model: bool = setting(
        default=True,
        doc="Whether the constructor builds networks and buffer; `load` builds them later.",
    )

    def sb3_arguments(self, method: Method) -> dict[str, Any]:
        """Return the arguments of SB3's constructor, including the settings shared with SB3."""
        names = self.declared().keys() - EXTRA_ARGUMENTS
        values = {name: getattr(self, name) for name in names}
        if self.seeds is not None:
            values["seed"] = self.seeds[0]
        for name, declared in Method.declared().items():
            if declared.in_sb3:
                values[name] = getattr(method, name)
        return {**values, "support_multi_env": True, "sde_support": False}


def read_arguments(kind: type[Method], named: Mapping[str, Any]) -> tuple[Method, Arguments]:
    """Split the arguments of a model's constructor into a method and the remaining arguments.

    :param kind: class of the method.
    :param named: keyword arguments.
    :return: the method, and the remaining arguments.
    :raises TypeError: for an unknown argument.
    :raises ValueError: for a value out of range, a setting given twice, both ``seed`` and ``seeds``, or pretraining of
        an algorithm without a behaviour flow.
    """
    settings = dict(named)
    kind.refuse_unknown(settings, also=Arguments.declared())
    # the names that remain in `settings` are the method's
    names = Arguments.declared().keys() & settings
    arguments = Arguments(**{name: settings.pop(name) for name in names})
    if arguments.seed is not None and arguments.seeds is not None:
        raise ValueError("got both `seed` and `seeds`; pass one of them")
    for name, (other_name, value) in _settings_by_alias(arguments).items():
        if name in settings:
            raise ValueError(f"`{name}` and `{other_name}` are the same setting; pass one of them")
        settings[name] = value
    method = kind(**settings)
    method.pretrained = arguments.behaviour
    if method.pretraining_steps:
        require_behaviour(method)
    return method, arguments


def _settings_by_alias(arguments: Arguments) -> dict[str, tuple[str, Any]]:
    """Extract the settings that SB3's arguments set: name of the setting -> (SB3's argument, value)."""
    settings: dict[str, tuple[str, Any]] = {}
    policy_kwargs = dict(arguments.policy_kwargs or {})
    for other_name, name in POLICY_SETTINGS.items():
        if other_name in policy_kwargs:
            settings[name] = f"policy_kwargs.{other_name}", policy_kwargs.pop(other_name)
    if settings:  # the policy receives the remaining arguments
        arguments.policy_kwargs = policy_kwargs
    if arguments.n_steps is not None:
        # as in SB3: no chunks, and shorter returns at the end of an episode
        settings["horizon_length"] = "n_steps", arguments.n_steps
        settings["action_chunking"] = "n_steps", False
        settings["shorten_returns"] = "n_steps", True
    return settings
