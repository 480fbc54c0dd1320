"""QAM-F: QAM with a one-step policy distilled from its flow."""

from __future__ import annotations

from agents.core import setting
from agents.fql import FQL
from agents.qam import QAM


class QAMF(FQL, QAM):
    r"""QAM whose flow teaches a one-step policy that also climbs the critic, as in Flow Q-learning.

    .. math:: L = L_{QAM} + w\,\mathbb{E}\lVert \mathrm{ODE}(s, z; v_f) - \mu(s, z)\rVert^2 / D
        - \mathbb{E}\,\bar Q(s, \mathrm{clip}\,\mu(s, z))

    Source: Li and Levine, Q-learning with Adjoint Matching, arXiv 2601.14234. Differs in: nothing.
    """

    distill_weight: float = setting(
        default=30.0, reference="fql_alpha", doc="Weight w of the distillation."
    )
