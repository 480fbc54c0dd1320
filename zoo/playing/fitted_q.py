"""Fitted Q evaluation: what a policy is worth, judged by data that others have collected.

Source: Le, Voloshin and Yue, Batch Policy Learning under Constraints, arXiv 1903.08738, Algorithm 3. Its class of
functions F is linear here, in random Fourier features of state and action (Rahimi and Recht, 2007), so that each
regression has an exact solution. The interval refits the whole evaluation to trajectories drawn with replacement.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]

FEATURES, RIDGE = 300, 1e-5
TOLERANCE = 0.01  # of the range of values, by which another iteration could move the result
MOST_ITERATIONS = 5000
LEVEL = (2.5, 97.5)


@dataclass(frozen=True)
class EvaluationData:
    """What is evaluated on: n transitions of k trajectories.

    :param states: x, shape (n, O).
    :param actions: a, shape (n, D).
    :param rewards: r, shape (n,).
    :param discounts: what the next value is multiplied with, gamma or 0 at an end, shape (n,).
    :param next_states: x', shape (n, O).
    :param trajectory: which of the k each belongs to, shape (n,).
    """

    states: Array
    actions: Array
    rewards: Array
    discounts: Array
    next_states: Array
    trajectory: NDArray[np.int64]


@dataclass(frozen=True)
class ValueEstimate:
    """What a policy is worth.

    :param values: of the first state of each trajectory, shape (k,).
    :param low: lower end of the 95% interval of their mean.
    :param high: its upper end.
    """

    values: Array
    low: float
    high: float

    @property
    def mean(self) -> float:
        """The policy's value: the mean over first states."""
        return float(self.values.mean())


def fitted_q_evaluation(
    data: EvaluationData,
    next_actions: Array,
    first_states: Array,
    first_actions: Array,
    rng: np.random.Generator,
    *,
    resamples: int = 20,
) -> ValueEstimate:
    r"""Return what a policy is worth from the first states on.

    Algorithm 3: :math:`Q_k = \arg\min_{f \in F} \frac{1}{n} \sum_i (f(x_i, a_i) - y_i)^2` with
    :math:`y_i = r_i + \gamma Q_{k-1}(x'_i, \pi(x'_i))`, and the result is :math:`Q_K(x_0, \pi(x_0))`. A policy's mean
    over its actions is that over the rows, each of which has one action.

    :param next_actions: the policy's action in each next state, shape (n, D).
    :param first_states: of the k trajectories, shape (k, O).
    :param first_actions: m actions of the policy in each of them, shape (m, k, D).
    :param resamples: how often trajectories are drawn with replacement, for the interval.
    """
    count, m = len(first_states), len(first_actions)
    phi = random_features(np.hstack([data.states, data.actions]), rng)
    here, after = phi(data.states, data.actions), phi(data.next_states, next_actions)
    drawn = rng.multinomial(count, np.full(count, 1 / count), resamples).T
    weights = np.hstack([np.ones((count, 1)), drawn])  # (k, 1 + resamples): the data as they are come first
    rows = weights[data.trajectory]
    solve = np.stack([_ridge(here, row) for row in rows.T])
    low, high = value_range(data.rewards, data.discounts)
    rows, q_next = rows.astype(np.float32), np.zeros(rows.shape, np.float32)
    rewards, discounts = (array[:, None].astype(np.float32) for array in (data.rewards, data.discounts))
    for _ in range(MOST_ITERATIONS):
        y = rewards + discounts * q_next
        sums = (here.T @ (rows * y)).T.astype(np.float64)
        q = (solve @ sums[:, :, None])[:, :, 0].T  # the coefficients of Q_k, (F, 1 + resamples)
        before, q_next = q_next, np.clip(after @ q.astype(np.float32), low, high)
        if np.abs(q_next - before).max() <= TOLERANCE * (high - low) * (1 - data.discounts.max()):
            break
    first = phi(np.tile(first_states, (m, 1)), first_actions.reshape(m * count, -1))
    values = np.clip(first @ q, low, high).reshape(m, count, -1).mean(0)
    means = (values * weights).sum(0)[1:] / count
    ends = np.percentile(means, LEVEL)
    return ValueEstimate(values[:, 0], float(ends[0]), float(ends[1]))


def random_features(inputs: Array, rng: np.random.Generator) -> Callable[[Array, Array], Array]:
    """Return the features of states and actions: those of a Gaussian kernel, and the inputs themselves.

    :param inputs: examples, by which inputs are scaled, shape (n, O + D).
    """
    centre, scale = inputs.mean(0), inputs.std(0) + 1e-6
    size = inputs.shape[1]
    frequencies = rng.normal(size=(size, FEATURES)) / np.sqrt(size)
    phases = rng.uniform(0, 2 * np.pi, FEATURES)

    def phi(states: Array, actions: Array) -> Array:
        z = (np.hstack([states, actions]) - centre) / scale
        waves = np.sqrt(2 / FEATURES) * np.cos(z @ frequencies + phases)
        return np.hstack([waves, z, np.ones((len(z), 1))]).astype(np.float32)

    return phi


def _ridge(features: Array, weights: Array) -> Array:
    """Return the matrix that turns weighted sums of features and targets into coefficients, shape (F, F)."""
    gram = ((features * weights[:, None]).T @ features).astype(np.float64)
    inverse: Array = np.linalg.inv(gram + RIDGE * weights.sum() * np.eye(len(gram)))
    return inverse


def value_range(rewards: Array, discounts: Array) -> tuple[float, float]:
    """Return the lowest and the highest value that any policy can have, to which estimates are clipped."""
    horizon = 1 / max(1 - discounts.max(), 1 / MOST_ITERATIONS)
    low, high = float(rewards.min()), float(rewards.max())
    return min(low, low * horizon), max(high, high * horizon)
