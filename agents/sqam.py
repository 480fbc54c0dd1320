"""SQAM: scalar Q adjoint matching."""

from __future__ import annotations

from agents.common.maths.adjoint import adjoint_statistics, bridge_sigmas, step_times
from agents.core import (
    Batch,
    Draw,
    Info,
    Losses,
    Networks,
    Noise,
    Targets,
    cloning_loss,
    integrate_flow,
    interpolate,
    log_range,
    normal,
    q_statistics,
    setting,
    td_loss,
    uniform,
)
from agents.trqam import TRQAM


class SQAM(TRQAM):
    r"""TRQAM with a penalty on overestimation, and with closed-form adjoints instead of step-by-step propagation.

    The policy's end point is :math:`\hat a = \mathrm{ODE}(s, z; v_f)`. The bridge from noise to this point has the
    states :math:`x_k = (1-\tau_k)\epsilon_k + \tau_k\hat a` at :math:`\tau_k = k/M`, with adjoints
    :math:`a_k = -\tau_k\nabla\bar Q'(s, \mathrm{clip}\,\hat a)`:

    .. math:: L = L_{TD} + L_{FM}(v_\beta)
        + \mathbb{E}\sum_{k,d}\left[\tfrac{2}{\tilde\sigma_k}(v_f - \bar v_\beta) + \tilde\sigma_k a_k\right]^2
        + c\,\mathbb{E}\left[\bar Q(s, \mathrm{clip}\,\hat a) - \bar Q(s, a)\right]

    with the mean of the target critics, :math:`\bar Q'`, and TRQAM's prior, :math:`\bar v_\beta`.

    Source: Scalar Q Adjoint Matching, arXiv 2610.10437, and the authors' code.
    """

    # as in the authors' code, the value gap includes sequences that cross a trajectory end
    unmasked_losses = frozenset({"gap"})

    gap_penalty: float = setting(
        default=0.3,
        reference="gap_reg_coef",
        at_least=0,
        search=log_range(0.01, 3.0),
        doc="Weight c of the value gap in the critic's loss.",
    )
    bridge_states: int = setting(
        default=10, reference="n_bridge", at_least=1, doc="Number M of bridge states."
    )
    kl_budget: float = setting(default=0.5, doc="Target of the path KL per action of the chunk.")

    def noise(self) -> dict[str, Draw]:
        """Return the noise and times of flow matching, and the noise of the end point and of the bridge."""
        bridge = normal("MBD", M=self.bridge_states)
        return {"bc_x0": normal(), "bc_t": uniform(), "endpoint_z": normal(), "bridge_eps": bridge}

    def loss_weights(self) -> dict[str, float]:
        """Return the weight of the value gap."""
        return {"gap": self.gap_penalty}

    def targets(self, batch: Batch, noise: Noise, nets: Networks, info: Info) -> Targets:
        """Return the TD target, the policy's end point, and the bridge's states, adjoints and prior velocities."""
        endpoint = integrate_flow(
            nets.fine_tuned.at(batch.observations), noise["endpoint_z"], self.flow_steps
        )
        times = step_times(self.bridge_states, endpoint, end_times=True)
        # the bridge leads to the unclipped end point, whereas the critics evaluate the clipped one
        states = interpolate(noise["bridge_eps"], endpoint.unsqueeze(1), times)  # (S, M, B, D)
        # this closed form does not differentiate the prior
        adjoints = times * self.terminal_adjoint(batch.observations, endpoint, nets).unsqueeze(1)
        info |= adjoint_statistics(adjoints)
        return {
            **self.td_targets(batch, noise, nets),
            # clipped, since critics are trained only inside the action bounds
            "endpoint": endpoint.clamp(-1, 1),
            "states": states,
            "adjoints": adjoints,
            "prior_velocities": self.prior(nets).at(batch.observations)(states, times),
        }

    def losses(
        self, batch: Batch, targets: Targets, noise: Noise, nets: Networks, info: Info
    ) -> Losses:
        """Return the TD, flow-matching and adjoint-matching losses and the value gap."""
        q = nets.critic(batch.observations, batch.actions)
        policy_q = nets.critic(batch.observations, targets["endpoint"])
        info |= q_statistics(q)
        states = targets["states"]
        times = step_times(self.bridge_states, states, end_times=True)
        velocities = nets.fine_tuned.at(batch.observations)(states, times)
        return {
            "td": td_loss(q, targets["td"], batch.valid),
            "gap": policy_q.mean((1, 2)) - q.mean((1, 2)),
            "bc_flow": cloning_loss(nets.behaviour, batch, noise),
            "am": self.matching_loss(velocities, targets, bridge_sigmas(times), nets, info),
        }
