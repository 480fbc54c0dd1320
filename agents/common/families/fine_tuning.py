"""What QAM, BAM, TRQAM and SQAM share: a behaviour flow that clones the data, and a flow that is fine-tuned from it.

TRQAM and SQAM also share a multiplier that holds the path KL between the two flows at a budget.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from agents.common.families.cloned import ClonedFlow
from agents.common.maths.adjoint import (
    adjoint_matching_loss,
    adjoint_statistics,
    lean_adjoint,
    memoryless_rollout,
    memoryless_sigmas,
    path_kl,
    step_times,
)
from agents.common.nets.networks import SummedFields, vjp_at_points
from agents.common.nets.specs import multiplier
from agents.core import (
    Batch,
    Draw,
    Info,
    Losses,
    Networks,
    NetworkSpec,
    Noise,
    Targets,
    action_gradient,
    critic,
    integrate_flow,
    log_range,
    normal,
    setting,
    velocity_field,
)


class FineTuning(ClonedFlow):
    """Networks, noise and sampler of a fine-tuned flow; a subclass adds the loss that fine-tunes it."""

    max_grad_norm: float | None = setting(default=1.0)
    target_behaviour: bool = setting(
        default=True,
        reference="target_actor",
        doc="Hold the policy to the moving average of the behaviour flow.",
    )

    def networks(self) -> dict[str, NetworkSpec]:
        """Return critics, behaviour flow and fine-tuned flow; the two flows start independently."""
        return {
            "critic": critic(target=True),
            "behaviour": velocity_field(target=True, role="behaviour"),
            # a copy of the behaviour flow from the end of pretraining on
            "fine_tuned": velocity_field(role="copy"),
        }

    def noise(self) -> dict[str, Draw]:
        """Return the draws of flow matching and of the rollout."""
        return {**super().noise(), "am_x0": normal(), "am_eps": normal("KBD")}

    def act(self, observations: Tensor, noise: Noise, nets: Networks) -> Tensor:
        """Follow the fine-tuned flow."""
        policy = self.policy(nets, online=True).at(observations)
        return integrate_flow(policy, noise["action"], self.flow_steps).clamp(-1, 1)

    def prior(self, nets: Networks) -> Any:
        """Return the behaviour flow that the policy is held to, with constant weights."""
        if self.target_behaviour:
            return nets.behaviour_target  # no target network is trained by gradient
        return nets.frozen.behaviour

    def policy(self, nets: Networks, online: bool = False) -> Any:
        """Return the fine-tuned flow."""
        return nets.fine_tuned

    def matching_loss(
        self, fine_tuned: Tensor, targets: Targets, sigmas: Tensor, nets: Networks, info: Info
    ) -> Tensor:
        """Return the adjoint-matching loss, (S,).

        :param fine_tuned: the fine-tuned flow's velocities at states of K steps, (S, K, B, D).
        :param targets: ``prior``, the behaviour flow's velocities there, and ``adjoints``, both of that shape.
        :param sigmas: noise scales of the steps, broadcastable to that shape.
        :param nets: the networks.
        :param info: to add diagnostics to, each (S,).
        :return: the loss.
        """
        return adjoint_matching_loss(fine_tuned, targets["prior"], targets["adjoints"], sigmas)


class ResidualFineTuning(FineTuning):
    """A fine-tuned flow that is a network of its own, or a residual that is added to the behaviour flow."""

    residual: bool = setting(
        default=False,
        fixed="the flow is trained as one or the other",
        doc="Add the fine-tuned network to the behaviour flow: in the rollout to the one that the policy is held to, "
        "in the sampler to the online one.",
    )

    def networks(self) -> dict[str, NetworkSpec]:
        """Return the networks; a residual is zero after pretraining."""
        return super().networks() | {
            "fine_tuned": velocity_field(role="residual" if self.residual else "copy")
        }

    def policy(self, nets: Networks, online: bool = False) -> Any:
        """Return the fine-tuned flow; with `residual`, its sum with the flow that it is held to, or the online one."""
        if not self.residual:
            return nets.fine_tuned
        # what is added to stays as it is: only the residual is trained
        base = nets.frozen.behaviour if online else self.prior(nets)
        return SummedFields(nets.fine_tuned, base)


class AdjointMatching(FineTuning):
    """Fine-tuning by a lean adjoint that starts at Q's gradient at the end of a rollout."""

    target_gradient: bool = setting(
        default=True, reference="use_target_grad", doc="Take Q's gradient from the target critics."
    )
    clip_adjoint: bool = setting(
        default=True, reference="clip_adj", doc="Clip actions to [-1, 1] inside Q's gradient."
    )

    def end_adjoint(self, observations: Tensor, end: Tensor, nets: Networks) -> Tensor:
        """Return the adjoint at the end of rollouts, (S, B, D): minus the gradient of the critics' mean."""
        critic = nets.critic_target if self.target_gradient else nets.frozen.critic
        # inside the gradient, so that nothing pulls further out of the action box
        bound = 1.0 if self.clip_adjoint else math.inf
        return -action_gradient(
            lambda actions: critic(observations, actions.clamp(-bound, bound)).mean(1), end
        )

    def targets(self, batch: Batch, noise: Noise, nets: Networks, info: Info) -> Targets:
        """Return the TD target, the rollout's states, their adjoints and the prior's velocities there."""
        prior = self.prior(nets).at(batch.observations)
        policy = self.policy(nets).at(batch.observations)
        states, velocities, end = memoryless_rollout(policy, prior, noise["am_x0"], noise["am_eps"])
        end_adjoint = self.end_adjoint(batch.observations, end, nets)
        times = step_times(self.flow_steps, states, first=1)
        prior_vjp = vjp_at_points(prior, states, times)
        info |= adjoint_statistics(end_adjoint)
        return {
            **self.td_targets(batch, noise, nets),
            "states": states,
            "adjoints": lean_adjoint(prior_vjp, end_adjoint, self.flow_steps),
            "prior": velocities,
        }

    def losses(
        self, batch: Batch, targets: Targets, noise: Noise, nets: Networks, info: Info
    ) -> Losses:
        """Return the TD, flow-matching and adjoint-matching losses."""
        losses = super().losses(batch, targets, noise, nets, info)
        states = targets["states"]
        policy = self.policy(nets).at(batch.observations)
        velocities = policy(states, step_times(self.flow_steps, states))
        sigmas = memoryless_sigmas(self.flow_steps, states)
        return {
            **losses,
            # no action of the batch is in it, so sequences across an end count too
            "am": self.matching_loss(velocities, targets, sigmas, nets, info),
        }


