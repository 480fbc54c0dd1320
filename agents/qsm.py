"""QSM: Q-score matching, a diffusion policy whose score matches the critic's action gradient."""

from __future__ import annotations

from torch import Tensor

from agents.common.maths.flow import Sampler
from agents.core import Targets, log_range, setting
from agents.dac import DAC


class QSM(DAC):
    r"""A diffusion policy's noise prediction regresses to Q's action gradient times -tau, and to the added noise.

    At noisy dataset actions :math:`x_t`, with :math:`g = \nabla_x \bar Q'(s, x_t)`:

    .. math:: L = L_{TD} + w\,\mathbb{E}\lVert\epsilon_\theta(s, x_t, t) - \epsilon\rVert^2 / D
        + \mathbb{E}\lVert\epsilon_\theta(s, x_t, t) + \tau g\rVert^2 / D

    Source: Psenka et al., Learning a Diffusion Model Policy from Rewards via Q-Score Matching, arXiv 2312.11752; the
    form with a behaviour-cloning term is the baseline of Li and Levine, arXiv 2601.14234.
    """

    inverse_temperature: float = setting(
        default=1.0,
        reference="inv_temp",
        at_least=0,
        search=log_range(0.1, 100.0),
        doc="Scale tau of Q's gradient.",
    )
    bc_weight: float = setting(
        default=10.0,
        reference="alpha",
        search=log_range(0.1, 100.0),
        doc="Weight w of the denoising loss on the data; the authors' default is 0.",
    )
    sampler: Sampler = setting(
        default="jump",
        doc="Mean of a reverse step: the estimated clean action (`jump`, as in the baseline's"
        " code; samples vary too little), the posterior mean (`ddpm`, the textbook chain), "
        "or the posterior mean given the clipped estimate (`ddpm_clipped`).",
    )
    clip_states: bool = setting(default=True)

    def actor_losses(self, predicted: Tensor, targets: Targets) -> Tensor:
        """Return the squared errors of the regression to Q's gradient, (S, B, D), instead of DAC's linear terms."""
        # a sum, since the noise prediction is the negative of a scaled score, which regresses to tau
        # times Q's gradient
        return (predicted + self.inverse_temperature * targets["gradient"]).square()
