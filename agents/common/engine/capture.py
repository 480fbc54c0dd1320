"""A step of training, or a plan, recorded into a CUDA graph once and replayed as one launch."""

from __future__ import annotations

import contextlib
import gc
import warnings
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from agents.common.batch import Batch
from agents.common.method import Info, Noise

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

    @property
    def is_recorded(self) -> bool:
        """Whether steps are replayed from now on."""
        return self._replay is not None

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
            # other threads may page-lock the next batch meanwhile; `graph`'s default stream is on the first device used
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


class RecordedPlans:
    """What plans as a policy does: a function that is recorded for every shape it gets, and replayed.

    What cannot be recorded is planned plainly, with a warning, and so is all else from then on.

    :param policy: a :class:`~agents.common.sb3.policy.FlowPolicy`; its parameters may change in place.
    """

    def __init__(self, policy: Any) -> None:
        self.policy = policy
        self._recorded: dict[Hashable, tuple[CapturedStep, dict[str, Tensor]]] = {}

    @property
    def is_replaying(self) -> bool:
        """Whether plans of some shape are replayed by now."""
        return any(step.is_recorded for step, _ in self._recorded.values())

    def __call__(self, observations: NDArray[Any], noise: Noise) -> NDArray[Any]:
        """Plan one chunk for every observation, as ``policy.plan`` does.

        :param observations: raw, of every replica, (S, N, O).
        :param noise: name -> (S, N, ...).
        :return: actions in the environment's units, (S, N, H, A).
        """
        if self.policy.training:
            self.policy.set_training_mode(False)
        actions = self._sample(observations, noise) if may_record(self.policy.device) else None
        if actions is None:
            actions = self.policy.sample(observations, noise, self.policy.nets)
        found: NDArray[Any] = self.policy.in_units(actions.clamp(-1, 1).cpu().numpy())
        return found

    def _sample(self, observations: NDArray[Any], noise: Noise) -> Tensor | None:
        """Return actions by a recording, or None if there cannot be one; the next call may write into the same tensor.

        Copies from the host are made outside: a recording must not read its memory.
        """
        rows = torch.as_tensor(observations, dtype=self.policy.layout.dtype)
        inputs = {"": rows, **self.policy.method.with_rows_in_place(noise)}
        read = [*self.policy.parameters(), *self.policy.buffers()]
        shapes = tuple((name, value.shape) for name, value in inputs.items())
        key = shapes, tuple(tensor.data_ptr() for tensor in read), self.policy.method.changes
        if key not in self._recorded:
            if len(self._recorded) == RECORDINGS:
                self._recorded.pop(next(iter(self._recorded)))
            self._recorded[key] = self._prepare(inputs)
        step, own = self._recorded[key]
        for name, value in inputs.items():
            own[name].copy_(value)
        try:
            return step()["actions"]
        except CaptureError as error:
            warnings.warn(f"plans are not recorded: {error}; continuing without it", stacklevel=3)
            return None

    def _prepare(self, inputs: dict[str, Tensor]) -> tuple[CapturedStep, dict[str, Tensor]]:
        """Return a plan that is made some times, recorded, and replayed from then on, and what it reads."""
        policy = self.policy
        own = {name: torch.empty_like(value, device=policy.device) for name, value in inputs.items()}
        noise = {name: value for name, value in own.items() if name}
        return CapturedStep(
            lambda: {"actions": policy.sample_placed(own[""], noise, policy.nets)}, policy.device, []
        ), own


def may_record(device: torch.device) -> bool:
    """Return whether plans are recorded: on CUDA, until a recording fails in this process."""
    return device.type == "cuda" and earlier_failure() is None
