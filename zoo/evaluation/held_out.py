"""Losses on held-out trajectories, which training without an environment logs instead of scores."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from agents.common.data.arrays import Array, Transitions
from agents.common.data.buffer import SequenceReplayBuffer
from agents.common.nets.mlp import matmul_precision
from agents.common.sb3.policy import FlowPolicy
from agents.common.streams import Purpose, torch_generator
from zoo.terminal.errors import UsageError

HELD_OUT = 10
"""One in ten trajectories is held out, the first among them."""
ROWS = 512  # held-out sequences whose losses are computed


def hold_out(data: Transitions, seed: int) -> tuple[Transitions, HeldOutLosses]:
    """Split data into trajectories to train on, and the losses on the others.

    :param seed: seed of :class:`HeldOutLosses`.
    :raises UsageError: for a single trajectory.
    """
    count = len(data.final_observations)
    if count == 1:
        raise UsageError(
            "`--no-env` holds out a tenth of the trajectories, at least one, and needs another to train on; got one "
            "trajectory: mark its ends (docs/datasets.md), or add more"
        )
    # every tenth, not the last tenth: recordings often change over time
    is_held_out = np.arange(count) % HELD_OUT == 0
    return data.keep(~is_held_out), HeldOutLosses(data.keep(is_held_out), seed=seed)


class HeldOutLosses:
    """Losses of an update on fixed held-out transitions, without an optimiser step.

    :param data: held-out trajectories, actions in the units of the action space.
    :param seed: seed of the sampled transitions and the noise, which are the same for all replicas.
    """

    def __init__(self, data: Transitions, *, seed: int) -> None:
        self._data = data
        self._seed = seed

    def losses(self, policy: FlowPolicy) -> dict[str, Array]:
        """Return losses by name, e.g. ``held_out_td_loss``, and their weighted total ``held_out_loss``, each (S,)."""
        policy.set_training_mode(False)  # dropout and batch statistics would depend on the batch
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
        batch = buffer.draw(ROWS, generator=generator).with_observations(policy.preprocess)
        generator = torch_generator(Purpose.EVALUATION_NOISE, self._seed)
        sizes = policy.noise_sizes(1, ROWS)

        def for_all(values: torch.Tensor) -> torch.Tensor:
            """Return the same values for every replica."""
            return values.to(policy.device).expand(policy.num_replicas, *values.shape[1:])

        batch = batch.map(for_all)
        noise = {}
        for name, draw in method.update_noise().items():
            noise[name] = for_all(draw(sizes, generator, "cpu"))
        # schedules of losses do not advance here, so that the same loss is compared at different steps
        batch = replace(batch, updates=torch.zeros(policy.num_replicas, device=policy.device))
        with matmul_precision(method.precision, policy.device):
            with torch.no_grad():
                targets = method.targets(batch, noise, policy.nets, {})
            # with gradients, which some losses need
            losses = method.losses(batch, targets, noise, policy.nets, {})
        weights = method.loss_weights()
        total = sum(weights.get(name, 1.0) * loss for name, loss in losses.items())
        named = {"loss": total, **{f"{name}_loss": loss for name, loss in losses.items()}}
        arrays = {}
        for name, loss in named.items():
            arrays[f"held_out_{name}"] = torch.as_tensor(loss).detach().cpu().double().numpy()
        return arrays
