"""Datasets of several files: when each file is used, and the effects of a replacement."""

import numpy as np
import pytest

from agents.common.data.shards import Shard, Shards
from tests.common.data.helpers import (
    Recorder,
    all_sequences,
    assert_same_sequences,
    empty_buffer,
    loaded_buffer,
    rows_of,
)
from tests.common.toys import refuses, toy_dataset, toy_shards

INTERVAL = 4


def parts(*rows):
    """Return datasets with trajectories of 12 steps and no observation in common."""
    return [toy_dataset(count, 1, 1, seed=seed) for seed, count in enumerate(rows)]


def sharded(folder, datasets, **settings):
    buffer = empty_buffer(**settings)
    buffer.load_dataset(toy_shards(folder, *datasets, replace_interval=INTERVAL))
    return buffer


def sequences_of(buffer, replica):
    """Return the rows of every start of a replica, rounded and sorted."""
    return sorted(np.round(rows_of(all_sequences(buffer), replica), 4).tolist())


@pytest.mark.parametrize("balanced", [False, True], ids=["uniform", "balanced"])
@pytest.mark.parametrize("replicas", [1, 2])
def test_online_transitions_survive_a_swap(tmp_path, balanced, replicas):
    datasets = parts(24, 48, 12)
    settings = {"size": 6, "n_envs": 2, "replicas": replicas, "balanced": balanced}
    buffer, online = sharded(tmp_path, datasets, **settings), empty_buffer(**settings)
    recorders = Recorder(buffer), Recorder(online)
    draw = np.random.default_rng(0)
    for step in range(20):
        ends = {e: "truncated" for e in range(2) if draw.random() < 0.3}
        for recorder in recorders:
            recorder.add(ends)
        buffer.rotate_dataset(step)
        offline = loaded_buffer(datasets[step // INTERVAL % 3], **settings)
        if step < 3:
            continue  # the ring buffer does not contain a sequence yet
        for replica in range(replicas):
            expected = sequences_of(offline, replica) + sequences_of(online, replica)
            sequences = sequences_of(buffer, replica)
            # other sequences start in the dataset and continue in a ring buffer; they are not valid
            crossing = [row for row in sequences if not row[-2] and row not in expected]
            assert sequences == sorted(expected + crossing), step


# -- rejected datasets ------------------------------------------------------------------------------------------------


def test_a_bad_action_in_the_second_part_is_refused(tmp_path):
    first, second = parts(24, 24)
    buffer = loaded_buffer(first)
    second["actions"][7] = -7
    with refuses(r"1-observations\.npy cannot be used: .* row 7"):
        buffer.load_dataset(toy_shards(tmp_path, *parts(36), second))
    assert_same_sequences(buffer, loaded_buffer(first))


def test_positive_rewards_are_refused_by_a_sparse_buffer(tmp_path):
    with refuses("`sparse` expects rewards <= 0"):
        sharded(tmp_path, parts(24), sparse=True)


def test_a_part_that_ends_within_a_trajectory_is_refused(tmp_path):
    (part,) = toy_shards(tmp_path, *parts(60)).parts
    with refuses("got 2 ends"):
        empty_buffer().load_dataset(Shards([Shard(part.files, transitions=30, trajectories=2)]))


def test_a_failure_of_the_background_reading_is_not_lost(tmp_path):
    buffer = sharded(tmp_path, parts(12, 12, 12))
    ends = np.load(tmp_path / "2-terminals.npy")
    ends[5] = True
    for number in (0, 2):
        np.save(tmp_path / f"{number}-terminals.npy", ends)
    buffer.rotate_dataset(INTERVAL - 1)  # the active part is not read again
    buffer.rotate_dataset(INTERVAL)
    with refuses(r"2-terminals.npy must end 1 trajectory within 12 rows"):
        buffer.rotate_dataset(2 * INTERVAL)
    buffer.load_dataset(*parts(12))
    buffer.rotate_dataset(0)  # no longer a part
