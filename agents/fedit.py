"""FEDIT: a behaviour flow whose actions are refined by a small bounded edit."""

from __future__ import annotations

from torch import Tensor

from agents.common.families.edited import EditedFlow
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
    normal,
    q_statistics,
    register,
    setting,
    td_loss,
    uniform,
    velocity_field,
)


class ClonedFlow(Method):
    """A behaviour flow that clones the data and acts, and critics that rate what it does; they never shape the flow."""

    def networks(self) -> dict[str, NetworkSpec]:
        """Return critics and behaviour flow."""
        return {"critic": critic(target=True), "behaviour": velocity_field(role="behaviour")}

    def noise(self) -> dict[str, Draw]:
        """Return the draws of flow matching."""
        return {"bc_x0": normal(), "bc_t": uniform()}

    def act(self, observations: Tensor, noise: Noise, nets: Networks) -> Tensor:
        """Follow the behaviour flow."""
        flow = nets.behaviour.at(observations)
        return integrate_flow(flow, noise["action"], self.flow_steps).clamp(-1, 1)

    def losses(
        self, batch: Batch, targets: Targets, noise: Noise, nets: Networks, info: Info
    ) -> Losses:
        """Return the TD and flow-matching losses."""
        q = nets.critic(batch.observations, batch.actions)
        info |= q_statistics(q)
        return {
            "td": td_loss(q, targets["td"], batch.valid),
            "bc_flow": cloning_loss(nets.behaviour, batch, noise),
        }


@register(
    "fedit",
    paper="baseline of Q-learning with Adjoint Matching (Li and Levine, arXiv 2601.14234), after EXPO (2507.07986)",
    published_name="FEdit",
    when="To fine-tune a cloned flow online.",
)
class FEDIT(EditedFlow, ClonedFlow):
    r"""A cloned flow proposes an action and a soft actor-critic edits it within a bound.

    .. math:: a = \mathrm{clip}(\mathrm{ODE}(s, z; v) + c\,e),\quad e\sim\pi_{edit}(\cdot\mid s, a_{flow})\in(-1, 1)^D

    .. math:: L = L_{TD} + L_{FM}(v) - \mathbb{E}\,\bar Q(s, a) + \alpha\,\mathbb{E}\log\pi_{edit}(e) + L_\alpha

    The critic never shapes the flow. Source: Dong et al., EXPO, arXiv 2507.07986, in the form of the baseline of Li and
    Levine, arXiv 2601.14234. Differs in: nothing; like that baseline it plays one candidate, where EXPO plays the best
    of several (``best_of_n``).
    """

    edit_scale: float = setting(
        default=0.2,
        doc="Bound c of the edit in every coordinate; the authors' code has no working default.",
    )
