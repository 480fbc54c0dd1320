"""Fitted Q evaluation: a chain whose values have a closed form, and an interval that says what it does not know."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest
from scipy.stats import spearmanr

from zoo.playing.fitted_q import Transitions, fitted_q_evaluation

GAMMA, STATES = 0.9, 5


def chain(rng: np.random.Generator, trajectories: int, noise: float = 0.0) -> Transitions:
    """Walk along a chain, each step to the right (action 1) or to the left (-1) at random; its end terminates."""
    rows = []
    for number in range(trajectories):
        state = 0
        for _ in range(12):
            action = int(rng.choice([-1, 1]))
            after = max(state + action, 0)
            reward = -1.0 + noise * rng.normal() + noise * (number % 5)
            rows.append(
                (np.eye(STATES)[state], [action], reward, GAMMA * (after < STATES - 1), np.eye(STATES)[after], number)
            )
            if after == STATES - 1:
                break
            state = after
    columns = [np.array(column, float) for column in zip(*rows, strict=True)]
    return Transitions(*columns[:5], columns[5].astype(int))


def exact_value(right: float) -> float:
    """Return the value of the first state if every step goes right with this probability: (I - gamma P)^-1 r."""
    transition = np.zeros((STATES - 1, STATES - 1))
    for state in range(STATES - 1):
        transition[state, max(state - 1, 0)] += 1 - right
        if state < STATES - 2:
            transition[state, state + 1] += right
    return float(np.linalg.solve(np.eye(STATES - 1) - GAMMA * transition, -np.ones(STATES - 1))[0])


@pytest.mark.parametrize("right", [1.0, 0.5, 0.0])
def test_values_of_a_chain_are_those_of_the_closed_form(right: float) -> None:
    rng = np.random.default_rng(0)
    data = chain(rng, 200)

    def act(count: int) -> np.ndarray:
        return np.where(rng.random((count, 1)) < right, 1.0, -1.0)

    first = np.tile(np.eye(STATES)[0], (200, 1))
    found = fitted_q_evaluation(data, act(len(data.states)), first, act(64 * 200).reshape(64, 200, 1), rng)
    assert found.mean == pytest.approx(exact_value(right), abs=0.25)
    assert found.low - 0.25 <= exact_value(right) <= found.high + 0.25


def test_the_interval_is_wider_where_there_are_fewer_trajectories() -> None:
    rng, widths = np.random.default_rng(0), []
    for count in (5, 80):
        data = chain(rng, count, noise=1.0)
        first = np.tile(np.eye(STATES)[0], (count, 1))
        found = fitted_q_evaluation(data, np.ones((len(data.states), 1)), first, np.ones((1, count, 1)), rng)
        widths.append(found.high - found.low)
    assert widths[0] > 2 * widths[1] > 0


def swing_up(states: np.ndarray, random_share: float, rng: np.random.Generator) -> np.ndarray:
    """Return torques of Pendulum: pump energy below, hold the pole above, and now and then anything."""
    cosine, sine, speed = states.T
    pump = np.sign(speed + 1e-9) * 2 * np.clip(5 - speed**2 / 6 - 5 * cosine, -2, 2)
    hold = -12 * np.arctan2(sine, cosine) - 3 * speed
    skilled = np.clip(np.where(cosine > 0.85, hold, pump), -2, 2)
    return np.where(rng.random(len(states)) < random_share, rng.uniform(-2, 2, len(states)), skilled)[:, None]


def play(random_share: float, count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return states (count, 200, 3), actions (count, 199, 1) and rewards (count, 199) of Pendulum."""
    env = gymnasium.make_vec("Pendulum-v1", num_envs=count)
    states, actions, rewards = [env.reset(seed=int(rng.integers(1 << 30)))[0]], [], []
    for _ in range(199):
        actions.append(swing_up(states[-1].astype(float), random_share, rng))
        state, reward, *_ = env.step(actions[-1].astype(np.float32))
        states.append(state)
        rewards.append(reward)
    return np.stack(states, 1), np.stack(actions, 1), np.stack(rewards, 1)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_policies_are_ranked_as_their_true_returns_are(seed: int) -> None:
    rng, gamma, shares = np.random.default_rng(seed), 0.99, (0.0, 0.25, 0.5, 0.75, 1.0)
    states, actions, rewards = (
        np.concatenate(part) for part in zip(*(play(share, 5, rng) for share in shares), strict=True)
    )
    before, after = states[:, :-1].reshape(-1, 3).astype(float), states[:, 1:].reshape(-1, 3).astype(float)
    number = np.repeat(np.arange(25), 199)
    data = Transitions(before, actions.reshape(-1, 1), rewards.ravel(), np.full(len(before), gamma), after, number)
    first, true, found = states[:, 0].astype(float), [], []
    for share in shares:
        true.append((play(share, 50, np.random.default_rng(99))[2] * gamma ** np.arange(199)).sum(1).mean())
        first_actions = np.stack([swing_up(first, share, rng) for _ in range(8)])
        found.append(fitted_q_evaluation(data, swing_up(after, share, rng), first, first_actions, rng).mean)
    assert spearmanr(true, found).statistic >= 0.8
