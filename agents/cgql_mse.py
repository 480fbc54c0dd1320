"""CGQL-M: classifier-guided Q-learning whose critic also learns values of noisy actions, by least squares."""

from __future__ import annotations

from torch import Tensor

from agents.cgql import CGQL
from agents.core import (
    Batch,
    Draw,
    Info,
    Losses,
    Networks,
    Noise,
    Targets,
    interpolate,
    log_range,
    normal,
    setting,
    uniform,
)


class CGQLMSE(CGQL):
    r"""CGQL guided by a critic that also learns values of noisy actions, by least squares.

    .. math:: L = L_{CGQL} + c\,\mathbb{E}\,(Q(s, x_t, t) - Q'(s, a, 1))^2, \qquad x_t = (1-t) x_0 + t a

    The distillation loss is minimal at :math:`\mathbb{E}[Q' \mid x_t]`. Guidance at time t evaluates Q at time t, so it
    is exact to first order in tau. Source: Li and Levine, arXiv 2601.14234, classifier-guidance baselines.
    """

    noisy_weight: float = setting(
        default=0.001,
        reference="noisy_coef",
        above=0,
        search=log_range(0.0001, 1.0),
        doc="Weight c of the distillation loss.",
    )

    def noise(self) -> dict[str, Draw]:
        """Return CGQL's noise, and the distillation's times and noise."""
        return {**super().noise(), "noisy_t": uniform(), "noisy_x0": normal()}

    def loss_weights(self) -> dict[str, float]:
        """Return the weight of the distillation loss."""
        return {"noisy": self.noisy_weight}

    def guide_time(self, t: float) -> float:
        """Return the time input of the critic for guidance at flow time t: t itself, the time of the noisy action."""
        return t

    def targets(self, batch: Batch, noise: Noise, nets: Networks, info: Info) -> Targets:
        """Return CGQL's target, and each target critic's values of the clean dataset actions, (S, E, B)."""
        targets = super().targets(batch, noise, nets, info)
        # not averaged, so that the ensemble's spread is distilled too
        return {**targets, "clean_q": nets.critic_target(batch.observations, batch.actions, 1.0)}

    def losses(
        self, batch: Batch, targets: Targets, noise: Noise, nets: Networks, info: Info
    ) -> Losses:
        """Return CGQL's losses and the distillation loss."""
        losses = super().losses(batch, targets, noise, nets, info)
        t = noise["noisy_t"].unsqueeze(-1)
        # as in guidance, the critic receives the time of the noisy action
        noisy = interpolate(noise["noisy_x0"], batch.actions, t)
        q = nets.critic(batch.observations, noisy, t)
        clean_q = targets["clean_q"]
        info["noisy_gap"] = (clean_q - q).mean((1, 2))
        errors = self.noisy_errors(q, clean_q, info)
        return {**losses, "noisy": (batch.valid.unsqueeze(1) * errors).mean((1, 2))}

    def noisy_errors(self, q: Tensor, clean_q: Tensor, info: Info) -> Tensor:
        """Return the squared errors of the distillation.

        :param q: predictions at noisy actions, (S, E, B).
        :param clean_q: their regression targets, (S, E, B).
        :param info: receives diagnostics, (S,) each.
        :return: (S, E, B).
        """
        return (q - clean_q).square()
