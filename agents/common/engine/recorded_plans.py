"""Plans of a fixed shape, recorded into a CUDA graph and replayed as one launch."""

from __future__ import annotations

import warnings
from collections.abc import Hashable
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from agents.common.engine.capture import RECORDINGS, CapturedStep, CaptureError, earlier_failure
from agents.common.method import Noise


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
