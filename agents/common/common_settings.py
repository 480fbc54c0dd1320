"""Settings shared by all algorithms, per-network training options, and learning-rate schedules."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal

from agents.common.settings import Configurable, choice, linear_range, log_range, setting
from agents.common.validation import integer, number, one_of

DECAYS: dict[str, Callable[[float, float], float]] = {
    "": lambda start, done: start,
    # the same operations as in SB3's `LinearSchedule`, so that rates are equal to the last bit
    "lin_": lambda start, done: start + done * (0.0 - start),
    "cos_": lambda start, done: start * (1 + math.cos(math.pi * done)) / 2,
}
"""Prefix in `learning_rate` -> function of start value and completed fraction that returns the learning rate."""


class LearningRateSchedule:
    """Learning rate as a pure function of training progress, so that resuming needs no state.

    :param value: a number > 0; ``"lin_1e-3"`` or ``"cos_1e-3"``, which decays to 0 linearly or along half a cosine; or
        a function of the remaining fraction of the phase, from 1 to 0.
    :param name: name of the setting, for messages.
    :raises TypeError: for another type.
    :raises ValueError: for an invalid string, or a number out of range.

    >>> LearningRateSchedule("lin_1e-3")(0.5)
    0.0005
    """

    def __init__(
        self, value: float | str | Callable[[float], float], name: str = "learning_rate"
    ) -> None:
        self.decay = ""
        if isinstance(value, str):
            text = value
            # the empty prefix fits every text
            self.decay = max((prefix for prefix in DECAYS if text.startswith(prefix)), key=len)
            try:
                value = float(text.removeprefix(self.decay))
            except ValueError:
                raise ValueError(
                    f"`{name}` must be a number > 0, optionally with the prefix `lin_` or `cos_`, e.g. cos_1e-3; got "
                    f"{text!r}"
                ) from None
        self.start = value if callable(value) else number(name, value, above=0)

    def __call__(self, remaining: float) -> float:
        """Return the learning rate for the remaining fraction of the phase, from 1 to 0."""
        # it is negative if parallel environments step past the end of the phase
        remaining = max(remaining, 0.0)
        if callable(self.start):
            return float(self.start(remaining))
        return DECAYS[self.decay](self.start, 1 - remaining)


def checked_rate(name: str, value: Any) -> Any:
    """Validate a learning rate; return it unchanged, so that a run records it as written.

    :param name: name of the setting.
    :param value: see :class:`LearningRateSchedule`.
    :return: the value.
    """
    LearningRateSchedule(value, name)
    return value


class NetworkOptions(Configurable):
    """Per-network training options; None means the value shared by all networks.

    >>> NetworkOptions(learning_rate=1e-4, train_every=2).options()
    {'lr': 0.0001}
    """

    learning_rate: float | str | Callable[[float], float] | None = setting(
        default=None,
        check=checked_rate,
        doc="Learning rate, in any form that the setting `learning_rate` accepts.",
    )
    weight_decay: float | None = setting(
        default=None,
        at_least=0,
        doc="Weight decay: with Adam decoupled, as in AdamW; otherwise as the optimiser defines it.",
    )
    train_every: int = setting(
        default=1, at_least=1, doc="N: train the network in every N-th update."
    )
    tau: float | None = setting(
        default=None,
        at_least=0,
        at_most=1,
        doc="Polyak weight of the network's target; 1 copies the network.",
    )
    target_every: int = setting(
        default=1, at_least=1, doc="N: update the network's target in every N-th update."
    )

    def options(self) -> dict[str, Any]:
        """Return the options of this network's parameter group; empty if the network is in the shared one."""
        options: dict[str, Any] = {}
        if self.weight_decay is not None:
            options = {"decoupled_weight_decay": True, "weight_decay": self.weight_decay}
        if self.learning_rate is not None:
            # only the initial value; the trainer sets the learning rate before every update
            options["lr"] = LearningRateSchedule(self.learning_rate)(1.0)
        return options


BUILT_INTO_NETWORKS = "networks are built with it"
BUILT_INTO_BUFFER = "the replay buffer is built with it"


def checked_frequency(name: str, value: Any) -> Any:
    """Validate `train_freq`; a YAML list becomes the tuple that SB3 expects.

    :param name: name of the setting, for messages.
    :param value: a number of steps, or a number and its unit.
    :return: the number, or the pair as a tuple.
    :raises ValueError: if the number is not an int >= 1, or the unit is unknown, as in SB3.

    >>> checked_frequency("train_freq", [1, "episode"])
    (1, 'episode')
    """
    is_pair = isinstance(value, list | tuple) and len(value) == 2
    steps, unit = value if is_pair else (value, "step")
    try:
        steps = integer(name, steps, at_least=1)
    except TypeError as error:
        raise ValueError(str(error)) from error  # the type that SB3 raises
    # SB3's units are members of an enumeration
    unit = one_of(name, getattr(unit, "value", unit), ("step", "episode"))
    return (steps, unit) if is_pair else steps


