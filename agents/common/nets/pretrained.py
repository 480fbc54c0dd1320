r"""Flow and diffusion policies that were trained elsewhere, as velocity fields from noise (t = 0) to actions (t = 1).

Every Gaussian path is the straight one up to scale and time. A point of a diffusion, :math:`a m + s\epsilon`, is the
point :math:`x = (a m + s\epsilon)/(a + s)` of the straight path at :math:`\tau = a/(a + s)`, where the velocity is
:math:`m - \epsilon`. Source: Lipman et al., Flow Matching Guide and Code, arXiv 2412.06264.

If the module's actions are :math:`m = c\,y + d` of the zoo's actions y in [-1, 1], then the point of our path at t is,
times :math:`\kappa = \tau c + 1 - \tau` and plus :math:`\tau d`, the point of the module's straight path at
:math:`\tau = t/(t + c(1 - t))`, with the same noise.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from agents.common.maths.flow import integrate_flow
from agents.common.nets.modules import VmappedModule
from agents.common.nets.networks import Sizes, as_column
from agents.common.nets.specs import NetworkSpec
from agents.common.streams import Purpose, torch_generator
from agents.common.validation import boolean, one_of

Prediction = Literal["velocity", "noise", "sample"]
Call = Callable[[nn.Module, Any, Tensor, Tensor], Tensor]
SAMPLED_ROWS, CALLED_ROWS = 256, 64
"""Rows of the comparison with a dataset, and of the calls before training: few might hide a small dropout."""


def call_module(module: nn.Module, observations: Any, x: Tensor, times: Tensor) -> Tensor:
    """Call a module as ``module(observations, x, times)``."""
    return module(observations, x, times)


@dataclass(frozen=True)
class PretrainedFlow:
    """A flow or diffusion policy that was trained elsewhere, to be the behaviour flow of an algorithm.

    :param module: the policy's network; it must be a function of its inputs.
    :param call: calls it: ``(module, observations, x, times) -> prediction``. x has shape (B, D), or (B, H, A) with
        ``action_shape``; times (B,) are the module's own: its flow time, or the index of a row of ``alpha_bar``, which
        may lie between two rows. The prediction has the shape of x.
    :param predicts: the velocity of a flow, or the noise or the clean sample of a diffusion.
    :param noise_at: time at which the module's flow is noise: 0, or 1, where its velocity points from action to noise.
    :param alpha_bar: cumulative products of a diffusion's schedule, the least noisy first; None for a flow.
    :param action_shape: (H, A) for a module whose actions have two axes; None for one with flat chunks.
    :param action_scale: c > 0 in ``module's action = c * action + action_shift``, of actions in [-1, 1].
    :param action_shift: d, a number, or for each of a chunk; with ``action_shape`` also (A,).
    :param train: whether the behaviour flow goes on cloning the data; frozen otherwise.
    :raises TypeError: if the module is no `torch.nn.Module`, or ``call``, `train` or a number is of another type.
    :raises ValueError: for conventions that contradict each other.
    """

    module: nn.Module
    call: Call = call_module
    predicts: Prediction = "velocity"
    noise_at: float = 0.0
    alpha_bar: Sequence[float] | None = None
    action_shape: tuple[int, int] | None = None
    action_scale: float = 1.0
    action_shift: ArrayLike = 0.0
    train: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.module, nn.Module):
            raise TypeError(f"`module` must be a torch.nn.Module, got {type(self.module).__name__}")
        one_of("predicts", self.predicts, get_args(Prediction))
        boolean("train", self.train)
        scale, shift, noise_at = (
            _numbers(name, getattr(self, name))
            for name in ("action_scale", "action_shift", "noise_at")
        )
        if noise_at.ndim or noise_at not in (0, 1) or (noise_at and self.alpha_bar is not None):
            raise ValueError(
                f"`noise_at` must be 0 or 1, and left out beside `alpha_bar`, got {noise_at}; let `call` convert times"
            )
        if (self.predicts == "velocity") != (self.alpha_bar is None):
            raise ValueError(
                f"`alpha_bar` is needed for the noise or sample of a diffusion, and for these alone, got predicts="
                f"{self.predicts!r} and `alpha_bar` of type {type(self.alpha_bar).__name__}"
            )
        if self.alpha_bar is not None:
            table = _numbers("alpha_bar", self.alpha_bar)
            is_list = table.ndim == 1 and len(table) > 1
            if not is_list or table.min() <= 0 or np.diff(table, prepend=1).max() >= 0:
                raise ValueError(
                    "`alpha_bar` must be at least two numbers between 0 and 1 that fall from step to step, the least "
                    f"noisy first (`scheduler.alphas_cumprod`), got {table}"
                )
        if scale.ndim or not 0 < scale < np.inf or not np.isfinite(shift).all():
            raise ValueError(
                f"`action_scale` must be one positive number, and `action_shift` finite, got {self.action_scale!r} and "
                f"{self.action_shift!r}; where coordinates have scales of their own, make the environment's box the "
                "module's (gymnasium.wrappers.RescaleAction)"
            )
        sizes = np.asarray(self.action_shape or (1, 1))
        if sizes.shape != (2,) or sizes.dtype.kind != "i" or sizes.min() < 1:
            raise ValueError(f"`action_shape` must be two positive integers, got {sizes}")
        shapes = [(), tuple(sizes[1:]), tuple(sizes)]
        if self.action_shape and shift.shape not in shapes:
            raise ValueError(f"`action_shift` must be of a shape in {shapes}, got {shift.shape}")

    def conventions(self) -> dict[str, Any]:
        """Return what the numbers of the module mean, as plain values."""
        values = {name: getattr(self, name) for name in ("predicts", "action_shape", "train")}
        for name in ("noise_at", "alpha_bar", "action_scale", "action_shift"):
            value = getattr(self, name)
            values[name] = None if value is None else _numbers(name, value).tolist()
        return values

    def in_place_of(self, specs: Mapping[str, NetworkSpec]) -> dict[str, NetworkSpec]:
        """Return an algorithm's networks with this flow as the behaviour, and as the copy that begins equal to it."""
        replaced = dict(specs)
        for name, spec in specs.items():
            if spec.role in ("behaviour", "copy"):
                build = partial(PretrainedNetwork, self, self.train or spec.role == "copy")
                training = spec.training.settings()
                replaced[name] = NetworkSpec(build, spec.target, spec.role, **training)
        return replaced


