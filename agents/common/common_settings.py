"""Settings of all algorithms, what a network may have of its own in training, and step sizes that change."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal

from agents.common.settings import Configurable, choice, linear_range, log_range, setting
from agents.common.validation import integer, number, one_of

DECAYS: dict[str, Callable[[float, float], float]] = {
    "": lambda start, done: start,
    # written as SB3's `LinearSchedule`, whose last bits it has
    "lin_": lambda start, done: start + done * (0.0 - start),
    "cos_": lambda start, done: start * (1 + math.cos(math.pi * done)) / 2,
}
"""Beginning of a learning rate's text -> rate, by where it starts and the part of training that is done."""
# one class for both, since one optimiser holds the groups of all networks
OPTIMIZERS: dict[str | None, dict[str, Any]] = {
    None: {},
    "adam": {"decoupled_weight_decay": False, "weight_decay": 0.0},
    "adamw": {"decoupled_weight_decay": True, "weight_decay": 0.01},
}
"""Name -> what `torch.optim.Adam` is told to be it, with the weight decay that PyTorch gives it."""


class LearningRateSchedule:
    """A step size as a pure function of how far training is, so that it is resumed without a state of its own.

    :param value: a number > 0; ``"lin_1e-3"`` or ``"cos_1e-3"``, which fall to 0 along a line or half a cosine; or a
        function of the part of the phase that is left, from 1 to 0.
    :raises TypeError: for another type.
    :raises ValueError: for another text, or a number out of range.
    """

    def __init__(self, value: float | str | Callable[[float], float]) -> None:
        self.decay = ""
        if isinstance(value, str):
            text = value
            self.decay = text[:4] if text[:4] in DECAYS else ""
            try:
                value = float(text.removeprefix(self.decay))
            except ValueError:
                raise ValueError(
                    f"`learning_rate` must be a number > 0, or one after `lin_` or `cos_`, e.g. cos_1e-3; got {text!r}"
                ) from None
        self.start = value if callable(value) else number("learning_rate", value, above=0)

    def __call__(self, remaining: float) -> float:
        """Return the step size for the part of the phase that is left, from 1 to 0."""
        if callable(self.start):
            return float(self.start(remaining))
        # a phase may pass its last step, as all environments step together
        return DECAYS[self.decay](self.start, 1 - max(remaining, 0.0))


def checked_rate(name: str, value: Any) -> Any:
    """Check a learning rate; return it as it was given, so that a run's settings read as they were written.

    :param name: of the setting.
    :param value: see :class:`LearningRateSchedule`.
    :return: the same.
    """
    LearningRateSchedule(value)
    return value


class NetworkOptions(Configurable):
    """What a network may have of its own in training; None is what all networks have."""

    learning_rate: float | str | Callable[[float], float] | None = setting(
        default=None,
        check=lambda name, value: value if value is None else checked_rate(name, value),
        doc="Its step size, as in the setting of that name.",
    )
    optimizer: Literal["adam", "adamw"] | None = setting(
        default=None, doc="`adam` or `adamw`, as in PyTorch."
    )
    weight_decay: float | None = setting(
        default=None,
        at_least=0,
        doc="Its weight decay, in the optimiser's sense.",
    )
    max_grad_norm: float | None = setting(
        default=None,
        above=0,
        doc="Bound on the norm of its gradient, which then does not count for that of the others.",
    )
    train_every: int = setting(default=1, at_least=1, doc="N: it is trained at every N-th update.")
    tau: float | None = setting(
        default=None, at_least=0, at_most=1, doc="Weight of its target; 1 copies."
    )
    target_every: int = setting(
        default=1, at_least=1, doc="N: its target moves at every N-th update."
    )

    def options(self) -> dict[str, Any]:
        """Return what its group of parameters in the optimiser has of its own; empty where it is in that of all."""
        options = dict(OPTIMIZERS[self.optimizer])
        if self.weight_decay is not None:
            options["weight_decay"] = self.weight_decay
        if self.learning_rate is not None:
            # where it begins: the trainer sets it before every update
            options["lr"] = LearningRateSchedule(self.learning_rate)(1.0)
        return options


OF_NETWORKS = "networks are built with it"
OF_BUFFER = "the replay buffer is built with it"


def checked_frequency(name: str, value: Any) -> Any:
    """Return how often updates follow, a pair as the tuple that SB3 asks for, which YAML lacks.

    :param name: of the setting, for the message.
    :param value: a number of steps, or a number and its unit.
    :return: the same.
    :raises ValueError: if the number is not an int of at least 1, or the unit unknown, as in SB3.
    """
    is_pair = isinstance(value, list | tuple) and len(value) == 2
    steps, unit = value if is_pair else (value, "step")
    try:
        steps = integer(name, steps, at_least=1)
    except TypeError as error:
        raise ValueError(str(error)) from error  # SB3's kind of error
    # SB3 has an enumeration of the units
    unit = one_of(name, getattr(unit, "value", unit), ("step", "episode"))
    return (steps, unit) if is_pair else steps


