"""One gradient step: batch and noise, losses, joint clip, target networks, optimiser. Nothing algorithmic is here."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Hashable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from agents.common.batch import Batch
from agents.common.data.buffer import SequenceReplayBuffer
from agents.common.maths.flow import cloning_loss
from agents.common.method import Info, Method, Noise
from agents.common.nets.encoding import RememberedFeatures
from agents.common.pretraining import CLONING_NOISE, start_from_behaviour

CROP_PIXELS = 3
"""By how many pixels random crops shift images at most, as in FQL's implementation."""


class Learner:
    """What takes gradient steps: a method, the networks of a policy, a replay buffer, generators. A model is one."""

    method: Method
    policy: Any  # networks by name (`nets`), in training mode or not, and their `optimizer`
    replay_buffer: SequenceReplayBuffer | None
    behaviour_flow: str | None
    pretraining: bool
    """Whether the coming update trains the behaviour flow alone; kept, since compiled losses would watch the counts."""
    device: torch.device
    verbose: int
    _n_updates: int
    _vec_normalize_env: Any
    _update: Update
    _generator: torch.Generator
    _host_generator: torch.Generator

    def sample_and_update(self, batch_size: int) -> Info:
        """Sample a batch and the noise, and take one gradient step.

        :param batch_size: B.
        :return: losses and diagnostics, each (S,), on the device; the next update may write into the same tensors.
        """
        buffer = self.replay_buffer
        assert buffer is not None
        if buffer.loader is not None:
            buffer.rotate_dataset(self._n_updates)
        if self._n_updates == self._update.compile_at:
            self._update.compile_in_time()
        return self._updated(self._update.draw_and_take(batch_size))

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
        nets, batch = self.policy.nets, self.crop_images(batch, noise)
        if self.pretraining:
            assert self.behaviour_flow is not None
            return self.method.total({"bc_flow": cloning_loss(nets[self.behaviour_flow], batch, noise)}, {})
        if nets.have_extractors:
            nets = RememberedFeatures(nets)
        return self.method.compute_losses(batch, noise, nets)

    def crop_images(self, batch: Batch, noise: Noise) -> Batch:
        """Shift the images of a batch at random, with the probability `random_crop`.

        :param batch: the batch.
        :param noise: all draws of the update.
        :return: the batch with other observations; the same one without random crops.
        """
        if not self.method.random_crop:
            return batch
        is_done = (noise["crop"] < self.method.random_crop).unsqueeze(-1)  # (S, 1)
        ways = 2 * CROP_PIXELS + 1
        y, x = (((noise[name] * ways).long() - CROP_PIXELS) * is_done for name in ("crop_y", "crop_x"))
        shifted = self.policy.layout.shifted
        return replace(
            batch,
            observations=shifted(batch.observations, y, x),
            next_observations=shifted(batch.next_observations, y, x),
        )

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
        :return: every draw of ``method.update_noise()`` by name; while pretraining, those of cloning and of crops.
        """
        sizes = self.method.noise_sizes(self.policy.num_replicas, batch_size, self.policy.chunk_size)
        draws = self.method.update_noise()
        if self.pretraining:
            draws = {**CLONING_NOISE, **self.method.crop_noise()}
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

    def generators(self) -> dict[str, torch.Generator]:
        """Return the generators that training draws from, besides the global ones."""
        acting = {f"acting {replica}": generator for replica, generator in enumerate(self.policy.generators)}
        return {"training": self._generator, "batches": self._host_generator, **acting}


class Update:
    """Takes gradient steps for a model; none waits for the device or branches on values.

    :param learner: the model.
    """

    compile_at = -1
    """Number of updates after which :meth:`compile_in_time` is called."""

    def __init__(self, learner: Learner) -> None:
        self.learner, self.method = learner, learner.method
        self.policy, self.optimizer = learner.policy, learner.policy.optimizer
        self.float32_products: Callable[[], AbstractContextManager[None]] = contextlib.nullcontext
        self.skipped: frozenset[str] | None = None
        self.select(learner.skipped_networks())

    def __call__(self, batch: Batch, noise: Noise) -> Info:
        """Take one gradient step.

        :param batch: the batch, observations as the networks see them.
        :param noise: all draws of the update.
        :return: losses and diagnostics, each (S,).
        """
        if not self.policy.training:  # acting switches dropout and batch statistics off
            self.policy.set_training_mode(True)
        self.select(self.learner.skipped_networks())
        with self.float32_products():
            info, found = self.differentiate(batch, noise)
        grads = [torch.zeros_like(p) if g is None else g for p, g in zip(self.parameters, found, strict=True)]
        self.apply(grads, info)
        return info

    def draw_and_take(self, batch_size: int) -> Info:
        """Draw a batch and its noise, and take one gradient step.

        :param batch_size: B.
        :return: losses and diagnostics, each (S,).
        """
        return self(self.learner.draw_batch(batch_size), self.learner.draw_noise(batch_size))

    def compile_in_time(self) -> None:
        """Decide again how updates are run: here always plainly."""

    def select(self, skipped: frozenset[str]) -> None:
        """Choose what the next step moves.

        :param skipped: names of the networks that stay as they are.
        """
        if skipped == self.skipped:
            return
        nets = self.policy.nets
        still = {id(p) for name in skipped for p in nets[name].parameters()}
        every = [p for group in self.optimizer.param_groups for p in group["params"]]
        self.parameters = [p for p in every if id(p) not in still]
        for parameter in every:
            parameter.grad = None  # the optimiser leaves a parameter without gradient, and its moments, alone
        following = [pair for pair in nets.targets() if all(id(q) not in still for q in pair[1].parameters())]
        own_rates = {id(nets[name]): spec.tau for name, spec in self.method.networks().items() if spec.target}
        # weight of the moving averages, None for the setting's -> what they follow, and they themselves
        self.averages: dict[float | None, tuple[list[Tensor], list[Tensor]]] = {}
        for online, target in following:
            followed, averages = self.averages.setdefault(own_rates[id(online)], ([], []))
            followed += online.parameters()
            averages += target.parameters()
        # statistics that a features extractor gathers, e.g. those of batch normalisation
        self.online_statistics: list[Tensor] = [p for online, _ in following for p in online.buffers()]
        self.target_statistics: list[Tensor] = [q for _, target in following for q in target.buffers()]
        self.skipped = skipped

    def differentiate(self, batch: Batch, noise: Noise) -> tuple[Info, Sequence[Tensor | None]]:
        """Return diagnostics, and the gradient of the total loss; None for parameters that no loss depends on.

        :param batch: the batch.
        :param noise: all draws of the update.
        :return: name -> (S,), and one tensor per parameter.
        """
        total, info = self.learner.compute_losses(batch, noise)
        return info, torch.autograd.grad(total, self.parameters, torch.ones_like(total), allow_unused=True)

    def apply(self, grads: list[Tensor], info: Info) -> None:
        """Clip the gradient, move the targets towards the weights from before the step, and take the step.

        :param grads: one tensor per parameter.
        :param info: gets ``grad_norm``, each replica's norm before clipping, (S,).
        """
        grads = [_laid_out(grad, parameter) for grad, parameter in zip(grads, self.parameters, strict=True)]
        info["grad_norm"] = norm = joint_norm(grads, self.policy.num_replicas)
        if self.method.max_grad_norm is not None:
            grads = _own_memory(grads)
            scale(grads, (self.method.max_grad_norm / norm).clamp(max=1.0))
        with torch.no_grad():
            for own_rate, (online, target) in self.averages.items():
                torch._foreach_lerp_(target, online, self.method.tau if own_rate is None else own_rate)
            for own, other in zip(self.target_statistics, self.online_statistics, strict=True):
                own.copy_(other)
        for parameter, grad in zip(self.parameters, grads, strict=True):
            parameter.grad = grad
        self.step()

    def step(self) -> None:
        """Move the parameters by their gradients."""
        self.optimizer.step()


def joint_norm(grads: list[Tensor], replicas: int) -> Tensor:
    """Return the L2 norm of each replica's whole gradient.

    :param grads: tensors (S, ...), or of any shape where S is 1.
    :param replicas: S.
    :return: (S,).
    """
    if replicas == 1:
        return torch.nn.utils.get_total_norm(grads).view(1)
    parts = [part for own in _by_replica(grads, replicas) for part in own]
    return torch.stack(torch._foreach_norm(parts)).view(replicas, -1).norm(dim=1)


def scale(grads: list[Tensor], factor: Tensor) -> None:
    """Multiply each replica's whole gradient by a factor, in place.

    :param grads: tensors (S, ...), or of any shape where S is 1; none shares memory with another.
    :param factor: (S,).
    """
    # one kernel takes many tensors, but only one factor
    for own, number in zip(_by_replica(grads, len(factor)), factor.unbind(), strict=True):
        torch._foreach_mul_(own, number)


def _by_replica(tensors: list[Tensor], replicas: int) -> list[list[Tensor]]:
    """Return each replica's part of tensors (S, ...)."""
    if replicas == 1:
        return [tensors]
    return [list(own) for own in zip(*(tensor.unbind() for tensor in tensors), strict=True)]


def _laid_out(grad: Tensor, parameter: Tensor) -> Tensor:
    """Return a gradient with the strides of its parameter: a fused optimiser walks memory and looks at no strides."""
    return grad if grad.stride() == parameter.stride() else torch.empty_like(parameter).copy_(grad)


def _own_memory(grads: list[Tensor]) -> list[Tensor]:
    """Return gradients that may be changed in place; as they come, one tensor may be that of two parameters."""
    seen: set[int] = set()
    own = []
    for grad in grads:
        memory = grad.untyped_storage()._cdata
        own.append(grad.clone() if memory in seen else grad)
        seen.add(memory)
    return own
