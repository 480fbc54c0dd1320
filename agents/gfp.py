"""GFP: guided flow policy, FQL whose flow mainly clones dataset actions that are better than the policy's actions."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from agents.common.maths.critic import mean_absolute
from agents.core import (
    Batch,
    Draw,
    Info,
    Losses,
    Networks,
    Noise,
    Targets,
    flow_matching_loss,
    integrate_flow,
    log_range,
    normal,
    pessimistic_value,
    setting,
    uniform,
)
from agents.fql import FQL


class GFP(FQL):
    r"""A flow mainly clones dataset actions that are better than those of a one-step policy distilled from the flow.

    .. math:: g = \mathrm{softmax}_{a,\,\mu(s, z)}\big(\tfrac\lambda\eta \bar Q'(s, \cdot)\big)_a,\qquad
        \lambda^{-1} = \mathbb{E}|\bar Q(s, \mu(s, z))|

    .. math:: L = L_{TD} + \mathbb{E}\,g\,\lVert v(s, x_t, t) - (a - x_0)\rVert^2 / D
        + w\,\mathbb{E}\lVert \mathrm{ODE}(s, z; v) - \mu(s, z)\rVert^2 / D - \lambda\,\mathbb{E}\,\bar Q(s, \mu(s, z))

    The policy's actions are clipped except in the distillation. g and lambda are not differentiated; Q' is the target
    critic.

    Source: Tiofack et al., arXiv 2512.03973, and the authors' code (github.com/Simple-Robotics/guided-flow-policy,
    ``agents/gfp.py``).
    """

    samples_next_action = False  # the next action's noise is declared in `noise`

    distill_weight: float = setting(
        default=1.0,
        search=log_range(0.01, 30.0),
        doc="Weight w of the distillation. Large values keep the policy close to the flow.",
    )
    guidance_temperature: float = setting(
        default=1e-3,
        reference="eta_temperature",
        above=0,
        search=log_range(1e-6, 1.0),
        doc="Temperature eta, relative to the mean absolute value of Q; small values clone only "
        "better actions, large values all actions.",
    )
    target: Literal["policy", "mean"] = setting(
        default="policy",
        reference="target_agg",
        doc="Value in the TD target: the value of the `policy`'s next action, or the `mean` of the"
        " values of the policy's and the flow's next actions.",
    )
    rival: Literal["policy", "smaller"] = setting(
        default="policy",
        reference="guidance_agg",
        doc="Baseline for the value of a dataset action: the value of the `policy`'s action, or "
        "the `smaller` of the values of the policy's and the flow's actions.",
    )
    ensemble_size: int = setting(default=2)
    rho: float = setting(default=0.0, reference="q_agg")

    def noise(self) -> dict[str, Draw]:
        """Return the noise of the next action, of flow matching (with its times) and of the distillation."""
        return {"next_z": normal(), "bc_x0": normal(), "bc_t": uniform(), "distill_z": normal()}

    def follow_flow(self, observations: Tensor, z: Tensor, nets: Networks) -> Tensor:
        """Return the flow's actions, (S, B, D)."""
        return integrate_flow(nets.behaviour.at(observations), z, self.flow_steps).clamp(-1, 1)

    def targets(self, batch: Batch, noise: Noise, nets: Networks, info: Info) -> Targets:
        """Return the TD target, the flow's actions, the weights of cloning, and the scale of the Q term."""

        def value(observations: Tensor, actions: Tensor) -> Tensor:
            return pessimistic_value(nets.critic_target(observations, actions), self.rho)

        obs, next_obs = batch.observations, batch.next_observations
        z = noise["distill_z"]
        next_actions = self.act(next_obs, {"action": noise["next_z"]}, nets)
        next_q = value(next_obs, next_actions)
        if self.target == "mean":
            # The flow samples at the next state, as in the paper; in the authors' code, at the current state. It
            # receives the policy's noise, so that their values differ only because of the networks.
            flow_actions = self.follow_flow(next_obs, noise["next_z"], nets)
            next_q = (next_q + value(next_obs, flow_actions)) / 2
        teacher = self.follow_flow(obs, z, nets)
        student = self.act(obs, {"action": z}, nets)
        rival = value(obs, student)
        if self.rival == "smaller":
            rival = torch.minimum(rival, value(obs, teacher))
        # lambda is computed from the online critics, which the policy maximises; all other values are
        # from the target critics
        scale = 1 / mean_absolute(pessimistic_value(nets.critic(obs, student), self.rho))  # (S,)
        better = (value(obs, batch.actions) - rival) * scale.unsqueeze(1)
        # a softmax over two values is the sigmoid of their difference
        guidance = (better / self.guidance_temperature).sigmoid()
        info["guidance"] = guidance.mean(1)
        return {
            "next_actions": next_actions,
            "td": batch.rewards + batch.discounts * next_q,
            "teacher": teacher,
            "guidance": guidance,
            "scale": scale,
        }

    def losses(
        self, batch: Batch, targets: Targets, noise: Noise, nets: Networks, info: Info
    ) -> Losses:
        """Return the TD, weighted flow-matching and distillation losses, and the scaled Q term."""
        flow = nets.behaviour.at(batch.observations)
        student = nets.one_step(batch.observations, noise["distill_z"])
        policy_q = nets.frozen.critic(batch.observations, student.clamp(-1, 1))
        policy_q = pessimistic_value(policy_q, self.rho)
        # a weight is below 1/2 if the dataset action has a lower value than its rival
        weight = batch.valid * targets["guidance"]
        x_0, t = noise["bc_x0"], noise["bc_t"]
        return {
            "td": self.critic_loss(batch, targets, nets, info),
            "bc_flow": flow_matching_loss(flow, x_0, batch.actions, t, weight),
            # these two losses use no dataset actions, so they are not weighted by `valid`
            "distill": (student - targets["teacher"]).square().mean((1, 2)),
            "q": -targets["scale"] * policy_q.mean(1),
        }
