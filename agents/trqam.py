"""TRQAM: trust region Q-learning with adjoint matching."""

from __future__ import annotations

import torch
from torch import Tensor

from agents.common.maths.adjoint import path_kl
from agents.common.nets.specs import multiplier
from agents.common.validation import number
from agents.core import Info, Networks, NetworkSpec, Targets, log_range, setting
from agents.qam import AdjointMatching


class TRQAM(AdjointMatching):
    r"""QAM whose temperature is a multiplier that keeps the path KL from the behaviour flow at a budget.

    The effective multiplier :math:`\lambda_e` is ``multiplier_scale`` times :math:`\lambda`, and
    :math:`\tilde\sigma_i = \sigma_i/\sqrt{\lambda_e}`. The prior :math:`\bar v_\beta` is by default the moving average
    of the behaviour flow :math:`v_\beta`:

    .. math::
        L &= L_{TD} + L_{FM}(v_\beta)
        + \mathbb{E}\sum_{i,d}\left[\tfrac{2}{\tilde\sigma_i}(v_f - \bar v_\beta) + \tilde\sigma_i a_i\right]^2
        \qquad (1)\\
        \widehat{KL} &= \tfrac1H\mathbb{E}\sum_i\tfrac{2h}{\sigma_i^2}\lVert v_f - \bar v_\beta\rVert^2 \qquad (2)\\
        m &\leftarrow (1-\beta) m + \beta\min(\widehat{KL}, c\,\epsilon),\quad
        \lambda \leftarrow \mathrm{clip}(\lambda + \eta (m - \epsilon)) \qquad (3)

    For the same rollouts, the last term of (1) is :math:`\lambda_e` times QAM's matching loss with inverse temperature
    :math:`1/\lambda_e`. The average m starts at zero, so lambda falls at first, whatever the KL. With c = 2, lambda
    changes by at most eta epsilon per update.

    Source: Dong et al., Trust Region Q Adjoint Matching, arXiv 2605.27079.
    """

    kl_budget: float = setting(
        default=1.0,
        above=0,
        fixed="the multiplier is built with it",
        search=log_range(0.05, 5.0),
        doc="Budget epsilon: target of the path KL per action of the chunk.",
    )
    kl_budget_online: float | None = setting(
        default=None,
        above=0,
        doc="Budget in the online phase, read at its start; None keeps the offline budget.",
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
        doc="Beta, weight of the newest KL in its moving average.",
    )
    kl_clip: float = setting(
        default=2.0,
        reference="kl_clip_coef",
        above=0,
        doc="Factor c: the average uses the KL clipped to c times the budget.",
    )
    freeze_base: bool = setting(
        default=False,
        doc="Freeze the behaviour flow after pretraining; if False, as in the authors' code, flow matching trains it "
        "further.",
    )
    gamma: float = setting(default=0.995, reference="discount")

    def check_together(self) -> None:
        """Reject bounds of lambda in the wrong order."""
        super().check_together()
        number("multiplier_max", self.multiplier_max, at_least=self.multiplier_min)

    def networks(self) -> dict[str, NetworkSpec]:
        """Return QAM's networks and the multiplier."""
        return {**super().networks(), "multiplier": multiplier(initial=1.0, budget=self.kl_budget)}

    def effective_multiplier(self, nets: Networks) -> Tensor:
        """Return lambda_e, (S,), bounded away from 0."""
        # the sigmas are divided by the square root of lambda_e
        return (self.multiplier_scale * nets.multiplier.value).clamp(min=1e-8)

    def matching_loss(
        self, velocities: Tensor, targets: Targets, sigmas: Tensor, nets: Networks, info: Info
    ) -> Tensor:
        """Return the last term of (1), and record ``path_kl``, (S,), per action of the chunk."""
        # (2) has unscaled sigmas: the multiplier scales the loss, not the noise
        info["path_kl"] = (
            path_kl(velocities, targets["prior_velocities"], sigmas) / self.chunk_length
        )
        scaled_sigmas = sigmas / self.effective_multiplier(nets).sqrt().view(-1, 1, 1, 1)
        return super().matching_loss(velocities, targets, scaled_sigmas, nets, info)

    def skipped_networks(self) -> frozenset[str]:
        """Return the behaviour flow and its moving average if ``freeze_base`` is set."""
        return frozenset({"behaviour", "behaviour_target"}) if self.freeze_base else frozenset()

    @torch.no_grad()
    def after_update(self, nets: Networks, info: Info) -> None:
        """Update the moving average of the path KL, and the multiplier by a dual step (3)."""
        state, path_kl = nets.multiplier, info["path_kl"]
        # in place, since updates in a CUDA graph read these buffers; the KL is clipped because it has
        # outliers
        state.kl_average.lerp_(
            torch.minimum(path_kl, self.kl_clip * state.budget), self.kl_average_rate
        )
        state.value.add_(self.multiplier_learning_rate * (state.kl_average - state.budget))
        # clip the stored lambda, so that it leaves a bound as soon as the average crosses the budget
        state.value.clamp_(self.multiplier_min, self.multiplier_max)
        effective = self.effective_multiplier(nets)
        info |= {
            "multiplier": effective,
            "sigma_scale": effective.rsqrt(),
            # copies, since the next update writes into these tensors
            "kl_average": state.kl_average.clone(),
            "kl_budget": state.budget.clone(),
        }

    def before_online(self, nets: Networks) -> None:
        """Replace the budget of the path KL by the online budget, if there is one."""
        if self.kl_budget_online is not None:
            nets.multiplier.budget.fill_(self.kl_budget_online)