class TrustRegion(FineTuning):
    r"""Fine-tuning with the multiplier of trust-region adjoint matching; a subclass adds the losses.

    After every update the average of the path KL and the multiplier move:

    .. math:: m \leftarrow (1-\beta) m + \beta\min(\widehat{KL}, c\,\epsilon),\quad
        \lambda \leftarrow \mathrm{clip}(\lambda + \eta (m - \epsilon))

    The effective multiplier is scale times lambda; its inverse is the effective inverse temperature. The average starts
    at zero, so that lambda falls at first whatever the KL, and it moves by at most eta epsilon an update.
    """

    kl_budget: float = setting(
        default=1.0,
        above=0,
        fixed="the multiplier is built with it",
        search=log_range(0.05, 5.0),
        doc="Epsilon, the path KL per action of the chunk that is aimed at.",
    )
    kl_budget_online: float | None = setting(
        default=None,
        above=0,
        doc="Replaces the budget when the online phase starts; None keeps it.",
    )
    multiplier_scale: float = setting(
        default=3.0, reference="lam_scale", above=0, doc="Factor of lambda in the loss."
    )
    multiplier_learning_rate: float = setting(
        default=0.01, reference="eta_lambda", at_least=0, doc="Eta, step size of lambda."
    )
    multiplier_min: float = setting(
        default=0.01, reference="lambda_min", above=0, doc="Lower bound of lambda."
    )
    multiplier_max: float = setting(
        default=100.0,
        reference="lambda_max",
        above=0,
        doc="Upper bound of lambda, at least `multiplier_min`.",
    )
    kl_average_rate: float = setting(
        default=0.1,
        reference="kl_ema_coef",
        above=0,
        at_most=1,
        doc="Beta, weight of the newest KL in the average.",
    )
    kl_clip: float = setting(
        default=2.0,
        reference="kl_clip_coef",
        above=0,
        doc="C, a single KL counts at most this many budgets.",
    )
    freeze_base: bool = setting(
        default=False,
        doc="Leave the behaviour flow as pretraining left it; without, it goes on cloning the data, as in the authors' "
        "code.",
    )
    gamma: float = setting(default=0.995, reference="discount")
    max_grad_norm: float | None = setting(default=1.0, reference="clip_grad")

    def check_together(self) -> None:
        """Refuse bounds of lambda that are the wrong way round."""
        super().check_together()
        if self.multiplier_max < self.multiplier_min:
            raise ValueError(
                f"`multiplier_max` must be at least `multiplier_min` = {self.multiplier_min:g}, got "
                f"{self.multiplier_max:g}; raise one or lower the other"
            )

    def networks(self) -> dict[str, NetworkSpec]:
        """Return critics, behaviour flow, fine-tuned flow and the multiplier."""
        return {**super().networks(), "multiplier": multiplier(initial=1.0, budget=self.kl_budget)}

    def effective_multiplier(self, nets: Networks) -> Tensor:
        """Return the multiplier of the loss, (S,), kept above zero."""
        # away from 0, since the sigmas are divided by its root
        return (self.multiplier_scale * nets.multiplier.value).clamp(min=1e-8)

    def matching_loss(
        self, fine_tuned: Tensor, targets: Targets, sigmas: Tensor, nets: Networks, info: Info
    ) -> Tensor:
        """Return the loss with the multiplier, and note ``path_kl``, (S,) per action of the chunk, which moves it."""
        # of the processes themselves: the multiplier scales the loss, not their noise
        info["path_kl"] = path_kl(fine_tuned, targets["prior"], sigmas) / self.chunk_length
        scaled_sigmas = sigmas / self.effective_multiplier(nets).sqrt().view(-1, 1, 1, 1)
        return super().matching_loss(fine_tuned, targets, scaled_sigmas, nets, info)

    # -- state --------------------------------------------------------------------------------------------------------

    def skipped_networks(self, updates: int) -> frozenset[str]:
        """Return the base where it is frozen."""
        return frozenset({"behaviour", "behaviour_target"}) if self.freeze_base else frozenset()

    @torch.no_grad()
    def after_update(self, nets: Networks, info: Info) -> None:
        """Move the average of the path KL, and the multiplier by a dual step."""
        state, path_kl = nets.multiplier, info["path_kl"]
        # in place, since captured updates read these buffers; an outlier counts at most c budgets
        state.kl_average.lerp_(
            torch.minimum(path_kl, self.kl_clip * state.budget), self.kl_average_rate
        )
        state.value.add_(self.multiplier_learning_rate * (state.kl_average - state.budget))
        # clipped after the step, so that lambda leaves a bound as soon as the average turns
        state.value.clamp_(self.multiplier_min, self.multiplier_max)
        effective = self.effective_multiplier(nets)
        info |= {"multiplier": effective, "sigma_scale": effective.rsqrt()}
        # copies, since the next update writes into these tensors
        info |= {"kl_average": state.kl_average.clone(), "kl_budget": state.budget.clone()}

    def before_online(self, nets: Networks) -> None:
        """Hold the path KL at the online budget from now on, where there is one."""
        if self.kl_budget_online is not None:
            nets.multiplier.budget.fill_(self.kl_budget_online)
