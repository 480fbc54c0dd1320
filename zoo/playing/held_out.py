"""Judge policies without an environment, by trajectories that they were not trained on: fitted Q evaluation.

Source: Le, Voloshin and Yue, Batch Policy Learning under Constraints, arXiv 1903.08738, Algorithm 3. Its class of
functions F is linear here, in random Fourier features of state and action (Rahimi and Recht, 2007), so that each
regression has an exact solution. The interval refits the whole evaluation to trajectories drawn with replacement.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from agents.common.batch import Batch
from agents.common.data.buffer import SequenceReplayBuffer
from agents.common.sb3.policy import FlowPolicy
from agents.common.streams import Purpose, stream, torch_generator
from zoo.datasets.formats.base import Dataset
from zoo.processes.serving import Hook, keep_waiting
from zoo.runs.episodes import EpisodeResults
from zoo.terminal.errors import UsageError

Array = NDArray[np.floating]

FEATURES, RIDGE = 300, 1e-5
RESAMPLES = 20  # how often trajectories are drawn with replacement, for the interval
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


def fitted_q_evaluation(
    data: EvaluationData,
    next_actions: Array,
    first_states: Array,
    first_actions: Array,
    rng: np.random.Generator,
) -> ValueEstimate:
    r"""Return what a policy is worth from the first states on.

    Algorithm 3: :math:`Q_k = \arg\min_{f \in F} \frac{1}{n} \sum_i (f(x_i, a_i) - y_i)^2` with
    :math:`y_i = r_i + \gamma Q_{k-1}(x'_i, \pi(x'_i))`, and the result is :math:`Q_K(x_0, \pi(x_0))`. A policy's mean
    over its actions is that over the rows, each of which has one action.

    :param next_actions: the policy's action in each next state, shape (n, D).
    :param first_states: of the k trajectories, shape (k, O).
    :param first_actions: m actions of the policy in each of them, shape (m, k, D).
    """
    count, m = len(first_states), len(first_actions)
    phi = random_features(np.hstack([data.states, data.actions]), rng)
    here, after = phi(data.states, data.actions), phi(data.next_states, next_actions)
    drawn = rng.multinomial(count, np.full(count, 1 / count), RESAMPLES).T
    weights = np.hstack([np.ones((count, 1)), drawn])  # (k, 1 + RESAMPLES): the data as they are come first
    rows = weights[data.trajectory]
    inverses = []
    for row in rows.T:
        gram = ((here * row[:, None]).T @ here).astype(np.float64)
        inverses.append(np.linalg.inv(gram + RIDGE * row.sum() * np.eye(len(gram))))
    solve = np.stack(inverses)  # turns weighted sums of features and targets into coefficients, (1 + RESAMPLES, F, F)
    # the lowest and the highest value that any policy can have, to which estimates are clipped
    horizon = 1 / max(1 - data.discounts.max(), 1 / MOST_ITERATIONS)
    low, high = float(data.rewards.min()), float(data.rewards.max())
    low, high = min(low, low * horizon), max(high, high * horizon)
    rows, q_next = rows.astype(np.float32), np.zeros(rows.shape, np.float32)
    rewards, discounts = (array[:, None].astype(np.float32) for array in (data.rewards, data.discounts))
    for _ in range(MOST_ITERATIONS):
        y = rewards + discounts * q_next
        sums = (here.T @ (rows * y)).T.astype(np.float64)
        q = (solve @ sums[:, :, None])[:, :, 0].T  # the coefficients of Q_k, (F, 1 + RESAMPLES)
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


# -- held-out trajectories --------------------------------------------------------------------------------------------

EVERY = 10
"""One in so many trajectories is held out, beginning with the first."""
MOST_TRANSITIONS = 5000  # of the held-out ones, drawn at random where there are more
FIRST_ACTIONS = 8  # of the policy in each first state
RATED_ROWS = 512  # transitions that the algorithm's own critic rates


@dataclass(frozen=True)
class HeldOutRows:
    """Sequences of k held-out trajectories, as an update gets them; a batch has the axes (1, N).

    :param batch: N sequences that lie in one trajectory.
    :param transitions: the same as arrays, one transition for each sequence.
    :param first: the first state of each trajectory, shape (1, k, O).
    :param lengths: of the trajectories, shape (k,).
    :param behaviour: what the policy that collected them is worth.
    """

    batch: Batch
    transitions: EvaluationData
    first: Tensor
    lengths: np.ndarray
    behaviour: ValueEstimate


def hold_out(data: Dataset) -> tuple[Dataset, Dataset]:
    """Return what to train on and what to judge by.

    :raises UsageError: for a single trajectory.
    """
    count = int(data.content.ends.sum())
    if count == 1:
        raise UsageError(
            "`--no-env` holds out a tenth of the trajectories, at least one, and needs another to train on; got one "
            "trajectory: mark where it ends (docs/datasets.md), or give more"
        )
    held = np.arange(count) % EVERY == 0
    trained, judged = data.content.keep(~held), data.content.keep(held)
    return replace(data, content=trained), replace(data, content=judged)


class HeldOutEvaluator:
    """Takes the place of :class:`zoo.playing.evaluate.Evaluator`: its score is a value estimate of fitted Q evaluation.

    :param data: held-out trajectories, actions in the units of the action space.
    :param gamma: discount per step.
    :param seed: decides which transitions, features and noise are drawn.
    """

    check_in: Hook = staticmethod(keep_waiting)

    def __init__(self, data: Dataset, *, gamma: float, seed: int) -> None:
        self._data, self._gamma, self._seed = data, gamma, seed
        self._rows: HeldOutRows | None = None

    def close(self) -> None:
        """Do nothing: there is no process to end."""

    def evaluate(self, policy: Any, replicas: Sequence[int], active: Collection[int] | None = None) -> EpisodeResults:
        """Estimate the value of every replica's policy, a `FlowPolicy`, and that of the behaviour.

        An episode of the results is a held-out trajectory, and its return the estimate for its first state.
        """
        rows = self._rows = self._rows or self._read(policy)
        count = len(replicas)
        played = np.isin(np.arange(count), range(count) if active is None else sorted(active))
        after = self._actions(policy, replicas, rows.batch.next_observations, 1)
        first = self._actions(policy, replicas, rows.first, FIRST_ACTIONS)
        played &= np.isfinite(after).all((1, 2, 3)) & np.isfinite(first).all((1, 2, 3))
        values = np.zeros((count, len(rows.lengths)))
        low, high = np.zeros((2, count))
        for replica in np.flatnonzero(played):
            self.check_in()
            found = self._fit(rows.transitions, after[replica, 0], rows.first, first[replica])
            values[replica], low[replica], high[replica] = found.values, found.low, found.high
        estimates = {
            "low": low,
            "high": high,
            "behaviour": np.full(count, rows.behaviour.values.mean()),
            "behaviour_low": np.full(count, rows.behaviour.low),
            "behaviour_high": np.full(count, rows.behaviour.high),
        }
        estimates |= self._critics_values(policy, rows.batch)
        lengths = np.tile(rows.lengths, (count, 1)) * played[:, None]
        return EpisodeResults(None, values, lengths, np.arange(len(rows.lengths), dtype=np.uint32), played, estimates)

    def _read(self, policy: FlowPolicy) -> HeldOutRows:
        """Return the rows that a policy's algorithm is judged by."""
        method = policy.method
        chunk = method.horizon_length if method.action_chunking else 1
        buffer = SequenceReplayBuffer(
            1, policy.observation_space, policy.action_space, device=policy.device, horizon_length=chunk,
            gamma=self._gamma, action_chunking=method.action_chunking, frame_stack=method.frame_stack,
        )  # fmt: skip
        buffer.with_steps = method.step_observations
        buffer.load_dataset(self._data.content)
        ends = np.flatnonzero(self._data.content.ends) + 1
        lengths = np.diff(ends, prepend=0)
        count, starts = int(ends[-1]), ends - lengths
        left = ends.repeat(lengths) - np.arange(count)  # transitions from each on to the end of its trajectory
        ahead = torch.arange(chunk, device=buffer.observations.device)
        every = torch.arange(count, device=ahead.device)
        batch = buffer.batch_of((every[:, None] + ahead).clamp(max=count - 1)[None])
        chosen = np.flatnonzero(left >= chunk)
        if len(chosen) > MOST_TRANSITIONS:
            chosen = np.sort(self._rng().choice(chosen, MOST_TRANSITIONS, replace=False))
        picked, first = batch.map(lambda tensor: tensor[:, chosen]), batch.observations[:, starts]
        arrays = {name: tensor[0].cpu().numpy().astype(np.float64) for name, tensor in picked.tensors().items()}
        transitions = EvaluationData(
            arrays["observations"],
            arrays["actions"],
            arrays["rewards"],
            arrays["discounts"],
            arrays["next_observations"],
            np.arange(len(lengths)).repeat(lengths)[chosen],
        )
        # the behaviour's next action is known where the trajectory goes on for another chunk, or has terminated
        known = (left[chosen] >= 2 * chunk) | (transitions.discounts == 0)
        after = chosen[known] + chunk
        actions = batch.actions[0].cpu().numpy()
        followed = EvaluationData(*(column[known] for column in vars(transitions).values()))
        behaviour = self._fit(followed, actions[np.minimum(after, count - 1)], first, actions[starts][None])
        return HeldOutRows(picked, transitions, first, lengths, behaviour)

    def _rng(self) -> np.random.Generator:
        return np.random.Generator(np.random.PCG64(stream(Purpose.EVALUATION_START, self._seed, 0)))

    def _fit(self, data: EvaluationData, next_actions: Array, first: Tensor, first_actions: Array) -> ValueEstimate:
        """Return an estimate; every policy is judged with the same features and the same resampled trajectories."""
        first_states = first[0].cpu().numpy().astype(np.float64)
        return fitted_q_evaluation(data, next_actions, first_states, first_actions, self._rng())

    def _actions(self, policy: FlowPolicy, names: Sequence[int], states: Tensor, times: int) -> np.ndarray:
        """Return actions of every replica, as networks see them, (S, times, N, D); states are (1, N, O)."""
        policy.set_training_mode(False)
        repeated = states.cpu().numpy().repeat(len(names), 0)
        found = []
        for time in range(times):
            drawn = [
                policy.draw_action_noise(
                    states.shape[1], torch_generator(Purpose.EVALUATION_NOISE, self._seed, name, time)
                )
                for name in names
            ]
            noise = {key: torch.stack([each[key] for each in drawn]) for key in drawn[0]}
            found.append(policy.sample(repeated, noise, policy.nets).clamp(-1, 1).cpu().numpy())
        return np.stack(found, 1)

    def _critics_values(self, policy: FlowPolicy, batch: Batch) -> dict[str, np.ndarray]:
        """Return the algorithm's own values of the data's and of the policy's actions, each (S,), where it has any."""
        method, nets, count = policy.method, policy.nets, policy.num_replicas
        if not method.rates_actions:
            return {}
        batch = batch.map(lambda tensor: tensor[:, :RATED_ROWS].expand(count, *tensor[0, :RATED_ROWS].shape))
        seen = batch.with_observations(policy.preprocess).observations
        generator = torch_generator(Purpose.EVALUATION_NOISE, self._seed, 0, FIRST_ACTIONS)
        drawn = policy.draw_noise(method.candidate_noise(), batch.rewards.shape[1], generator)
        noise = {name: draw.to(policy.device) for name, draw in drawn.items()}
        with torch.no_grad():
            mine = method.sample_actions(seen, noise, nets).clamp(-1, 1)
            found = {
                "q_data": method.score(seen, batch.actions, nets).mean(1),
                "q_policy": method.score(seen, mine, nets).mean(1),
            }
        return {name: value.cpu().double().numpy() for name, value in found.items()}
