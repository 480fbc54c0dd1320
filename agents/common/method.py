"""What an algorithm is: settings, networks, noise, sampler, targets and losses. Stable-Baselines3 is not known here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from agents.common.batch import Batch
from agents.common.maths.critic import pick_best, td_target
from agents.common.nets.encoding import RepeatedObservations
from agents.common.nets.heads import Networks
from agents.common.nets.specs import NetworkSpec
from agents.common.search import choice, linear_range, log_range
from agents.common.settings import Declared, setting
from agents.common.validation import integer, number

Noise = Mapping[str, Tensor]
Info = dict[str, Tensor]
Losses = dict[str, Tensor]
Targets = dict[str, Tensor]
Kind = Literal["normal", "uniform", "integer"]
AXES = "B (rows), N (candidates), K (flow steps) and D (flattened chunk)"
OF_NETWORKS = "networks are built with it"
OF_BUFFER = "the replay buffer is built with it"


@dataclass(frozen=True)
class Draw:
    """One named random tensor of an update.

    :param kind: standard normal, uniform in [0, 1), or integers 1..K stored as floats.
    :param axes: letters of the axes after the leading S: B rows, N candidates, K flow steps, D flattened chunk.
    """

    kind: Kind
    axes: str

    def __call__(
        self, sizes: Mapping[str, int], generator: torch.Generator | None, device: torch.device | str
    ) -> Tensor:
        """Draw the tensor.

        :param sizes: size of every axis letter, with ``S``.
        :param generator: on ``device``; None uses PyTorch's global one.
        :param device: where the tensor lives.
        :return: (S, *axes).
        :raises ValueError: for a letter that is no axis.
        """
        if not {*self.axes} <= {*sizes} - {"S"}:
            raise ValueError(f"the axes of a draw are {AXES}, after S, which comes by itself; got {self.axes!r}")
        shape = [sizes["S"], *(sizes[letter] for letter in self.axes)]
        if self.kind == "normal":
            return torch.randn(shape, generator=generator, device=device)
        if self.kind == "uniform":
            return torch.rand(shape, generator=generator, device=device)
        return torch.randint(1, sizes["K"] + 1, shape, generator=generator, device=device).float()

    def with_candidates(self) -> Draw:
        """Return the draw for N candidates of every row: the same with the axis N after B."""
        return Draw(self.kind, self.axes.replace("B", "BN"))


def normal(axes: str = "BD") -> Draw:
    """Return a standard normal draw.

    :param axes: letters of the axes after S.
    :return: the draw.
    """
    return Draw("normal", axes)


def uniform(axes: str = "B") -> Draw:
    """Return a draw of uniform times in [0, 1).

    :param axes: letters of the axes after S.
    :return: the draw.
    """
    return Draw("uniform", axes)


def integers(axes: str = "B") -> Draw:
    """Return a draw of uniform integers in 1..K, stored as floats.

    :param axes: letters of the axes after S.
    :return: the draw.
    """
    return Draw("integer", axes)


def linear_start(value: str) -> float:
    """Return where a learning rate that falls to 0 starts.

    :param value: ``lin_`` and a number > 0.
    :return: the number.
    :raises ValueError: if it is anything else.
    """
    try:
        start = float(value.removeprefix("lin_"))
    except ValueError:
        start = float("nan")
    return number("learning_rate", start, above=0)


def _learning_rate(name: str, value: Any) -> Any:
    """Check a step size; return it as it was given, so that a run's settings read as they were written."""
    if isinstance(value, str) and value.startswith("lin_"):
        linear_start(value)
    elif not callable(value):
        number(name, value, above=0)
    return value


def _gradient_steps(name: str, value: Any) -> int:
    return value if value == -1 else integer(name, value, at_least=0)


def _net_arch(name: str, value: Any) -> list[int] | dict[str, list[int]]:
    """Check hidden widths; None stands for the default."""
    if value is None:
        return [512] * 4
    parts = value if isinstance(value, dict) else {"pi": value, "qf": value}
    if set(parts) != {"pi", "qf"} or not all(isinstance(widths, list) for widths in parts.values()):
        raise ValueError(f"`{name}` must be a list of hidden widths or {{'pi': [...], 'qf': [...]}}, got {value!r}")
    checked = {part: [integer(name, width, at_least=1) for width in widths] for part, widths in parts.items()}
    return checked if isinstance(value, dict) else checked["pi"]


