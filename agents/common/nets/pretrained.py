r"""The user's flow and diffusion networks, as velocity fields from noise (t = 0) to actions (t = 1).

Every Gaussian path equals the straight path up to a change of scale and time. The point :math:`a m + s\epsilon` of a
diffusion (action m, noise :math:`\epsilon`), divided by :math:`a + s`, is the point of the straight path at
:math:`\tau = a/(a + s)`; the velocity there is :math:`m - \epsilon`. Source: Lipman et al., Flow Matching Guide and
Code, arXiv 2412.06264.

The module's actions may be :math:`m = c\,y + d` for the zoo's actions y in [-1, 1]. With the same noise, a point x of
our path at t then corresponds to the point :math:`(\tau c + 1 - \tau)\,x + \tau d` of the module's straight path at
:math:`\tau = t/(t + c(1 - t))`. All coordinates must have the same c, since different scales would need different times
:math:`\tau`, and the module has a single time input.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from functools import partial
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from agents.common.nets.modules import VmappedModule
from agents.common.nets.networks import Sizes
from agents.common.nets.specs import NetworkSpec
from agents.common.validation import boolean, one_of

Prediction = Literal["velocity", "noise", "sample"]
Call = Callable[[nn.Module, Any, Tensor, Tensor], Tensor]


def call_module(module: nn.Module, observations: Any, x: Tensor, times: Tensor) -> Tensor:
    """Call a module as ``module(observations, x, times)``."""
    return module(observations, x, times)


@dataclass(frozen=True)
class PretrainedFlow:
    """Custom flow or diffusion network, trained or not, that becomes the behaviour flow of an algorithm.

    :param module: the network, a pure function of its inputs; it is copied, and called in evaluation mode.
    :param call: function that calls the module: ``(module, observations, x, times) -> prediction``. x has shape (B, D),
        or (B, H, A) with ``action_shape``; times (B,) are the module's flow times or, with ``alpha_bar``, (fractional)
        indices into ``alpha_bar``. The prediction has the shape of x.
    :param predicts: the velocity of a flow, or the noise or the clean sample of a diffusion.
    :param noise_at: time at which the module's flow is noise: 0, or 1 if the velocity points from action to noise.
    :param alpha_bar: cumulative products of a diffusion's schedule, the least noisy step first; None for a flow.
    :param action_shape: (H, A) for a module whose actions have two axes; None for a module with flat chunks.
    :param action_scale: c > 0 in ``module's action = c * action + action_shift``, for actions in [-1, 1].
    :param action_shift: d, one number, or a number for each coordinate of a chunk; with ``action_shape`` also (A,).
    :param train: whether to train the behaviour flow by cloning, as an untrained module needs; if False, it is frozen.
    :raises TypeError: if ``module``, ``call``, ``train`` or a number has the wrong type.
    :raises ValueError: for an invalid value, or conventions that contradict each other.

    >>> class MyFlow(nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.layer = nn.Linear(3 + 1 + 1, 1)
    ...
    ...     def forward(self, observations, x, times):
    ...         return self.layer(torch.cat([observations, x, times[:, None]], 1))
    >>> flow = PretrainedFlow(MyFlow(), train=True)
    >>> model = agents.QAM("MlpPolicy", "Pendulum-v1", behaviour=flow, horizon_length=1, net_arch=[32])
    """

    module: nn.Module
    call: Call = call_module
    predicts: Prediction = "velocity"
    noise_at: float = 0.0
    alpha_bar: ArrayLike | None = None
    action_shape: tuple[int, int] | None = None
    action_scale: float = 1.0
    action_shift: ArrayLike = 0.0
    train: bool = False

    def __post_init__(self) -> None:
        is_script = isinstance(self.module, torch.jit.ScriptModule)
        if is_script or not isinstance(self.module, nn.Module) or not callable(self.call):
            raise TypeError(
                "`module` must be a torch.nn.Module, not TorchScript, and `call` a function, got "
                f"{type(self.module).__name__} and {self.call!r}"
            )
        one_of("predicts", self.predicts, get_args(Prediction))
        boolean("train", self.train)
        for name in ("noise_at", "alpha_bar", "action_scale", "action_shift"):
            # the dataclass is frozen, so plain assignment would fail
            object.__setattr__(self, name, _plain(name, getattr(self, name)))
        if self.noise_at not in (0, 1) or (self.noise_at and self.alpha_bar is not None):
            raise ValueError(
                "`noise_at` must be 0 or 1, and omitted with `alpha_bar`, got "
                f"{self.noise_at}; let `call` convert times"
            )
        if (self.predicts == "velocity") != (self.alpha_bar is None):
            raise ValueError(
                f"`alpha_bar` is needed if `predicts` is 'noise' or 'sample', and only then, got predicts="
                f"{self.predicts!r} and `alpha_bar` of type {type(self.alpha_bar).__name__}"
            )
        if self.alpha_bar is not None:
            table = np.asarray(self.alpha_bar)
            is_list = table.ndim == 1 and len(table) > 1
            # false for NaN too
            if not (is_list and table.min() > 0 and np.diff(table, prepend=1).max() < 0):
                raise ValueError(
                    "`alpha_bar` must be at least two numbers between 0 and 1 that decrease from step to step, the "
                    f"least noisy first (`scheduler.alphas_cumprod`), got {table}; compute it in float32, and leave "
                    "out a last step of 0"
                )
        scale, shift = self.action_scale, np.asarray(self.action_shift)
        is_number = isinstance(scale, float) and 0 < scale < np.inf
        if not is_number or not np.isfinite(shift).all():
            raise ValueError(
                f"`action_scale` must be one positive number, and `action_shift` finite, got {scale} and {shift}; if "
                "scales differ, rescale the environment's actions to the module's [-1, 1] "
                "(gymnasium.wrappers.TransformAction)"
            )
        sizes = np.asarray(self.action_shape or (1, 1))
        if sizes.shape != (2,) or sizes.dtype.kind != "i" or sizes.min() < 1:
            raise ValueError(f"`action_shape` must be two positive integers, got {sizes}")
        chunk = tuple(self.action_shape or ())
        shapes = [(), chunk[1:], chunk]
        if chunk and shift.shape not in shapes:
            raise ValueError(f"`action_shift` must be of a shape in {shapes}, got {shift.shape}")

    def conventions(self) -> dict[str, Any]:
        """Return the conventions of the module as plain values."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        del values["module"], values["call"]
        return values

    def fingerprint(self) -> str:
        """Return the SHA-256 of the module's weights and conventions."""
        # conventions too, since they change the flow of the same weights
        digest = hashlib.sha256(repr(self.conventions()).encode())
        for name, value in self.module.state_dict().items():
            digest.update(name.encode())
            digest.update(value.cpu().flatten().view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()

    def in_place_of(self, specs: Mapping[str, NetworkSpec]) -> dict[str, NetworkSpec]:
        """Return an algorithm's networks, with this flow as the behaviour flow and its copies."""
        replaced = dict(specs)
        for name, spec in specs.items():
            if spec.role in ("behaviour", "copy"):
                build = partial(PretrainedNetwork, self, self.train or spec.role == "copy")
                training = spec.training.settings()
                replaced[name] = NetworkSpec(build, spec.target, spec.role, **training)
        return replaced


def _plain(name: str, value: Any) -> Any:
    """Return a number or nested lists of numbers; None stays None."""
    if value is None:
        return None
    if isinstance(value, Tensor):
        value = value.detach().cpu()  # it may be on a GPU
    try:
        return np.asarray(value, np.float64).tolist()
    except (TypeError, ValueError) as error:
        raise TypeError(f"`{name}` must be a number or a list of numbers, got {value!r}") from error


class PretrainedField(nn.Module):
    """The velocity field of a module: maps observations (B, O), points (B, D) and times (B, 1) to velocities (B, D).

    ``read_rows`` converts rows of observations to the observations that the module takes, such as a Dict.
    """

    shift: Tensor
    table_times: Tensor

    def __init__(self, flow: PretrainedFlow) -> None:
        super().__init__()
        try:
            self.module = copy.deepcopy(flow.module)
        except Exception as error:
            raise TypeError(
                f"`module` must be copyable by `copy.deepcopy`, got {type(error).__name__}: {error}; call "
                "`remove_weight_norm`, and delete tensors of earlier calls"
            ) from error
        self.dtype = next(self.module.parameters(), torch.empty(0)).dtype
        self.call = flow.call
        self.read_rows: Callable[[Tensor], Any] = lambda rows: rows
        self.predicts = flow.predicts
        self.noise_at = flow.noise_at
        self.action_shape = flow.action_shape and tuple(flow.action_shape)
        self.scale = flow.action_scale
        shift = torch.tensor(flow.action_shift)
        if flow.action_shape is not None:
            shift = shift.expand(flow.action_shape).flatten()
        self.register_buffer("shift", shift)
        self.is_scaled = self.scale != 1 or bool((shift != 0).any())
        # noisiest step first, so that times increase from noise to actions
        alpha_bar = torch.tensor(flow.alpha_bar or [], dtype=torch.float64).flip(0)
        signal = alpha_bar.sqrt()
        times = signal / (signal + (1 - alpha_bar).sqrt())
        self.register_buffer("table_times", times.float())

    def train(self, mode: bool = True) -> PretrainedField:
        """Stay in evaluation mode, in which dropout is off and batch statistics are fixed."""
        return super().train(False)

    def forward(self, rows: Tensor, x: Tensor, t: Tensor) -> Tensor:
        """Return the velocities at x, (B, D), for times (B, 1)."""
        observations = self.read_rows(rows)
        if not self.is_scaled:
            return self._straight_velocity(observations, x, t)
        tau = t / (t + self.scale * (1 - t))
        point = (tau * self.scale + 1 - tau) * x + tau * self.shift
        velocity = self._straight_velocity(observations, point, tau)
        action = point + (1 - tau) * velocity
        noise = point - tau * velocity
        return (action - self.shift) / self.scale - noise

    def _straight_velocity(self, observations: Any, x: Tensor, tau: Tensor) -> Tensor:
        """Return the velocity on the straight path from noise to the module's action, before `action_scale`."""
        if self.predicts != "velocity":
            return self._denoise(observations, x, tau)
        if self.noise_at == 0:
            return self._predict(observations, x, tau)
        return -self._predict(observations, x, 1 - tau)

    def _denoise(self, observations: Any, x: Tensor, tau: Tensor) -> Tensor:
        """Return action minus noise, both predicted by a diffusion, at points of the straight path."""
        # without any signal, predicted noise does not determine the action, so start at the noisiest step
        tau = tau.clamp(self.table_times[0], self.table_times[-1])
        last = len(self.table_times) - 1
        # counts the times below tau, since ONNX has no searchsorted
        upper = (self.table_times < tau).sum(-1, keepdim=True).clamp(1, last)
        lower = upper - 1
        left = self.table_times[lower]
        share = (tau - left) / (self.table_times[upper] - left)
        # index in the module's table, whose first step is the least noisy
        index = last - (lower + share)
        # a^2 + s^2 = 1 and a / (a + s) = tau
        size = (tau.square() + (1 - tau).square()).rsqrt()
        signal = tau * size
        noise_scale = (1 - tau) * size
        point = x * size
        prediction = self._predict(observations, point, index)
        is_noise = self.predicts == "noise"
        action = (point - noise_scale * prediction) / signal if is_noise else prediction
        # Clipped to the action bounds, which also bound the mean of clean actions. With little
        # signal, division by the signal amplifies errors of the predicted noise.
        action = action.clamp(self.shift - self.scale, self.shift + self.scale)
        noise = (point - signal * action) / noise_scale
        if is_noise:
            # with little noise, division by the noise would amplify the effect of the clipping
            noise = torch.where(tau < 0.5, noise, prediction)
        return action - noise

    def _predict(self, observations: Any, x: Tensor, times: Tensor) -> Tensor:
        """Call the module with its shapes and dtype; return (B, D) in the dtype of x."""
        actions = x if self.action_shape is None else x.unflatten(-1, self.action_shape)
        prediction = self.call(self.module, observations, actions.to(self.dtype), times.squeeze(-1))
        if not isinstance(prediction, Tensor):
            raise TypeError(
                f"`call` must return one tensor, got {type(prediction).__name__}; return only the {self.predicts}"
            )
        if prediction.shape != actions.shape:
            raise ValueError(
                f"`call` must return the shape of x, {tuple(actions.shape)}, got {tuple(prediction.shape)}; do "
                "`action_shape` and `horizon_length` fit the module?"
            )
        return prediction.to(x.dtype).flatten(1)


class PretrainedNetwork(VmappedModule):
    """The velocity field of every replica; all are initialised with the weights of the user's module.

    16-bit weights are stored in 32 bits, since 16 would lose small steps of an optimiser or a moving average; the
    module is called with the original dtype.

    :param flow: the custom flow.
    :param is_trained: whether to train those parameters of the module that require gradients.
    :param sizes: contains the number of replicas.
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
        """The velocity field, with the parameters of all replicas."""
        field: PretrainedField = self.module  # type: ignore[assignment]
        return field

    def _tensors(self, frozen: bool) -> dict[str, Tensor]:
        tensors = super()._tensors(frozen)
        for name, dtype in self.low_dtypes.items():
            tensors[name] = tensors[name].to(dtype)
        return tensors
