"""Pessimistic values, critic losses, action gradients and best-of-n selection.

Shapes: S replicas, E ensemble members, B rows, N candidates.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from agents.common.batch import Batch

# a few rows with larger weights would outweigh the rest of the batch
LARGEST_WEIGHT = 100.0
SMALLEST_WEIGHT = 1e-16


def pessimistic_value(q: Tensor, rho: float) -> Tensor:
    r"""Return the mean over the ensemble minus ``rho`` standard deviations.

    :math:`\bar Q - \rho\,\mathrm{std}_j Q_j` with the population standard deviation, whose gradient is
    zero if all members are equal bitwise.

    :param q: (S, E, ...).
    :param rho: pessimism, >= 0.
    :return: (S, ...).

    >>> q = torch.tensor([[[1.0], [3.0]]])  # two critics, one row
    >>> pessimistic_value(q, rho=0.5)
    tensor([[1.5000]])
    """
    return q.mean(1) - rho * q.std(1, correction=0)


def mean_absolute(q: Tensor) -> Tensor:
    """Return the mean absolute value of Q over rows, detached, to normalise Q in losses; 1 if all values are 0.

    :param q: (S, B).
    :return: (S,).

    >>> mean_absolute(torch.tensor([[1.0, -3.0], [0.0, 0.0]]))
    tensor([2., 1.])
    """
    magnitude = q.detach().abs().mean(-1)
    # a new critic returns exactly 0 if observations and actions are zeros
    return torch.where(magnitude == 0, 1.0, magnitude)


def td_target(batch: Batch, next_q: Tensor, rho: float) -> Tensor:
    r"""Return :math:`y = R + \gamma^H M\,Q_{pess}(s', a')`.

    :param batch: contains R (``rewards``) and gamma^H M (``discounts``), each (S, B).
    :param next_q: target critics at the next actions, (S, E, B).
    :param rho: pessimism.
    :return: (S, B).

    >>> one = torch.ones(1, 1)
    >>> batch = Batch(one, one, one, 0.9 * one, one, valid=one, steps_valid=one)
    >>> td_target(batch, next_q=torch.full((1, 2, 1), 10.0), rho=0.5)
    tensor([[10.]])
    """
    return batch.rewards + batch.discounts * pessimistic_value(next_q, rho)


def td_loss(q: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    """Return the mean squared error to a target shared by all members; invalid rows have error 0.

    :param q: predictions, (S, E, B).
    :param target: (S, B).
    :param valid: 1 if the sequence stays inside its trajectory, else 0, (S, B).
    :return: (S,).

    >>> q = torch.tensor([[[1.0, 2.0]]])  # one critic, two rows
    >>> td_loss(q, target=torch.tensor([[2.0, 5.0]]), valid=torch.tensor([[1.0, 0.0]]))
    tensor([0.5000])
    """
    return (valid.unsqueeze(1) * (q - target.unsqueeze(1)).square()).mean((1, 2))


def expectile_loss(error: Tensor, expectile: float) -> Tensor:
    r"""Return the elementwise asymmetric squared error, whose mean is minimal at an expectile.

    :math:`|\kappa - 1[u < 0]|\,u^2`. Source: Kostrikov, Nair and Levine, Implicit Q-Learning, arXiv 2110.06169,
    expectile regression.

    :param error: u, target minus prediction, any shape.
    :param expectile: kappa in (0, 1); 0.5 gives half the squared error.
    :return: same shape.

    >>> expectile_loss(torch.tensor([-1.0, 1.0]), expectile=0.75)
    tensor([0.2500, 0.7500])
    """
    return torch.where(error < 0, 1 - expectile, expectile) * error.square()


def implicit_targets(batch: Batch, nets: Any, rho: float) -> dict[str, Tensor]:
    r"""Return the targets of implicit Q-learning, computed without any actions outside the data.

    The critics' target is :math:`y = R + \gamma^H M\,V(s')`; the state value's target is :math:`Q'_{pess}(s, a)` at
    dataset actions. Source: Kostrikov, Nair and Levine, Implicit Q-Learning, arXiv 2110.06169.

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
    """Return the expectile loss of implicit Q-learning's state value, (S,), and record statistics of its predictions.

    :param batch: the batch.
    :param target: target of the value, (S, B).
    :param weight: weight of each row, (S, B), or of all rows; pass ``batch.valid`` to mask chunks that cross a
        trajectory end, since the target is the value of the whole chunk.
    :param nets: ``value``.
    :param expectile: kappa.
    :param info: receives ``v_mean``, ``v_max`` and ``v_min``.
    :return: (S,).
    """
    value = nets.value(batch.observations)
    info |= {"v_mean": value.mean(1), "v_max": value.amax(1), "v_min": value.amin(1)}
    return (weight * expectile_loss(target - value, expectile)).mean(-1)


