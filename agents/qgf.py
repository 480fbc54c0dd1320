"""QGF: Q-guided flow, a cloned flow that the critic guides only when acting."""

from __future__ import annotations

from typing import Any, Literal

from torch import Tensor

from agents.common.maths.critic import implicit_targets, implicit_value_loss
from agents.common.maths.flow import grid_times
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
    Time,
    action_gradient,
    critic,
    flow_matching_loss,
    integrate_flow,
    linear_range,
    log_range,
    normal,
    pessimistic_value,
    setting,
    state_value,
    uniform,
    velocity_field,
)


class QGF(Method):
    r"""A flow clones the data, and Q is learnt from dataset actions alone; Q's gradient guides the flow when acting.

    The gradient is taken at the clean action that one long step from the current state x would reach:

    .. math:: \dot x = v(s, x, t) + w\,\nabla_a Q'(s, a)|_{a = \mathrm{clip}(x + (1 - t) v(s, x, t))}, \qquad
        L = \mathbb{E}\,|\kappa - 1[u < 0]|\,u^2 + \mathbb{E}\,(Q(s, a) - R - \gamma^H M V(s'))^2 + L_{FM}(v)

    with :math:`u = Q'(s, a) - V(s)`. Q' is the minimum of the two target critics (``rho`` = 1). Source: Test-Time
    Gradient Guidance of Flow Policies in Reinforcement Learning, arXiv 2606.11087, and the authors' code
    (github.com/zhouzypaul/qgf, ``agents/qgf.py``).
    """

    samples_next_action = False
    unmasked_losses = frozenset({"bc_flow"})

    expectile: float = setting(
        default=0.9,
        above=0,
        below=1,
        search=linear_range(0.5, 0.99),
        doc="Expectile kappa of the value loss.",
    )
    guidance_weight: float = setting(
        default=0.04,
        at_least=0,
        search=log_range(0.004, 1.0),
        doc="Weight w of Q's gradient; 0 samples the behaviour flow. Training does not depend"
        " on w.",
    )
    gradient: Literal["clean", "jacobian", "noisy"] = setting(
        default="clean",
        reference="denoised_action_approx, apply_jacobian",
        doc="Action at which Q's gradient is taken: `clean`, the end of one long step; "
        "`jacobian`, the same, with the gradient backpropagated through that step; "
        "`noisy`, the flow's current state.",
    )
    mask_cloning: bool = setting(
        default=False,
        doc="In the cloning loss, mask sequences that cross a trajectory's end, as the other "
        "losses do. The authors' code includes these sequences, whose chunks contain "
        "actions of the next trajectory.",
    )
    ensemble_size: int = setting(default=2, reference="num_qs")
    rho: float = setting(default=1.0, reference="q_aggregation")

    def networks(self) -> dict[str, NetworkSpec]:
        """Return the critics, the state value and the behaviour flow."""
        return {
            "critic": critic(target=True),
            "value": state_value(),
            "behaviour": velocity_field(role="behaviour"),
        }

    def noise(self) -> dict[str, Draw]:
        """Return the noise and times of flow matching."""
        return {"bc_x0": normal(), "bc_t": uniform()}

    def pretraining_loss(self, flow: Any, batch: Batch, noise: Noise) -> Tensor:
        """Return the cloning loss at the times of the sampler."""
        # the sampler evaluates the velocity only at these times
        t = grid_times(noise["bc_t"], self.flow_steps)
        weight = batch.valid if self.mask_cloning else 1.0
        return flow_matching_loss(
            flow.at(batch.observations), noise["bc_x0"], batch.actions, t, weight
        )

    def act(self, observations: Tensor, noise: Noise, nets: Networks) -> Tensor:
        """Integrate the behaviour flow, guided by the target critics."""
        behaviour = nets.behaviour.at(observations)

        def q(actions: Tensor) -> Tensor:
            return self.score(observations, actions, nets)

        def ahead(x: Tensor, t: Time, v: Tensor) -> Tensor:  # end of one long step
            return (x + (1 - t) * v).clamp(-1, 1)

        def guided(x: Tensor, t: Time) -> Tensor:
            v: Tensor = behaviour(x, t)
            # only `jacobian` differentiates the flow, which costs another backward pass
            if self.gradient == "jacobian":
                gradient = action_gradient(lambda y: q(ahead(y, t, behaviour(y, t))), x)
            else:
                gradient = action_gradient(q, ahead(x, t, v) if self.gradient == "clean" else x)
            return v + self.guidance_weight * gradient

        # without guidance, no gradient is needed
        flow = guided if self.guidance_weight > 0 else behaviour
        return integrate_flow(flow, noise["action"], self.flow_steps).clamp(-1, 1)

    def score(self, observations: Tensor, actions: Tensor, nets: Networks) -> Tensor:
        """Score candidates by the same target-critic value that guides the flow."""
        return pessimistic_value(nets.critic_target(observations, actions), self.rho)

    def targets(self, batch: Batch, noise: Noise, nets: Networks, info: Info) -> Targets:
        """Return the critics' target (from V at the next state) and V's target (from the target critics)."""
        return implicit_targets(batch, nets, self.rho)

    def losses(
        self, batch: Batch, targets: Targets, noise: Noise, nets: Networks, info: Info
    ) -> Losses:
        """Return the expectile, TD and flow-matching losses."""
        td = self.critic_loss(batch, targets, nets, info)
        value = implicit_value_loss(
            batch, targets["value"], batch.valid, nets, self.expectile, info
        )
        return {
            "value": value,
            "td": td,
            "bc_flow": self.pretraining_loss(nets.behaviour, batch, noise),
        }
