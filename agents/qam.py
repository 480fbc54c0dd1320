"""QAM: Q-learning with Adjoint Matching."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from agents.common.families.fine_tuning import AdjointMatching, ResidualFineTuning
from agents.core import Networks, log_range, setting


class QAM(AdjointMatching, ResidualFineTuning):
    r"""A multi-step flow policy moves towards the behaviour times exp(tau Q) using only the critic's action gradient.

    The behaviour flow :math:`v_\beta` is cloned from the data. The fine-tuned flow :math:`v_f` is rolled out as a
    memoryless SDE; the lean adjoint of the behaviour flow carries Q's gradient at the end back along the rollout, and
    :math:`v_f` regresses to :math:`v_\beta - \frac{\sigma^2}{2} a`:

    .. math:: L = L_{TD} + L_{FM}(v_\beta)
        + \mathbb{E}\sum_{i,d}\left[\tfrac{2}{\sigma_i}(v_f - v_\beta) + \sigma_i a_i\right]^2

    Source: Li and Levine, arXiv 2601.14234; adjoint matching: Domingo-Enrich et al., arXiv 2409.08861. Differs in:
    nothing; the defaults are the behaviour of the authors' code.
    """

    inverse_temperature: float = setting(
        default=0.3,
        reference="tau",
        at_least=0,
        search=log_range(0.1, 100.0),
        doc="Weight of Q against the behaviour prior; 0 is behaviour cloning, and samples from the "
        "behaviour flow. The effective value grows as `flow_steps` falls.",
    )

    def policy(self, nets: Networks, online: bool = False) -> Any:
        """Return the fine-tuned flow; what acts without any weight on Q is the behaviour flow."""
        # with no weight on Q both flows aim at the same, and the behaviour is the one that is cloned
        if online and self.inverse_temperature == 0:
            return nets.behaviour  # only then is it part of a policy that was saved for acting
        return super().policy(nets, online)

    def end_adjoint(self, observations: Tensor, end: Tensor, nets: Networks) -> Tensor:
        """Return the adjoint at the end of rollouts, weighted by the inverse temperature."""
        # the lean adjoint is linear in its end, so weighing the end weighs all of it
        return self.inverse_temperature * super().end_adjoint(observations, end, nets)
