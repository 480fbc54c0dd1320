"""One update in one piece: gradient, joint clip, target networks, optimiser. Nothing algorithmic is here."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from agents.common.batch import Batch
from agents.common.noise import Noise

if TYPE_CHECKING:
    from agents.common.base import FlowQLearning, Info


class Update:
    """Takes gradient steps for an algorithm; calling it neither synchronises with the host nor branches on values.

    :param algorithm: gives losses, networks and settings.
    """

    def __init__(self, algorithm: FlowQLearning) -> None:
        self.algorithm = algorithm
        self.optimizer = algorithm.policy.optimizer
        self.skipped: frozenset[str] | None = None
        self.select(algorithm.skipped_networks())
        self.losses = algorithm.compute_losses
        if algorithm.compile == "on":
            self.losses = torch.compile(self.losses, dynamic=False)

    def select(self, skipped: frozenset[str]) -> None:
        """Choose what the next step moves.

        :param skipped: names of the networks that stay as they are.
        """
        if skipped == self.skipped:
            return
        nets = self.algorithm.policy.nets
        still = {id(p) for name in skipped for p in nets[name].parameters()}
        every = [p for group in self.optimizer.param_groups for p in group["params"]]
        self.parameters = [p for p in every if id(p) not in still]
        for parameter in every:
            parameter.grad = None  # the optimiser leaves a parameter without gradient, and its moments, alone
        pairs = [
            (p, q)
            for online, target in nets.targets()
            for p, q in zip(online.parameters(), target.parameters(), strict=True)
            if id(q) not in still
        ]
        self.online: list[Tensor] = [p for p, _ in pairs]
        self.target: list[Tensor] = [q for _, q in pairs]
        self.skipped = skipped

    def __call__(self, batch: Batch, noise: Noise) -> Info:
        """Take one gradient step.

        :param batch: the batch.
        :param noise: all draws of the update.
        :return: losses and diagnostics, each (S,).
        """
        self.select(self.algorithm.skipped_networks())
        total, info = self.losses(batch, noise)
        found = torch.autograd.grad(total.sum(), self.parameters, allow_unused=True)
        grads = [torch.zeros_like(p) if g is None else g for p, g in zip(self.parameters, found, strict=True)]
        self.apply(grads, info)
        return info

    def apply(self, grads: list[Tensor], info: Info) -> None:
        """Clip the gradient, move the targets towards the weights from before the step, and take the step.

        :param grads: one tensor per parameter, (S, ...).
        :param info: gets ``grad_norm``, each replica's norm before clipping, (S,).
        """
        algorithm = self.algorithm
        info["grad_norm"] = norm = joint_norm(grads)
        if algorithm.max_grad_norm is not None:
            factor = (algorithm.max_grad_norm / norm).clamp(max=1.0)
            grads = list(torch._foreach_mul(grads, [factor.view(-1, *[1] * (g.ndim - 1)) for g in grads]))
        with torch.no_grad():
            if self.online:
                torch._foreach_lerp_(self.target, self.online, algorithm.tau)
        for parameter, grad in zip(self.parameters, grads, strict=True):
            parameter.grad = grad
        self.optimizer.step()


def joint_norm(grads: list[Tensor]) -> Tensor:
    """Return the L2 norm of each replica's whole gradient.

    :param grads: tensors (S, ...).
    :return: (S,).
    """
    return torch.stack([torch.linalg.vector_norm(g.reshape(len(g), -1), dim=1) for g in grads]).norm(dim=0)
