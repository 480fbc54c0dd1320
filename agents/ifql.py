"""IFQL: implicit Q-learning with a behaviour flow and rejection sampling."""

from __future__ import annotations

from torch import Tensor

from agents.common.families.implicit import ImplicitFlow
from agents.core import (
    Networks,
    choice,
    setting,
)


class IFQL(ImplicitFlow):
    r"""Values are learnt from data actions alone; the policy is the best of N samples of a cloned flow.

    .. math:: L = \mathbb{E}\,|\kappa - 1[u < 0]|\,u^2 + \mathbb{E}\,(Q(s, a) - R - \gamma^H M V(s'))^2 + L_{FM}(v),
        \qquad u = Q'_{pess}(s, a) - V(s)

    Actions are drawn from the flow ``best_of_n`` times and the one with the highest minimum over the critics is played.
    Source: Kostrikov, Nair and Levine, Implicit Q-Learning, arXiv 2110.06169; Hansen-Estruch et al., IDQL, arXiv
    2304.10573; with a flow: Park, Li and Levine, Flow Q-Learning, arXiv 2502.02538; here as the baseline of Li and
    Levine, arXiv 2601.14234. Differs in: ``q_mean`` and the like are of predictions, where that baseline logs the TD
    target's; many states are acted on at once.
    """

    unmasked_losses = frozenset({"value"})

    expectile: float = setting(default=0.9, reference="kappa")
    mask_value: bool = setting(
        default=False,
        doc="Leave sequences that cross a trajectory's end out of the value loss too, as the other losses do; the "
        "authors' code keeps them, with actions of the next trajectory in their chunk.",
    )
    best_of_n: int = setting(default=32, reference="num_samples", search=choice(8, 16, 32, 64))

    def score(self, observations: Tensor, actions: Tensor, nets: Networks) -> Tensor:
        """Rate candidates by the lowest of the online critics."""
        # the lowest critic: the best of many candidates is else the most overrated one
        return nets.critic(observations, actions).amin(1)
