"""QAM-F: QAM with a one-step policy distilled from its flow."""

from __future__ import annotations

from torch import Tensor

from agents.core import (
    Batch,
    Draw,
    Info,
    Losses,
    Networks,
    NetworkSpec,
    Noise,
    Targets,
    log_range,
    normal,
    setting,
    velocity_field,
)
from agents.qam import QAM


class QAMF(QAM):
    r"""QAM whose flow is distilled into a one-step policy that also maximises Q, as in Flow Q-learning.

    .. math:: L = L_{QAM} + w\,\mathbb{E}\lVert \mathrm{ODE}(s, z; v_f) - \mu(s, z)\rVert^2 / D
        - \mathbb{E}\,\bar Q(s, \mathrm{clip}\,\mu(s, z))

    Source: Li and Levine, Q-learning with Adjoint Matching, arXiv 2601.14234.
    """

    distill_weight: float = setting(
        default=30.0,
        reference="fql_alpha",
        above=0,
        search=log_range(0.3, 1000.0),
        doc="Weight w of the distillation. Large values keep the policy close to the flow.",
    )

    def networks(self) -> dict[str, NetworkSpec]:
        """Return QAM's networks and the one-step policy."""
        return {**super().networks(), "one_step": velocity_field(time=False)}

    def noise(self) -> dict[str, Draw]:
        """Return QAM's noise, and the noise that teacher and student share."""
        return {**super().noise(), "distill_z": normal()}

    def loss_weights(self) -> dict[str, float]:
        """Return the weight of the distillation loss."""
        return {"distill": self.distill_weight}

    def act(self, observations: Tensor, noise: Noise, nets: Networks) -> Tensor:
        """Map noise to actions in one step."""
        return nets.one_step(observations, noise["action"]).clamp(-1, 1)

    def targets(self, batch: Batch, noise: Noise, nets: Networks, info: Info) -> Targets:
        """Return QAM's targets, and the actions of QAM's flow for the shared noise."""
        teacher = super().act(batch.observations, {"action": noise["distill_z"]}, nets)
        return {**super().targets(batch, noise, nets, info), "teacher": teacher}

    def losses(
        self, batch: Batch, targets: Targets, noise: Noise, nets: Networks, info: Info
    ) -> Losses:
        """Return QAM's losses, and the distillation loss and Q term of the one-step policy."""
        losses = super().losses(batch, targets, noise, nets, info)
        student = nets.one_step(batch.observations, noise["distill_z"])
        return {
            **losses,
            # these two losses use no dataset actions, so they are not weighted by `valid`
            "distill": (student - targets["teacher"]).square().mean((1, 2)),
            "q": -nets.frozen.critic(batch.observations, student.clamp(-1, 1)).mean((1, 2)),
        }
