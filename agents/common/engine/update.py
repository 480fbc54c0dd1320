"""One gradient step in one piece: losses, joint clip, target networks, optimiser. Nothing algorithmic is here."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Hashable
from contextlib import AbstractContextManager
from typing import Any, Protocol

import torch
from torch import Tensor

from agents.common.data.batch import Batch
from agents.common.method import Info, Method, Noise


class Learner(Protocol):
    """What updates need of a model."""

    device: torch.device
    verbose: int
    pretraining: bool
    """Whether the coming update trains the behaviour flow alone."""
    _n_updates: int

    @property
    def method(self) -> Method:
        """Settings."""

    @property
    def policy(self) -> Any:
        """Networks by name (``nets``), in training mode or not, and their ``optimizer``."""

    def compute_losses(self, batch: Batch, noise: Noise) -> tuple[Tensor, Info]:
        """Return the total loss with its graph, and losses and diagnostics without, each (S,)."""

    def skipped_networks(self) -> frozenset[str]:
        """Return which networks the coming update leaves as they are."""

    def draw_batch(self, batch_size: int) -> Batch:
        """Return a batch."""

    def draw_noise(self, batch_size: int) -> dict[str, Tensor]:
        """Return the noise of one update."""

    def batch_source(self) -> Hashable:
        """Return a key of what drawing a batch reads on the device; None where the host takes part."""

    def generators(self) -> dict[str, torch.Generator]:
        """Return the generators that batch (``batches``) and noise (``training``) are drawn from, and others."""


class Update:
    """Takes gradient steps for a model; none waits for the device or branches on values.

    :param learner: the model.
    """

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
        self.online: list[Tensor] = [p for online, _ in following for p in online.parameters()]
        self.target: list[Tensor] = [q for _, target in following for q in target.parameters()]
        # statistics that a features extractor gathers, e.g. those of batch normalisation
        self.online_statistics: list[Tensor] = [p for online, _ in following for p in online.buffers()]
        self.target_statistics: list[Tensor] = [q for _, target in following for q in target.buffers()]
        self.skipped = skipped

    def differentiate(self, batch: Batch, noise: Noise) -> tuple[Info, tuple[Tensor | None, ...]]:
        """Return diagnostics, and the gradient of the total loss; None for parameters that no loss depends on.

        :param batch: the batch.
        :param noise: all draws of the update.
        :return: name -> (S,), and one tensor per parameter.
        """
        total, info = self.learner.compute_losses(batch, noise)
        return info, torch.autograd.grad(total.sum(), self.parameters, allow_unused=True)

    def apply(self, grads: list[Tensor], info: Info) -> None:
        """Clip the gradient, move the targets towards the weights from before the step, and take the step.

        :param grads: one tensor per parameter.
        :param info: gets ``grad_norm``, each replica's norm before clipping, (S,).
        """
        info["grad_norm"] = norm = joint_norm(grads, self.policy.num_replicas)
        if self.method.max_grad_norm is not None:
            factor = (self.method.max_grad_norm / norm).clamp(max=1.0)
            grads = list(torch._foreach_mul(grads, _for_each(grads, factor)))
        with torch.no_grad():
            if self.online:
                torch._foreach_lerp_(self.target, self.online, self.method.tau)
            for own, other in zip(self.target_statistics, self.online_statistics, strict=True):
                own.copy_(other)
        for parameter, grad in zip(self.parameters, grads, strict=True):
            parameter.grad = grad
        self.optimizer.step()


def _for_each(grads: list[Tensor], factor: Tensor) -> Tensor | list[Tensor]:
    """Return each replica's factor, (S,), in the shapes of its gradients; of a single one, as what one kernel takes."""
    if len(factor) == 1:
        return factor[0]
    return [factor.view([-1, *[1] * (g.ndim - 1)]) for g in grads]


def joint_norm(grads: list[Tensor], replicas: int) -> Tensor:
    """Return the L2 norm of each replica's whole gradient.

    :param grads: tensors (S, ...), or of any shape where S is 1.
    :param replicas: S.
    :return: (S,).
    """
    if replicas == 1:
        return torch.nn.utils.get_total_norm(grads).view(1)
    return torch.stack([torch.linalg.vector_norm(g.reshape(replicas, -1), dim=1) for g in grads]).norm(dim=0)
