"""What the constructor of a model takes: SB3's arguments, where things run, and settings, its attributes afterwards."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

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


def _seeds(name: str, value: Any) -> list[int] | None:
    if value is None:
        return None
    if not len(value):
        raise ValueError(
            f"`{name}` must hold at least one seed, got none; use None for one run with `seed`"
        )
    return [integer(name, seed, at_least=0, at_most=MAX_SEED) for seed in value]


def _buffer_class(name: str, value: Any) -> Any:
    if value is None:
        return None
    if not issubclass(value, SequenceReplayBuffer):
        raise TypeError(
            f"`{name}` must be a subclass of SequenceReplayBuffer, got {value.__name__}: "
            "chunks need sequences of transitions"
        )
    return value


SETTINGS_OF_POLICY = {"n_critics": "ensemble_size", "net_arch": "net_arch"}
"""Arguments of a policy, as SB3 names them, that are settings of the method here -> their names."""
CLASSES_OF_POLICY: dict[str, tuple[type, Any]] = {
    "activation_fn": (nn.Module, nn),
    "optimizer_class": (torch.optim.Optimizer, torch.optim),
    "features_extractor_class": (BaseFeaturesExtractor, None),
}
"""Arguments of a policy that are classes -> what they derive from, and the module in which a text names them."""


def with_named_classes(name: str, value: Any) -> dict[str, Any] | None:
    """Return `policy_kwargs` with classes in place of their names, e.g. of ``ReLU``.

    Files and command lines hold names; nothing is evaluated or imported.

    :param name: of the argument, for messages.
    :param value: arguments of a policy, or None.
    :return: the same with classes.
    :raises TypeError: if it is not a mapping, or one of those arguments is no such class.
    """
    if value is None:
        return None
    if not isinstance(value, Mapping):
        raise TypeError(f"`{name}` must be a mapping of names to values, got {value!r}")
    arguments = dict(value)
    for argument in CLASSES_OF_POLICY.keys() & arguments.keys():
        base, module = CLASSES_OF_POLICY[argument]
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


OWN_ARGUMENTS = (
    "n_steps", "seeds", "method", "behaviour", "observation_space", "action_space", "_init_setup_model",
)  # fmt: skip
"""Arguments that SB3 does not know."""


class Arguments(Configurable):
    """Constructor arguments that are not settings of the method."""

    n_steps: int | None = setting(
        default=None,
        at_least=1,
        doc="SB3's n-step returns of single actions: the same as `horizon_length=n_steps` with `action_chunking=False` "
        "and `shorten_returns=True`; None leaves the three as they are.",
    )
    observation_space: spaces.Space[Any] | None = setting(
        default=None, doc="Of a model that is trained on data alone, in place of `env`."
    )
    action_space: spaces.Box | None = setting(default=None, doc="Likewise.")
    action_noise: ActionNoise | None = setting(
        default=None, doc="SB3's, added to the executed actions."
    )
    replay_buffer_class: type[SequenceReplayBuffer] | None = setting(
        default=None,
        check=_buffer_class,
        doc="A subclass of `SequenceReplayBuffer`, or None for itself.",
    )
    replay_buffer_kwargs: dict[str, Any] | None = setting(
        default=None,
        doc='Further arguments of the buffer; `{"storage": "host"}` keeps the data off the GPU.',
    )
    policy_kwargs: dict[str, Any] | None = setting(
        default=None,
        check=with_named_classes,
        doc="Arguments of the policy, of which SB3's `net_arch` and `n_critics` are the settings `net_arch` and "
        "`ensemble_size`; `activation_fn` and `optimizer_class` may be names in PyTorch, such as `ReLU` and `AdamW`.",
    )
    stats_window_size: int = setting(
        default=100, doc="Episodes over which rollout statistics are averaged."
    )
    tensorboard_log: str | None = setting(
        default=None, doc="Folder of TensorBoard events, or None."
    )
    verbose: int = setting(default=0, doc="0 silent, 1 info, 2 debug.")
    seed: int | None = setting(
        default=None, at_least=0, at_most=MAX_SEED, doc="Seed of everything random, or None."
    )
    seeds: Sequence[int] | None = setting(
        default=None,
        check=_seeds,
        doc="One seed per replica, trained at once; None trains one replica with `seed`.",
    )
    method: Method | None = setting(
        default=None, doc="The algorithm with its settings, instead of settings."
    )
    behaviour: PretrainedFlow | None = setting(
        default=None,
        doc="A flow or diffusion network of your own, trained or not, in place of the behaviour flow; see "
        "`agents.PretrainedFlow`.",
    )
    device: torch.device | str = setting(
        default="auto",
        check=lambda _, value: available_device(value),
        doc='`"auto"`, `"cpu"`, `"cuda"`...',
    )
    _init_setup_model: bool = setting(
        default=True,
        doc="Build networks and buffer at once; `load` does it later.",
        check=lambda _, value: value,
    )

    def of_sb3(self, method: Method) -> dict[str, Any]:
        """Return the arguments of SB3's constructor, to which the settings in SB3's order belong."""
        names = self.declared().keys() - set(OWN_ARGUMENTS)
        values = {name: getattr(self, name) for name in names}
        if self.seeds is not None:
            values["seed"] = self.seeds[0]
        for name, declared in Method.declared().items():
            if not declared.kw_only:
                values[name] = getattr(method, name)
        return {**values, "support_multi_env": True, "sde_support": False}


def read_arguments(
    kind: type[Method], positional: tuple[Any, ...], named: Mapping[str, Any]
) -> tuple[Method, Arguments]:
    """Return the method that the arguments of a model's constructor describe, and the rest of them.

    :param kind: class of the method.
    :param positional: settings in SB3's order.
    :param named: all others.
    :return: the method, and what is not a setting of it.
    :raises TypeError: for too many or unknown arguments, or a setting beside a method.
    :raises ValueError: for a value out of range, a setting that is given by two names, or pretraining where the
        algorithm has no behaviour flow.
    """
    in_order = [name for name, declared in kind.declared().items() if not declared.kw_only]
    if len(positional) > len(in_order):
        raise TypeError(
            f"{kind.__name__}() takes at most {len(in_order) + 2} arguments without a name"
        )
    settings = {**dict(zip(in_order, positional, strict=False)), **named}
    kind.refuse_unknown(settings.keys(), also=Arguments.declared())
    # what is no argument of the model is a setting of the method
    names = Arguments.declared().keys() & settings.keys()
    arguments = Arguments(**{name: settings.pop(name) for name in names})
    if arguments.seed is not None and arguments.seeds is not None:
        raise ValueError("`seed` and `seeds` both say what to begin with; give one of them")
    for name, (other_name, value) in _settings_of_sb3(arguments).items():
        if name in settings:
            raise ValueError(f"`{name}` and `{other_name}` are the same setting; give one of them")
        settings[name] = value
    if arguments.method is None:
        method = kind(**settings)
    elif settings:
        raise TypeError(
            f"`{next(iter(settings))}` is a setting of `method`, which was given too; give it to the method"
        )
    else:
        method = copy.copy(arguments.method)  # another model may be made of it too
    if (
        method.pretraining_steps
    ):  # cloning needs a flow, and the first update would be late to say so
        require_behaviour(method)
    return method, arguments


def _settings_of_sb3(arguments: Arguments) -> dict[str, tuple[str, Any]]:
    """Take the settings out of arguments that SB3 has for them: name -> SB3's name, and the value."""
    settings: dict[str, tuple[str, Any]] = {}
    policy_kwargs = dict(arguments.policy_kwargs or {})
    for other_name, name in SETTINGS_OF_POLICY.items():
        if other_name in policy_kwargs:
            settings[name] = f"policy_kwargs.{other_name}", policy_kwargs.pop(other_name)
    if settings:  # the policy gets what is left
        arguments.policy_kwargs = policy_kwargs
    if arguments.n_steps is not None:
        # SB3's returns are of single actions, and shorter before the end of an episode
        settings["horizon_length"] = "n_steps", arguments.n_steps
        settings["action_chunking"] = "n_steps", False
        settings["shorten_returns"] = "n_steps", True
    return settings