def advantage_weight(advantage: Tensor, inverse_temperature: float) -> Tensor:
    r"""Return the weights of advantage-weighted regression, :math:`\min(e^{\tau A}, 100)`, elementwise.

    Weights below `SMALLEST_WEIGHT` become 0: their gradients would be denormal numbers, with which processors are
    several times slower. With such a weight w, Adam's step would be at most w / 1e-8 learning rates, which
    float32 rounds away.

    :param advantage: A, any shape.
    :param inverse_temperature: tau.
    :return: same shape.

    >>> advantage_weight(torch.tensor([0.0, 5.0]), inverse_temperature=3.0)
    tensor([  1., 100.])
    """
    weight = (inverse_temperature * advantage).exp().clamp(max=LARGEST_WEIGHT)
    return torch.where(weight < SMALLEST_WEIGHT, 0.0, weight)


def action_gradient(value: Callable[[Tensor], Tensor], actions: Tensor) -> Tensor:
    """Return the gradient of a value with respect to the action, even inside `torch.no_grad`.

    :param value: function of actions (S, B, D) that returns values (S, B), each of which depends on its own row only.
    :param actions: actions at which to differentiate, (S, B, D).
    :return: (S, B, D), detached.

    >>> action_gradient(lambda a: -a.square().sum(-1), torch.tensor([[[0.5, -1.0]]]))
    tensor([[[-1.,  2.]]])
    """
    # also when compiled, since a features extractor called inside may keep its features for later losses
    with torch.enable_grad():
        # `torch.func.grad` is traced into a compiled graph; `autograd.grad` would break the graph
        if torch.compiler.is_compiling():
            return torch.func.grad(lambda y: value(y).sum())(actions).detach()
        actions = actions.detach().requires_grad_()
        return torch.autograd.grad(value(actions).sum(), actions)[0]


def q_statistics(q: Tensor) -> dict[str, Tensor]:
    """Return the mean, maximum and minimum of critic predictions (S, E, B), each (S,).

    >>> q_statistics(torch.tensor([[[1.0, 3.0]]]))
    {'q_mean': tensor([2.]), 'q_max': tensor([3.]), 'q_min': tensor([1.])}
    """
    return {"q_mean": q.mean((1, 2)), "q_max": q.amax((1, 2)), "q_min": q.amin((1, 2))}


def pick_best(actions: Tensor, scores: Tensor) -> Tensor:
    """Return each row's candidate with the highest score.

    :param actions: (S, B, N, D).
    :param scores: (S, B, N).
    :return: (S, B, D).

    >>> candidates = torch.tensor([[[[-1.0], [1.0]]]])  # two candidates of one row
    >>> pick_best(candidates, scores=torch.tensor([[[0.2, 0.7]]]))
    tensor([[[1.]]])
    """
    # not `take_along_dim`, which would fix the number of rows in an exported policy
    best = scores.argmax(-1)[..., None, None].expand_as(actions[:, :, :1])
    return actions.gather(2, best).squeeze(2)
