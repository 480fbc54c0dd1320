"""TRQAM: trust region Q-learning with adjoint matching."""

from __future__ import annotations

from agents.common.families.fine_tuning import AdjointMatching, TrustRegion


class TRQAM(AdjointMatching, TrustRegion):
    r"""QAM whose temperature is a multiplier that keeps the policy's path KL from the behaviour flow at a budget.

    With :math:`\lambda_e` the effective multiplier and :math:`\tilde\sigma_i = \sigma_i/\sqrt{\lambda_e}`:

    .. math:: L = L_{TD} + L_{FM}(v_\beta)
        + \mathbb{E}\sum_{i,d}\left[\tfrac{2}{\tilde\sigma_i}(v_f - v_\beta) + \tilde\sigma_i a_i\right]^2,\quad
        \widehat{KL} = \tfrac1H\mathbb{E}\sum_i\tfrac{2h}{\sigma_i^2}\lVert v_f - v_\beta\rVert^2

    For equal rollouts the last loss is :math:`\lambda_e` times QAM's with inverse temperature :math:`1/\lambda_e`.

    Source: Dong et al., Trust Region Q Adjoint Matching, arXiv 2605.27079. The defaults are those of the authors' code,
    in which the base goes on cloning (``freeze_base`` stops it). While pretraining, the policy that acts is the
    behaviour flow.
    """
