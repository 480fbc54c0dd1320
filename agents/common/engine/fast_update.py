"""Updates as fast as the device allows: compiled losses, and on CUDA whole steps that are recorded and replayed.

The losses are compiled as soon as the number of updates repays that. On CUDA the whole of a step, drawing a batch and
its noise included, is recorded into a graph and replayed, so that an update is one launch.
"""

from __future__ import annotations

import contextlib
import functools
import textwrap
import types
import warnings
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from agents.common.batch import Batch
from agents.common.engine.capture import CapturedStep, CaptureError, earlier_failure
from agents.common.engine.compiler_cache import remove_cut_libraries
from agents.common.engine.precision import float32_products
from agents.common.engine.update import Learner, Update
from agents.common.method import Info, Noise
from agents.common.nets.fast import onednn_is_faster

Evaluate = Callable[[Batch, Noise], tuple[Tensor, Info]]

RECORDINGS = 4  # kept at most: each holds an update's memory
REASON_LINES, REASON_CHARACTERS = 2, 500  # of an error that updates go on after
COMPILE_AFTER_UPDATES = 5_000  # of a model: training is long then, and compiling takes about a minute


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
        return Mode(False, False, f"compiling is not supported on a {device.type.upper()}")
    if not cuda and onednn_is_faster():
        return Mode(False, False, "oneDNN is faster on this processor, and the compiler cannot use it")
    if updates < COMPILE_AFTER_UPDATES:
        return Mode(False, cuda, f"compiled after {COMPILE_AFTER_UPDATES:,} updates, which takes about a minute")
    return Mode(True, cuda, f"more than {COMPILE_AFTER_UPDATES:,} updates")


