"""Evaluate policies on held-out trajectories, by losses and critic values."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from agents.common.batch import Batch
from agents.common.data.arrays import Transitions
from agents.common.data.buffer import SequenceReplayBuffer
from agents.common.nets.mlp import matmul_precision
from agents.common.sb3.policy import FlowPolicy
from agents.common.streams import Purpose, torch_generator
from agents.fqe import as_array, batch_for, first_sequences, losses_on
from zoo.evaluation.workers import Hook, keep_waiting
from zoo.runs.episodes import EpisodeResults
from zoo.terminal.errors import UsageError

TRAJECTORIES_PER_HELD_OUT = 10
"""One in so many trajectories is held out, beginning with the first."""
ROWS = 512  # drawn from the held-out transitions, as an update draws its batch


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
    is_held_out = np.arange(count) % TRAJECTORIES_PER_HELD_OUT == 0
    return data.keep(~is_held_out), data.keep(is_held_out)


class HeldOutEvaluator:
    """Evaluates policies on held-out trajectories, in place of :class:`zoo.evaluation.evaluator.Evaluator`.

    The score of an algorithm with a critic is the critic's value of the policy's action in the first state of each
    held-out trajectory; of another algorithm it is minus its loss. Losses are those of an update, without its step.

    :param data: held-out trajectories, actions in the units of the action space.
    :param seed: of the transitions and the noise, which are the same for all replicas.
    """

    check_in: Hook = staticmethod(keep_waiting)

    def __init__(self, data: Transitions, *, seed: int) -> None:
        self._data = data
        self._seed = seed

    def close(self) -> None:
        """Do nothing: there is no process to end."""

    def evaluate(
        self, policy: Any, replicas: Sequence[int], active: Collection[int] | None = None
    ) -> EpisodeResults:
        """Judge every replica of a `FlowPolicy`.

        An episode of the results is a held-out trajectory where the score is a value; else there is one, of all rows.
        """
        self.check_in()
        method = policy.method
        policy.set_training_mode(False)  # dropout and batch statistics would depend on the batch
        batch, first_states = self._read(policy)
        with matmul_precision(method.precision, policy.device):
            noise = self._draw(policy, method.update_noise(), ROWS)
            losses = losses_on(policy, batch, noise)
            estimates = {f"held_out_{name}": loss for name, loss in losses.items()}
            scores = -estimates["held_out_loss"][:, None]
            if method.rates_actions:
                with torch.no_grad():
                    q_data = method.score(batch.observations, batch.actions, policy.nets)
                # rows whose chunk runs over the end of a trajectory do not count
                mean = (q_data * batch.valid).sum(1) / batch.valid.sum(1)
                estimates["q_data"] = as_array(mean)
                estimates["q_policy"] = self._values(policy, batch.observations).mean(1)
                scores = self._values(policy, first_states)
        played: Any = np.isfinite(scores).all(1)
        if active is not None:
            played &= np.isin(np.arange(len(replicas)), sorted(active))
        return EpisodeResults(
            successes=None,
            returns=np.where(played[:, None], scores, 0.0),
            lengths=np.broadcast_to(played[:, None], scores.shape).astype(np.int64),
            seeds=np.arange(scores.shape[1], dtype=np.uint32),
            played=played,
            estimates=estimates,
        )

    def _read(self, policy: FlowPolicy) -> tuple[Batch, Tensor]:
        """Return a batch as updates get them, and the first states of the trajectories, (S, k, O)."""
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
        first_states = batch_for(policy, buffer, first_sequences(buffer)).observations
        return batch.with_observations(policy.preprocess), policy.preprocess(first_states)

    def _draw(self, policy: FlowPolicy, table: Mapping[str, Any], rows: int) -> dict[str, Tensor]:
        """Return noise by name, the same for all S replicas, each (S, ...)."""
        generator = torch_generator(Purpose.EVALUATION_NOISE, self._seed)
        sizes = policy.noise_sizes(1, rows)
        noise = {}
        for name, draw in table.items():
            values = draw(sizes, generator, "cpu").to(policy.device)
            noise[name] = values.expand(policy.num_replicas, *values.shape[1:])
        return noise

    def _values(self, policy: FlowPolicy, observations: Tensor) -> np.ndarray:
        """Return the critic's values of the policy's actions, (S, B), for observations (S, B, O)."""
        method = policy.method
        noise = self._draw(policy, method.candidate_noise(), observations.shape[1])
        with torch.no_grad():
            actions = method.sample_actions(observations, noise, policy.nets).clamp(-1, 1)
            return as_array(method.score(observations, actions, policy.nets))
