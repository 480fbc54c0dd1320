"""Losses on held-out trajectories: what training without an environment logs in place of scores."""

from __future__ import annotations

import numpy as np
import torch

from agents.common.batch import Batch
from agents.common.data.arrays import Array, Transitions
from agents.common.data.buffer import SequenceReplayBuffer
from agents.common.method import Noise
from agents.common.nets.mlp import matmul_precision
from agents.common.sb3.policy import FlowPolicy
from agents.common.streams import Purpose, torch_generator
from agents.fqe import HELD_OUT, ROWS, batch_for, losses_on
from zoo.terminal.errors import UsageError


def hold_out(data: Transitions) -> tuple[Transitions, Transitions]:
    """Split data into trajectories to train on and held-out ones.

    :raises UsageError: for a single trajectory.
    """
    count = len(data.final_observations)
    if count == 1:
        raise UsageError(
            "`--no-env` holds out a tenth of the trajectories, at least one, and needs another to train on; got one "
            "trajectory: mark where it ends (docs/datasets.md), or give more"
        )
    # every tenth, not the last tenth: recordings often change over time
    is_held_out = np.arange(count) % HELD_OUT == 0
    return data.keep(~is_held_out), data.keep(is_held_out)


class HeldOutLosses:
    """The losses of an update, without its step, on the same held-out transitions each time.

    :param data: held-out trajectories, actions in the units of the action space.
    :param seed: of the transitions and the noise, which are the same for all replicas.
    """

    def __init__(self, data: Transitions, *, seed: int) -> None:
        self._data = data
        self._seed = seed

    def losses(self, policy: FlowPolicy) -> dict[str, Array]:
        """Return losses by name, e.g. ``held_out_td_loss``, and their weighted total ``held_out_loss``, each (S,)."""
        policy.set_training_mode(False)  # dropout and batch statistics would depend on the batch
        batch = self._read(policy)
        with matmul_precision(policy.method.precision, policy.device):
            losses = losses_on(policy, batch, self._draw(policy))
        return {f"held_out_{name}": values for name, values in losses.items()}

    def _read(self, policy: FlowPolicy) -> Batch:
        """Return a batch as updates get it."""
        method = policy.method
        buffer = SequenceReplayBuffer(
            1,
            policy.observation_space,
            policy.action_space,
            device=policy.device,
            gamma=method.gamma,
            horizon_length=method.chunk_length,
            action_chunking=method.action_chunking,
            frame_stack=method.frame_stack,
        )
        buffer.with_steps = method.step_observations
        buffer.load_dataset(self._data)
        generator = torch_generator(Purpose.EVALUATION_START, self._seed, device=policy.device)
        batch = batch_for(policy, buffer, buffer.draw_rows((1, ROWS), generator))
        return batch.with_observations(policy.preprocess)

    def _draw(self, policy: FlowPolicy) -> Noise:
        """Return the noise of an update by name, the same for all S replicas, each (S, ...)."""
        generator = torch_generator(Purpose.EVALUATION_NOISE, self._seed)
        sizes = policy.noise_sizes(1, ROWS)
        noise: dict[str, torch.Tensor] = {}
        for name, draw in policy.method.update_noise().items():
            values = draw(sizes, generator, "cpu").to(policy.device)
            noise[name] = values.expand(policy.num_replicas, *values.shape[1:])
        return noise