class FastUpdate(Update):
    """Takes gradient steps, compiled and recorded where that pays, and plainly otherwise or where it fails.

    :param learner: the model.
    """

    def __init__(self, learner: Learner) -> None:
        super().__init__(learner)
        self._own_losses = _with_own_code(learner.compute_losses)
        self._recording = False
        if learner.device.type == "cuda":
            self.step = self.step_in_float32  # type: ignore[method-assign]
        self._learning_rate = torch.tensor(0.0, device=learner.device)
        self.prepare()

    def prepare(self) -> None:
        """Decide how the coming updates are run; what was compiled or recorded before is dropped."""
        self._choose_mode()
        if self.mode.captured and not all(group.get("fused") for group in self.optimizer.param_groups):
            name = type(self.optimizer).__name__
            self._give_up("captured", f"{name} is not fused Adam; its step may need the host")
        exactly = functools.partial(float32_products, self.method.precision, self.learner.device)
        self.float32_products = contextlib.nullcontext if self.learner.device.type == "cpu" else exactly

    def _choose_mode(self) -> None:
        learner = self.learner
        waits = self.method.compile == "auto" and learner._n_updates < COMPILE_AFTER_UPDATES
        self.compile_at = COMPILE_AFTER_UPDATES if waits else -1
        mode = choose_mode(self.method.compile, learner.device, learner._n_updates)
        failure = earlier_failure()
        if mode.captured and failure is not None:
            mode = replace(mode, captured=False, reason=f"an earlier recording failed: {_shortened(failure)}")
        self._set_mode(mode)

    def _set_mode(self, mode: Mode) -> None:
        """Run the coming updates in a mode; what was compiled or recorded before is dropped."""
        self.mode = mode
        self._captured: dict[Hashable, CapturedStep] = {}
        self._compiled: Evaluate | None = None
        for name in ("differentiate", "draw_and_take"):
            vars(self).pop(name, None)
        if mode.compiled:
            self.differentiate = self._differentiate_compiled  # type: ignore[method-assign]
        if mode.captured:
            self.draw_and_take = self._replay  # type: ignore[method-assign]

    def compile_in_time(self) -> None:
        """Decide again, now that there have been enough updates for the compiler to pay."""
        captured = self.mode.captured
        self._choose_mode()
        self._set_mode(replace(self.mode, captured=captured))  # what failed before is not tried again
        if self.mode.compiled and self.learner.verbose >= 1:
            print("The coming updates are compiled, which takes about a minute.", flush=True)

    def _replay(self, batch_size: int) -> Info:
        """Draw a batch and noise and take one gradient step, recorded and replayed; info is the same tensors always."""
        learner = self.learner
        inside = learner.batch_source()
        batch = learner.draw_batch(batch_size) if inside is None else None
        generators = learner.generators()
        drawn_from = id(generators["training"])  # a recording draws from the object that it was made with
        key = (batch_size, inside, learner.skipped_networks(), learner.pretraining, drawn_from, self.method.changes)
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
            return self(batch or learner.draw_batch(batch_size), learner.draw_noise(batch_size))

    def _make_step(self, batch_size: int, batch: Batch | None) -> CapturedStep:
        """Return a step that is run some times, recorded, and replayed from then on."""
        learner = self.learner
        static = None if batch is None else batch.map(Tensor.clone)

        def take() -> Info:
            # losses may call `requires_grad_` of what they get; the tensors that are filled stay as they are
            found = learner.draw_batch(batch_size) if static is None else static.map(Tensor.detach)
            return self(found, learner.draw_noise(batch_size))

        generators = list(learner.generators().values())
        return CapturedStep(take, learner.device, generators, static, self._while_recording)

    @contextmanager
    def _while_recording(self) -> Iterator[None]:
        """Make the optimiser read its step size from the device: a number would be recorded as it was."""
        self._recording = True
        try:
            with self._optimiser_told(lr=self._learning_rate, capturable=True):
                yield
        finally:
            self._recording = False

    def step_in_float32(self) -> None:
        """Move the parameters by a step size in float32, as recordings read it, so that all updates have its bits."""
        if self._recording:
            self.optimizer.step()
            return
        with self._optimiser_told(lr=float(np.float32(self.optimizer.param_groups[0]["lr"]))):
            self.optimizer.step()

    @contextmanager
    def _optimiser_told(self, **values: Any) -> Iterator[None]:
        """Change what the optimiser is told of its parameters."""
        before = [dict(group) for group in self.optimizer.param_groups]
        for group in self.optimizer.param_groups:
            group.update(values)
        try:
            yield
        finally:
            for group, old in zip(self.optimizer.param_groups, before, strict=True):
                group.update({name: old[name] for name in values})

    def _differentiate_compiled(self, batch: Batch, noise: Noise) -> tuple[Info, Sequence[Tensor | None]]:
        """Return diagnostics and gradients; where the compiler fails, forwards or backwards, go on without it."""
        try:
            if self._compiled is None:
                remove_cut_libraries()
                self._compiled = _compiled(self._own_losses)
            total, info = self._compiled(batch, noise)
            return info, torch.autograd.grad(total, self.parameters, torch.ones_like(total), allow_unused=True)
        except Exception as error:  # an error of the losses themselves comes again without the compiler
            if self._recording:  # recording is not the compiler's work, which is done by then
                raise
            self._give_up("compiled", f"{type(error).__name__}: {error}")
            return self.differentiate(batch, noise)

    def _give_up(self, what: str, why: str) -> None:
        """Go on without compiling or capturing, and say so once."""
        reason = f"not {what}: {_shortened(why)}"
        warnings.warn(f"updates are {reason}; continuing without it", stacklevel=2)
        self._set_mode(
            Mode(self.mode.compiled and what != "compiled", self.mode.captured and what != "captured", reason)
        )


def _shortened(why: str) -> str:
    """Return the beginning of an error's text; the compiler's second line often is the first that explains."""
    said = " ".join(why.split("\n")[:REASON_LINES])
    return textwrap.shorten(said, REASON_CHARACTERS, placeholder="...") or "no reason given"


def _compiled(evaluate: Evaluate) -> Evaluate:
    """Return a function that is compiled at its first call."""
    return torch.compile(evaluate, dynamic=False, fullgraph=True)


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
