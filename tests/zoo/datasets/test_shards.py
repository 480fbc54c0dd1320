"""Datasets of several files: converted once, completely or not at all, with the content of the single files."""

import json
import shutil

import numpy as np
import pytest
import torch
from gymnasium import spaces

from agents.common.data.buffer import SequenceReplayBuffer
from tests.zoo.datasets.conftest import NAME, TASK_1, write_shard
from tests.zoo.outcomes import refuses
from zoo.datasets import load
from zoo.datasets.load import ARRAYS, find_converted, load_dataset, shard_names
from zoo.datasets.names import DATASETS
from zoo.datasets.ogbench import relabel

SPEC = DATASETS[NAME]

pytestmark = pytest.mark.filterwarnings("ignore:no state in:UserWarning")


@pytest.fixture
def folder(tmp_path):
    """A dataset of three files with different numbers of transitions, and validation files."""
    folder = tmp_path / "set"
    for number, episodes in enumerate((3, 5, 2)):
        validation = write_shard(folder, number, 1)
        validation.rename(validation.with_stem(f"{validation.stem}-val"))
        write_shard(folder, number, episodes)
    return folder


def load_all(folder, name=TASK_1, **settings):
    return load_dataset(name, dataset=folder, **settings)


def buffer_of(content):
    box = spaces.Box(-np.inf, np.inf, (2,), np.float32), spaces.Box(-1, 1, (2,), np.float32)
    buffer = SequenceReplayBuffer(4, *box, "cpu", horizon_length=3)
    buffer.load_dataset(content)
    return buffer


# -- content ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("task", "sparse"), [("1", False), ("1", True), ("4", False)])
def test_each_part_equals_its_file_loaded_alone(folder, task, sparse):
    name = TASK_1.replace("task1", f"task{task}")
    together = buffer_of(load_all(folder, name, replace_interval=1, sparse=sparse).content)
    for number in range(3):
        together.rotate_dataset(number)
        file = folder / f"{NAME}-{number:03d}.npz"
        alone = buffer_of(load_dataset(name, dataset=file, sparse=sparse).content)
        rows = torch.arange(alone.count_starts()).view(1, -1, 1) + torch.arange(3)
        for key, value in vars(alone._get_samples(rows)).items():
            assert torch.equal(getattr(together._get_samples(rows), key), value), (number, key)


@pytest.mark.parametrize(
    ("size", "transitions"),
    [(1, [10]), (31, [30, 10]), (40, [30, 10]), (80, [30, 50]), (100, [30, 50, 20])],
)
def test_size_takes_first_files_and_cuts_last_behind_trajectory(folder, size, transitions):
    dataset = load_all(folder, dataset_size=size)
    parts = dataset.content.parts
    assert [(part.transitions, part.trajectories) for part in parts] == [
        (count, count // 10) for count in transitions
    ]
    assert dataset.content.num_transitions == sum(transitions)
    with refuses("`--dataset-size` must be at most 100"):
        load_all(folder, dataset_size=101)
    buffer = buffer_of(dataset.content)
    for updates in range(0, 3000, 1000):
        buffer.rotate_dataset(updates)
        assert bool(buffer.dones[buffer.dataset_size - 1])


# -- converting once --------------------------------------------------------------------------------------------------


def test_what_is_converted_is_not_read_again(folder, monkeypatch):
    first = load_all(folder)
    monkeypatch.setattr(load, "read_arrays", lambda *_: pytest.fail("read again"))
    assert load_all(folder) == first
    for path in folder.glob("*.npz"):
        path.unlink()
    assert load_all(folder) == first


def test_a_file_that_a_killed_process_left_is_no_part(folder):
    shutil.copy(next(folder.glob("*.npz")), folder / ".left.1f.npz")
    (folder / ARRAYS).mkdir()
    (folder / ARRAYS / ".DS_Store").touch()  # left by macOS's Finder
    assert len(load_all(folder).content.parts) == 3


def test_a_file_that_changed_is_converted_again(folder):
    load_all(folder)
    write_shard(folder, 1, episodes=7)
    assert [part.transitions for part in load_all(folder).content.parts] == [30, 70, 20]


def recorded(**values):
    """Return a function that changes entries in the record of a converted file."""

    def change(folder):
        record = json.loads((folder / "shard.json").read_text())
        (folder / "shard.json").write_text(json.dumps(record | values))

    return change


def shortened(folder):
    path = folder / "rewards-task3.npy"
    path.write_bytes(path.read_bytes()[:-1])


@pytest.mark.parametrize("damage", [
    recorded(ogbench="0.9"), recorded(environment="pointmaze-large"), recorded(unknown=1), shortened,
    lambda folder: (folder / "rewards-task3.npy").unlink(),
])  # fmt: skip
def test_arrays_of_another_making_or_not_whole_are_made_again(folder, damage):
    loaded, arrays = load_all(folder), folder / ARRAYS / f"{NAME}-001"
    content = (arrays / "rewards-task3.npy").read_bytes()
    damage(arrays)
    assert find_converted(folder, arrays.name, SPEC) is None
    assert load_all(folder) == loaded
    assert (arrays / "rewards-task3.npy").read_bytes() == content


@pytest.mark.parametrize("number", [1, 2])
def test_a_stopped_conversion_keeps_what_is_done_and_goes_on(folder, monkeypatch, number):
    labelled = []

    def label(arrays, env):
        if len(labelled) == last:
            raise KeyboardInterrupt
        labelled.append(env)
        return relabel(arrays, env)

    monkeypatch.setattr(load, "relabel", label)
    last = 5 * number + 2  # inside a file, when some of its arrays have been written
    with pytest.raises(KeyboardInterrupt):
        load_all(folder)
    converted = [find_converted(folder, name, SPEC) is not None for name in shard_names(folder)]
    assert converted == [k < number for k in range(3)]
    # left by a process that was killed before the rename
    shutil.copytree(folder / ARRAYS / f"{NAME}-000", folder / ARRAYS / ".whole")
    last = None
    labelled.clear()
    assert load_all(folder).content.num_transitions == 100
    assert len(labelled) == 5 * (3 - number)
    assert sorted(path.name for path in (folder / ARRAYS).iterdir()) == shard_names(folder)


# -- rejected datasets ------------------------------------------------------------------------------------------------


def test_a_broken_file_is_refused_by_its_name(folder):
    (folder / f"{NAME}-002.npz").write_bytes(b"no archive")
    with refuses(rf"{NAME}-002.npz cannot be used: File is not a zip file"):
        load_all(folder)
