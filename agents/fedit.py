"""FEDIT: a behaviour flow whose actions are refined by a small bounded edit."""

from __future__ import annotations

from agents.common.families.cloned import ClonedFlow
from agents.common.families.edited import EditedFlow
from agents.core import setting


class FEDIT(EditedFlow, ClonedFlow):
    r"""A cloned flow proposes an action and a soft actor-critic edits it within a bound.

    .. math:: a = \mathrm{clip}(\mathrm{ODE}(s, z; v) + c\,e),\quad e\sim\pi_{edit}(\cdot\mid s, a_{flow})\in(-1, 1)^D

    .. math:: L = L_{TD} + L_{FM}(v) - \mathbb{E}\,\bar Q(s, a) + \alpha\,\mathbb{E}\log\pi_{edit}(e) + L_\alpha

    The critic never shapes the flow. Source: Dong et al., EXPO, arXiv 2507.07986, in the form of the baseline of Li and
    Levine, arXiv 2601.14234. Differs in: nothing; like that baseline it plays one candidate, where EXPO plays the best
    of several (``best_of_n``).
    """

    edit_scale: float = setting(
        default=0.2,
        doc="Bound c of the edit in every coordinate; the authors' code has no working default.",
    )
