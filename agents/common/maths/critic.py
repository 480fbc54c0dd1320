"""Pessimistic values, critic losses, action gradient, best-of-n.

Shapes: S replicas, E members, B rows, N candidates.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from agents.common.batch import Batch

SMALLEST_WEIGHT = 1e-16


def pessimistic_value(q: Tensor, rho: float) -> Tensor:
    r"""Return mean minus ``rho`` standard deviations over the ensemble.

    :math:`\bar Q - \rho\,\mathrm{std}_j Q_j` with the population standard deviation. Where all members agree to the
    last bit, as two members sometimes do, the gradient of the deviation is taken as zero.

    :param q: (S, E, ...).
    :param rho: pessimism, >= 0.
    :return: (S, ...).
    """
    return q.mean(1) - rho * q.std(1, correction=0)


def mean_size(q: Tensor) -> Tensor:
    """Return the mean absolute value over rows, a constant to divide Q by; 1 where all values are 0.

    :param q: (S, B).
    :return: (S,).
    """
    size = q.detach().abs().mean(-1)
    # a new critic says exactly 0 of observations and actions of zeros
    return torch.where(size == 0, 1.0, size)


def td_target(batch: Batch, next_q: Tensor, rho: float) -> Tensor:
    r"""Return :math:`y = R + \gamma^H M\,Q_{pess}(s', a')`.

    :param batch: gives R (``rewards``) and gamma^H M (``discounts``), each (S, B).
    :param next_q: target critic at the next actions, (S, E, B).
    :param rho: pessimism.
    :return: (S, B).
    """
    return batch.rewards + batch.discounts * pessimistic_value(next_q, rho)


def td_loss(q: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    """Return the squared error to a shared target, averaged over members and rows; the divisor counts every row.

    :param q: predictions, (S, E, B).
    :param target: (S, B).
    :param valid: 1 where the sequence stays inside its trajectory, else 0, (S, B).
    :return: (S,).
    """
    return (valid.unsqueeze(1) * (q - target.unsqueeze(1)).square()).mean((1, 2))


def expectile_loss(error: Tensor, expectile: float) -> Tensor:
    r"""Return the asymmetric square whose minimiser is an expectile, elementwise.

    :math:`|\kappa - 1[u < 0]|\,u^2`. Source: Kostrikov, Nair and Levine, Implicit Q-Learning, arXiv 2110.06169,
    expectile regression.

    :param error: u, target minus prediction, any shape.
    :param expectile: kappa in (0, 1); 0.5 is half the square.
    :return: same shape.
    """
    # `where` of two Python numbers has PyTorch's default dtype
    return torch.where(error < 0, 1 - expectile, expectile).to(error.dtype) * error.square()


def implicit_targets(batch: Batch, nets: Any, rho: float) -> dict[str, Tensor]:
    r"""Return the targets of implicit Q-learning, which rate no action outside of the data.

    :math:`y = R + \gamma^H M\,V(s')` of the critics, and of the value :math:`Q'_{pess}(s, a)` at the data actions.
    Source: Kostrikov, Nair and Levine, Implicit Q-Learning, arXiv 2110.06169.

    :param batch: the batch.
    :param nets: ``critic_target`` and ``value``.
    :param rho: pessimism.
    :return: ``td`` and ``value``, (S, B) each.
    """
    data_q = nets.critic_target(batch.observations, batch.actions)
    return {
        "td": batch.rewards + batch.discounts * nets.value(batch.next_observations),
        "value": pessimistic_value(data_q, rho),
    }


def implicit_value_loss(
    batch: Batch,
    target: Tensor,
    weight: Tensor | float,
    nets: Any,
    expectile: float,
    info: dict[str, Tensor],
) -> Tensor:
    """Return the expectile loss of implicit Q-learning's state value, (S,), and note statistics of its predictions.

    :param batch: the batch.
    :param target: the value's, (S, B).
    :param weight: of each row, (S, B), e.g. the validity of the sequence: the target rates a whole chunk, which may run
        into the next trajectory.
    :param nets: ``value``.
    :param expectile: kappa.
    :param info: gets ``v_mean``, ``v_max`` and ``v_min``.
    :return: (S,).
    """
    value = nets.value(batch.observations)
    info |= {"v_mean": value.mean(1), "v_max": value.amax(1), "v_min": value.amin(1)}
    return (weight * expectile_loss(target - value, expectile)).mean(-1)


def advantage_weight(advantage: Tensor, inverse_temperature: float, largest: float) -> Tensor:
    r"""Return the weights of advantage-weighted regression, :math:`\min(\exp(\tau A), w_{max})`, elementwise.

    Weights below `SMALLEST_WEIGHT` are 0: gradients of them become denormal numbers, with which processors compute
    several times slower. A step of Adam on them, at most w / 1e-8 learning rates, is less than a rounding error.

    :param advantage: A, any shape.
    :param inverse_temperature: tau.
    :param largest: w_max; few rows of large advantage would outweigh the batch otherwise.
    :return: same shape.
    """
    weight = (inverse_temperature * advantage).exp().clamp(max=largest)
    return torch.where(weight < SMALLEST_WEIGHT, torch.zeros_like(weight), weight)


def action_gradient(value: Callable[[Tensor], Tensor], actions: Tensor) -> Tensor:
    """Return the gradient of a value with respect to the action, even where no gradient is being recorded.

    :param value: function of actions (S, B, D) that returns values (S, B), row by row.
    :param actions: where, (S, B, D).
    :return: (S, B, D), without a graph.
    """
    # torch.compile traces this gradient into its graph, which `autograd.grad` would break
    if torch.compiler.is_compiling():
        return torch.func.grad(lambda y: value(y).sum())(actions)
    with torch.enable_grad():
        actions = actions.detach().requires_grad_()
        values = value(actions)
        return torch.autograd.grad(values, actions, torch.ones_like(values))[0]


def q_statistics(q: Tensor) -> dict[str, Tensor]:
    """Return mean, maximum and minimum of critic predictions (S, E, B), each (S,)."""
    return {"q_mean": q.mean((1, 2)), "q_max": q.amax((1, 2)), "q_min": q.amin((1, 2))}


def pick_best(actions: Tensor, scores: Tensor) -> Tensor:
    """Return each row's candidate with the highest score.

    :param actions: (S, B, N, D).
    :param scores: (S, B, N).
    :return: (S, B, D).
    """
    best = scores.argmax(-1)[..., None, None].expand(*actions.shape[:2], 1, actions.shape[-1])
    return torch.gather(actions, 2, best).squeeze(2)