def _numbers(name: str, value: Any) -> np.ndarray:
    """Return numbers as an array; refuse what are none."""
    if isinstance(value, Tensor):
        # a buffer or parameter of the user's, perhaps on a GPU
        value = value.detach().cpu()
    try:
        return np.asarray(value, np.float64)
    except (TypeError, ValueError) as error:
        raise TypeError(f"`{name}` must be a number or a list of numbers, got {value!r}") from error


class PretrainedField(nn.Module):
    """The velocity field of a pretrained module: rows (B, O) and (B, D) with times (B, 1) to velocities (B, D).

    The actions may have an axis before the rows, (K, B, D): states of the same observations at several times.
    ``read_rows`` turns rows into the observations that the module knows, such as a Dict.
    """

    shift: Tensor
    table_times: Tensor

    def __init__(self, flow: PretrainedFlow) -> None:
        super().__init__()
        try:
            self.module = copy.deepcopy(flow.module)
        except Exception as error:
            raise TypeError(
                f"`module` must be one that `copy.deepcopy` copies, got {type(error).__name__}: {error}; call "
                "`remove_weight_norm`, and drop what it keeps of earlier calls"
            ) from error
        self.dtype = next(self.module.parameters(), torch.empty(0)).dtype
        self.call = flow.call
        self.read_rows: Callable[[Tensor], Any] = lambda rows: rows
        self.predicts = flow.predicts
        self.noise_at = flow.noise_at
        self.action_shape = flow.action_shape and tuple(flow.action_shape)
        self.scale = float(flow.action_scale)
        conventions = flow.conventions()
        shift = torch.tensor(conventions["action_shift"], dtype=torch.float32)
        if flow.action_shape is not None:
            shift = shift.expand(flow.action_shape).flatten()
        self.register_buffer("shift", shift)
        self.is_scaled = self.scale != 1 or bool((shift != 0).any())
        # noisiest step first, so that times rise from noise to actions
        alpha_bar = torch.tensor(conventions["alpha_bar"] or [], dtype=torch.float64).flip(0)
        signal = alpha_bar.sqrt()
        times = signal / (signal + (1 - alpha_bar).sqrt())
        self.register_buffer("table_times", times.float())

    def forward(self, observations: Any, x: Tensor, t: Tensor) -> Tensor:
        """Return the velocities at x, (B, D) or (K, B, D), for times that broadcast to (B, 1) or (K, B, 1)."""
        observations = self.read_rows(observations)
        t = t.expand(*x.shape[:-1], 1)
        if x.ndim == 2:
            return self._velocity(observations, x, t)
        states = len(x)
        observations = tree_map(
            lambda part: part.repeat(states, *[1] * (part.ndim - 1)), observations
        )
        velocities = self._velocity(observations, x.flatten(0, 1), t.flatten(0, 1))
        return velocities.unflatten(0, x.shape[:2])

    def _velocity(self, observations: Any, x: Tensor, t: Tensor) -> Tensor:
        """Return the velocities at x, (B, D), for times (B, 1)."""
        if self.predicts == "velocity" and not self.is_scaled:
            return self._flow_velocity(observations, x, t)
        tau = t / (t + self.scale * (1 - t)) if self.is_scaled else t
        point = (tau * self.scale + 1 - tau) * x + tau * self.shift if self.is_scaled else x
        if self.predicts == "velocity":
            velocity = self._flow_velocity(observations, point, tau)
            action = point + (1 - tau) * velocity
            noise = point - tau * velocity
        else:
            action, noise = self._denoise(observations, point, tau)
        if self.is_scaled:
            action = (action - self.shift) / self.scale
        return action - noise

    def _flow_velocity(self, observations: Any, x: Tensor, tau: Tensor) -> Tensor:
        """Return the velocity from noise to action, whichever way the module's time runs."""
        if self.noise_at == 0:
            return self._predict(observations, x, tau)
        return -self._predict(observations, x, 1 - tau)

    def _denoise(self, observations: Any, x: Tensor, tau: Tensor) -> tuple[Tensor, Tensor]:
        """Return the action and the noise that a diffusion sees in points of the straight path."""
        # a prediction of noise says nothing about the action where there is no signal: begin at the noisiest step
        tau = tau.clamp(self.table_times[0], self.table_times[-1])
        last = len(self.table_times) - 1
        # counted, since ONNX has no searchsorted
        upper = (self.table_times < tau).sum(-1, keepdim=True).clamp(1, last)
        lower = upper - 1
        left = self.table_times[lower]
        share = (tau - left) / (self.table_times[upper] - left)
        index = last - (lower + share)  # of the module's table, whose first step is the least noisy
        # a^2 + s^2 = 1 and a / (a + s) = tau
        size = (tau.square() + (1 - tau).square()).rsqrt()
        signal = tau * size
        noise_scale = (1 - tau) * size
        point = x * size
        prediction = self._predict(observations, point, index)
        is_noise = self.predicts == "noise"
        action = (point - noise_scale * prediction) / signal if is_noise else prediction
        # The mean of clean actions lies in their box. Where there is little signal, dividing by it blows up the error
        # of a predicted noise.
        action = action.clamp(self.shift - self.scale, self.shift + self.scale)
        noise = (point - signal * action) / noise_scale
        # where there is little noise, dividing by that would blow up what the box has cut off
        return action, torch.where(tau < 0.5, noise, prediction) if is_noise else noise

    def _predict(self, observations: Any, x: Tensor, times: Tensor) -> Tensor:
        """Call the module in its own shapes and dtype; return (B, D) in that of x."""
        actions = x if self.action_shape is None else x.unflatten(-1, self.action_shape)
        prediction = self.call(self.module, observations, actions.to(self.dtype), times.squeeze(-1))
        if not isinstance(prediction, Tensor):
            raise TypeError(
                f"`call` must return one tensor, got {type(prediction).__name__}; let it choose the {self.predicts}"
            )
        if prediction.shape != actions.shape:
            raise ValueError(
                f"`call` must return the shape of x, {tuple(actions.shape)}, got {tuple(prediction.shape)}; do "
                "`action_shape` and `horizon_length` fit the module?"
            )
        return prediction.to(x.dtype).flatten(1)


