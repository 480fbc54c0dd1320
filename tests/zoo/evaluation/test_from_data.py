"""Policies judged from data alone: on held-out trajectories, and by fitted Q evaluation on chains of known values."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal

from agents.common.data.arrays import compact_transitions, read_transitions
from tests.common.toys import always_sample, tiny_model, toy_dataset
from tests.envs import SpacesEnv
from tests.zoo.datasets.samples import episodes, write_npz
from tests.zoo.envs.toys import SpringEnv
from zoo.datasets.formats.base import compact
from zoo.datasets.formats.read import read_source
from zoo.evaluation.from_data import (
    HeldOutEvaluator,
    ResampledBuffer,
    _drift,
    _estimate,
    _has_settled,
    discounted_returns,
    fitted_value,
    hold_out,
)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return read_source(write_npz(tmp_path_factory.mktemp("data"), episodes(21)))


@pytest.fixture(scope="module")
def evaluator(data):
    return HeldOutEvaluator(hold_out(data)[1], seed=0)


def test_one_trajectory_in_ten_is_held_out_and_none_is_lost(data):
    trained, judged = hold_out(data)
    assert [int(part.ends.sum()) for part in (trained, judged)] == [18, 3]


def test_an_algorithm_without_a_critic_is_scored_by_minus_its_loss(data, evaluator):
    model = tiny_model("bc", SpringEnv())
    model.load_dataset(hold_out(data)[0])
    losses = []
    for _ in range(2):
        results = evaluator.evaluate(model.policy, [0])
        losses.append(results.estimates["held_out_loss"])
        assert_array_equal(results.returns, -losses[-1][:, None])
        assert results.successes is None
        model.learn_offline(150)
    assert losses[1] < losses[0]


def test_a_dataset_in_the_compact_layout_is_judged_by_the_same_first_states(data):
    policy = tiny_model("fql", SpringEnv()).policy
    compacted = compact_transitions(compact(data))
    judged = [HeldOutEvaluator(part, seed=0).evaluate(policy, [0]) for part in (data, compacted)]
    assert_array_equal(judged[0].returns, judged[1].returns)


@pytest.mark.parametrize("chunk", [1, 2])
def test_a_critic_rates_the_first_states_of_held_out_trajectories(evaluator, chunk):
    policy = tiny_model("fql", SpringEnv(), horizon_length=chunk, action_chunking=chunk > 1).policy
    with torch.no_grad():
        for parameter in policy.nets.critic.parameters():
            parameter.zero_()
    results = evaluator.evaluate(policy, [0])
    assert results.returns.shape == (1, 3)
    assert_array_equal(results.returns, 0)
    assert results.estimates["q_data"] == results.estimates["q_policy"] == 0
    assert results.estimates["held_out_td_loss"] > 0


def test_a_replica_is_judged_as_it_would_be_alone(evaluator):
    model = tiny_model("fql", SpringEnv(), seeds=[3, 4])
    together = evaluator.evaluate(model.policy, [3, 4])
    alone = evaluator.evaluate(model.replica(1).policy, [4])
    np.testing.assert_allclose(together.returns[1], alone.returns[0], rtol=1e-5)
    for name, values in together.estimates.items():
        np.testing.assert_allclose(values[1], alone.estimates[name][0], rtol=1e-4, err_msg=name)


def test_a_replica_that_diverged_or_rests_is_not_judged(evaluator):
    policy = tiny_model("fql", SpringEnv(), seeds=[3, 4, 5]).policy
    with torch.no_grad():
        next(iter(policy.nets.critic.parameters()))[1].fill_(torch.nan)
    results = evaluator.evaluate(policy, [3, 4, 5], active=[0, 1])
    assert results.played.tolist() == [True, False, False]
    assert not results.returns[1:].any()


def test_training_goes_on_with_the_same_numbers_after_it(data, evaluator):
    def train(is_judged):
        model = tiny_model("fql", SpringEnv(), seed=0)
        model.load_dataset(hold_out(data)[0])
        for _ in range(2):
            model.learn_offline(2)
            if is_judged:
                evaluator.evaluate(model.policy, [0])
        return model.policy.state_dict()

    for name, value in train(is_judged=False).items():
        torch.testing.assert_close(value, train(is_judged=True)[name], rtol=0, atol=0)


# -- fitted Q evaluation -----------------------------------------------------------------------------------------------

SMALL = {"net_arch": [16, 16], "batch_size": 16, "compile": "off"}


def content(rows=60, **changes):
    return read_transitions(toy_dataset(rows) | changes, (4,), 2)


def test_each_replica_draws_from_trajectories_of_its_own_none_of_them_held_out():
    env = SpacesEnv(4, 2)
    buffer = ResampledBuffer(
        1, env.observation_space, env.action_space, device="cpu", horizon_length=3, replicas=3
    )
    buffer.load_dataset(content(240))  # 20 trajectories of 12 steps
    buffer.resample(seed=0)
    rows = buffer.draw_rows((3, 500), torch.Generator().manual_seed(0))
    assert rows.shape == (3, 500, 3)
    assert (rows[..., 0] // 12 == rows[..., -1] // 12).all()
    drawn = [set((replica[:, 0] // 12).tolist()) for replica in rows]
    assert drawn[0] != drawn[1] != drawn[2]
    held_out = set((buffer.held_out_starts // 12).tolist())
    assert held_out == {0, 10}
    for trajectories in drawn:
        # of 18 trajectories drawn with replacement, about two in three are there
        assert 8 <= len(trajectories) <= 15
        assert not trajectories & held_out


def test_numbers_follow_the_seed():
    policy = tiny_model("fql", horizon_length=1).policy
    first, again, other = (
        fitted_value(policy, content(), steps=4, seed=seed, **SMALL) for seed in (0, 0, 1)
    )
    assert first == again
    assert first.policy.critics != other.policy.critics
    assert len(first.policy.critics) == 5
    assert first.behaviour_from == "fitted"


def test_the_behaviour_is_worth_its_returns_where_all_trajectories_terminate():
    policy = tiny_model("fql", horizon_length=1, gamma=0.9).policy
    masks = 1 - toy_dataset()["terminals"]
    data = content(masks=masks)
    fitted = fitted_value(policy, data, steps=2, **SMALL)
    expected = toy_dataset()["rewards"].reshape(5, 12) @ 0.9 ** np.arange(12)
    np.testing.assert_allclose(discounted_returns(data, 0.9), expected, rtol=1e-6)
    assert fitted.behaviour.value == pytest.approx(expected.mean())
    assert fitted.behaviour.interval[0] < expected.mean() < fitted.behaviour.interval[1]
    assert fitted.behaviour_from == "returns"
    assert fitted.behaviour.critics == []
    assert fitted.behaviour.drift == 0


@pytest.mark.parametrize("settings", [{}, {"played_actions": 2}, {"observation_scale": 1.0}])
def test_rewards_of_any_size_are_worth_their_geometric_series(monkeypatch, settings):
    model = tiny_model("qam", horizon_length=3, gamma=0.5, **settings)
    arrays = toy_dataset(600)
    model.load_dataset(arrays)
    always_sample(monkeypatch, model.policy, torch.full((6,), 0.2))
    data = content(600, rewards=arrays["rewards"] * 0 - 500, masks=arrays["masks"] * 0 + 1)
    fitted = fitted_value(
        model.policy, data, steps=200, learning_rate=3e-3, tau=0.2, **{**SMALL, "batch_size": 64}
    )
    for estimate in (fitted.policy, fitted.behaviour):
        assert estimate.value == pytest.approx(-1000, rel=0.05)
        # in the first round it came from zero, and nothing says that it will stay
        low, high = estimate.interval
        assert estimate.drift == pytest.approx(-estimate.value)
        assert low < estimate.value - estimate.drift < estimate.value + estimate.drift < high


def test_critics_learn_rewards_in_units_of_their_root_mean_square(monkeypatch):
    buffers = []
    resample = ResampledBuffer.resample

    def remember(buffer, seed):
        buffers.append(buffer)
        resample(buffer, seed)

    monkeypatch.setattr(ResampledBuffer, "resample", remember)
    rewards = 1000 * toy_dataset()["rewards"]
    policy = tiny_model("fql", horizon_length=1).policy
    fitted_value(policy, content(rewards=rewards), steps=1, **SMALL)
    learnt = buffers[0].rewards[: len(rewards)].flatten().numpy()
    np.testing.assert_allclose(learnt, rewards / np.sqrt(np.mean(rewards**2)), rtol=1e-6)


@pytest.mark.parametrize("spread", [0.1, 1.0])
def test_the_interval_covers_the_truth_in_95_of_100_cases(spread):
    generator = np.random.default_rng(0)
    hits = 0
    for seed in range(400):
        states = generator.standard_normal(50)
        error = spread * generator.standard_normal()
        critics = error + spread * generator.standard_normal((5, 1))
        low, high = _estimate(states + critics, seed).interval
        hits += low <= 0 <= high
    assert 0.92 <= hits / 400 <= 0.98


@pytest.mark.parametrize(
    ("errors", "means", "settled"),
    [
        ([1, 1, 1, 1], [9, 9, 9, 9], False),  # too few rounds
        ([1, 1, 1, 1, 1], [9, 9, 9, 9, 9], True),
        ([1, 1, 1, 1, 0.9], [9, 9, 9, 9, 9], False),
        ([1, 2, 3, 4, 5], [1, 2, 3, 4, 5], False),  # the error rises while values grow
        ([1, 2, 3, 4, 5, 5, 5, 5, 5], [1, 2, 3, 4, 5, 5, 5, 5, 5], True),
        ([1, 1, 1, 1, 1], [9, 9.2, 9, 9.2, 9], True),  # less than a quarter of the spread
    ],
)
def test_training_ends_once_neither_error_nor_value_moves(errors, means, settled):
    assert _has_settled(errors, means, spread=1.0) == settled


def test_the_drift_is_how_far_a_value_moved_in_the_last_rounds():
    assert _drift([0, 9]) == 9
    assert _drift([0, 5, 8, 7, 9, 8.5]) == 4


STATES, GAMMA, ACTION = 5, 0.9, 0.3


def chain(seed, trajectories=60):
    """Return transitions of a chain whose states are gone through by chance, the likelier the larger the action."""
    draw = np.random.default_rng(seed)
    arrays = {name: [] for name in toy_dataset()}
    one_hot = np.eye(STATES, dtype=np.float32)
    for _ in range(trajectories):
        state = int(draw.integers(STATES))
        for step in range(40):
            action = draw.uniform(-1, 1)
            reward = state + action + draw.normal()
            following = state + (draw.random() < 0.5 + 0.4 * action)
            arrays["observations"].append(one_hot[state])
            arrays["next_observations"].append(one_hot[min(following, STATES - 1)])
            arrays["actions"].append([action])
            arrays["rewards"].append(reward)
            arrays["masks"].append(following < STATES)
            arrays["terminals"].append(following == STATES or step == 39)
            state = following
            if arrays["terminals"][-1]:
                break
    return read_transitions({name: np.array(x) for name, x in arrays.items()}, (STATES,), 1)


def value_of_chain():
    """Return the mean value over first states of always doing `ACTION`, by Bellman's equation from the end on."""
    values = np.zeros(STATES + 1)
    chance = 0.5 + 0.4 * ACTION
    for state in reversed(range(STATES)):
        reward = state + ACTION
        values[state] = (reward + GAMMA * chance * values[state + 1]) / (1 - GAMMA * (1 - chance))
    return values[:STATES].mean()


@pytest.mark.slow
def test_intervals_cover_the_known_value_of_a_chain(monkeypatch):
    policy = tiny_model("rebrac", SpacesEnv(STATES, 1), horizon_length=1, gamma=GAMMA).policy
    always_sample(monkeypatch, policy, torch.tensor([ACTION]))
    settings = {"net_arch": [32, 32], "batch_size": 64, "learning_rate": 1e-3, "tau": 0.1}
    hits = 0
    for seed in range(100):
        data = chain(seed)
        fitted = fitted_value(policy, data, steps=500, seed=seed, compile="off", **settings)
        low, high = fitted.policy.interval
        # one round, in which the value came from zero
        drift = fitted.policy.drift
        hits += low + drift <= value_of_chain() <= high - drift
    assert 90 <= hits <= 99


def test_a_policy_that_plans_nan_is_an_error():
    policy = tiny_model("fql", horizon_length=1).policy
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.fill_(torch.nan)
    with pytest.raises(ArithmeticError, match="fitted Q evaluation must stay finite"):
        fitted_value(policy, content(), steps=4, **SMALL)
