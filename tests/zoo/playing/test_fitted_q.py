"""Fitted Q evaluation: a chain whose values have a closed form, and an interval that says what it does not know."""

import gymnasium
import numpy as np
import pytest
from scipy.stats import spearmanr

from zoo.playing.held_out import EvaluationData, fitted_q_evaluation

GAMMA, STATES = 0.9, 5


def chain(rng, trajectories, noise=0.0):
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
    return EvaluationData(*columns[:5], columns[5].astype(int))


def exact_value(right):
    """Return the value of the first state if every step goes right with this probability: (I - gamma P)^-1 r."""
    transition = np.zeros((STATES - 1, STATES - 1))
    for state in range(STATES - 1):
        transition[state, max(state - 1, 0)] += 1 - right
        if state < STATES - 2:
            transition[state, state + 1] += right
    return float(np.linalg.solve(np.eye(STATES - 1) - GAMMA * transition, -np.ones(STATES - 1))[0])


@pytest.mark.parametrize("right", [1.0, 0.25])
def test_values_of_a_chain_are_those_of_the_closed_form(right):
    rng = np.random.default_rng(0)
    data = chain(rng, 200)

    def act(count):
        return np.where(rng.random((count, 1)) < right, 1.0, -1.0)

    first = np.tile(np.eye(STATES)[0], (200, 1))
    found = fitted_q_evaluation(data, act(len(data.states)), first, act(64 * 200).reshape(64, 200, 1), rng)
    assert found.values.mean() == pytest.approx(exact_value(right), abs=0.25)
    assert found.low - 0.25 <= exact_value(right) <= found.high + 0.25


def test_each_first_state_has_the_values_of_its_own_actions():
    rng = np.random.default_rng(0)
    data = chain(rng, 200)
    first = np.tile(np.eye(STATES)[[0, STATES - 2]], (100, 1))  # four steps from the end, and one
    found = fitted_q_evaluation(data, np.ones((len(data.states), 1)), first, np.ones((2, 200, 1)), rng)
    assert found.values[::2] == pytest.approx(exact_value(1.0), abs=0.25)
    assert found.values[1::2] == pytest.approx(-1.0, abs=0.25)


def test_the_interval_is_wider_where_there_are_fewer_trajectories():
    rng, widths = np.random.default_rng(0), []
    for count in (5, 80):
        data = chain(rng, count, noise=1.0)
        first = np.tile(np.eye(STATES)[0], (count, 1))
        found = fitted_q_evaluation(data, np.ones((len(data.states), 1)), first, np.ones((1, count, 1)), rng)
        widths.append(found.high - found.low)
    assert widths[0] > 2 * widths[1] > 0


def swing_up(states, random_share, rng):
    """Return torques of Pendulum: pump energy below, hold the pole above, and now and then anything."""
    cosine, sine, speed = states.astype(float).T
    pump = np.sign(speed + 1e-9) * 2 * np.clip(5 - speed**2 / 6 - 5 * cosine, -2, 2)
    skilled = np.clip(np.where(cosine > 0.85, -12 * np.arctan2(sine, cosine) - 3 * speed, pump), -2, 2)
    return np.where(rng.random(len(states)) < random_share, rng.uniform(-2, 2, len(states)), skilled)[:, None]


def play(random_share, count, rng):
    """Return states (count, 199, 3), actions, rewards and next states."""
    env = gymnasium.make_vec("Pendulum-v1", num_envs=count)
    state, rows = env.reset(seed=int(rng.integers(1 << 30)))[0], []
    for _ in range(199):
        action = swing_up(state, random_share, rng)
        after, reward, *_ = env.step(action.astype(np.float32))
        rows.append((state, action, reward, after))
        state = after
    return [np.stack(column, 1) for column in zip(*rows, strict=True)]


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_policies_are_ranked_as_their_true_returns_are(seed):
    rng, gamma, shares = np.random.default_rng(seed), 0.99, (0.0, 0.25, 0.5, 0.75, 1.0)
    parts = [np.concatenate(part) for part in zip(*(play(share, 5, rng) for share in shares), strict=True)]
    states, actions, rewards, after = (part.reshape(25 * 199, *part.shape[2:]) for part in parts)
    data = EvaluationData(states, actions, rewards, np.full(len(rewards), gamma), after, np.repeat(np.arange(25), 199))
    first, true, found = parts[0][:, 0], [], []
    for share in shares:
        true.append((play(share, 50, np.random.default_rng(99))[2] @ gamma ** np.arange(199)).mean())
        first_actions = np.stack([swing_up(first, share, rng) for _ in range(8)])
        found.append(fitted_q_evaluation(data, swing_up(after, share, rng), first, first_actions, rng).values.mean())
    assert spearmanr(true, found).statistic >= 0.8
