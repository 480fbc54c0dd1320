"""A step of training recorded into a CUDA graph once and replayed as one launch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch

from agents.common.batch import Batch

if TYPE_CHECKING:
    from agents.common.base import Info

WARM_UP = 3  # steps run before recording: libraries and optimiser state set themselves up in them


class CaptureError(RuntimeError):
    """A step could not be recorded; nothing of it has been run."""


class CapturedStep:
    """A function without arguments that is run some times, then recorded, then replayed.

    Every call takes exactly one step: the warm-up's are ordinary ones, and recording runs nothing, so a replay follows.
    The function reads what changes between steps from tensors that stay where they are, and draws from generators
    that are given here.

    :param step: the function.
    :param generators: of the function's device, or others, which are left alone.
    :param batch: tensors that the caller fills before every call, if the function does not draw its batch itself.
    """

    def __init__(
        self, step: Callable[[], Info], generators: Sequence[torch.Generator], batch: Batch | None = None
    ) -> None:
        self.step, self.batch = step, batch
        self.generators = [generator for generator in generators if generator.device.type == "cuda"]
        self.calls = 0
        self._replay: Callable[[], None] | None = None
        self._info: Info = {}

    def __call__(self) -> Info:
        """Take one step.

        :raises CaptureError: if the step is due for recording and cannot be recorded; it is not taken then.
        :return: what the function returns; from the recording on always the same tensors, with new values.
        """
        self.calls += 1
        if self.calls <= WARM_UP:
            return run_aside(self.step)
        if self._replay is None:
            try:
                self._replay, self._info = record(self.step, self.generators)
            except RuntimeError as error:
                raise CaptureError(str(error)) from error
        self._replay()
        return self._info


def run_aside(step: Callable[[], Info]) -> Info:
    """Run a step on a stream of its own, as CUDA wants it before a recording.

    :param step: the step.
    :return: what it returns.
    """
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        info = step()
    torch.cuda.current_stream().wait_stream(side)
    return info


def record(step: Callable[[], Info], generators: Sequence[torch.Generator]) -> tuple[Callable[[], None], Info]:
    """Record a step into a CUDA graph, without running it.

    :param step: the step.
    :param generators: CUDA generators that it draws from.
    :return: function that runs the step, and the tensors that it then fills.
    """
    graph = torch.cuda.CUDAGraph()
    for generator in generators:
        graph.register_generator_state(generator)
    with torch.cuda.graph(graph):
        info = step()
    return graph.replay, info
