"""Policies evaluated on held-out trajectories."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal

from agents.common.data.arrays import compact_transitions
from tests.common.toys import tiny_model
from tests.zoo.datasets.samples import episodes, write_npz
from tests.zoo.envs.toys import SpringEnv
from zoo.datasets.formats.base import compact
from zoo.datasets.formats.read import read_source
from zoo.evaluation.from_data import HeldOutEvaluator, hold_out


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
