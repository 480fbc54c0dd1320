"""One update in one piece: gradient, joint clip, target networks, optimiser. Nothing algorithmic is here.

The losses are compiled as soon as the number of updates repays that. On CUDA the whole of it, drawing a batch and its
noise included, is recorded into a graph and replayed, so that an update is one launch.
"""

from __future__ import annotations

import textwrap
import types
import warnings
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from agents.common.batch import Batch
from agents.common.engine.capture import CapturedStep, CaptureError, earlier_failure
from agents.common.engine.precision import float32_products
from agents.common.nets.fast import onednn_is_faster
from agents.common.noise import Noise

if TYPE_CHECKING:
    from agents.common.base import FlowQLearning, Info

RECORDINGS = 4  # kept at most: each holds an update's memory
REASON_LINES, REASON_CHARACTERS = 2, 500  # of an error that updates go on after
REPAYING_UPDATES = 5_000  # of a model, after which it is compiled, for about a minute: training is long then


@dataclass(frozen=True)
class Mode:
    """How updates are run.

    :param compiled: whether the losses are compiled.
    :param captured: whether updates are replayed from a CUDA graph.
    :param reason: why, for the log.
    """

    compiled: bool
    captured: bool
    reason: str

    def __str__(self) -> str:
        """Return the mode in words."""
        words = [word for word, used in (("compiled", self.compiled), ("captured", self.captured)) if used]
        return f"{' and '.join(words) or 'eager'} ({self.reason})"


def choose_mode(wish: str, device: torch.device, updates: int) -> Mode:
    """Decide how updates are run; by a rule, not by measuring, so that equal runs on one machine are run alike.

    A model's first updates are not compiled, and how many of them there are does not depend on how training is split
    into phases and runs: short training needs no compiler, and long training that is resumed gives the same bits.

    :param wish: the setting ``compile``: ``auto``, ``on`` or ``off``.
    :param device: where the networks are.
    :param updates: number of updates that the model has taken.
    :return: the mode.
    """
    cuda = device.type == "cuda"
    if wish == "off":
        return Mode(False, False, "`compile` is off")
    if wish == "on":
        return Mode(True, cuda, "`compile` is on")
    if device.type not in ("cpu", "cuda"):
        return Mode(False, False, f"nothing is known about compiling on a {device.type.upper()}")
    if not cuda and onednn_is_faster():
        return Mode(False, False, "this processor's fastest products are out of the compiler's reach")
    if updates < REPAYING_UPDATES:
        return Mode(False, cuda, f"compiled after {REPAYING_UPDATES:,} updates, which takes about a minute")
    return Mode(True, cuda, f"more than {REPAYING_UPDATES:,} updates")


