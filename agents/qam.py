"""QAM: Q-learning with Adjoint Matching."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor

from agents.common.maths.adjoint import (
    adjoint_matching_loss,
    adjoint_statistics,
    lean_adjoint,
    memoryless_rollout,
    memoryless_sigmas,
    step_times,
)
from agents.common.nets.mlp import vjp_at_points
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
    action_gradient,
    cloning_loss,
    critic,
    integrate_flow,
    log_range,
    normal,
    setting,
    uniform,
    velocity_field,
)


class AdjointMatching(Method):
    r"""A behaviour flow clones the data; adjoint matching fine-tunes a second flow to the cloned density tilted by Q.

    The fine-tuned flow :math:`v_f` is simulated as a memoryless SDE (1), whose last step is a deterministic Euler step
    of the prior :math:`\bar v_\beta`, by default the moving average of the behaviour flow :math:`v_\beta`. The terminal
    adjoint :math:`a_K` is the negative weighted gradient of Q. It is propagated backwards through the Jacobian of the
    prior's drift (2), and :math:`v_f` regresses to :math:`\bar v_\beta - \frac{\sigma^2}{2} a` (3). K is
    ``flow_steps``, h = 1/K, :math:`t_i = i h`, and E is the mean over rows:

    .. math::
        x_{i+1} &= x_i + h\left(2 v_f(x_i, t_i) - \tfrac{x_i}{t_i + h}\right) + \sqrt h\,\sigma_i\epsilon_i,
        \qquad x_K = x_{K-1} + h\,\bar v_\beta(x_{K-1}, t_{K-1}) \qquad (1)\\
        a_i &= a_{i+1} + h\,J_i^\top a_{i+1}, \qquad
        J_i = \partial_x\left[2\bar v_\beta(x, t_i + h) - \tfrac{x}{t_i + h}\right]_{x = x_i} \qquad (2)\\
        L_{AM} &= \mathbb{E}\sum_{i,d}\left[\tfrac{2}{\sigma_i}(v_f - \bar v_\beta)(x_i, t_i) + \sigma_i a_i\right]^2,
        \qquad \sigma_i^2 = \tfrac{2(1 - t_i + h)}{t_i + h} \qquad (3)

    As in the authors' code, (2) evaluates the Jacobian at the state x_i but at the time t_i + h, and uses the drift of
    the SDE for the last step too, although the last step of the rollout uses the prior alone.

    `targets` is computed without gradients. The next action of the TD target is sampled as in acting, with separate
    noise. One optimiser minimises the sum of the losses, each of which trains one network: the TD loss trains the
    critics, flow matching the behaviour flow, and adjoint matching the fine-tuned flow. Then the target networks are
    updated with rate ``tau``. The first ``pretraining_steps`` updates minimise only the flow-matching loss.

    Source: Domingo-Enrich et al., Adjoint Matching, arXiv 2409.08861; with Q: Li and Levine, arXiv 2601.14234.
    """

    inverse_temperature = 1.0
    """Weight of Q relative to the behaviour flow, tau in the papers; not the rate ``tau`` of target networks."""

    max_grad_norm: float | None = setting(default=1.0, reference="clip_grad")
    target_behaviour: bool = setting(
        default=True,
        reference="target_actor",
        doc="Use the moving average of the behaviour flow as the prior, not the flow itself.",
    )
    target_gradient: bool = setting(
        default=True, reference="use_target_grad", doc="Take Q's gradient from the target critics."
    )
    clip_adjoint: bool = setting(
        default=True,
        reference="clip_adj",
        doc="Take Q's gradient through a clip of the actions to [-1, 1].",
    )

    def networks(self) -> dict[str, NetworkSpec]:
        """Return the critics, the behaviour flow and the fine-tuned flow; the flows are equal during pretraining."""
        return {
            "critic": critic(target=True),
            "behaviour": velocity_field(target=True, role="behaviour"),
            "fine_tuned": velocity_field(role="copy"),
        }

    def noise(self) -> dict[str, Draw]:
        """Return the noise and times of flow matching (``bc``), and the initial and step noise of rollouts (``am``)."""
        return {
            "bc_x0": normal(),
            "bc_t": uniform(),
            "am_x0": normal(),
            "am_eps": normal("KBD"),
        }

    def act(self, observations: Tensor, noise: Noise, nets: Networks) -> Tensor:
        """Integrate the fine-tuned flow, or the behaviour flow if the weight of Q is 0."""
        # with weight 0, the fine-tuned flow would only imitate the behaviour flow
        policy = nets.fine_tuned if self.inverse_temperature > 0 else nets.behaviour
        flow = policy.at(observations)
        return integrate_flow(flow, noise["action"], self.flow_steps).clamp(-1, 1)

    def prior(self, nets: Networks) -> Any:
        """Return the prior, whose weights are frozen."""
        # target networks receive no gradients, so they need not be frozen
        return nets.behaviour_target if self.target_behaviour else nets.frozen.behaviour

    def terminal_adjoint(self, observations: Tensor, actions: Tensor, nets: Networks) -> Tensor:
        """Return the terminal adjoint a_K = -tau dQ/dx, (S, B, D), at x_K; Q is the critics' mean."""
        critic = nets.critic_target if self.target_gradient else nets.frozen.critic
        # the clip is differentiated too, so by default the gradient is zero for coordinates outside the bounds
        bound = 1.0 if self.clip_adjoint else math.inf
        # (2) is linear in a_K, so tau scales every a_i
        return -self.inverse_temperature * action_gradient(
            lambda x: critic(observations, x.clamp(-bound, bound)).mean(1), actions
        )

    def targets(self, batch: Batch, noise: Noise, nets: Networks, info: Info) -> Targets:
        """Return the TD target, and the rollout's states with their adjoints and the prior's velocities."""
        prior = self.prior(nets).at(batch.observations)
        fine_tuned = nets.fine_tuned.at(batch.observations)
        # equation (1)
        states, prior_velocities, terminal_state = memoryless_rollout(
            fine_tuned, prior, noise["am_x0"], noise["am_eps"]
        )
        terminal_adjoint = self.terminal_adjoint(batch.observations, terminal_state, nets)
        info |= adjoint_statistics(terminal_adjoint)
        # equation (2): one forward pass at all (x_i, t_i + h), then a vector-Jacobian product per step
        times = step_times(self.flow_steps, states, end_times=True)
        prior_vjp = vjp_at_points(prior, states, times)
        return {
            **self.td_targets(batch, noise, nets),
            "states": states,
            "adjoints": lean_adjoint(prior_vjp, terminal_adjoint, self.flow_steps),
            "prior_velocities": prior_velocities,
        }

    def losses(
        self, batch: Batch, targets: Targets, noise: Noise, nets: Networks, info: Info
    ) -> Losses:
        """Return the TD, flow-matching and adjoint-matching losses."""
        td = self.critic_loss(batch, targets, nets, info)
        bc_flow = cloning_loss(nets.behaviour, batch, noise)
        states = targets["states"]
        times = step_times(self.flow_steps, states)
        velocities = nets.fine_tuned.at(batch.observations)(states, times)
        sigmas = memoryless_sigmas(self.flow_steps, states)
        return {
            "td": td,
            "bc_flow": bc_flow,
            # this loss uses no dataset actions, so it is not weighted by `valid`
            "am": self.matching_loss(velocities, targets, sigmas, nets, info),
        }

    def matching_loss(
        self, velocities: Tensor, targets: Targets, sigmas: Tensor, nets: Networks, info: Info
    ) -> Tensor:
        """Return the adjoint-matching loss (3), (S,).

        :param velocities: velocities of the fine-tuned flow at x_0..x_{K-1}, (S, K, B, D).
        :param targets: ``prior_velocities`` at the same states, and ``adjoints``, both (S, K, B, D).
        :param sigmas: noise scales of the steps, broadcastable to (S, K, B, D).
        :param nets: the networks.
        :param info: receives diagnostics, (S,) each.
        :return: the loss.
        """
        return adjoint_matching_loss(
            velocities, targets["prior_velocities"], targets["adjoints"], sigmas
        )


class QAM(AdjointMatching):
    r"""A multi-step flow policy is trained towards a density proportional to the behaviour policy times exp(tau Q).

    .. math:: L = L_{TD} + L_{FM}(v_\beta) + L_{AM}, \qquad
        a_K = -\tau\,\nabla_x \bar Q'(s, \mathrm{clip}\,x)\,|_{x = x_K}

    with the adjoint-matching loss (3) of :class:`AdjointMatching` and the mean of the target critics,
    :math:`\bar Q'`. The adjoint-matching loss uses Q's action gradient, not its value.

    Source: Li and Levine, arXiv 2601.14234; adjoint matching: Domingo-Enrich et al., arXiv 2409.08861.
    """

    inverse_temperature: float = setting(
        default=0.3,
        reference="tau",
        at_least=0,
        search=log_range(0.1, 100.0),
        doc="Weight of Q relative to the behaviour flow; 0 samples the behaviour flow. With"
        " fewer `flow_steps`, the same weight changes the policy more, relative to the "
        "spread of its samples.",
    )
