"""FEDIT: a behaviour flow whose actions are refined by a small bounded edit."""

from __future__ import annotations

from torch import Tensor

from agents.common.maths.edit import apply_edit, edit_losses
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
    linear_range,
    normal,
    setting,
    tanh_gaussian,
    temperature,
    uniform,
    velocity_field,
)


class FEDIT(Method):
    r"""A cloned flow proposes an action and a soft actor-critic edits it within a bound.

    .. math:: a = \mathrm{clip}(\mathrm{clip}\,\mathrm{ODE}(s, z; v) + c\,e),
        \quad e\sim\pi_{edit}(\cdot\mid s, a_{flow})\in(-1, 1)^D

    .. math:: L = L_{TD} + L_{FM}(v) - \mathbb{E}\,\bar Q(s, a) + \alpha\,\mathbb{E}\log\pi_{edit}(e) + L_\alpha

    The critics do not train the flow. Source: Dong et al., EXPO, arXiv 2507.07986, in the form of the baseline of Li
    and Levine, arXiv 2601.14234.
    """

    edit_scale: float = setting(
        default=0.2,
        above=0,
        search=linear_range(0.05, 1.0),
        doc="Bound c on every coordinate of the edit; the authors' code has no working default.",
    )
    target_entropy: float | None = setting(
        default=None,
        reference="edit_target_entropy",
        doc="Target entropy of the edit before scaling; None: -D/2.",
    )

    def networks(self) -> dict[str, NetworkSpec]:
        """Return the critics, the behaviour flow, the edit policy and its temperature."""
        return {
            "critic": critic(target=True),
            "behaviour": velocity_field(role="behaviour"),
            "edit": tanh_gaussian(given_action=True),
            "temperature": temperature(),
        }

    def action_noise_table(self) -> dict[str, Draw]:
        """Return the noise of the flow and of the edit."""
        return {"action": normal(), "edit": normal()}

    def noise(self) -> dict[str, Draw]:
        """Return the noise and times of flow matching, and the noise of the edit loss."""
        return {
            "bc_x0": normal(),
            "bc_t": uniform(),
            "edit_z": normal(),
            "edit_eps": normal(),
        }

    def follow_flow(self, observations: Tensor, z: Tensor, nets: Networks) -> Tensor:
        """Return the flow's actions, (S, B, D)."""
        return integrate_flow(nets.behaviour.at(observations), z, self.flow_steps).clamp(-1, 1)

    def act(self, observations: Tensor, noise: Noise, nets: Networks) -> Tensor:
        """Add the edit to the flow's actions."""
        flow_actions = self.follow_flow(observations, noise["action"], nets)
        return apply_edit(nets.edit, observations, flow_actions, noise["edit"], self.edit_scale)[0]

    def targets(self, batch: Batch, noise: Noise, nets: Networks, info: Info) -> Targets:
        """Return the TD target, and the flow's actions, which are constants in the edit loss."""
        # computed under `no_grad`, so the edit does not train the flow
        flow_actions = self.follow_flow(batch.observations, noise["edit_z"], nets)
        return {**self.td_targets(batch, noise, nets), "flow_actions": flow_actions}

    def losses(
        self, batch: Batch, targets: Targets, noise: Noise, nets: Networks, info: Info
    ) -> Losses:
        """Return the losses of TD, flow matching, edit policy and temperature."""
        td = self.critic_loss(batch, targets, nets, info)
        bc_flow = cloning_loss(nets.behaviour, batch, noise)
        # these losses use no dataset actions, so they are not weighted by `valid`
        return {"td": td, "bc_flow": bc_flow} | edit_losses(
            batch,
            targets["flow_actions"],
            noise["edit_eps"],
            nets,
            self.edit_scale,
            self.target_entropy,
            info,
        )
