"""BAM: basic adjoint matching, which solves the control problem by backpropagation through the memoryless rollout."""

from __future__ import annotations

import math

import torch

from agents.common.maths.adjoint import memoryless_step, memoryless_variance
from agents.core import (
    Batch,
    Info,
    Losses,
    Networks,
    Noise,
    Targets,
    cloning_loss,
    log_range,
    pessimistic_value,
    setting,
)
from agents.qam import AdjointMatching


class BAM(AdjointMatching):
    r"""QAM's fine-tuned flow maximises Q minus a control cost, by backpropagation through its memoryless SDE.

    .. math:: L = L_{TD} + L_{FM}(v_\beta) - \tau\,\mathbb{E}\,Q_{pess}(s, x_K)
        + \kappa\,\mathbb{E}\sum_{i<K-1}\tfrac{2}{\sigma_i^2}\lVert v_f - \bar v_\beta\rVert^2

    with QAM's prior, :math:`\bar v_\beta`. With kappa = 1 the control cost is the path KL without its factor h = 1/K.
    The optimum is then the behaviour distribution tilted by :math:`e^{\tau h Q}`, so tuned values of tau are about K
    times QAM's. The loss does not train the velocity at the last grid time; when acting, the network extrapolates this
    velocity from earlier times.

    Source: Li and Levine, Q-learning with Adjoint Matching, arXiv 2601.14234, ablation.
    """

    # the authors' code uses the online critics at unclipped actions
    target_gradient: bool = setting(default=False)
    clip_adjoint: bool = setting(default=False)
    inverse_temperature: float = setting(
        default=0.3,
        reference="inv_temp",
        at_least=0,
        search=log_range(0.3, 100.0),
        doc="Weight tau of Q relative to the behaviour flow; 0 samples the behaviour flow.",
    )
    # the rollout evaluates the fine-tuned flow in all steps but the last, so one step would not train it
    flow_steps: int = setting(default=10, at_least=2)
    kl_scale: float = setting(
        default=1.0,
        above=0,
        doc="Factor kappa of the control cost; with `1 / flow_steps`, the cost is the path KL"
        " and the optimum is the behaviour distribution tilted by exp(tau Q).",
    )

    def targets(self, batch: Batch, noise: Noise, nets: Networks, info: Info) -> Targets:
        """Return only the TD target; the rollout is part of the control loss."""
        return self.td_targets(batch, noise, nets)

    def losses(
        self, batch: Batch, targets: Targets, noise: Noise, nets: Networks, info: Info
    ) -> Losses:
        """Return the TD, flow-matching and control losses; the control loss is differentiated through the rollout."""
        td = self.critic_loss(batch, targets, nets, info)
        bc_flow = cloning_loss(nets.behaviour, batch, noise)
        prior = self.prior(nets).at(batch.observations)
        fine_tuned = nets.fine_tuned.at(batch.observations)
        x = noise["am_x0"]
        h = 1 / self.flow_steps
        cost = torch.zeros_like(batch.rewards)
        # nothing is detached, so gradients flow through all steps
        for i in range(self.flow_steps - 1):
            base, velocity = prior(x, i * h), fine_tuned(x, i * h)
            # the cost is half the squared control; the control is 2 / sigma times the velocity difference
            weight = 2 / memoryless_variance(i, self.flow_steps)
            cost = cost + weight * (velocity - base).square().sum(-1)
            x = memoryless_step(x, velocity, noise["am_eps"][:, i], i, self.flow_steps)
        # the last step is an Euler step of the prior, without noise
        end = torch.add(x, prior(x, 1 - h), alpha=h)
        info["bam_control_loss"] = control = self.kl_scale * cost.mean(-1)
        critic = nets.critic_target if self.target_gradient else nets.frozen.critic
        bound = 1.0 if self.clip_adjoint else math.inf
        q = critic(batch.observations, end.clamp(-bound, bound))
        value = pessimistic_value(q, self.rho)
        return {
            "td": td,
            "bc_flow": bc_flow,
            "bam": control - self.inverse_temperature * value.mean(-1),
        }
