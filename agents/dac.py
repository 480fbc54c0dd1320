"""DAC: diffusion actor-critic, a diffusion policy with a linear Q term."""

from __future__ import annotations

from typing import Unpack

from agents.common.base import GymEnv, Info, Losses, Targets
from agents.common.batch import Batch
from agents.common.critic import q_statistics, td_loss
from agents.common.diffusion import DiffusionArguments, DiffusionQLearning, Sampler, row_mean
from agents.common.noise import Noise
from agents.common.policy import FlowPolicy, Networks
from agents.registry import register


@register(
    "dac",
    paper="Diffusion Actor-Critic (Fang et al., arXiv 2405.20555)",
    published_name="DAC",
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
    raises them to its power; gradients are equal.

    :param policy: see :class:`FlowQLearning`.
    :param env: see :class:`FlowQLearning`.
    :param bc_weight: weight w of the denoising loss on the data, the only temperature, ``alpha`` in the authors' code,
        >= 0; their default is 0.
    :param sampler: mean of a reverse step: ``ddpm_clipped``, the posterior of the clipped estimate, ``ddpm`` without
        that clip, or ``jump`` to the estimate.
    :param clip_states: whether every state of the reverse chain is clipped to [-1, 1].
    :param max_grad_norm: bound on the joint gradient norm.
    :param settings: the settings of :class:`DiffusionQLearning`.
    """

    def __init__(  # type: ignore[misc] # some of the shared settings have defaults of their own here
        self,
        policy: str | type[FlowPolicy],
        env: GymEnv | str | None,
        *,
        bc_weight: float = 1.0,
        sampler: Sampler = "ddpm_clipped",
        clip_states: bool = False,
        max_grad_norm: float | None = 1.0,
        **settings: Unpack[DiffusionArguments],
    ) -> None:
        own = DiffusionArguments(
            bc_weight=bc_weight, sampler=sampler, clip_states=clip_states, max_grad_norm=max_grad_norm
        )
        super().__init__(policy, env, **{**settings, **own})

    def losses(self, batch: Batch, targets: Targets, noise: Noise, nets: Networks, info: Info) -> Losses:
        """Return the TD loss, the denoising loss and the linear Q term."""
        q = nets.critic(batch.observations, batch.actions)
        info |= q_statistics(q)
        predicted = nets.denoiser(batch.observations, targets["noisy"], noise["diffusion_t"].unsqueeze(-1))
        push = (1 - targets["alpha_bar"]).sqrt() * targets["gradient"] * predicted
        return {
            "td": td_loss(q, targets["td"], batch.valid),
            "bc": row_mean((noise["diffusion_eps"] - predicted).square(), batch.valid),
            "actor": row_mean(push, batch.valid),
        }
