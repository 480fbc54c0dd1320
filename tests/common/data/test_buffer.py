"""The sequence buffer; `tests/fuzz/test_sampling.py` compares sampled sequences with their definition."""

import numpy as np
import pytest
from scipy.stats import chisquare

from tests.common.data.helpers import (
    Recorder,
    assert_same_sequences,
    compacted,
    empty_buffer,
    loaded_buffer,
)
from tests.common.toys import refuses, seeded, tiny_model, toy_dataset

# -- datasets ---------------------------------------------------------------------------------------------------------


def test_array_of_the_wrong_shape_is_named():
    dataset = {**toy_dataset(20), "actions": np.zeros((20, 3), np.float32)}
    with refuses(r"`actions` must have shape \(20, 2\), got shape \(20, 3\)"):
        empty_buffer(observations=4, actions=2).load_dataset(dataset)


@pytest.mark.parametrize("layout", [dict, compacted])
@pytest.mark.parametrize("value", [np.nan, -np.inf])
@pytest.mark.parametrize("name", ["observations", "actions", "rewards"])
def test_dataset_with_a_value_that_is_not_finite_is_refused(name, value, layout):
    dataset = toy_dataset(36)
    dataset[name][[7, 20]] = value
    if name == "observations":
        dataset["next_observations"][6] = value  # equals observation 7
    with refuses(f"`{name}` must hold finite float32 numbers, got {value} in row 7;"):
        loaded_buffer(layout(dataset))


def test_refused_dataset_leaves_the_buffer_as_it_was():
    dataset = toy_dataset(36)
    buffer, untouched = loaded_buffer(dataset), loaded_buffer(dataset)
    rewards = np.full(60, np.nan, np.float32)
    with refuses("`rewards` must hold finite float32 numbers"):
        buffer.load_dataset({**toy_dataset(60, seed=1), "rewards": rewards})
    assert_same_sequences(buffer, untouched)


def test_dataset_after_online_transitions_is_refused():
    buffer = empty_buffer()
    Recorder(buffer).add()
    with refuses("a dataset must be loaded"):
        buffer.load_dataset(toy_dataset(20, 1, 1))


# -- online transitions -----------------------------------------------------------------------------------------------


def test_positive_rewards_are_not_made_sparse():
    with refuses(r"`sparse` expects rewards <= 0, got 0\.5"):
        Recorder(empty_buffer(sparse=True)).add(reward=0.5)


def test_environments_that_do_not_divide_are_refused():
    with refuses("4 environments for 3 seeds"):
        empty_buffer(n_envs=4, replicas=3)


# -- sampling ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("added", [0, 5, 30])
def test_starts_are_uniform_over_dataset_and_rings(added):
    buffer = loaded_buffer(toy_dataset(40, 1, 1), size=10, n_envs=2)
    recorder = Recorder(buffer)
    for _ in range(added):
        recorder.add()
    rows = buffer.draw_rows((1, 40_000), seeded())
    _, counts = rows[..., 0].unique(return_counts=True)
    assert len(counts) == buffer.count_starts()
    assert chisquare(counts).pvalue > 1e-3


def test_half_of_each_online_batch_of_rlpd_is_from_the_dataset():
    assert tiny_model("rlpd").replay_buffer.balanced
