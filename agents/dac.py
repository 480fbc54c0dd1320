"""DAC: diffusion actor-critic, a diffusion policy with a linear Q term."""

from __future__ import annotations

from torch import Tensor

from agents.common.families.diffusion import DiffusionQLearning
from agents.core import (
    Targets,
)


class DAC(DiffusionQLearning):
    r"""A diffusion policy is cloned from the data while its noise prediction is pushed against the gradient of Q.

    At noisy data actions :math:`x_t`, with :math:`g = \nabla_x \bar Q'(s, x_t)`:

    .. math:: L = L_{TD} + w\,\mathbb{E}\lVert\epsilon_\theta(s, x_t, t) - \epsilon\rVert^2 / D
        + \mathbb{E}\sqrt{1-\bar\alpha_t}\;g^\top\epsilon_\theta(s, x_t, t) / D

    which is stationary at :math:`\epsilon_\beta - \sqrt{1-\bar\alpha_t}\,g/(2w)`, the noise of
    :math:`\pi_\beta e^{Q/(2w)}` but for the gradient, which is taken undamped at every noise level and so overshoots.
    Source: Fang et al., Diffusion Actor-Critic, arXiv 2405.20555; the form here is the baseline of Li and Levine, arXiv
    2601.14234. Differs in: rows' losses are multiplied with the validity of the sequence, where the baseline's code
    raises them to its power; gradients are equal. The weight w is the only temperature; the authors' default is 0.
    """

    def actor_losses(self, predicted: Tensor, targets: Targets) -> Tensor:
        """Return the linear Q terms, (S, B, D)."""
        # a predicted noise is minus the score times this root, and Q's gradient adds to the score
        return (1 - targets["alpha_bar"]).sqrt() * targets["gradient"] * predicted