def _observation_scale(name: str, value: Any) -> float | str | None:
    """Check how observations are scaled."""
    if isinstance(value, str) and value != "range":
        raise ValueError(f'`{name}` must be a number > 0, "range" or None, got {value!r}; choose one of them')
    return value if value is None or isinstance(value, str) else number(name, value, above=0)


class Method(Declared):
    """An algorithm: a subclass names networks and noise and writes sampler (:meth:`act`), targets and losses.

    One object serves a model for training and acting. Shapes: S replicas, B rows, O observation size, D flattened
    chunk. Defaults are those of the reference implementation of Q-learning with Adjoint Matching (arXiv 2601.14234).
    """

    unmasked_losses: ClassVar[frozenset[str]] = frozenset()
    """Losses that are meant to count what ``batch.valid`` leaves out."""
    trains: ClassVar[Mapping[str, frozenset[str]]] = {}
    """Loss -> the networks that it trains; a loss that is not named trains one network."""
    is_tried = False
    """Whether its hooks have been tried, as they are once before training."""

    learning_rate: float | str | Callable[[float], float] = setting(
        default=3e-4,
        kw_only=False,
        check=_learning_rate,
        search=log_range(3e-5, 3e-3),
        doc='Step size of Adam, > 0; "lin_1e-3" falls from there to 0 over a phase; or a function of the remaining '
        "progress.",
    )
    buffer_size: int = setting(
        default=1_000_000, kw_only=False, at_least=1, fixed=OF_BUFFER, doc="Online transitions to keep."
    )
    learning_starts: int = setting(
        default=5_000,
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
        default=0.99, kw_only=False, at_least=0, at_most=1, fixed=OF_BUFFER, doc="Discount per environment step."
    )
    train_freq: int | tuple[int, str] = setting(
        default=1, kw_only=False, doc='Environment steps (or `(n, "episode")`) between rounds of updates.'
    )
    gradient_steps: int = setting(
        default=1,
        kw_only=False,
        check=_gradient_steps,
        doc="Updates per round (the update-to-data ratio); -1 for one per environment step.",
    )
    horizon_length: int = setting(
        default=5, at_least=1, fixed=OF_NETWORKS, doc="H, actions per chunk and steps of the n-step return."
    )
    action_chunking: bool = setting(
        default=True,
        fixed=OF_NETWORKS,
        doc="Plan all H actions at once; without, H is only the length of the return.",
    )
    ensemble_size: int = setting(default=10, at_least=1, fixed=OF_NETWORKS, doc="E, critics.")
    rho: float = setting(
        default=0.5,
        at_least=0,
        search=linear_range(0.0, 1.0),
        doc="Pessimism: standard deviations over the ensemble subtracted from its mean.",
    )
    flow_steps: int = setting(
        default=10, at_least=1, search=choice(5, 10, 20), doc="K, Euler steps of a flow (or diffusion steps)."
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
        default=False, fixed=OF_NETWORKS, doc="Apply LayerNorm after each hidden activation of velocity fields."
    )
    critic_layer_norm: bool = setting(
        default=True, fixed=OF_NETWORKS, doc="Apply LayerNorm after each hidden activation of critics and values."
    )
    observation_scale: float | Literal["range"] | None = setting(
        default=None,
        above=0,
        check=_observation_scale,
        fixed="the statistics are taken when the dataset is loaded",
        doc="Centre observations by the dataset's mean and scale each coordinate to this standard deviation; or, with "
        '`"range"`, bring the range of each coordinate in it to [-1, 1]; None for raw observations. The statistics are '
        "stored with the model.",
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
    encoder: Literal["impala_small", "impala", "impala_large", "impala_debug"] | None = setting(
        default=None,
        fixed=OF_NETWORKS,
        doc="What sees images: `impala_small`, `impala`, `impala_large` or `impala_debug`, as OGBench and FQL name it; "
        "None: the policy's own extractor, or that of `policy_kwargs`.",
    )
    sparse: bool = setting(
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
        default="fp32",
        fixed=OF_NETWORKS,
        doc="`fp32`; `tf32` (fast float32 products of CUDA); `bf16` (products of hidden layers in bfloat16).",
    )
    compile: Literal["auto", "on", "off"] = setting(
        default="auto",
        doc="Compile the losses and, on CUDA, record whole updates and replay them; `auto` decides by device and "
        "number of updates so far. What fails falls back to plain execution with a warning that says why.",
    )

    def __init__(self, **values: Any) -> None:
        super().__init__(**values)
        if self.balanced_sampling and self.batch_size % 2:
            raise ValueError(
                f"`batch_size` must be even with `balanced_sampling`, got {self.batch_size}; use an even number"
            )

    @property
    def chunk_length(self) -> int:
        """Number of actions that one plan holds: H, or 1 without action chunking."""
        return self.horizon_length if self.action_chunking else 1

    # -- what an algorithm defines ------------------------------------------------------------------------------------

    def networks(self) -> dict[str, NetworkSpec]:
        """Return the algorithm's networks by name, in the order in which they are initialised."""
        raise NotImplementedError(
            'must be defined; it returns {"critic": critic(target=True), ...}, every network by name (docs/register.md)'
        )

    def noise(self) -> dict[str, Draw]:
        """Return every random draw of an update by name, besides those of the next action."""
        raise NotImplementedError(
            'must be defined; it returns {"bc_x0": normal(), ...}, every random draw by name (docs/register.md)'
        )

    def action_noise_table(self) -> dict[str, Draw]:
        """Return the random draws of one call of :meth:`act` by name."""
        return {"action": normal()}

    def act(self, observations: Tensor, noise: Noise, nets: Networks) -> Tensor:
        """Sample chunks: the one sampler for TD targets, collection and evaluation.

        :param observations: as the networks see them, (S, N, O).
        :param noise: the draws of :meth:`action_noise_table`.
        :param nets: the networks.
        :return: actions in [-1, 1], (S, N, D).
        """
        raise NotImplementedError(
            "must be defined; it returns actions (S, N, D) in [-1, 1] for observations (S, N, O) (docs/register.md)"
        )

    def targets(self, batch: Batch, noise: Noise, nets: Networks, info: Info) -> Targets:
        """Compute what the losses regress to; no gradient is recorded here.

        :param batch: the batch.
        :param noise: all draws of the update.
        :param nets: the networks.
        :param info: to add diagnostics to, each (S,).
        :return: tensors by name.
        """
        raise NotImplementedError(
            "must be defined; it returns a dict of what the losses regress to (perhaps empty) (docs/register.md)"
        )

    def losses(self, batch: Batch, targets: Targets, noise: Noise, nets: Networks, info: Info) -> Losses:
        """Compute the losses, unscaled; each is a mean over everything but replicas.

        :param batch: the batch.
        :param targets: from :meth:`targets`.
        :param noise: all draws of the update.
        :param nets: the networks.
        :param info: to add diagnostics to, each (S,).
        :return: name -> (S,).
        """
        raise NotImplementedError("must be defined; it returns a dict of losses by name, each (S,) (docs/register.md)")

    def loss_weights(self) -> dict[str, float]:
        """Return the weights of the losses; those not named weigh 1."""
        return {}

    def score(self, observations: Tensor, actions: Tensor, nets: Networks) -> Tensor:
        """Rate candidate actions for best-of-n: the online critics' plain mean.

        :param observations: (S, N, O).
        :param actions: (S, N, D).
        :param nets: the networks.
        :return: (S, N).
        """
        return nets.critic(observations, actions).mean(1)

    def skipped_networks(self, updates: int) -> frozenset[str]:
        """Return which networks the coming update leaves as they are; a target copy is named with ``_target``.

        What is skipped takes no part in the gradient's norm, and its optimiser state rests.

        :param updates: number of updates so far.
        :return: names.
        """
        return frozenset()

    def after_update(self, nets: Networks, info: Info) -> None:
        """Update state that is not trained by gradient, e.g. a multiplier.

        :param nets: the networks.
        :param info: the update's losses and diagnostics.
        """

    def before_online(self, nets: Networks) -> None:
        """Prepare for online training, e.g. change a budget.

        :param nets: the networks.
        """

    # -- what follows from it -----------------------------------------------------------------------------------------

    def candidate_noise(self) -> dict[str, Draw]:
        """Return the draws of one action choice, with an axis N when several candidates compete."""
        table = self.action_noise_table()
        return table if self.best_of_n == 1 else {name: draw.with_candidates() for name, draw in table.items()}

    def with_rows_in_place(self, noise: Noise) -> dict[str, Tensor]:
        """Return noise whose rows come right after the replicas, (S, N, ...), with the axes of its draws."""
        draws = self.candidate_noise()
        return {name: draw.movedim(1, 1 + draws[name].axes.index("B")) for name, draw in noise.items()}

    def update_noise(self) -> dict[str, Draw]:
        """Return every draw of one update: the next action's, prefixed ``td_``, the algorithm's own, and the crops'."""
        of_actions = {f"td_{name}": draw for name, draw in self.candidate_noise().items()}
        return {**of_actions, **self.noise(), **self.crop_noise()}

    def crop_noise(self) -> dict[str, Draw]:
        """Return the draws of random crops: none without them, or whether they are done, and where images begin."""
        return {"crop": uniform(""), "crop_y": uniform(), "crop_x": uniform()} if self.random_crop else {}

    def noise_sizes(self, replicas: int, rows: int, chunk_size: int) -> dict[str, int]:
        """Return the sizes of the noise table's axes.

        :param replicas: S.
        :param rows: B.
        :param chunk_size: D.
        :return: letter -> size.
        """
        return {"S": replicas, "B": rows, "N": self.best_of_n, "K": self.flow_steps, "D": chunk_size}

    def sample_actions(self, observations: Tensor, noise: Noise, nets: Networks) -> Tensor:
        """Sample chunks, choosing the best of n candidates by :meth:`score` when ``best_of_n`` > 1.

        :param observations: (S, N, O).
        :param noise: the draws of :meth:`candidate_noise`.
        :param nets: the networks.
        :return: (S, N, D).
        """
        n = self.best_of_n
        if n == 1:
            return self.act(observations, noise, nets)
        table = self.candidate_noise()
        axes = {name: 1 + table[name].axes.index("B") for name in noise}
        merged = {name: draw.flatten(axes[name], axes[name] + 1) for name, draw in noise.items()}
        repeating: Any = RepeatedObservations(nets, observations, n)
        candidates = self.act(repeating.repeated, merged, repeating)
        scores = self.score(repeating.repeated, candidates, repeating)
        return pick_best(candidates.unflatten(1, (-1, n)), scores.unflatten(1, (-1, n)))

    def next_actions(self, batch: Batch, noise: Noise, nets: Networks) -> Tensor:
        """Sample the next state's action of the TD target.

        :param batch: the batch.
        :param noise: all draws of the update.
        :param nets: the networks.
        :return: (S, B, D).
        """
        return self.sample_actions(batch.next_observations, self.next_noise(noise), nets)

    def td_targets(self, batch: Batch, noise: Noise, nets: Networks) -> Targets:
        """Sample the next actions, and return them with the TD target, which the target critics give.

        :param batch: the batch.
        :param noise: all draws of the update.
        :param nets: the networks.
        :return: ``next_actions``, (S, B, D), and ``td``, (S, B).
        """
        next_actions = self.next_actions(batch, noise, nets)
        next_q = nets.critic_target(batch.next_observations, next_actions)
        return {"next_actions": next_actions, "td": td_target(batch, next_q, self.rho)}

    def next_noise(self, noise: Noise) -> Noise:
        """Return the draws of the next action among all of an update, by the names that :meth:`act` asks for."""
        return {name: noise[f"td_{name}"] for name in self.action_noise_table()}