class PretrainedNetwork(VmappedModule):
    """The velocity field of every replica, each of which begins with the weights of the pretrained module.

    Weights of 16 bits are kept in 32, in which small steps of an optimiser or a moving average are not lost, and the
    module is called with them as it had them.

    :param flow: the pretrained policy.
    :param is_trained: whether its parameters are trained, of those that require gradients in the module.
    :param sizes: gives the number of replicas.
    """

    def __init__(self, flow: PretrainedFlow, is_trained: bool, sizes: Sizes) -> None:
        super().__init__(partial(PretrainedField, flow), sizes.replicas)
        self.low_dtypes: dict[str, torch.dtype] = {}
        for name, tensor in self._tensors(frozen=False).items():
            if tensor.dtype in (torch.float16, torch.bfloat16):
                self.low_dtypes[name] = tensor.dtype
                tensor.data = tensor.data.float()
        if not is_trained:
            self.requires_grad_(False)

    @property
    def field(self) -> PretrainedField:
        """The velocity field, whose parameters are those of all replicas."""
        field: PretrainedField = self.module  # type: ignore[assignment]
        return field

    def _tensors(self, frozen: bool) -> dict[str, Tensor]:
        tensors = super()._tensors(frozen)
        for name, dtype in getattr(self, "low_dtypes", {}).items():
            tensors[name] = tensors[name].to(dtype)
        return tensors

    def forward(self, *inputs: Any, frozen: bool = False) -> Any:
        """Return the velocities for (observations, x, t): x is (S, B, D), or (S, K, B, D) for K states of every row."""
        observations, x, t = inputs
        return super().forward(observations, x, as_column(t, x), frozen=frozen)