class Update:
    """Takes gradient steps for an algorithm; none synchronises with the host or branches on values.

    :param algorithm: gives losses, networks and settings.
    """

    def __init__(self, algorithm: FlowQLearning) -> None:
        self.algorithm = algorithm
        self.optimizer = algorithm.policy.optimizer
        self._own_losses = _with_own_code(algorithm.compute_losses)
        self.skipped: frozenset[str] | None = None
        self._recording = False
        self.select(algorithm.skipped_networks())
        self._learning_rate = torch.tensor(0.0, device=algorithm.device)
        self.prepare()

    # -- one gradient step --------------------------------------------------------------------------------------------

    def select(self, skipped: frozenset[str]) -> None:
        """Choose what the next step moves.

        :param skipped: names of the networks that stay as they are.
        """
        if skipped == self.skipped:
            return
        nets = self.algorithm.policy.nets
        still = {id(p) for name in skipped for p in nets[name].parameters()}
        every = [p for group in self.optimizer.param_groups for p in group["params"]]
        self.parameters = [p for p in every if id(p) not in still]
        for parameter in every:
            parameter.grad = None  # the optimiser leaves a parameter without gradient, and its moments, alone
        following = [pair for pair in nets.targets() if all(id(q) not in still for q in pair[1].parameters())]
        self.online: list[Tensor] = [p for online, _ in following for p in online.parameters()]
        self.target: list[Tensor] = [q for _, target in following for q in target.parameters()]
        # statistics that a features extractor gathers, e.g. those of batch normalisation
        self.online_statistics: list[Tensor] = [p for online, _ in following for p in online.buffers()]
        self.target_statistics: list[Tensor] = [q for _, target in following for q in target.buffers()]
        self.skipped = skipped

    def __call__(self, batch: Batch, noise: Noise) -> Info:
        """Take one gradient step.

        :param batch: the batch.
        :param noise: all draws of the update.
        :return: losses and diagnostics, each (S,).
        """
        self._compile_in_time()
        if not self.algorithm.policy.training:  # acting switches dropout and batch statistics off
            self.algorithm.policy.set_training_mode(True)
        self.select(self.algorithm.skipped_networks())
        with float32_products(self.algorithm.precision, self.algorithm.device):
            info, found = self._differentiate(batch, noise)
        grads = [torch.zeros_like(p) if g is None else g for p, g in zip(self.parameters, found, strict=True)]
        self.apply(grads, info)
        return info

    def apply(self, grads: list[Tensor], info: Info) -> None:
        """Clip the gradient, move the targets towards the weights from before the step, and take the step.

        :param grads: one tensor per parameter.
        :param info: gets ``grad_norm``, each replica's norm before clipping, (S,).
        """
        algorithm = self.algorithm
        info["grad_norm"] = norm = joint_norm(grads, algorithm.policy.num_replicas)
        if algorithm.max_grad_norm is not None:
            factor = (algorithm.max_grad_norm / norm).clamp(max=1.0)
            grads = list(torch._foreach_mul(grads, _for_each(grads, factor)))
        with torch.no_grad():
            if self.online:
                torch._foreach_lerp_(self.target, self.online, algorithm.tau)
            for own, other in zip(self.target_statistics, self.online_statistics, strict=True):
                own.copy_(other)
        for parameter, grad in zip(self.parameters, grads, strict=True):
            parameter.grad = grad
        self.optimizer.step()

    # -- how steps are run --------------------------------------------------------------------------------------------

    def prepare(self) -> None:
        """Decide how the coming updates are run; what was compiled or recorded before is dropped."""
        self._choose_mode()
        if self.mode.captured and not all(group.get("fused") for group in self.optimizer.param_groups):
            name = type(self.optimizer).__name__
            self._give_up("captured", f"{name} is no fused Adam; its step may need the host")

    def _choose_mode(self) -> None:
        algorithm = self.algorithm
        self.mode = choose_mode(algorithm.compile, algorithm.device, algorithm._n_updates)
        failure = earlier_failure()
        if self.mode.captured and failure is not None:
            self.mode = replace(self.mode, captured=False, reason=f"an earlier recording failed: {_shortened(failure)}")
        self._may_compile_later = algorithm.compile == "auto" and algorithm._n_updates < REPAYING_UPDATES
        self._captured: dict[Hashable, CapturedStep] = {}
        self._losses: Callable[[Batch, Noise], tuple[Tensor, Info]] | None = None

    def _compile_in_time(self) -> None:
        """Let the coming updates be compiled if there have been enough of them."""
        if not self._may_compile_later or self.algorithm._n_updates < REPAYING_UPDATES:
            return
        captured = self.mode.captured
        self._choose_mode()
        self.mode = replace(self.mode, captured=captured)  # what failed before is not tried again
        if self.mode.compiled and self.algorithm.verbose >= 1:
            print("The coming updates are compiled, which takes about a minute.", flush=True)

    def from_buffer(self, batch_size: int) -> Info:
        """Draw a batch and noise, and take one gradient step.

        :param batch_size: B.
        :return: losses and diagnostics, each (S,); a replayed step writes into the same tensors every time.
        """
        self._compile_in_time()
        algorithm = self.algorithm
        if not self.mode.captured:
            return self(algorithm.draw_batch(batch_size), algorithm.draw_noise(batch_size))
        inside = algorithm.batch_source()
        batch = algorithm.draw_batch(batch_size) if inside is None else None
        drawn_from = id(algorithm._generator)  # a recording draws from the object that it was made with
        key = (batch_size, inside, algorithm.skipped_networks(), algorithm.pretraining, drawn_from)
        try:
            step = self._captured.get(key)
            if step is None:
                if len(self._captured) == RECORDINGS:
                    self._captured.pop(next(iter(self._captured)))
                step = self._captured[key] = self._make_step(batch_size, batch)
            if step.batch is not None and batch is not None:
                for name, tensor in vars(batch).items():
                    getattr(step.batch, name).copy_(tensor)
            self._learning_rate.fill_(self.optimizer.param_groups[0]["lr"])
            return step()
        except CaptureError as error:
            self._give_up("captured", str(error))
            return self.from_buffer(batch_size)

    def _make_step(self, batch_size: int, batch: Batch | None) -> CapturedStep:
        """Return a step that is run some times, recorded, and replayed from then on."""
        algorithm = self.algorithm
        static = None if batch is None else Batch(**{name: tensor.clone() for name, tensor in vars(batch).items()})

        def take() -> Info:
            found = algorithm.draw_batch(batch_size) if static is None else static
            return self(found, algorithm.draw_noise(batch_size))

        generators = list(algorithm.generators().values())
        return CapturedStep(take, algorithm.device, generators, static, self._while_recording)

    @contextmanager
    def _while_recording(self) -> Iterator[None]:
        """Let the optimiser read its step size from the device: a number would be recorded as it was."""
        groups = self.optimizer.param_groups
        before = [(group["lr"], group["capturable"]) for group in groups]
        for group in groups:
            group["lr"], group["capturable"] = self._learning_rate, True
        self._recording = True
        try:
            yield
        finally:
            self._recording = False
            for group, (lr, capturable) in zip(groups, before, strict=True):
                group["lr"], group["capturable"] = lr, capturable

    def _differentiate(self, batch: Batch, noise: Noise) -> tuple[Info, tuple[Tensor | None, ...]]:
        """Return diagnostics and gradients; where the compiler fails, forwards or backwards, go on without it."""
        try:
            return self._evaluate(batch, noise)
        except Exception as error:  # an error of the losses themselves comes again without the compiler
            if not self.mode.compiled or self._recording:  # recording is not the compiler's work, which is done by then
                raise
            self._give_up("compiled", f"{type(error).__name__}: {error}")
            return self._evaluate(batch, noise)

    def _evaluate(self, batch: Batch, noise: Noise) -> tuple[Info, tuple[Tensor | None, ...]]:
        """Return diagnostics and gradients; the losses are compiled at the first evaluation."""
        if self._losses is None:
            self._losses = self.algorithm.compute_losses
            if self.mode.compiled:
                self._losses = torch.compile(self._own_losses, dynamic=False, fullgraph=True)
        total, info = self._losses(batch, noise)
        return info, torch.autograd.grad(total.sum(), self.parameters, allow_unused=True)

    def _give_up(self, what: str, why: str) -> None:
        """Go on without compiling or capturing, and say so once."""
        reason = f"not {what}: {_shortened(why)}"
        warnings.warn(f"updates are {reason}; they go on without", stacklevel=2)
        self.mode = Mode(self.mode.compiled and what != "compiled", self.mode.captured and what != "captured", reason)
        self._losses = None
        self._captured = {}


