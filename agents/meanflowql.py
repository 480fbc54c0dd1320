"""MeanFlowQL: a one-step policy trained as a mean flow and, at the same time, to maximise Q."""

from __future__ import annotations

import torch
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
    critic,
    interpolate,
    log_range,
    normal,
    setting,
    uniform,
    velocity_field,
)

# bound on the regression target, since the slope of an untrained network may be large
TARGET_BOUND = 5.0
SMALLEST = 1e-4  # c of the adaptive weight


class MeanFlowQL(Method):
    r"""One network maps noise to actions in one step, is fitted to the data as a mean flow, and maximises Q.

    Here x runs from the dataset action at time 0 to noise e at time 1. The network is g(x, t) = x - u(x, t), in which u
    is the mean velocity of this path between times 0 and t, so g(e, 1) is an action. The network regresses to a
    target computed from its own slope along the path, with smaller weights for large errors:

    .. math:: L = L_{TD} + w\,\mathbb{E}\,\frac{\delta}{(\delta + c)^{1-\gamma}}
        - \mathbb{E}\,\bar Q(s, \mathrm{clip}\,g(s, e, 1)) + L_{bound}, \quad y = x + (t-1)(e-a) - t\,\tfrac{dg}{dt},
        \quad \delta = \lVert g(s, x, t) - y\rVert^2 / D

    Source: Wang et al., arXiv 2511.13035, and the authors' code (github.com/HiccupRL/MeanFlowQL,
    ``agents/meanflowql.py``).
    """

    flow_weight: float = setting(
        default=10.0,
        reference="alpha",
        at_least=0,
        search=log_range(0.1, 1000.0),
        doc="Weight w of the mean-flow loss.",
    )
    adaptive_power: float = setting(
        default=0.8,
        reference="adaptive_gamma",
        at_least=0,
        at_most=1,
        doc="Gamma of the adaptive weight; 1 weights all errors equally.",
    )
    bound_weight: float = setting(
        default=1.0,
        reference="bound_loss_weight",
        at_least=0,
        doc="Weight of the penalty on actions outside the bounds.",
    )
    time_steps: int | None = setting(
        default=None,
        at_least=1,
        doc="Number T of training times 1/T, 2/T, ..., 1; None: times are uniform in [0, 1).",
    )
    best_of_n: int = setting(default=5, reference="num_candidates")
    ensemble_size: int = setting(default=2)
    rho: float = setting(default=0.0, reference="q_agg")

    def networks(self) -> dict[str, NetworkSpec]:
        """Return the critics and the policy, whose inputs include the time."""
        return {"critic": critic(target=True), "policy": velocity_field()}

    def noise(self) -> dict[str, Draw]:
        """Return the noise and times of the mean flow, and the noise of the Q term."""
        return {"flow_e": normal(), "flow_t": uniform(), "q_z": normal()}

    def loss_weights(self) -> dict[str, float]:
        """Return the weights of the mean-flow loss and of the penalty on actions outside the bounds."""
        return {"flow": self.flow_weight, "bound": self.bound_weight}

    def act(self, observations: Tensor, noise: Noise, nets: Networks) -> Tensor:
        """Map noise to actions in one step."""
        return nets.policy.at(observations)(noise["action"], 1.0).clamp(-1, 1)

    def score(self, observations: Tensor, actions: Tensor, nets: Networks) -> Tensor:
        """Score candidates by the mean of the target critics."""
        return nets.critic_target(observations, actions).mean(1)

    def targets(self, batch: Batch, noise: Noise, nets: Networks, info: Info) -> Targets:
        """Return the TD target, and the mean flow's points x and times t with their regression targets y."""
        e, t = noise["flow_e"], noise["flow_t"].unsqueeze(-1)
        if self.time_steps is not None:
            # time 1 is included, since acting uses it; time 0, the dataset action itself, is not
            t = ((t * self.time_steps).floor() + 1) / self.time_steps
        x = interpolate(batch.actions, e, t)
        velocity = e - batch.actions
        # one Jacobian-vector product along the path from data to noise, with tangent 1 in t
        policy = nets.policy.at(batch.observations)
        slope = torch.func.jvp(policy, (x, t), (velocity, torch.ones_like(t)))[1]
        y = (x + (t - 1) * velocity - t * slope).clamp(-TARGET_BOUND, TARGET_BOUND)
        return {**self.td_targets(batch, noise, nets), "x": x, "t": t, "y": y}

    def losses(
        self, batch: Batch, targets: Targets, noise: Noise, nets: Networks, info: Info
    ) -> Losses:
        """Return the TD and mean-flow losses, the Q term, and the penalty on actions outside the bounds."""
        policy = nets.policy.at(batch.observations)
        error = (policy(targets["x"], targets["t"]) - targets["y"]).square().mean(-1)
        # the adaptive weight decreases with the error, but is not differentiated
        weight = (error.detach() + SMALLEST).pow(self.adaptive_power - 1)
        actions = policy(noise["q_z"], 1.0)
        return {
            "td": self.critic_loss(batch, targets, nets, info),
            "flow": (batch.valid * weight * error).mean(-1),
            "q": -nets.frozen.critic(batch.observations, actions.clamp(-1, 1)).mean((1, 2)),
            # outside the bounds, the clip blocks Q's gradient; this penalty moves actions back inside
            "bound": (actions.abs() - 1).clamp(min=0).mean((1, 2)),
        }
