"""QAM-E: QAM whose actions are refined by a small bounded edit."""

from __future__ import annotations

from torch import Tensor

from agents.common.maths.edit import apply_edit, edit_losses
from agents.core import (
    Batch,
    Draw,
    Info,
    Losses,
    Networks,
    NetworkSpec,
    Noise,
    Targets,
    linear_range,
    normal,
    setting,
    tanh_gaussian,
    temperature,
)
from agents.qam import QAM


class QAME(QAM):
    r"""QAM with a soft actor-critic that edits actions within a bound.

    .. math:: a = \mathrm{clip}(\mathrm{clip}\,\mathrm{ODE}(s, z; v_f) + c\,e),
        \quad e \sim \pi_{edit}(\cdot\mid s, a_{flow}) \in (-1, 1)^D

    .. math:: L = L_{QAM} - \mathbb{E}\,\bar Q(s, a) + \alpha\,\mathbb{E}\log\pi_{edit}(e) + L_\alpha

    Source: Li and Levine, Q-learning with Adjoint Matching, arXiv 2601.14234.
    """

    edit_scale: float = setting(
        default=0.1,
        above=0,
        search=linear_range(0.05, 1.0),
        doc="Bound c on every coordinate of the edit.",
    )
    target_entropy: float | None = setting(
        default=None,
        reference="edit_target_entropy",
        doc="Target entropy of the edit before scaling; None: -D/2.",
    )

    def networks(self) -> dict[str, NetworkSpec]:
        """Return QAM's networks, the edit policy and its temperature."""
        return {
            **super().networks(),
            "edit": tanh_gaussian(given_action=True),
            "temperature": temperature(),
        }

    def action_noise_table(self) -> dict[str, Draw]:
        """Return the noise of the flow and of the edit."""
        return {"action": normal(), "edit": normal()}

    def noise(self) -> dict[str, Draw]:
        """Return the noise of QAM and of the edit loss."""
        return {**super().noise(), "edit_z": normal(), "edit_eps": normal()}

    def act(self, observations: Tensor, noise: Noise, nets: Networks) -> Tensor:
        """Add the edit to the flow's actions."""
        flow_actions = super().act(observations, noise, nets)
        return apply_edit(nets.edit, observations, flow_actions, noise["edit"], self.edit_scale)[0]

    def targets(self, batch: Batch, noise: Noise, nets: Networks, info: Info) -> Targets:
        """Return QAM's targets, and the flow's actions, which are constants in the edit loss."""
        # targets are computed under `no_grad`, so the edit does not train the flow
        flow_actions = super().act(batch.observations, {"action": noise["edit_z"]}, nets)
        return {**super().targets(batch, noise, nets, info), "flow_actions": flow_actions}

    def losses(
        self, batch: Batch, targets: Targets, noise: Noise, nets: Networks, info: Info
    ) -> Losses:
        """Return the losses of QAM, of the edit policy and of the temperature."""
        losses = super().losses(batch, targets, noise, nets, info)
        # these losses use no dataset actions, so they are not weighted by `valid`
        return losses | edit_losses(
            batch,
            targets["flow_actions"],
            noise["edit_eps"],
            nets,
            self.edit_scale,
            self.target_entropy,
            info,
        )
