"""Losses on held-out trajectories."""

import numpy as np
import pytest
import torch

from tests.common.data.helpers import all_sequences
from tests.common.toys import tiny_model
from tests.zoo.datasets.samples import episodes, write_npz
from tests.zoo.envs.toys import SpringEnv
from zoo.datasets.formats.read import read_source
from zoo.evaluation.evaluator import hold_out


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return read_source(write_npz(tmp_path_factory.mktemp("data"), episodes(21)))


@pytest.fixture(scope="module")
def held_out(data):
    return hold_out(data, seed=0)[1]


def test_one_trajectory_in_ten_is_held_out_and_none_is_lost(data):
    trained, held_out = hold_out(data, seed=0)
    assert [int(part.ends.sum()) for part in (trained, held_out._data)] == [18, 3]


def test_held_out_losses_fall_with_training(data, held_out):
    model = tiny_model("bc", SpringEnv())
    model.load_dataset(hold_out(data, seed=0)[0])
    old_loss = held_out.losses(model.policy)["held_out_loss"]
    model.learn_offline(150)
    assert held_out.losses(model.policy)["held_out_loss"] < old_loss


def test_held_out_sequences_are_those_of_training(held_out):
    model = tiny_model(
        "fql",
        SpringEnv(),
        horizon_length=3,
        action_chunking=False,
        shorten_returns=True,
        sparse=True,
    )
    model.load_dataset(held_out._data)
    every = all_sequences(model.replay_buffer)
    batch = held_out.draw(model.policy)
    same = (batch.observations[0, :, None] == every.observations[0]).all(-1)
    for name in ("rewards", "discounts", "valid"):
        assert torch.equal(getattr(every, name)[0][same.float().argmax(1)], getattr(batch, name)[0])
    assert batch.discounts.unique().numel() > 1


def test_a_replica_has_the_losses_that_it_would_have_alone(held_out):
    model = tiny_model("fql", SpringEnv(), seeds=[3, 4])
    together = held_out.losses(model.policy)
    alone = held_out.losses(model.replica(1).policy)
    assert "held_out_td_loss" in together
    for name, values in together.items():
        np.testing.assert_allclose(values[1], alone[name][0], rtol=1e-4, err_msg=name)


def test_training_continues_with_the_same_numbers_after_it(data, held_out):
    def train(is_tested):
        model = tiny_model("fql", SpringEnv(), seed=0)
        model.load_dataset(hold_out(data, seed=0)[0])
        for _ in range(2):
            model.learn_offline(2)
            if is_tested:
                held_out.losses(model.policy)
        return model.policy.state_dict()

    for name, value in train(is_tested=False).items():
        torch.testing.assert_close(value, train(is_tested=True)[name], rtol=0, atol=0)