def _shortened(why: str) -> str:
    """Return the beginning of an error's text; the compiler's second line often is the first that explains."""
    said = " ".join(why.split("\n")[:REASON_LINES])
    return textwrap.shorten(said, REASON_CHARACTERS, placeholder="...") or "no reason given"


def _with_own_code(method: Callable[..., Any]) -> Callable[..., Any]:
    """Return a bound method with a code object that no other model's has.

    The compiler counts how often a code object was compiled, over all models of the process, and at eight goes on
    without compiling.
    """
    function = method.__func__  # type: ignore[attr-defined]
    own = types.FunctionType(
        function.__code__.replace(),
        function.__globals__,
        function.__name__,
        function.__defaults__,
        function.__closure__,
    )
    return types.MethodType(own, method.__self__)  # type: ignore[attr-defined]


def _for_each(grads: list[Tensor], factor: Tensor) -> Tensor | list[Tensor]:
    """Return each replica's factor, (S,), in the shapes of its gradients; of a single one, as what one kernel takes."""
    if len(factor) == 1:
        return factor[0]
    return [factor.view([-1, *[1] * (g.ndim - 1)]) for g in grads]


def joint_norm(grads: list[Tensor], replicas: int) -> Tensor:
    """Return the L2 norm of each replica's whole gradient.

    :param grads: tensors (S, ...), or of any shape where S is 1.
    :param replicas: S.
    :return: (S,).
    """
    if replicas == 1:
        return torch.nn.utils.get_total_norm(grads).view(1)
    return torch.stack([torch.linalg.vector_norm(g.reshape(replicas, -1), dim=1) for g in grads]).norm(dim=0)
