"""Episodes of the scripted oracles: OGBench's format, settings and statistics; only the seed decides them."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from zoo.datasets.generate import ManipulationWriter, MazeWriter
from zoo.datasets.names import DATASETS

MANIPULATION = [
    "cube-single-noisy-v0", "cube-double-play-v0", "cube-octuple-play-v0", "scene-play-v0", "scene-noisy-v0",
    "puzzle-3x3-play-v0", "puzzle-4x6-noisy-v0",
]  # fmt: skip


def make_writer(name, seed, steps):
    kind = MazeWriter if name.startswith("pointmaze") else ManipulationWriter
    return kind(replace(DATASETS[name], steps=steps), seed)


@pytest.mark.few(1)
@pytest.mark.parametrize("name", ["pointmaze-giant-stitch-v0", *MANIPULATION])
def test_episode_depends_on_its_number_only(name):
    writer = make_writer(name, seed=5, steps=60)
    for _ in range(2):
        writer.collect("train", 0)
    arrays = writer.collect("train", 2)
    expected = make_writer(name, seed=5, steps=60).collect("train", 2)
    assert list(arrays) == list(expected)
    for key, array in arrays.items():
        assert_array_equal(array, expected[key], err_msg=key)


@pytest.mark.few(1)
@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("pointmaze-medium-navigate-v0", {"observations": 2, "actions": 2, "qpos": 2, "qvel": 2}),
        ("cube-single-play-v0", {"observations": 28, "actions": 5, "qpos": 21, "qvel": 20}),
        ("scene-play-v0", {"observations": 40, "actions": 5, "qpos": 25, "qvel": 24}),
    ],
)
def test_arrays_are_those_of_ogbenchs_files(name, sizes):
    episode = make_writer(name, seed=0, steps=20).collect("train", 0)
    assert_array_equal(episode.pop("terminals"), [False] * 20 + [True])
    if "scene" in name:
        buttons = episode.pop("button_states")
        assert (buttons.shape, buttons.dtype) == ((21, 2), np.int64)
    assert {key: array.shape for key, array in episode.items()} == {
        key: (21, size) for key, size in sizes.items()
    }
    assert {array.dtype for array in episode.values()} == {np.dtype(np.float32)}
    row_bytes = sum(4 * size for size in sizes.values()) + 1
    assert DATASETS[name].array_bytes == row_bytes * 1100 * 1001  # with those for validation


@pytest.mark.parametrize("which", [(1, "train", 0), (0, "val", 0), (0, "train", 1)])
def test_seed_split_and_number_each_give_another_episode(which):
    def actions(seed, split, number):
        writer = make_writer("pointmaze-medium-navigate-v0", seed, steps=5)
        return writer.collect(split, number)["actions"]

    assert not np.array_equal(actions(*which), actions(0, "train", 0))


def test_point_maze_moves_like_ogbenchs_own_data():
    # Reference: 100 episodes of OGBench 1.2.2's generator. Tolerances: four standard errors of a mean over 6 episodes.
    writer = make_writer("pointmaze-medium-navigate-v0", seed=0, steps=1000)
    episodes = [writer.collect("train", k) for k in range(6)]
    actions = np.concatenate([episode["actions"] for episode in episodes])
    assert (np.abs(actions) >= 1.0).mean() == pytest.approx(0.2743, abs=0.015)
    assert_allclose(actions.std(axis=0), [0.706, 0.699], atol=0.038)
    moves = np.concatenate([np.diff(episode["qpos"], axis=0) for episode in episodes])
    assert np.abs(moves).mean() == pytest.approx(0.1231, abs=0.0025)
    cells = [np.floor((episode["qpos"] + 6.0) / 4.0) for episode in episodes]
    changes = [np.any(np.diff(cell, axis=0) != 0, axis=1).sum() for cell in cells]
    assert np.mean(changes) == pytest.approx(54.4, abs=16.0)