# -- before training --------------------------------------------------------------------------------------------------


def check_outputs(policy: Any) -> None:
    """Call a policy's pretrained flow; refuse one that is no differentiable function of each row of its inputs.

    :param policy: with the flow among its networks.
    :raises ValueError: if it fails, changes its inputs, mixes rows, or returns another shape, NaN, other numbers each
        time or no gradient.
    """
    network = _network_of(policy)
    size, chunk = policy.chunk_size, (policy.chunk_length, policy.action_size)

    def require(holds: Any, rule: str) -> None:
        if not holds:
            raise ValueError(f"`behaviour` must {rule}")

    shape = network.field.action_shape or chunk
    require(shape == chunk, f"have chunks of shape {chunk} here, got {shape}; set `horizon_length`")
    # no two coordinates alike, so that one cannot stand for another
    x = torch.linspace(-1, 1, CALLED_ROWS * size, dtype=torch.float32, device=policy.device)
    inputs = [
        policy.layout.zeros(CALLED_ROWS).to(policy.device),
        x.view(-1, size),
        torch.full((CALLED_ROWS, 1), 0.5, dtype=torch.float32, device=policy.device),
    ]
    with torch.enable_grad():
        inputs = [part.requires_grad_(part.is_floating_point()) for part in inputs]
        # all replicas begin with the same weights: the first stands for them
        rows = [part.expand(policy.num_replicas, -1, -1) for part in inputs]
        values = [part.detach().clone() for part in rows]
        try:
            first, second = (network(*rows)[0] for _ in range(2))
            # as in an episode, where a squeezed axis is missing
            network(*(part[:, :1] for part in rows))
            ends = [network(*rows[:2], t) for t in (0.0, 1.0)]
        except Exception as error:
            of_x = (CALLED_ROWS, *(network.field.action_shape or [size]))
            raise ValueError(
                f"`behaviour` must map x of shape {of_x}, rows of observations and times to the shape of x, got "
                f"{type(error).__name__}: {error}; let `call` convert what the module takes and returns, and set "
                "`horizon_length` to the length of its chunks"
            ) from error
        require(
            all(map(torch.equal, rows, values)),
            "leave its inputs as they are, got some changed in place; copy them in `call`",
        )
        for time, velocity in zip((0.5, 0, 1), (first, *ends), strict=True):
            require(velocity.isfinite().all(), f"return finite numbers, got others at time {time}")
        rule = "be a function of its inputs, got other numbers at a second call; set a dropout's p to 0"
        require(torch.equal(first, second), rule)
        gradients: list[Any] = [None] * len(inputs)
        if first.requires_grad:
            gradients = list(torch.autograd.grad(first[-1].sum(), inputs, allow_unused=True))
    rule = "pass gradients to x, got none; leave out `torch.no_grad`, `detach` and rounding"
    require(gradients[1] is not None and gradients[1][-1].any(), rule)
    for gradient in gradients:
        rule = "treat each row by itself; leave out statistics of the batch, and let attention be `batch_first`"
        require(gradient is None or not gradient[:-1].any(), rule)


def check_samples(policy: Any, buffer: Any) -> None:
    """Compare samples of a policy's pretrained flow in states of the dataset with the dataset's actions and with noise.

    :param policy: with the flow among its networks.
    :param buffer: with the dataset.
    :raises ValueError: if samples are further from the data than noise is.
    """
    device = policy.device if buffer.placement.on_device else "cpu"
    batch = buffer.draw(SAMPLED_ROWS, None, torch_generator(Purpose.CHECKS, 0, 3, device=device))
    generator = torch_generator(Purpose.CHECKS, 0, 4)
    noise = torch.randn(batch.actions.shape, generator=generator, dtype=torch.float32)
    noise = noise.to(policy.device)
    with torch.no_grad():
        velocity = _network_of(policy).at(batch.observations)
        samples = integrate_flow(velocity, noise, policy.method.flow_steps)

    def error(actions: Tensor) -> float:
        squares = batch.valid * (actions - batch.actions).square().mean(-1)
        return float((squares.sum() / batch.valid.sum().clamp(min=1)).sqrt())

    # where the data have two modes, samples of a right flow are as far from one as noise; also where a sample is NaN
    if not error(samples) < 1.1 * error(noise):
        raise ValueError(
            f"samples of `behaviour` must be nearer to the data's actions than noise is, got a root mean square of "
            f"{error(samples):.2f} from samples and {error(noise):.2f} from noise; is `noise_at` right, and are "
            "`action_scale` and `action_shift` those between actions in [-1, 1] and the module's?"
        )


def _network_of(policy: Any) -> PretrainedNetwork:
    """Return the network of a policy that stands for the behaviour flow."""
    networks = policy.nets.values()
    return next(network for network in networks if isinstance(network, PretrainedNetwork))
