"""Episodes of the scripted oracles: OGBench's format; only the seed decides them."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from zoo.datasets.generate import ManipulationWriter, MazeWriter, OracleWriter
from zoo.datasets.names import DATASETS
from zoo.envs.tasks import TASKS

MANIPULATION = [
    "cube-single-noisy-v0", "cube-double-play-v0", "cube-octuple-play-v0", "scene-play-v0", "scene-noisy-v0",
    "puzzle-3x3-play-v0", "puzzle-4x6-noisy-v0",
]  # fmt: skip
OCBENCH = [
    "switch-cpu-lite-3x3-task1-v0", "hanoi-cpu-lite-single-task1-v0", "chamber-cpu-lite-easy-task1-v0",
    "bowling-cpu-task1-v0",
]  # fmt: skip


def make_writer(name, seed, steps):
    if name in TASKS:
        pytest.importorskip("ocbench", reason="needs OCBench")
        return OracleWriter(name, seed)
    kind = MazeWriter if name.startswith("pointmaze") else ManipulationWriter
    return kind(replace(DATASETS[name], steps=steps), seed)


@pytest.mark.few(2)
@pytest.mark.parametrize(
    "name", ["pointmaze-giant-stitch-v0", "block-cpu-lite-single-task1-v0", *MANIPULATION, *OCBENCH]
)
def test_episode_depends_on_its_number_only_and_leaves_the_global_generator(name):
    state = np.random.get_state()[1].copy()
    writer = make_writer(name, seed=5, steps=60)
    for _ in range(2):
        writer.collect("train", 0)
    arrays = writer.collect("train", 2)
    expected = make_writer(name, seed=5, steps=60).collect("train", 2)
    assert list(arrays) == list(expected)
    for key, array in arrays.items():
        assert_array_equal(array, expected[key], err_msg=key)
    assert_array_equal(np.random.get_state()[1], state)
    if name in TASKS:
        assert arrays.keys() == {"observations", "actions", "rewards", "masks", "terminals"}
        assert len(arrays["actions"]) + 1 == len(arrays["observations"]) <= TASKS[name].steps + 1


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
