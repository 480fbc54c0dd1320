"""How updates are run as fast as the device allows: losses that are compiled, and whole steps that are replayed.

The losses are compiled as soon as the number of updates repays that. On CUDA the whole of a step, drawing a batch and
its noise included, is recorded into a graph and replayed, so that an update is one launch.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import textwrap
import types
import warnings
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from agents.common.batch import Batch
from agents.common.method import Info, Method, Noise
from agents.common.nets.fast import onednn_is_faster

WARM_UP = 3  # steps run before recording: libraries and optimiser state set themselves up in them
RECORDINGS = 4  # kept at most: each holds the memory of what it replays

failures: list[str] = []
"""Why recordings failed in this process: after a failure there is no second attempt."""


def run_aside(step: Callable[[], Info], device: torch.device) -> Info:
    """Run a step on a stream of its own, as CUDA requires before a recording."""
    with torch.cuda.device(device):
        side = torch.cuda.Stream(device)
        side.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(side):
            info = step()
        torch.cuda.current_stream(device).wait_stream(side)
    return info


def record(
    step: Callable[[], Info], device: torch.device, generators: Sequence[torch.Generator]
) -> tuple[Callable[[], None], Info]:
    """Record a step into a CUDA graph, without running it.

    :param step: the step.
    :param device: where it runs.
    :param generators: CUDA generators that it draws from.
    :raises RuntimeError: if the step cannot be recorded; its cause is what the step raised. Stream, allocator and
        generators are then as they were before, so that the step can be run plainly.
    :return: function that runs the step, and the tensors that it then fills.
    """
    with torch.cuda.device(device), _without_collection():
        before = torch.cuda.current_stream(device)
        index = before.device_index
        drawn_from = [*generators, torch.cuda.default_generators[index]]  # a graph takes the default one along
        states = [generator.get_state() for generator in drawn_from]
        graph = torch.cuda.CUDAGraph()
        pool = torch.cuda.graph_pool_handle()
        for generator in generators:
            graph.register_generator_state(generator)
        cause: BaseException | None = None
        try:
            # other threads may use the device meanwhile; `graph`'s default stream is on the first device used
            with torch.cuda.graph(
                graph, pool=pool, stream=torch.cuda.Stream(device), capture_error_mode="thread_local"
            ):
                try:
                    info = step()
                except BaseException as error:
                    cause = error  # ending the recording raises another error, which hides this one
                    raise
        except BaseException as error:
            torch.cuda.set_stream(before)
            with contextlib.suppress(RuntimeError):  # the allocator has left the pool, if the recording got that far
                torch._C._cuda_endAllocateToPool(index, pool)
                torch._C._cuda_releasePool(index, pool)  # a graph does so only if it was recorded to the end
            for generator, state in zip(drawn_from, states, strict=True):
                # a state of its own: the old one still counts as being recorded, and raises at every draw
                fresh = torch.Generator(generator.device)
                fresh.set_state(state)
                generator.graphsafe_set_state(fresh.graphsafe_get_state())
            cause = cause or error
            if isinstance(cause, Exception):
                raise RuntimeError(str(cause)) from cause
            raise cause from None  # Ctrl-C
    return graph.replay, info


@contextlib.contextmanager
def _without_collection() -> Iterator[None]:
    """Collect garbage now and not inside: another graph's memory must not be freed while one is being recorded."""
    enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


Evaluate = Callable[[Batch, Noise], tuple[Tensor, Info]]

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


def choose_mode(method: Method, device: torch.device, updates: int) -> Mode:
    """Decide how updates are run; by a rule, not by measuring, so that equal runs on one machine are run alike.

    A model's first updates are not compiled, and how many of them there are does not depend on how training is split
    into phases and runs: short training needs no compiler, and long training that is resumed gives the same bits.

    :param method: its settings `compile` and `precision` count; products of bf16 are PyTorch's own, which the compiler
        uses too.
    :param device: where the networks are.
    :param updates: number of updates that the model has taken.
    :return: the mode.
    """
    cuda = device.type == "cuda"
    if method.compile == "off":
        return Mode(False, False, "`compile` is off")
    if method.compile == "on":
        return Mode(True, cuda, "`compile` is on")
    if device.type not in ("cpu", "cuda"):
        return Mode(False, False, f"compiling is not supported on a {device.type.upper()}")
    if not cuda and method.precision != "bf16" and onednn_is_faster():
        return Mode(False, False, "oneDNN is faster on this processor, and the compiler cannot use it")
    if updates < COMPILE_AFTER_UPDATES:
        return Mode(False, cuda, f"compiled after {COMPILE_AFTER_UPDATES:,} updates, which takes about a minute")
    return Mode(True, cuda, f"more than {COMPILE_AFTER_UPDATES:,} updates")