def _net_arch(name: str, value: Any) -> list[int] | dict[str, Any]:
    """Check hidden widths; None stands for the default."""
    if value is None:
        return [512] * 4
    if isinstance(value, list):
        return [integer(name, width, at_least=1) for width in value]
    # SB3's names of the actor's and the critics' widths
    parts = value if isinstance(value, dict) else {}
    if set(parts) != {"pi", "qf"} or not all(isinstance(widths, list) for widths in parts.values()):
        raise ValueError(
            f"`{name}` must be a list of hidden widths or {{'pi': [...], 'qf': [...]}}, got {value!r}"
        )
    return {part: _net_arch(name, widths) for part, widths in parts.items()}


def _observation_scale(name: str, value: Any) -> float | Literal["range"] | None:
    """Check how observations are scaled."""
    if value is None or value == "range":
        return value
    return number(name, value, above=0)


class CommonSettings(Configurable):
    """What every algorithm can be set to, and what these settings must keep to together."""

    learning_rate: float | str | Callable[[float], float] = setting(
        default=3e-4,
        reference="lr",
        kw_only=False,
        check=checked_rate,
        search=log_range(3e-5, 3e-3),
        doc='Step size of Adam, > 0; "lin_1e-3" or "cos_1e-3" falls from there to 0, once offline and once online; '
        "or a function of the part of a phase that is left, from 1 to 0.",
    )
    buffer_size: int = setting(
        default=1_000_000,
        kw_only=False,
        at_least=1,
        fixed=OF_BUFFER,
        doc="Online transitions to keep.",
    )
    learning_starts: int = setting(
        default=5_000,
        reference="start_training",
        kw_only=False,
        at_least=0,
        doc="Online environment steps before the first online update. Without an offline phase the actions before it "
        "are uniform, as in SB3; after one the policy acts from the start.",
    )
    batch_size: int = setting(
        default=256,
        kw_only=False,
        at_least=1,
        search=choice(128, 256, 512, 1024),
        doc="Sequences per update and replica.",
    )
    tau: float = setting(
        default=0.005,
        kw_only=False,
        at_least=0,
        at_most=1,
        search=log_range(0.001, 0.05),
        doc="Polyak weight of the target networks; with 0 they stay as they began. Targets follow the weights from "
        "before the step.",
    )
    gamma: float = setting(
        role="protocol",
        default=0.99,
        reference="discount",
        kw_only=False,
        at_least=0,
        at_most=1,
        fixed=OF_BUFFER,
        doc="Discount per environment step.",
    )
    train_freq: int | tuple[int, str] = setting(
        default=1,
        kw_only=False,
        check=checked_frequency,
        doc='Environment steps (or `(n, "episode")`) between rounds of updates.',
    )
    gradient_steps: int = setting(
        default=1,
        reference="utd_ratio",
        kw_only=False,
        at_least=-1,
        doc="Updates per round (the update-to-data ratio); -1 for one per environment step.",
    )
    horizon_length: int = setting(
        role="protocol",
        default=5,
        at_least=1,
        fixed=OF_NETWORKS,
        doc="H, actions per chunk and steps of the n-step return.",
    )
    action_chunking: bool = setting(
        default=True,
        fixed=OF_NETWORKS,
        doc="Plan all H actions at once; without, H is only the length of the return.",
    )
    played_actions: int | None = setting(
        default=None,
        at_least=1,
        doc="Actions of a chunk that are played before the next one is planned, in training, evaluation and `predict`; "
        "None plays all H.",
    )
    shorten_returns: bool = setting(
        default=False,
        fixed=OF_BUFFER,
        doc="End a return where its episode ends, and discount it by its true length, as SB3's `n_steps` does; else a "
        "start less than H steps before the end is left out, as in the reference. For single actions.",
    )
    ensemble_size: int = setting(default=10, at_least=1, fixed=OF_NETWORKS, doc="E, critics.")
    rho: float = setting(
        default=0.5,
        at_least=0,
        search=linear_range(0.0, 1.0),
        doc="Pessimism: standard deviations over the ensemble subtracted from its mean.",
    )
    flow_steps: int = setting(
        default=10,
        at_least=1,
        search=choice(5, 10, 20),
        doc="K, Euler steps of a flow (or diffusion steps).",
    )
    best_of_n: int = setting(
        default=1,
        at_least=1,
        search=choice(1, 4, 8, 16),
        doc="Candidates per state, of which the one with the highest mean Q is played.",
    )
    max_grad_norm: float | None = setting(
        default=None,
        above=0,
        doc="Bound on the norm of each replica's whole gradient, all networks together; None for no bound.",
    )
    net_arch: list[int] | dict[str, list[int]] | None = setting(
        default=None,
        check=_net_arch,
        fixed=OF_NETWORKS,
        doc='Hidden widths of all networks, or `{"pi": [...], "qf": [...]}`; None for four layers of 512.',
    )
    actor_layer_norm: bool = setting(
        default=False,
        fixed=OF_NETWORKS,
        doc="Apply LayerNorm after each hidden activation of velocity fields.",
    )
    critic_layer_norm: bool = setting(
        default=True,
        reference="value_layer_norm",
        fixed=OF_NETWORKS,
        doc="Apply LayerNorm after each hidden activation of critics and values.",
    )
    observation_scale: float | Literal["range"] | None = setting(
        default=None,
        above=0,
        check=_observation_scale,
        fixed="the statistics are taken when the dataset is loaded",
        doc="Centre observations by the dataset's mean and scale each coordinate to this standard deviation; or, with "
        '`"range"`, bring the range of each coordinate in it to [-1, 1]; None for raw observations. The statistics are '
        "stored with the model, and stay once it is trained.",
    )
    random_crop: float = setting(
        default=0.0,
        at_least=0,
        at_most=1,
        doc="Probability with which the images of an update are shifted by up to 3 pixels each way, each pair of an "
        "observation and the next one alike; the edges are repeated.",
    )
    frame_stack: int = setting(
        default=1,
        at_least=1,
        fixed=OF_BUFFER,
        doc="k, the frames that an observation of images stacks along its channels, the newest last. The replay buffer "
        "stores each once. The environment must stack them too: `agents.FrameStack(env, k)`.",
    )
    encoder: Literal["impala_small"] | None = setting(
        default=None,
        fixed=OF_NETWORKS,
        doc="What sees images: `impala_small`, as OGBench and FQL name it; None for the policy's own extractor, or "
        "that of `policy_kwargs`.",
    )
    sparse: bool = setting(
        role="protocol",
        default=False,
        fixed="rewards are changed when they are stored",
        doc="Make online rewards -1 where they are not zero (the dataset's are changed on loading).",
    )
    balanced_sampling: bool = setting(
        default=False,
        fixed=OF_BUFFER,
        doc="Draw half of every batch from the dataset and half from online transitions, as long as there are both; "
        "without, batches are uniform over all of them. Needs an even `batch_size`.",
    )
    pretraining_steps: int = setting(
        default=0,
        at_least=0,
        doc="First updates, which clone the behaviour flow and leave the rest alone, except for networks that begin at "
        "it and moving averages: these are its copies meanwhile.",
    )
    precision: Literal["fp32", "tf32", "bf16"] = setting(
        role="machine",
        default="fp32",
        fixed=OF_NETWORKS,
        doc="`fp32`; `tf32` (fast float32 products of CUDA); `bf16` (products of hidden layers in bfloat16).",
    )
    compile: Literal["auto", "on", "off"] = setting(
        role="machine",
        default="auto",
        doc="Compile the losses and, on CUDA, record whole updates and replay them; `auto` decides by device "
        "and planned number of updates. What fails falls back to plain execution with a warning that says why.",
    )

    def check_together(self) -> None:
        """Refuse odd batches of two halves, shorter returns of chunks, and playing more actions than are planned."""
        # the two halves of a batch are of equal size
        if self.balanced_sampling and self.batch_size % 2:
            raise ValueError(
                f"`batch_size` must be even with `balanced_sampling`, got {self.batch_size}; use an even number"
            )
        if self.shorten_returns and self.chunk_length > 1:
            raise ValueError(
                f"`shorten_returns` is for single actions, got chunks of {self.chunk_length}, which cannot be shorter; "
                "set `action_chunking` to False too"
            )
        if self.played_actions is not None and self.played_actions > self.chunk_length:
            raise ValueError(
                f"`played_actions` must be at most the {self.chunk_length} actions of a chunk, got "
                f"{self.played_actions}; leave it out to play all, or plan more (`horizon_length`)"
            )

    @property
    def played_length(self) -> int:
        """Number of actions of a plan that are played before the next one."""
        return self.played_actions or self.chunk_length

    @property
    def chunk_length(self) -> int:
        """Number of actions that one plan holds: H, or 1 without action chunking."""
        if self.action_chunking:
            return self.horizon_length
        return 1
