"""How a model takes one gradient step: batch, noise, losses, and what follows a step."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import replace

import torch
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from torch import Tensor

from agents.common.data.batch import Batch
from agents.common.data.buffer import SequenceReplayBuffer
from agents.common.engine.fast_update import FastUpdate, Mode
from agents.common.method import Info, Method, Noise
from agents.common.pretraining import CLONING_NOISE, cloning_losses, start_from_behaviour
from agents.common.sb3.policy import FlowPolicy


class UpdatingModel(OffPolicyAlgorithm):
    """The part of a model that takes gradient steps."""

    method: Method
    policy: FlowPolicy
    replay_buffer: SequenceReplayBuffer | None
    behaviour_flow: str | None
    pretraining: bool
    """Whether the coming update trains the behaviour flow alone."""
    _update: FastUpdate
    _generator: torch.Generator
    _host_generator: torch.Generator

    def sample_and_update(self, batch_size: int) -> Info:
        """Sample a batch and the noise, and take one gradient step.

        :param batch_size: B.
        :return: losses and diagnostics, each (S,), on the device; the next update may write into the same tensors.
        """
        assert self.replay_buffer is not None
        self.replay_buffer.rotate_dataset(self._n_updates)
        if self._n_updates == self._update.compile_at:
            self._update.compile_in_time()
        if self._update.mode.captured:
            return self._updated(self._update.replay(batch_size))
        return self._updated(self._update(self.draw_batch(batch_size), self.draw_noise(batch_size)))

    def update(self, batch: Batch, noise: Noise) -> Info:
        """Take one gradient step on all networks, or while pretraining on the behaviour flow.

        :param batch: the batch, observations as the networks see them.
        :param noise: all draws of the update.
        :return: losses and diagnostics, each (S,), on the device.
        """
        if self._n_updates == self._update.compile_at:
            self._update.compile_in_time()
        return self._updated(self._update(batch, noise))

    def _updated(self, info: Info) -> Info:
        """Finish an update: what is not trained by gradient, copies, and the count."""
        if self.pretraining:
            start_from_behaviour(self.policy.nets, self.method.networks())
        else:
            self.method.after_update(self.policy.nets, info)
        self._n_updates += 1
        self.pretraining = self._n_updates < self.method.pretraining_steps
        return info

    def compute_losses(self, batch: Batch, noise: Noise) -> tuple[Tensor, Info]:
        """Evaluate the method's targets and losses, or while pretraining the behaviour flow's loss.

        :param batch: the batch, observations as the networks see them.
        :param noise: all draws of the update.
        :return: the weighted total of every replica with its graph, (S,), and losses and diagnostics without.
        """
        nets = self.policy.nets
        if self.pretraining:
            assert self.behaviour_flow is not None
            return self.method.total(cloning_losses(nets[self.behaviour_flow], batch, noise), {})
        return self.method.compute_losses(batch, noise, nets)

    def skipped_networks(self) -> frozenset[str]:
        """Return which networks the coming update leaves as they are: while pretraining, all but the behaviour flow."""
        if self.pretraining:
            return frozenset(self.policy.nets) - {self.behaviour_flow}
        return self.method.skipped_networks(self._n_updates)

    def draw_batch(self, batch_size: int) -> Batch:
        """Sample a batch.

        :param batch_size: B.
        :return: the batch, observations as the networks see them.
        """
        buffer = self.replay_buffer
        assert buffer is not None
        # in host memory nothing else is drawn from its generator, so that the next batch can be prepared
        generator = self._generator if buffer.on_device else self._host_generator
        batch = buffer.sample(batch_size, self._vec_normalize_env, generator)
        if self.method.observation_scale is None:
            return batch
        seen = self.policy.preprocess
        return replace(batch, observations=seen(batch.observations), next_observations=seen(batch.next_observations))

    def draw_noise(self, batch_size: int) -> dict[str, Tensor]:
        """Draw the noise of one update.

        :param batch_size: B.
        :return: every draw of ``method.update_noise()`` by name; while pretraining, those of cloning.
        """
        sizes = self.method.noise_sizes(self.policy.num_replicas, batch_size, self.policy.chunk_size)
        draws = CLONING_NOISE if self.pretraining else self.method.update_noise()
        return {name: draw(sizes, self._generator, self.device) for name, draw in draws.items()}

    def batch_source(self) -> Hashable:
        """Return what drawing a batch reads, where that is on the device and stays as it is between updates.

        :return: a key that changes with it, or None where the host takes part: while online transitions come in, where
            an environment's statistics normalise them, or where the buffer is in the host's memory.
        """
        buffer = self.replay_buffer
        if buffer is None or buffer.size() or not buffer.on_device or self._vec_normalize_env is not None:
            return None
        return buffer.observations.data_ptr(), buffer.dataset_size

    @property
    def update_mode(self) -> Mode:
        """How updates are run at present, and why."""
        return self._update.mode

    def generators(self) -> dict[str, torch.Generator]:
        """Return the generators that training draws from, besides the global ones."""
        acting = {f"acting {replica}": generator for replica, generator in enumerate(self.policy.generators)}
        return {"training": self._generator, "batches": self._host_generator, **acting}