def _net_arch(name: str, value: Any) -> list[int] | dict[str, Any]:
    """Validate hidden layer sizes."""
    if isinstance(value, list):
        return [integer(name, size, at_least=1) for size in value]
    # SB3's names for the actor's and the critics' layer sizes
    parts = value if isinstance(value, dict) else {}
    if set(parts) != {"pi", "qf"} or not all(isinstance(sizes, list) for sizes in parts.values()):
        raise ValueError(
            f"`{name}` must be a list of hidden layer sizes or {{'pi': [...], 'qf': [...]}}, got {value!r}"
        )
    return {part: _net_arch(name, sizes) for part, sizes in parts.items()}


def _observation_scale(name: str, value: Any) -> float | Literal["range"]:
    """Validate the scale of observations."""
    if value == "range":
        return "range"
    if isinstance(value, str):
        raise ValueError(f'`{name}` must be a number > 0, "range" or None, got {value!r}')
    return number(name, value, above=0)


class CommonSettings(Configurable):
    """Settings shared by all algorithms.

    >>> method = agents.QAM.method_class(horizon_length=4, batch_size=128)
    >>> method.chunk_length, method.batch_size, method.gamma
    (4, 128, 0.99)
    """

    learning_rate: float | str | Callable[[float], float] = setting(
        default=3e-4,
        reference="lr",
        in_sb3=True,
        check=checked_rate,
        search=log_range(3e-5, 3e-3),
        doc='Learning rate, > 0; "lin_1e-3" or "cos_1e-3" decays to 0 linearly or along a cosine in '
        "each phase, offline and online; or a function of the phase's remaining fraction, from 1 to 0.",
    )
    buffer_size: int = setting(
        default=1_000_000,
        in_sb3=True,
        at_least=1,
        fixed=BUILT_INTO_BUFFER,
        doc="Capacity of the replay buffer in online transitions.",
    )
    learning_starts: int = setting(
        default=5_000,
        reference="start_training",
        in_sb3=True,
        at_least=0,
        doc="Online environment steps before the first online update. Until then actions are sampled uniformly, as in "
        "SB3, or by the policy if it was trained before.",
    )
    batch_size: int = setting(
        default=256,
        in_sb3=True,
        at_least=1,
        search=choice(128, 256, 512, 1024),
        doc="Sequences per update, for each replica.",
    )
    tau: float = setting(
        default=0.005,
        in_sb3=True,
        at_least=0,
        at_most=1,
        search=log_range(0.001, 0.05),
        doc="Polyak weight of target networks; 0 freezes them at their initial weights. Targets track the weights "
        "from before the gradient step.",
    )
    gamma: float = setting(
        role="protocol",
        default=0.99,
        reference="discount",
        in_sb3=True,
        at_least=0,
        at_most=1,
        fixed=BUILT_INTO_BUFFER,
        doc="Discount per environment step.",
    )
    train_freq: int | tuple[int, str] = setting(
        default=1,
        in_sb3=True,
        check=checked_frequency,
        doc='Environment steps (or `(n, "episode")`) between rounds of updates.',
    )
    gradient_steps: int = setting(
        default=1,
        reference="utd_ratio",
        in_sb3=True,
        at_least=-1,
        doc="Updates per round (the update-to-data ratio); -1 for one per environment step.",
    )
    horizon_length: int = setting(
        role="protocol",
        default=5,
        at_least=1,
        fixed=BUILT_INTO_NETWORKS,
        doc="H: actions per chunk, and steps of the n-step return.",
    )
    action_chunking: bool = setting(
        default=True,
        fixed=BUILT_INTO_NETWORKS,
        doc="Sample chunks of H actions; if False, sample single actions, and H is only the length of the return.",
    )
    execution_horizon: int | None = setting(
        default=None,
        at_least=1,
        doc="Number of actions of a chunk to execute before the next chunk is sampled, in training, evaluation and "
        "`predict`; None executes all H.",
    )
    shorten_returns: bool = setting(
        default=False,
        fixed=BUILT_INTO_BUFFER,
        doc="Truncate returns at the end of the episode and discount the next value by gamma^length, like SB3's "
        "`n_steps`; if False, transitions fewer than H steps from the end are masked, as in the reference. "
        "Only without chunking.",
    )
    ensemble_size: int = setting(
        default=10, at_least=1, fixed=BUILT_INTO_NETWORKS, doc="E: number of critics."
    )
    rho: float = setting(
        default=0.5,
        at_least=0,
        search=linear_range(0.0, 1.0),
        doc="Pessimism: the TD target uses the critics' mean minus rho standard deviations.",
    )
    flow_steps: int = setting(
        default=10,
        at_least=1,
        search=choice(5, 10, 20),
        doc="K: Euler steps of the flow, or diffusion steps; without either, it has no effect.",
    )
    best_of_n: int = setting(
        default=1,
        at_least=1,
        search=choice(1, 4, 8, 16),
        doc="N: candidates per state; the one with the highest score (by default mean Q) is executed.",
    )
    max_grad_norm: float | None = setting(
        default=None,
        above=0,
        doc="Maximum gradient norm of each replica, over all networks; None for no clipping.",
    )
    net_arch: list[int] | dict[str, list[int]] = setting(
        default=[512] * 4,
        check=_net_arch,
        fixed=BUILT_INTO_NETWORKS,
        doc='Hidden layer sizes of all networks, or `{"pi": [...], "qf": [...]}`.',
    )
    actor_layer_norm: bool = setting(
        default=False,
        fixed=BUILT_INTO_NETWORKS,
        doc="Apply LayerNorm after each hidden activation of velocity fields and other actors, except tanh-Gaussians.",
    )
    critic_layer_norm: bool = setting(
        default=True,
        reference="value_layer_norm",
        fixed=BUILT_INTO_NETWORKS,
        doc="Apply LayerNorm after each hidden activation of critics and value networks.",
    )
    observation_scale: float | Literal["range"] | None = setting(
        default=None,
        above=0,
        check=_observation_scale,
        fixed="the statistics are computed when the dataset is loaded",
        doc="Standard deviation of each observation coordinate after scaling, with mean 0 over the dataset. "
        '`"range"` scales each coordinate to [-1, 1]; None leaves observations unscaled. The statistics are stored '
        "with the model, and fixed when training starts.",
    )
    random_crop: float = setting(
        default=0.0,
        at_least=0,
        at_most=1,
        doc="Probability that the images of an update are shifted by up to 3 pixels, with repeated edges; an "
        "observation and its next observation are shifted equally.",
    )
    frame_stack: int = setting(
        default=1,
        at_least=1,
        fixed=BUILT_INTO_BUFFER,
        doc="k: image frames stacked along the channels, newest last. The replay buffer stores each frame once. The "
        "environment must stack frames too: `agents.FrameStack(env, k)`.",
    )
    encoder: Literal["impala_small"] | None = setting(
        default=None,
        fixed=BUILT_INTO_NETWORKS,
        doc="Image encoder: `impala_small`, as OGBench and FQL call it; None uses the policy's features "
        "extractor, or the one in `policy_kwargs`.",
    )
    sparse: bool = setting(
        role="protocol",
        default=False,
        fixed="rewards are converted when they are stored",
        doc="Set nonzero online rewards to -1; rewards of the dataset are converted on loading.",
    )
    balanced_sampling: bool = setting(
        default=False,
        fixed=BUILT_INTO_BUFFER,
        doc="Sample half of every batch from the dataset and half from online transitions, if both exist; if "
        "False, sample uniformly from all. Needs an even `batch_size`.",
    )
    pretraining_steps: int = setting(
        default=0,
        at_least=0,
        doc="Number of initial updates that train only the behaviour flow. Its target network, networks "
        "initialised from the flow, and their target networks are kept equal to the flow meanwhile.",
    )
    precision: Literal["fp32", "tf32", "bf16"] = setting(
        role="machine",
        default="fp32",
        fixed=BUILT_INTO_NETWORKS,
        doc="`fp32`; `tf32`: TF32 matrix products on CUDA; `bf16`: hidden-layer products in bfloat16.",
    )
    compile: Literal["auto", "on", "off"] = setting(
        role="machine",
        default="auto",
        doc="Compile the losses and, on CUDA, capture whole updates in CUDA graphs; `auto` decides by device and "
        "number of updates. On failure, warn with the reason and run eagerly.",
    )

    def check_together(self) -> None:
        """Raise ValueError if settings contradict each other."""
        if self.balanced_sampling and self.batch_size % 2:
            raise ValueError(
                f"`batch_size` must be even with `balanced_sampling`, got {self.batch_size}"
            )
        if self.shorten_returns and self.chunk_length > 1:
            raise ValueError(
                f"`shorten_returns` needs single actions, got chunks of {self.chunk_length}; set `action_chunking` to "
                "False"
            )
        if self.execution_horizon is not None and self.execution_horizon > self.chunk_length:
            raise ValueError(
                f"`execution_horizon` must be at most the chunk length, {self.chunk_length}, got "
                f"{self.execution_horizon}"
            )

    def sequence_settings(self) -> dict[str, Any]:
        """Return the settings that determine the sequences of a replay buffer, as arguments of the buffer."""
        names = (
            "horizon_length",
            "gamma",
            "action_chunking",
            "shorten_returns",
            "sparse",
            "frame_stack",
        )
        return {name: getattr(self, name) for name in names}

    @property
    def executed_length(self) -> int:
        """Number of actions of a chunk that are executed before the next chunk is sampled."""
        return self.execution_horizon or self.chunk_length

    @property
    def chunk_length(self) -> int:
        """Number of actions in a chunk: H, or 1 without action chunking."""
        if self.action_chunking:
            return self.horizon_length
        return 1
