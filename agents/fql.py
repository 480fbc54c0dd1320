"""FQL: Flow Q-learning."""

from __future__ import annotations

from torch import Tensor

from agents.core import (
    Batch,
    Draw,
    Info,
    Losses,
    Method,
    Networks,
    NetworkSpec,
    Noise,
    Targets,
    cloning_loss,
    critic,
    integrate_flow,
    log_range,
    normal,
    setting,
    uniform,
    velocity_field,
)


class FQL(Method):
    r"""A one-step policy is distilled from the behaviour flow and maximises Q.

    .. math:: L = L_{TD} + L_{FM}(v) + w\,\mathbb{E}\lVert \mathrm{ODE}(s, z; v) - \mu(s, z)\rVert^2 / D
        - \mathbb{E}\,\bar Q(s, \mathrm{clip}\,\mu(s, z))

    Only the one-step policy acts and maximises Q, so the flow's steps are not differentiated.

    Source: Park, Li and Levine, Flow Q-Learning, arXiv 2502.02538.
    """

    distill_weight: float = setting(
        default=100.0,
        reference="alpha",
        above=0,
        search=log_range(0.3, 1000.0),
        doc="Weight w of the distillation. Large values keep the policy close to the flow.",
    )

    def networks(self) -> dict[str, NetworkSpec]:
        """Return the critics, the behaviour flow and the one-step policy."""
        return {
            "critic": critic(target=True),
            "behaviour": velocity_field(role="behaviour"),
            "one_step": velocity_field(time=False),
        }

    def noise(self) -> dict[str, Draw]:
        """Return the noise and times of flow matching, and the noise that teacher and student share."""
        return {"bc_x0": normal(), "bc_t": uniform(), "distill_z": normal()}

    def loss_weights(self) -> dict[str, float]:
        """Return the weight of the distillation loss."""
        return {"distill": self.distill_weight}

    def act(self, observations: Tensor, noise: Noise, nets: Networks) -> Tensor:
        """Map noise to actions in one step."""
        return nets.one_step(observations, noise["action"]).clamp(-1, 1)

    def targets(self, batch: Batch, noise: Noise, nets: Networks, info: Info) -> Targets:
        """Return the TD target and the actions of the flow, clipped to the action bounds."""
        flow = nets.behaviour.at(batch.observations)
        teacher = integrate_flow(flow, noise["distill_z"], self.flow_steps).clamp(-1, 1)
        return {**self.td_targets(batch, noise, nets), "teacher": teacher}

    def losses(
        self, batch: Batch, targets: Targets, noise: Noise, nets: Networks, info: Info
    ) -> Losses:
        """Return the TD, flow-matching and distillation losses, and the Q term."""
        td = self.critic_loss(batch, targets, nets, info)
        student = nets.one_step(batch.observations, noise["distill_z"])
        return {
            "td": td,
            "bc_flow": cloning_loss(nets.behaviour, batch, noise),
            # these two losses use no dataset actions, so they are not weighted by `valid`
            "distill": (student - targets["teacher"]).square().mean((1, 2)),
            # clipped, since critics are trained only inside the action bounds; the clip has no gradient
            # outside them, where only the distillation trains the student
            "q": -nets.frozen.critic(batch.observations, student.clamp(-1, 1)).mean((1, 2)),
        }
