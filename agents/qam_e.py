"""QAM-E: QAM whose actions are refined by a small bounded edit."""

from __future__ import annotations

from agents.common.families.edited import EditedFlow
from agents.qam import QAM


class QAME(EditedFlow, QAM):
    r"""QAM and a soft actor-critic edit of its action, bounded by a scale.

    .. math:: a = \mathrm{clip}(\mathrm{ODE}(s, z; v_f) + c\,e),
        \quad e \sim \pi_{edit}(\cdot\mid s, a_{flow}) \in (-1, 1)^D

    Source: Li and Levine, Q-learning with Adjoint Matching, arXiv 2601.14234. Differs in: nothing.
    """
