"""A step of training recorded into a CUDA graph once and replayed as one launch."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager

import torch

from agents.common.batch import Batch
from agents.common.method import Info

WARM_UP = 3  # steps run before recording: libraries and optimiser state set themselves up in them
RECORDINGS = 4  # kept at most: each holds the memory of what it replays

_failures: list[str] = []  # of this process


class CaptureError(RuntimeError):
    """A step could not be recorded; nothing of it has been run."""


def earlier_failure() -> str | None:
    """Return why a recording failed in this process, or None; after a failure there is no second attempt."""
    return _failures[0] if _failures else None


class CapturedStep:
    """A function without arguments that is run a few times, then recorded, then replayed.

    Every call takes exactly one step: those of the warm-up are ordinary ones, and recording runs nothing, so a replay
    follows. The function must read what changes between steps from tensors that stay where they are.

    :param step: the function.
    :param device: where it runs.
    :param generators: that it draws from; those of other devices are left alone.
    :param batch: tensors that the caller fills before every call, if the function does not draw its batch itself.
    :param while_recording: what is entered around the recording, and only there.
    """

    def __init__(
        self,
        step: Callable[[], Info],
        device: torch.device,
        generators: Sequence[torch.Generator],
        batch: Batch | None = None,
        while_recording: Callable[[], AbstractContextManager[None]] = contextlib.nullcontext,
    ) -> None:
        self.step, self.device, self.batch, self.while_recording = step, device, batch, while_recording
        self.generators = [generator for generator in generators if generator.device.type == "cuda"]
        self.calls = 0
        self._replay: Callable[[], None] | None = None
        self._info: Info = {}

    def __call__(self) -> Info:
        """Take one step and return the function's result: from the recording on, always the same tensors.

        A step that is due for recording and cannot be recorded raises :class:`CaptureError` and is not taken.
        """
        self.calls += 1
        if self.calls <= WARM_UP:
            return run_aside(self.step, self.device)
        if self._replay is None:
            try:
                with self.while_recording():
                    self._replay, self._info = record(self.step, self.device, self.generators)
            except RuntimeError as error:
                _failures.append(str(error))
                raise CaptureError(str(error)) from error
        self._replay()
        return self._info


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
        graph, pool = torch.cuda.CUDAGraph(), torch.cuda.graph_pool_handle()
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
                _replace_state(generator, state)
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


def _replace_state(generator: torch.Generator, state: torch.Tensor) -> None:
    """Give a generator a state of its own: the old one still counts as being recorded, and raises at every draw."""
    fresh = torch.Generator(generator.device)
    fresh.set_state(state)
    generator.graphsafe_set_state(fresh.graphsafe_get_state())