def compiled(losses: Evaluate) -> Evaluate:
    """Return losses that are compiled at their first evaluation.

    The compiler takes a library in its cache for whole that a killed process left unfinished, and cannot load it. All
    libraries are then removed once, and compiled again.

    :param losses: of one model, see :func:`with_own_code`.
    :return: the same function.
    """
    may_clear = True

    @functools.cache
    def compile_once() -> Evaluate:
        return torch.compile(losses, dynamic=False, fullgraph=True)

    def evaluate(batch: Batch, noise: Noise) -> tuple[Tensor, Info]:
        nonlocal may_clear
        try:
            return compile_once()(batch, noise)
        except Exception as error:
            if not (may_clear and ".so" in str(error) and "ImportError" in str(error)):
                raise
            may_clear = False
            warnings.warn(f"{shortened(str(error))}; the compiler's libraries are compiled again", stacklevel=2)
            remove_libraries()
            return compile_once()(batch, noise)

    return evaluate


def remove_libraries() -> None:
    """Remove every library from the compiler's cache, and let it forget them."""
    from torch._inductor.runtime.cache_dir_utils import cache_dir  # seconds, which only compiling is worth
    from torch._inductor.utils import clear_caches

    for path in Path(cache_dir()).glob("*/*.so"):
        path.unlink(missing_ok=True)
    clear_caches()


@dataclass
class Recording:
    """An update that is run a few times, then recorded, then replayed.

    :param batch: tensors that are filled before every call, if the update does not draw its batch itself.
    :param calls: how often it was taken.
    :param replay: takes it again once it is recorded.
    :param info: the tensors that are filled then.
    """

    batch: Batch | None
    calls: int = 0
    replay: Callable[[], None] | None = None
    info: Info = field(default_factory=dict)


class Recorder:
    """Takes whole updates, drawing included, that are recorded once and replayed; info is the same tensors always.

    What changes between updates is read from tensors that stay where they are.

    :param trainer: a :class:`~agents.common.engine.trainer.Trainer`.
    """

    def __init__(self, trainer: Any) -> None:
        self.trainer = trainer
        self.is_recording = False
        self.recordings: dict[Hashable, Recording] = {}
        rate = torch.zeros((), dtype=torch.float32, device=trainer.device)
        self._rates = [rate.clone() for _ in trainer.optimizer.param_groups]

    def update(self, batch_size: int) -> Info:
        """Draw a batch and noise and take one gradient step.

        Every call takes exactly one: those of the warm-up are ordinary ones, and recording runs nothing, so a replay
        follows. An update that cannot be recorded is taken plainly, and so are all after it.

        :param batch_size: B.
        :return: losses and diagnostics, each (S,).
        """
        trainer = self.trainer
        inside = trainer.batch_source()
        batch = trainer.draw_batch(batch_size) if inside is None else None
        drawn_from = id(trainer.generator)  # a recording draws from the object that it was made with
        key = (
            batch_size, inside, trainer.skipped_networks(), trainer.pretraining, drawn_from, trainer.method.changes
        )  # fmt: skip
        if key not in self.recordings:
            if len(self.recordings) == RECORDINGS:
                self.recordings.pop(next(iter(self.recordings)))
            self.recordings[key] = Recording(None if batch is None else batch.map(Tensor.clone))
        recording = self.recordings[key]
        static = recording.batch
        if batch is not None:
            for name, tensor in batch.tensors().items():
                getattr(static, name).copy_(tensor)
        for rate, group in zip(self._rates, trainer.optimizer.param_groups, strict=True):
            rate.fill_(group["lr"])

        def take() -> Info:
            # losses may call `requires_grad_` of what they get; the tensors that are filled stay as they are
            found = trainer.draw_batch(batch_size) if static is None else static.map(Tensor.detach)
            info: Info = trainer.step(found, trainer.draw_noise(batch_size))
            return info

        recording.calls += 1
        if recording.calls <= WARM_UP:
            return run_aside(take, trainer.device)
        if recording.replay is None:
            try:
                recording.replay, recording.info = self._record(take)
            except RuntimeError as error:
                failures.append(str(error))
                trainer.give_up("captured", str(error))
                return take()
        recording.replay()
        return recording.info

    def _record(self, take: Callable[[], Info]) -> tuple[Callable[[], None], Info]:
        """Record an update, whose optimiser reads its step size from the device: a number would stay as it was."""
        trainer = self.trainer
        generators = [each for each in trainer.generators().values() if each.device.type == "cuda"]
        self.is_recording = True
        try:
            with optimiser_told(trainer.optimizer, self._rates, capturable=True):
                return record(take, trainer.device, generators)
        finally:
            self.is_recording = False


@contextmanager
def optimiser_told(optimizer: torch.optim.Optimizer, rates: Iterable[Any], **values: Any) -> Iterator[None]:
    """Change what an optimiser is told of its parameters.

    :param optimizer: the optimiser.
    :param rates: step size of each group.
    :param values: of all groups, by name.
    """
    before = [dict(group) for group in optimizer.param_groups]
    for group, rate in zip(optimizer.param_groups, rates, strict=True):
        group.update(values, lr=rate)
    try:
        yield
    finally:
        for group, old in zip(optimizer.param_groups, before, strict=True):
            group.update({name: old[name] for name in ("lr", *values)})


def shortened(why: str) -> str:
    """Return the beginning of an error's text; the compiler's second line often is the first that explains."""
    said = " ".join(why.split("\n")[:REASON_LINES])
    return textwrap.shorten(said, REASON_CHARACTERS, placeholder="...") or "no reason given"


def with_own_code(method: Callable[..., Any]) -> Callable[..., Any]:
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
