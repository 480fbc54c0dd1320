"""Fast execution of updates: compiled losses, and on CUDA whole updates that are captured once and replayed.

Losses are compiled if training is long enough to repay the compile time. A captured update includes the sampling of its
noise and, if the data allow it, of its batch; a replay is a single launch.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import os
import signal
import textwrap
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from agents.common.batch import Batch
from agents.common.engine import kernels
from agents.common.engine.onednn import compiler_options
from agents.common.method import Info, Method, Noise
from agents.common.nets.networks import Networks
from agents.common.processor import STOP_SIGNALS

# libraries and the optimiser allocate memory in their first steps, which cannot be done during a capture
WARMUP_STEPS = 3
MAX_GRAPHS = 4  # each captured update keeps the memory of all its tensors
COMPILED_UPDATES = {"cpu": 5_000, "cuda": 50_000}
"""Device -> smallest number of planned updates for which losses are compiled; on CUDA, compiling saves less."""
COMPILED_LARGE_UPDATES = 1_000
"""The same number on a CPU, for networks whose size would repay several threads."""
# number of multiplications for which an additional thread saves more time than its synchronisation costs
WORK_PER_THREAD = 1 << 25
DEFAULT_THREADS = torch.get_num_threads()
OWN_THREADS = {DEFAULT_THREADS}
"""Numbers of threads that were chosen by PyTorch or :func:`limit_threads`, not by the user."""
NO_LIMIT = 2**31 - 1


# -- the mode ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Mode:
    """How updates are run.

    :param compiled: whether the losses are compiled.
    :param captured: whether updates are replayed from a CUDA graph.
    :param reason: reason for the choice, for the log.

    >>> print(Mode(compiled=True, captured=False, reason="`compile` is on"))
    compiled (`compile` is on)
    """

    compiled: bool
    captured: bool
    reason: str

    def __str__(self) -> str:
        """Return the mode as text."""
        words = [word for word in ("compiled", "captured") if getattr(self, word)]
        return f"{' and '.join(words) or 'eager'} ({self.reason})"


def choose_mode(method: Method, device: torch.device, planned: int, is_large: bool) -> Mode:
    """Choose by a fixed rule how updates are run; a choice by measured speed could make equal runs differ.

    :param method: the algorithm, with the setting `compile`.
    :param device: device of the networks.
    :param planned: number of updates that the model will have made at the end of the training phase; a resumed run
        passes the same number.
    :param is_large: whether the networks' size would repay several threads, whatever their number.
    :return: the mode.
    """
    cuda = device.type == "cuda"
    if method.compile == "off":
        return Mode(False, False, "`compile` is off")
    if method.compile == "on":
        return Mode(True, cuda, "`compile` is on")
    repaid = COMPILED_UPDATES[device.type]
    if is_large and not cuda:
        repaid = COMPILED_LARGE_UPDATES
    if planned < repaid:
        return Mode(False, cuda, f"fewer than {repaid:,} updates are planned")
    return Mode(True, cuda, "which takes up to a minute before the first update")


def useful_threads(nets: Networks, batch_size: int) -> int:
    """Return the number of threads that pays off for the networks' size.

    Small matrix products take less time than synchronising threads, especially while other programs run.
    """
    largest = max((parameter.numel() for parameter in nets.parameters()), default=0)
    return max(1, batch_size * largest // WORK_PER_THREAD)


def limit_threads(nets: Networks, useful: int) -> None:
    """Limit PyTorch's threads to the number that pays off, unless the user has set a number."""
    if "OMP_NUM_THREADS" in os.environ or torch.get_num_threads() not in OWN_THREADS:
        return
    threads = DEFAULT_THREADS
    # with a features extractor, the work depends on more than the number of parameters
    if not nets.with_extractor():
        threads = min(threads, useful)
    OWN_THREADS.add(threads)
    torch.set_num_threads(threads)


def error_summary(text: str) -> str:
    """Return the first two lines of an error's text, and its last line of a traceback or a g++ error, if any.

    The first line of a compiler error seldom contains the cause; its traceback names the line of the user's code.
    """
    lines = text.split("\n")
    causes = [line for line in lines if line.startswith('  File "') or " error: " in line]
    text = " ".join(lines[:2] + causes[-1:])
    return textwrap.shorten(text, 500, placeholder="...") or "no reason given"


# -- compiling --------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def compiling() -> Iterator[None]:
    """Inside the block, mask signals that stop a run, and compile each graph to one C++ file.

    The compiler's processes inherit the signal mask. Slurm and terminals send signals to the whole process group, and
    an unmasked signal would end the compiler. The update would then run uncompiled, so after resuming, the run would
    differ in the last digits from a run that was not stopped.
    """
    callers_mask = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    try:
        with kernels.joining():
            yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, callers_mask)


Evaluate = Callable[[Batch, Noise], tuple[Tensor, Info]]


def compiled(losses: Evaluate) -> Evaluate:
    """Return losses that are compiled at their first evaluation.

    :param losses: losses of one model.
    :return: the compiled function.
    """

    @functools.cache  # compiled at the first evaluation: importing the compiler takes seconds
    def program() -> Evaluate:
        # the compiler counts the compilations of these losses over all models of the process, and gives up at eight
        without_limit = torch._dynamo.config.patch(
            recompile_limit=NO_LIMIT, accumulated_recompile_limit=NO_LIMIT
        )
        options = compiler_options() | kernels.compiler_options()
        compiled_losses: Evaluate = without_limit(
            torch.compile(losses, dynamic=False, fullgraph=True, options=options)
        )
        return compiled_losses

    return lambda batch, noise: program()(batch, noise)


