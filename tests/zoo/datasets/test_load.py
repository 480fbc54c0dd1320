"""Loading: OGBench's layout and rewards, exactly; and refusal of what cannot be trained on."""

import dataclasses
import warnings

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from tests.zoo.datasets.conftest import NAME, TASK_1, small_arrays
from zoo.datasets import load
from zoo.datasets.download import DownloadError
from zoo.datasets.generate import generate_dataset
from zoo.datasets.load import load_dataset
from zoo.terminal.errors import UsageError

TASK_2 = TASK_1.replace("task1", "task2")
FAMILIES = [
    "pointmaze-teleport-navigate-singletask-task3-v0", "cube-single-play-singletask-task2-v0",
    "scene-play-singletask-task4-v0", "puzzle-3x3-noisy-singletask-v0",
]  # fmt: skip


def load_small(write_dataset, name=TASK_1, **settings):
    return load_dataset(name, dataset=write_dataset(), **settings)


@pytest.mark.usefixtures("in_process")
@pytest.mark.few(1)
@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_equals_ogbenchs_own_loader(name, tmp_path, monkeypatch):
    from ogbench import make_env_and_datasets

    from zoo.datasets.names import DATASETS, parse_name

    spec = dataclasses.replace(parse_name(name).spec, steps=15)
    monkeypatch.setitem(DATASETS, spec.name, spec)
    generate_dataset(spec.name, tmp_path, num_episodes=2, num_workers=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ours = load_dataset(name, dataset_dir=tmp_path)
        _, expected, _ = make_env_and_datasets(name, dataset_dir=tmp_path, compact_dataset=True)
    for key in ("observations", "rewards", "masks", "terminals"):
        assert_array_equal(ours.content.arrays[key], expected[key], err_msg=key)
    assert_array_equal(ours.content.valid, expected["valids"])
    clipped = np.clip(expected["actions"], -1 + 1e-5, 1 - 1e-5)
    assert_array_equal(ours.content.arrays["actions"], clipped)


def test_sparse_reward_is_minus_one_until_the_task_is_achieved(write_dataset, monkeypatch):
    counts = np.float32([-3, -1, 0] * 11)  # minus the number of sub-goals not reached yet
    monkeypatch.setattr(load, "relabel", lambda *_: (counts, np.float32(counts != 0.0)))
    for sparse, rewards in ((False, [-3, -1, 0]), (True, [-1, -1, 0])):
        content = load_small(write_dataset, sparse=sparse).content
        assert_array_equal(content.arrays["rewards"], rewards * 11)


@pytest.mark.parametrize(("size", "rows"), [(1, 11), (10, 11), (11, 22), (30, 33)])
def test_dataset_size_keeps_the_first_whole_trajectories(write_dataset, size, rows):
    transitions = load_small(write_dataset, dataset_size=size).content
    observations = transitions.arrays["observations"]
    assert_array_equal(observations, small_arrays()["observations"][:rows])
    assert transitions.ends[-1]
    assert observations.base is None  # a view would keep all of the file in memory


def test_each_setting_and_the_content_change_the_fingerprint(write_dataset):
    actions = small_arrays()["actions"]
    actions[0, 0] += 0.01
    fingerprints = {
        load_small(write_dataset).fingerprint,
        load_small(write_dataset, dataset_size=10).fingerprint,
        load_small(write_dataset, sparse=True).fingerprint,
        load_dataset(TASK_1.replace("-task1", ""), dataset=write_dataset()).fingerprint,
        load_dataset(TASK_1, dataset=write_dataset(actions=actions)).fingerprint,
    }
    assert len(fingerprints) == 5


def test_dataset_without_success_warns(write_dataset):
    with pytest.warns(UserWarning, match=f"no state in .*{NAME}.npz achieves the task of {TASK_2}"):
        load_small(write_dataset, TASK_2)


def refuse_download(*arguments, **settings):
    raise DownloadError("no network")


@pytest.mark.usefixtures("in_process")
@pytest.mark.filterwarnings("ignore:no state in")
def test_auto_generates_when_the_download_fails_and_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(load, "download_dataset", refuse_download)
    name = "pointmaze-medium-stitch"
    with pytest.warns(UserWarning, match=f"generating {name}-v0"):
        load_dataset(f"{name}-singletask-v0", dataset_dir=tmp_path, dataset_size=200)


@pytest.mark.parametrize(
    ("name", "second_way"),
    [
        ("antmaze-large-navigate", "generate it elsewhere"),
        ("cube-single-play", "generate it with `zoo dataset generate cube-single-play-v0 --data"),
    ],
)
def test_no_file_and_no_way_to_get_one_names_three_ways(tmp_path, monkeypatch, name, second_way):
    monkeypatch.setattr(load, "download_dataset", refuse_download)
    with pytest.raises(UsageError) as caught:
        load_dataset(f"{name}-singletask-v0", dataset_dir=tmp_path, dataset="download")
    text = str(caught.value)
    assert f"there is no dataset {name}-v0: expected {tmp_path / name}-v0.npz" in text
    assert f"`zoo dataset download {name}-v0 --dataset-dir {tmp_path}`" in text
    assert second_way in text
    assert text.endswith("the download failed: no network")


def test_one_file_of_a_large_dataset_can_be_given(write_dataset):
    # The name decides the environment; the file may be any that fits it.
    assert load_small(write_dataset, TASK_1.replace("navigate", "stitch")).num_transitions == 30


@pytest.mark.parametrize("dataset", ["somewhere", "none.npz"])
def test_data_that_are_not_there_are_refused(dataset):
    with pytest.raises(UsageError, match=dataset):
        load_dataset(TASK_1, dataset=dataset)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"observations": np.zeros((33, 5))}, "must have rows of shape (2,) as in the environment"),
        ({"actions": np.full((33, 2), 2.0)}, "`actions` must lie in [-1, 1], got 2.0 in row 0"),
    ],
)
def test_broken_file_is_refused_with_problem_and_remedy(write_dataset, changes, text):
    path = write_dataset(**changes)
    with pytest.raises(UsageError) as caught:
        load_dataset(TASK_1, dataset=path)
    assert str(caught.value).startswith(f"{path} cannot be used: ")
    assert text in str(caught.value)
    assert f"`zoo dataset download {NAME} --force --dataset-dir {path.parent}`" in str(caught.value)
