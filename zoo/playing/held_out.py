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
from zoo.datasets.formats.base import COMPACT
from zoo.datasets.load import Dataset
from zoo.errors import UsageError
from zoo.playing.episodes import EpisodeResults
from zoo.processes.serving import Hook, keep_waiting

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
LOSS_ROWS = 512


@dataclass(frozen=True)
class _Rows:
    """Sequences of the held-out trajectories, as an update gets them; a batch has the axes (1, N)."""

    batch: Batch
    transitions: EvaluationData
    has_next: np.ndarray
    next_actions: Array
    first: Tensor
    first_actions: Array
    lengths: np.ndarray


def hold_out(data: Dataset) -> tuple[Dataset, Dataset]:
    """Return what to train on and what to judge by.

    :raises UsageError: for a single trajectory.
    """
    number = _trajectory_of(data.valids)
    if number[-1] < 1:
        raise UsageError(
            "`--no-env` holds out a tenth of the trajectories, at least one, and needs another to train on; got one "
            "trajectory: mark where it ends (docs/datasets.md), or give more"
        )
    held = number % EVERY == 0

    def part(rows: np.ndarray) -> Dataset:
        arrays = {name: getattr(data, name)[rows] for name in COMPACT}
        return replace(data, **arrays)

    return part(~held), part(held)


def _trajectory_of(valids: np.ndarray) -> np.ndarray:
    """Return the trajectory of each row of the compact layout."""
    number: np.ndarray = np.cumsum(np.append(0, valids[:-1] == 0))
    return number


