"""What the constructor of a model takes: SB3's arguments, where things run, and settings, its attributes afterwards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from stable_baselines3.common.noise import ActionNoise
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import nn

from agents.common.data.buffer import SequenceReplayBuffer
from agents.common.method import Method
from agents.common.nets.pretrained import PretrainedFlow
from agents.common.nets.specs import NetworkSpec, find_behaviour
from agents.common.sb3.environments import available_device
from agents.common.sb3.first_update import require_table
from agents.common.settings import Configurable, required, setting
from agents.common.streams import MAX_SEED
from agents.common.validation import integer, suggestion

if TYPE_CHECKING:  # names that only annotations need
    from stable_baselines3.common.type_aliases import GymEnv

    from agents.common.sb3.policy import FlowPolicy


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
    if value._get_samples is not SequenceReplayBuffer._get_samples:
        raise TypeError(f"{value.__name__}._get_samples is never called; override `draw_rows`")
    return value


# arguments of a policy that are settings of the method here -> their names
SETTINGS_OF_POLICY = {
    "n_critics": "ensemble_size",
    "net_arch": "net_arch",
    "actor_layer_norm": "actor_layer_norm",
    "critic_layer_norm": "critic_layer_norm",
}


# without parameters, since a stacked network has none for its activation
ACTIVATIONS = {
    name.lower(): getattr(nn, name)
    for name in (
        "CELU", "ELU", "GELU", "Hardswish", "Hardtanh", "LeakyReLU", "LogSigmoid", "Mish", "ReLU", "ReLU6", "SELU",
        "Sigmoid", "SiLU", "Softplus", "Softsign", "Tanh", "Tanhshrink",
    )
}  # fmt: skip
OPTIMIZERS = {
    name.lower(): getattr(torch.optim, name)
    for name in (
        "Adadelta",
        "Adagrad",
        "Adam",
        "Adamax",
        "AdamW",
        "ASGD",
        "NAdam",
        "RAdam",
        "RMSprop",
        "SGD",
    )
}
CLASSES_OF_POLICY: dict[str, tuple[type, dict[str, type]]] = {
    "activation_fn": (nn.Module, ACTIVATIONS),
    "optimizer_class": (torch.optim.Optimizer, OPTIMIZERS),
    "features_extractor_class": (BaseFeaturesExtractor, {}),
}
"""Arguments of a policy that are classes -> what they derive from, and those that a text may name."""


def with_named_classes(name: str, value: Any) -> dict[str, Any] | None:
    """Return `policy_kwargs` with classes in place of their names, e.g. of ``relu`` or ``torch.nn.ReLU``.

    Files and command lines hold names, which are looked up in a table: nothing is evaluated or imported.

    :param name: of the argument, for messages.
    :param value: arguments of a policy, or None.
    :return: the same with classes.
    :raises TypeError: if it is not a mapping, or one of those arguments neither a class nor a text.
    :raises ValueError: for an unknown name; the closest are named.
    """
    if value is None:
        return None
    if not isinstance(value, Mapping):
        raise TypeError(f"`{name}` must be a mapping of names to values, got {value!r}")
    arguments = dict(value)
    for argument in CLASSES_OF_POLICY.keys() & arguments.keys():
        base, classes = CLASSES_OF_POLICY[argument]
        written = arguments[argument]
        label = f"`{name}.{argument}`"
        if isinstance(written, str) and classes:
            short_name = written.rpartition(".")[2].lower()
            if short_name not in classes:
                names = [kind.__name__ for kind in classes.values()]
                raise ValueError(
                    f"{label} must name a class of PyTorch, got {written!r}; {suggestion(short_name, names)}"
                )
            arguments[argument] = classes[short_name]
        elif written is not None and not (isinstance(written, type) and issubclass(written, base)):
            alternative = f", or the name of one, e.g. {next(iter(classes))}" if classes else ""
            raise TypeError(
                f"{label} must be a subclass of {base.__name__}{alternative}, got {written!r}; give it in Python"
            )
    return arguments


OWN_ARGUMENTS = ("n_steps", "seeds", "method", "behaviour", "_init_setup_model")
"""Arguments that SB3 does not know."""


class Arguments(Configurable):
    """Constructor arguments that are not settings of the method."""

    # the first arguments of a model, which are no settings
    if TYPE_CHECKING:
        _policy: str | type[FlowPolicy] = required(alias="policy", kw_only=False)
        _env: GymEnv | str | None = required(alias="env", kw_only=False)

    n_steps: int | None = setting(
        default=None,
        at_least=1,
        doc="SB3's n-step returns of single actions: the same as `horizon_length=n_steps` with `action_chunking=False` "
        "and `shorten_returns=True`; None leaves the three as they are.",
    )
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
        doc="Arguments of the policy. In it SB3's `net_arch` and `n_critics` are the settings `net_arch` and "
        "`ensemble_size`; `activation_fn` and `optimizer_class` may be names such as `relu` and `adamw`.",
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
        doc="A flow or diffusion policy that was trained elsewhere, in place of the behaviour flow; see "
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
        values = self.settings()
        for name in OWN_ARGUMENTS:
            del values[name]
        if self.seeds is not None:
            values["seed"] = self.seeds[0]
        for name, declared in Method.declared().items():
            if not declared.kw_only:
                values[name] = getattr(method, name)
        return values


def read_arguments(
    kind: type[Method], positional: tuple[Any, ...], named: Mapping[str, Any]
) -> tuple[Method, Arguments]:
    """Return the method that the arguments of a model's constructor describe, and the rest of them.

    :param kind: class of the method.
    :param positional: settings in SB3's order.
    :param named: all others.
    :return: the method, and what is not a setting of it.
    :raises TypeError: for too many or unknown arguments.
    :raises ValueError: for a value out of range, if two arguments that are the same setting differ, or for pretraining
        where the algorithm has no behaviour flow.
    """
    in_order = [name for name, declared in kind.declared().items() if not declared.kw_only]
    # more arguments than names are refused below
    settings = {**dict(zip(in_order, positional, strict=False)), **named}
    if len(positional) > len(in_order):
        raise TypeError(
            f"{kind.__name__}() takes at most {len(in_order) + 2} arguments without a name"
        )
    kind.refuse_unknown(settings.keys(), also=Arguments.declared())
    # what is no argument of the model is a setting of the method
    names = Arguments.declared().keys() & settings.keys()
    arguments = Arguments(**{name: settings.pop(name) for name in names})
    method = arguments.method
    if method is None:
        for name, value in (arguments.policy_kwargs or {}).items():
            if name in SETTINGS_OF_POLICY:
                _set_by_other_name(settings, SETTINGS_OF_POLICY[name], name, value, kind)
        if arguments.n_steps is not None:
            # SB3's returns are of single actions, and shorter before the end of an episode
            _set_by_other_name(settings, "horizon_length", "n_steps", arguments.n_steps, kind)
            settings |= {"action_chunking": False, "shorten_returns": True}
        method = kind(**settings)
    elif settings or arguments.n_steps is not None:
        name = next(iter(settings), "n_steps")
        raise TypeError(
            f"`{name}` is a setting of `method`, which was given too; give it to the method"
        )
    require_table(method, "networks", NetworkSpec)
    if method.pretraining_steps:
        require_behaviour(method)
    return method, arguments


def _set_by_other_name(
    settings: dict[str, Any], name: str, other_name: str, value: Any, method: type[Method]
) -> None:
    """Set a setting to what was given for it elsewhere; refuse a number that differs from that of its own name.

    The `net_arch` of `policy_kwargs` counts before the setting of that name.
    """
    declared = method.declared()[name]
    if other_name != name:
        value = integer(other_name, value, **declared.bounds)
        if settings.get(name, value) not in (value, declared.default):
            raise ValueError(
                f"`{name}` and `{other_name}` are the same setting, got {settings[name]} and {value}; give one of them"
            )
    settings[name] = value


def require_behaviour(method: Method, replacement: str | None = None) -> str:
    """Return the name of an algorithm's behaviour flow.

    :param method: the algorithm.
    :param replacement: what takes the place of pretraining the flow.
    :return: its name.
    :raises ValueError: if it has none, or is to pretrain one that is replaced.
    """
    behaviour = find_behaviour(require_table(method, "networks", NetworkSpec))
    if behaviour is None:
        raise ValueError(
            f"{type(method).__name__} has no behaviour flow to pretrain; leave out "
            f"{replacement or '`pretraining_steps`'}, or take an algorithm that clones with a flow, such as QAM"
        )
    if replacement and method.pretraining_steps:
        raise ValueError(
            f"{replacement} takes the place of `pretraining_steps`, got {method.pretraining_steps} of them; set them "
            "to 0 (--pretraining-steps 0)"
        )
    return behaviour
