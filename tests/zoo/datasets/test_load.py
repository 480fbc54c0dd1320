"""OGBench's files, with states or images: invalid files are rejected, valid files are loaded as by OGBench."""

import dataclasses
import warnings

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from tests.zoo.datasets.conftest import NAME, TASK_1, small_arrays
from tests.zoo.outcomes import refuses
from zoo.datasets import load
from zoo.datasets.files import checksum_file
from zoo.datasets.generate import generate_dataset
from zoo.datasets.load import load_dataset
from zoo.datasets.names import DATASETS, parse_name
from zoo.datasets.ogbench import (
    check_dataset,
    check_headers,
    check_values,
)
from zoo.terminal.errors import UsageError

SPEC = DATASETS[NAME]
ROWS = 33


@pytest.mark.parametrize(
    ("name", "changes", "array"),
    [
        (NAME, {"qpos": None}, "qpos"),
        (NAME, {"actions": np.full((ROWS, 2), None)}, "actions"),  # pickled: never loaded
        ("scene-play-v0", {}, "button_states"),  # an array needed to label the tasks
        (
            "visual-cube-single-play-v0",
            {"observations": np.zeros((ROWS, 64, 64, 3))},
            "observations",
        ),
    ],
)
def test_array_that_headers_show_to_be_wrong_is_refused(write_dataset, name, changes, array):
    with refuses(f"`{array}`"):
        check_headers(write_dataset(**changes), DATASETS[name])


@pytest.mark.parametrize(
    ("array", "row", "value", "named"),
    [
        ("observations", 7, np.nan, "row 7"),
        ("terminals", 4, 0.5, "must hold 0 or 1"),
        ("terminals", 11, 1, "a trajectory with 1"),  # a trajectory with one row
        ("terminals", -1, 0, "got 0 in the last row"),
    ],
)
def test_value_that_is_wrong_is_refused_with_its_row(array, row, value, named):
    arrays = small_arrays()
    arrays[array] = arrays[array].astype(np.float32)
    arrays[array][row] = value
    with refuses(f"{array}.*{named}"):
        check_values(arrays)


def test_a_file_that_changed_after_its_checksum_is_found(write_dataset):
    path = write_dataset()
    checksum_file(path).write_text(f"{'0' * 64}  {path.name}\n")
    with refuses(f"{NAME}.npz cannot be used: its sha256 is .*, but {'0' * 64}"):
        check_dataset(path, SPEC)


def test_unsolved_tasks_are_a_warning(write_dataset):
    # the data are within x, y in [0, 8], except for three rows at (20, 20)
    with pytest.warns(UserWarning, match="no state achieves task 2, "):
        check_dataset(write_dataset(), SPEC)


# -- loading -----------------------------------------------------------------------------------------------------------


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

    spec = dataclasses.replace(parse_name(name).spec, steps=15)
    monkeypatch.setitem(DATASETS, spec.name, spec)
    generate_dataset(spec.name, tmp_path, dataset_size=30)
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
    counts = np.float32([-3, -1, 0] * 11)  # minus the number of open sub-goals
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
    assert observations.base is None  # a view would keep the whole file in memory


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
    raise UsageError("no network")


@pytest.mark.usefixtures("in_process")
@pytest.mark.filterwarnings("ignore:no state in")
def test_auto_generates_when_the_download_fails_and_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(load, "download_dataset", refuse_download)
    name = "pointmaze-medium-stitch"
    with pytest.warns(UserWarning, match=f"generating {name}-v0"):
        load_dataset(f"{name}-singletask-v0", dataset_dir=tmp_path, dataset_size=200)


def test_no_file_and_no_way_to_get_one_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(load, "download_dataset", refuse_download)
    for name in ("antmaze-large-navigate", "cube-single-play"):
        with refuses("no network"):
            load_dataset(f"{name}-singletask-v0", dataset_dir=tmp_path, dataset="download")
    with refuses("antmaze-large-navigate-v0.npz, which `--dataset generate` cannot create"):
        load_dataset(
            "antmaze-large-navigate-singletask-v0", dataset_dir=tmp_path, dataset="generate"
        )


@pytest.mark.parametrize("path", ["none.npz", "/dev/null"])
def test_data_that_are_not_there_are_refused(path):
    with refuses(f"must be auto, .*got '{path}'"):
        load_dataset(TASK_1, dataset=path)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"observations": np.zeros((3, 2))}, "`actions` must be numbers"),
        ({"qpos": np.zeros((33, 15))}, "`qpos` must have 2 columns as in pointmaze-medium-sing"),
        ({"actions": np.full((33, 2), 2.0)}, "`actions` must lie in [-1, 1], got 2.0 in row 0"),
    ],
)
def test_broken_file_is_refused_with_problem_and_remedy(write_dataset, changes, text):
    path = write_dataset(**changes)
    with pytest.raises(UsageError) as caught:
        load_dataset(TASK_1, dataset=path)
    assert str(caught.value).startswith(f"{path} cannot be used: ")
    assert text in str(caught.value)


# -- images ------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:no state in")
def test_images_are_read_as_they_are_and_labelled_as_states(tmp_path):
    states = generate_dataset("cube-single-play-v0", tmp_path, dataset_size=14, episode_steps=7)[0]
    images = np.random.default_rng(0).integers(256, size=(16, 64, 64, 3), dtype=np.uint8)
    with np.load(states) as arrays:
        np.savez(tmp_path / "visual-cube-single-play-v0.npz", **{**arrays, "observations": images})
    dataset = load_dataset("visual-cube-single-play-singletask-task2-v0", dataset_dir=tmp_path)
    of_states = load_dataset("cube-single-play-singletask-task2-v0", dataset=states)
    assert_array_equal(dataset.content.arrays["observations"], images)
    assert dataset.content.arrays["observations"].dtype == np.uint8
    for name in ("actions", "rewards", "masks", "terminals"):
        assert_array_equal(dataset.content.arrays[name], of_states.content.arrays[name])