class HeldOutEvaluator:
    """Takes the place of :class:`zoo.playing.evaluate.Evaluator`: its score is a value estimate of fitted Q evaluation.

    :param data: held-out trajectories, actions in the units of the action space.
    :param gamma: discount per step.
    :param seed: decides which transitions, features and noise are drawn.
    """

    check_in: Hook = staticmethod(keep_waiting)

    def __init__(self, data: Dataset, *, gamma: float, seed: int) -> None:
        self._data, self._gamma, self._seed = data, gamma, seed
        self._rows: _Rows | None = None
        self._behaviour: ValueEstimate | None = None

    def close(self) -> None:
        """Do nothing: there is no process to end."""

    def evaluate(
        self, policy: Any, replicas: Sequence[int] | None = None, active: Collection[int] | None = None
    ) -> EpisodeResults:
        """ValueEstimate the value of every replica's policy, a `FlowPolicy`, and that of the behaviour.

        An episode of the results is a held-out trajectory, and its return the estimate for its first state.
        """
        names = list(range(policy.num_replicas)) if replicas is None else list(replicas)
        rows = self._rows = self._rows or self._read(policy)
        if self._behaviour is None:
            self._behaviour = self._fit(rows, rows.next_actions, rows.first_actions[None], rows.has_next)
        played = np.isin(np.arange(len(names)), range(len(names)) if active is None else sorted(active))
        after = self._actions(policy, names, rows.batch.next_observations, 1)
        first = self._actions(policy, names, rows.first, FIRST_ACTIONS)
        played &= np.isfinite(after).all((1, 2, 3)) & np.isfinite(first).all((1, 2, 3))
        estimates: dict[str, np.ndarray] = {}
        values = np.zeros((len(names), len(rows.lengths)))
        for replica in np.flatnonzero(played):
            self.check_in()
            found = self._fit(rows, after[replica, 0], first[replica])
            values[replica] = found.values
            for name, value in (("low", found.low), ("high", found.high)):
                estimates.setdefault(name, np.zeros(len(names)))[replica] = value
        for name, value in (("", self._behaviour.mean), ("_low", self._behaviour.low), ("_high", self._behaviour.high)):
            estimates[f"behaviour{name}"] = np.full(len(names), value)
        estimates |= self._look_inside(policy, rows)
        lengths = np.tile(rows.lengths, (len(names), 1)) * played[:, None]
        return EpisodeResults(None, values, lengths, np.arange(len(rows.lengths), dtype=np.uint32), played, estimates)

    def _read(self, policy: FlowPolicy) -> _Rows:
        """Return the rows that a policy's algorithm is judged by."""
        method = policy.method
        chunk = method.horizon_length if method.action_chunking else 1
        buffer = SequenceReplayBuffer(
            1, policy.observation_space, policy.action_space, device=policy.device, horizon_length=chunk,
            gamma=self._gamma, action_chunking=method.action_chunking, frame_stack=method.frame_stack,
        )  # fmt: skip
        buffer.with_steps = method.step_observations
        buffer.load_dataset(self._data.content)
        valids = self._data.valids
        number = _trajectory_of(valids)[valids > 0]
        count, lengths = len(number), np.bincount(number)
        starts = np.flatnonzero(np.append(True, number[1:] != number[:-1]))
        ahead = torch.arange(chunk, device=buffer.observations.device)
        every = torch.arange(count, device=ahead.device)
        batch = buffer.batch_of((every[:, None] + ahead).clamp(max=count - 1)[None])
        whole = number[np.minimum(np.arange(count) + chunk - 1, count - 1)] == number
        whole &= np.arange(count) + chunk <= count
        chosen = np.flatnonzero(whole)
        if len(chosen) > MOST_TRANSITIONS:
            chosen = np.sort(self._rng().choice(chosen, MOST_TRANSITIONS, replace=False))
        following = np.minimum(chosen + chunk, count - 1)
        ends = batch.discounts[0].cpu().numpy()[chosen] == 0
        continues = (number[following] == number[chosen]) & whole[following] & (following > chosen)
        actions = batch.actions[0].cpu().numpy()
        first = batch.observations[:, starts]
        picked = batch.map(lambda tensor: tensor[:, chosen])
        arrays = {name: tensor[0].cpu().numpy().astype(np.float64) for name, tensor in picked.tensors().items()}
        transitions = EvaluationData(
            arrays["observations"], arrays["actions"], arrays["rewards"], arrays["discounts"],
            arrays["next_observations"], number[chosen],
        )  # fmt: skip
        return _Rows(picked, transitions, ends | continues, actions[following], first, actions[starts], lengths)

    def _rng(self) -> np.random.Generator:
        return np.random.Generator(np.random.PCG64(stream(Purpose.EVALUATION_START, self._seed, 0)))

    def _fit(self, rows: _Rows, next_actions: Array, first_actions: Array, kept: Any = slice(None)) -> ValueEstimate:
        """Return an estimate; every policy is judged with the same features and the same resampled trajectories."""
        data = rows.transitions
        used = EvaluationData(*(column[kept] for column in vars(data).values()))
        first = rows.first[0].cpu().numpy().astype(np.float64)
        return fitted_q_evaluation(used, next_actions[kept], first, first_actions, self._rng())

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

    def _look_inside(self, policy: FlowPolicy, rows: _Rows) -> dict[str, np.ndarray]:
        """Return losses, and the algorithm's own values of the data's and the policy's actions, each (S,)."""
        method, nets, count = policy.method, policy.nets, policy.num_replicas
        batch = rows.batch.map(lambda tensor: tensor[:, :LOSS_ROWS].expand(count, *tensor[0, :LOSS_ROWS].shape))
        batch = replace(batch.with_observations(policy.preprocess), updates=torch.zeros(count, device=policy.device))
        size = batch.rewards.shape[1]
        if method.row_sampler() is not None:
            batch = replace(batch, weight=torch.ones_like(batch.rewards))
        generator = torch_generator(Purpose.EVALUATION_NOISE, self._seed, 0, FIRST_ACTIONS)
        sizes = method.noise_sizes(count, size, policy.chunk_size, policy.layout.size)
        noise = {name: draw(sizes, generator, "cpu").to(policy.device) for name, draw in method.update_noise().items()}
        found: dict[str, Tensor] = {}
        if method.rates_actions:
            with torch.no_grad():
                draws = method.candidate_noise().items()
                choice = {name: draw(sizes, generator, "cpu").to(policy.device) for name, draw in draws}
                found["q_data"] = method.score(batch.observations, batch.actions, nets).mean(1)
                mine = method.sample_actions(batch.observations, choice, nets).clamp(-1, 1)
                found["q_policy"] = method.score(batch.observations, mine, nets).mean(1)
        with torch.no_grad():
            targets = method.targets(batch, noise, nets, {})
        losses = method.losses(batch, targets, noise, nets, {})
        found |= {f"{name}_loss": loss for name, loss in losses.items()}
        return {name: value.detach().cpu().double().numpy() for name, value in found.items()}
