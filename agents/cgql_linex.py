"""CGQL-L: classifier-guided Q-learning whose critic also learns values of noisy actions, with the LINEX loss."""

from __future__ import annotations

import torch
from torch import Tensor

from agents.cgql_mse import CGQLMSE
from agents.core import Info, setting

CLIP = 5.0  # c, the largest d in the exponential


class CGQLLinex(CGQLMSE):
    r"""CGQL guided by a critic that also learns values of noisy actions, with the linear-exponential loss.

    .. math:: \ell = e^{d} + \tau q, \qquad d = \tau\,(Q'(s, a, 1) - q),\quad q = Q(s, x_t, t)

    The loss is minimal at :math:`q = \tfrac1\tau \log \mathbb{E}[e^{\tau Q'} \mid x_t]`. With weight w = 1 and
    ``x_term=False``, the density of samples therefore converges to the normalised :math:`\pi_\beta e^{\tau Q}` as the
    step size goes to 0. If d is above the clip c = 5, the authors' code uses :math:`\ell = d`; the loss and its slope
    jump at d = c. ``linear_continuation`` removes both jumps.

    Source: Li and Levine, arXiv 2601.14234, classifier-guidance baselines.
    """

    linear_continuation: bool = setting(
        default=False,
        doc="Continue the loss beyond the clip along its tangent, e^c (1 + d - c) + tau q.",
    )

    def noisy_errors(self, q: Tensor, clean_q: Tensor, info: Info) -> Tensor:
        """Return the linear-exponential losses; see :meth:`CGQLMSE.noisy_errors`."""
        scaled = self.inverse_temperature * q
        gap = self.inverse_temperature * clean_q - scaled
        # `where` below computes both branches; without the clip, the exponential could overflow
        clipped = gap.clamp(max=CLIP)
        beyond = clipped.exp() * (1 + gap - clipped) + scaled if self.linear_continuation else gap
        info["linex_clipped"] = (gap > CLIP).float().mean((1, 2))
        return torch.where(gap <= CLIP, clipped.exp() + scaled, beyond)