# -- capturing --------------------------------------------------------------------------------------------------------


def run_on_side_stream(step: Callable[[], Info], device: torch.device) -> Info:
    """Run a step on a separate stream, as CUDA requires before a capture."""
    with torch.cuda.device(device):
        side = torch.cuda.Stream(device)
        side.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(side):
            info = step()
        torch.cuda.current_stream(device).wait_stream(side)
    return info


def capture(
    step: Callable[[], Info], device: torch.device, generators: Sequence[torch.Generator]
) -> tuple[Callable[[], None], Info]:
    """Capture a step in a CUDA graph, without running it.

    :param step: the step.
    :param device: device that runs it.
    :param generators: CUDA generators that the step uses.
    :raises RuntimeError: if the step cannot be captured; ``__cause__`` is the step's error. Stream, allocator and
        generators are then restored, so that the step can run uncaptured.
    :return: function that runs the captured step, and the tensors that it fills.
    """
    with torch.cuda.device(device), _without_collection():
        stream = torch.cuda.current_stream(device)
        index = stream.device_index
        # a capture also uses the default generator
        all_generators = [*generators, torch.cuda.default_generators[index]]
        states = [generator.get_state() for generator in all_generators]
        graph = torch.cuda.CUDAGraph()
        pool = torch.cuda.graph_pool_handle()
        for generator in generators:
            graph.register_generator_state(generator)
        cause: BaseException | None = None
        # PyTorch's default capture stream stays on the device of the process's first capture
        side_stream = torch.cuda.Stream(device)
        try:
            # other threads may use the device meanwhile
            with torch.cuda.graph(graph, pool, side_stream, capture_error_mode="thread_local"):
                try:
                    info = step()
                except BaseException as error:
                    cause = error  # ending the capture raises another error, which hides this one
                    raise
        except BaseException as error:
            torch.cuda.set_stream(stream)
            # `_cuda_endAllocateToPool` raises if ending the capture has already detached the allocator from the pool
            with contextlib.suppress(RuntimeError):
                torch._C._cuda_endAllocateToPool(index, pool)
                # a graph releases its pool only after a complete capture
                torch._C._cuda_releasePool(index, pool)
            for generator, state in zip(all_generators, states, strict=True):
                # a new state: the old one still counts as being captured, and raises an error at every sample
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
    """Collect garbage before the block but not inside, since no other graph's memory may be freed during a capture."""
    enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


@dataclass
class CapturedUpdate:
    """One kind of update, which is first run a few times, then captured, and then replayed.

    :param batch: tensors that a batch is copied into; None if the update samples its batch itself.
    :param warmups: number of uncaptured runs so far.
    :param replay: function that replays the update; set by the capture.
    :param info: tensors that a replay fills.
    """

    batch: Batch | None
    warmups: int = 0
    replay: Callable[[], None] | None = None
    info: Info = field(default_factory=dict)


class GraphCache:
    """Runs whole updates: captures each kind of update after its warm-up, then replays the capture.

    A replay repeats the operations of its capture on the same memory. Values that change between updates are therefore
    read from tensors at fixed addresses; anything else that changes is part of the captured update's key.

    :param trainer: a :class:`~agents.common.engine.trainer.Trainer`.
    """

    def __init__(self, trainer: Any) -> None:
        self.trainer = trainer
        self.is_capturing = False
        self.updates: dict[Hashable, CapturedUpdate] = {}

    def update(self, batch_size: int) -> Info:
        """Sample a batch and noise and take one gradient step.

        Warm-up steps are ordinary updates, and a capture runs nothing, so every call takes exactly one step. After an
        update that cannot be captured, the trainer continues without capturing.

        :param batch_size: B.
        :return: losses and diagnostics, each (S,); the next update may write into the same tensors.
        """
        trainer = self.trainer
        source = trainer.batch_source()
        batch = trainer.draw_batch(batch_size) if source is None else None
        # the key contains the plan and the generator, not their ids, which may be reused
        key = (batch_size, source, trainer.plan, trainer.generator)
        captured = self._find(key, batch)
        static = captured.batch

        def step() -> Info:
            # detached, since losses may call `requires_grad_` on a batch
            drawn = trainer.draw_batch(batch_size) if static is None else static.map(Tensor.detach)
            info: Info = trainer.step(drawn, trainer.draw_noise(batch_size))
            return info

        if captured.replay is None:
            if captured.warmups < WARMUP_STEPS:
                captured.warmups += 1
                return run_on_side_stream(step, trainer.device)
            generators = trainer.generators().values()
            on_cuda = [generator for generator in generators if generator.device.type == "cuda"]
            self.is_capturing = True
            try:
                captured.replay, captured.info = capture(step, trainer.device, on_cuda)
            except RuntimeError as error:
                trainer.fall_back("captured", str(error))
                return step()
            finally:
                self.is_capturing = False
        captured.replay()
        return dict(captured.info)  # the method may add values of this update

    def _find(self, key: Hashable, batch: Batch | None) -> CapturedUpdate:
        """Return a key's captured update, filled with the batch; a new one may replace the least recently used."""
        captured = self.updates.pop(key, None)
        if captured is None:
            captured = CapturedUpdate(None if batch is None else batch.map(Tensor.clone))
            if len(self.updates) == MAX_GRAPHS:
                del self.updates[next(iter(self.updates))]
        # reinserted at the end, since the dictionary is ordered by last use
        self.updates[key] = captured
        if batch is not None:
            for name, tensor in vars(batch).items():
                getattr(captured.batch, name).copy_(tensor)
        return captured
