"""Soft actor-critic: squashed Gaussians, the temperature, and bounded edits of a flow's actions.

Shapes: S replicas, B rows, D dimensions of a flattened chunk. ``flow_actions`` are (S, B, D), ``noise`` is
standard normal of the same shape, and ``edit_scale`` bounds the edit.
"""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor
from torch.nn import functional as F

from agents.common.batch import Batch


def tanh_gaussian_sample(mean: Tensor, log_std: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    r"""Return a sample of a squashed Gaussian and its log density.

    :math:`y = \tanh u,\; \log\pi(y) = \sum_d \log N(u_d) - 2(\log 2 - u_d - \mathrm{softplus}(-2u_d))`

    The density is computed from the pre-tanh value, so it is finite even for saturated samples.

    :param mean: (..., D).
    :param log_std: (..., D).
    :param noise: standard normal, (..., D).
    :return: y (..., D) in [-1, 1] and log pi (...,).

    >>> zeros = torch.zeros(1, 2)
    >>> action, log_prob = tanh_gaussian_sample(mean=zeros, log_std=zeros, noise=zeros)
    >>> action, log_prob
    (tensor([[0., 0.]]), tensor([-1.8379]))
    """
    pre_tanh = mean + log_std.exp() * noise
    return pre_tanh.tanh(), tanh_gaussian_log_prob(mean, log_std, pre_tanh)


def tanh_gaussian_log_prob(mean: Tensor, log_std: Tensor, pre_tanh: Tensor) -> Tensor:
    """Return the log density of tanh(u), (...,), at a pre-tanh value u; all arguments are (..., D)."""
    error = (pre_tanh - mean) / log_std.exp()
    normal = -0.5 * error.square() - log_std - 0.5 * math.log(2 * math.pi)
    squash = 2 * (math.log(2) - pre_tanh - F.softplus(-2 * pre_tanh))
    return (normal - squash).sum(-1)


def temperature_loss(
    log_prob: Tensor,
    actions: Tensor,
    target_entropy: float | None,
    nets: Any,
    info: dict[str, Tensor],
) -> Tensor:
    r"""Return the loss of a policy's temperature, :math:`\alpha(-sg[\log\pi] - \bar H)`.

    :param log_prob: log density of sampled actions, (S, B).
    :param actions: actions of the policy, (S, B, D); only D is used.
    :param target_entropy: target entropy; None: -D/2.
    :param nets: ``temperature``.
    :param info: receives the entropy and the temperature.
    :return: the loss, (S,).
    """
    if target_entropy is None:
        # half of soft actor-critic's usual -D
        target_entropy = -0.5 * actions.shape[-1]
    entropy = -log_prob.detach().mean(-1)
    info |= {"entropy": entropy, "temperature": nets.frozen.temperature()}
    # linear in alpha, which rises while the entropy is below its target
    return nets.temperature() * (entropy - target_entropy)


def apply_edit(
    edit: Any, observations: Tensor, flow_actions: Tensor, noise: Tensor, edit_scale: float
) -> tuple[Tensor, Tensor]:
    """Return the flow's actions plus a sampled edit, clipped to the action bounds, and the edit's log density.

    The edit, before scaling, is a sample of a squashed Gaussian.
    """
    mean, log_std = edit(observations, flow_actions)
    sample, log_prob = tanh_gaussian_sample(mean, log_std, noise)
    return (flow_actions + edit_scale * sample).clamp(-1, 1), log_prob


def edit_losses(
    batch: Batch,
    flow_actions: Tensor,
    noise: Tensor,
    nets: Any,
    edit_scale: float,
    target_entropy: float | None,
    info: dict[str, Tensor],
) -> dict[str, Tensor]:
    r"""Return the losses of an edit policy and of its temperature.

    :math:`L_q = -\bar Q(s, a'),\; L_{ent} = sg[\alpha]\log\pi(e),\; L_\alpha = \alpha(-sg[\log\pi(e)] - \bar H)`.
    :math:`e` is the unscaled edit, :math:`a'` the clipped sum of the flow's action and the scaled edit,
    :math:`\alpha` the temperature and :math:`\bar H` the target entropy.

    Source: Li and Levine, arXiv 2601.14234, edit variant.

    :param batch: only its observations are used.
    :param flow_actions: the flow's actions, detached, (S, B, D).
    :param noise: standard normal, (S, B, D).
    :param nets: ``edit``, ``temperature`` and ``critic``.
    :param edit_scale: bound of the edit.
    :param target_entropy: target entropy; None: -D/2.
    :param info: receives the entropy and the temperature.
    :return: ``q``, ``entropy`` and ``temperature``, each (S,).
    """
    # clipped as when acting, so that the critics never evaluate actions outside the bounds
    actions, log_prob = apply_edit(nets.edit, batch.observations, flow_actions, noise, edit_scale)
    return {
        "q": -nets.frozen.critic(batch.observations, actions).mean((1, 2)),
        "entropy": (nets.frozen.temperature().unsqueeze(-1) * log_prob).mean(-1),
        "temperature": temperature_loss(log_prob, actions, target_entropy, nets, info),
    }
