"""What the checks find in broken files, and that they find nothing in sound ones."""

import zipfile
from pathlib import Path

import numpy as np
import pytest

from tests.zoo.datasets.conftest import NAME, TASK_1, small_arrays
from zoo.datasets import check
from zoo.datasets.check import (
    check_dataset,
    check_headers,
    check_values,
    relabel,
    remedy,
    required_arrays,
)
from zoo.datasets.files import DatasetError, checksum_file
from zoo.datasets.names import DATASETS
from zoo.envs.make import make_raw_env

SPEC = DATASETS[NAME]
ROWS = 33


def refused(function, *arguments):
    """Return the array that a check refuses, and what it says."""
    with pytest.raises(DatasetError) as caught:
        function(*arguments)
    return caught.value.array, str(caught.value)


@pytest.mark.parametrize(
    ("name", "changes", "array"),
    [
        (NAME, {"qpos": None}, "qpos"),
        (NAME, {"actions": np.zeros((30, 2), np.float32)}, "actions"),
        (NAME, {"actions": np.full((ROWS, 2), None)}, "actions"),  # pickled, and not loaded
        ("scene-play-v0", {}, "button_states"),
    ],
)
def test_array_that_headers_show_to_be_wrong_is_refused(write_dataset, name, changes, array):
    assert refused(check_headers, write_dataset(**changes), DATASETS[name])[0] == array


def test_a_file_that_is_written_to_while_it_is_read_is_refused(write_dataset, monkeypatch):
    path = write_dataset()

    def digest_before_another_write(file):
        write_dataset(qvel=np.ones((ROWS, 2), np.float32))
        return "0" * 64

    monkeypatch.setattr(check, "check_checksum", digest_before_another_write)
    assert "got one that changed" in refused(check.read_arrays, path, SPEC)[1]


@pytest.mark.parametrize("name", ["visual-scene-play-v0", "visual-puzzle-3x3-noisy-v0"])
def test_states_of_buttons_which_label_the_tasks_are_required_with_images_too(name):
    assert required_arrays(DATASETS[name])["button_states"] == 2


@pytest.mark.parametrize(
    ("array", "row", "value", "named"),
    [
        ("observations", 7, np.nan, "row 7"),
        ("actions", 3, 1.5, "row 3"),
        ("terminals", 4, 0.5, "must hold 0 or 1"),
        ("terminals", 11, 1, "1 rows at least"),  # a trajectory of one row
        ("terminals", -1, 0, "0 at the end"),
    ],
)
def test_value_that_is_wrong_is_refused_with_its_row(array, row, value, named):
    arrays = small_arrays()
    arrays[array] = arrays[array].astype(np.float32)
    arrays[array][row] = value
    refused_array, message = refused(check_values, arrays)
    assert refused_array == array
    assert named in message


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("antmaze-large-navigate-v0", "zoo dataset download {} --force --dataset-dir /data"),
        ("cube-octuple-play-v0", "zoo dataset generate {} --force --dataset-dir /data"),
        ("cube-octuple-play-100m-v0", "remove it and get it again"),
    ],
)
def test_remedy_is_what_works_for_the_dataset(name, advice):
    assert advice.format(name) in remedy(DATASETS[name], Path(f"/data/{name}.npz"))


def test_damaged_bytes_are_traced_to_their_array(write_dataset):
    path = write_dataset()
    with zipfile.ZipFile(path) as archive:
        member = archive.getinfo("qpos.npy")
    content = bytearray(path.read_bytes())
    content[member.header_offset + 300] ^= 0xFF
    path.write_bytes(content)
    assert "qpos" in refused(check_dataset, path, SPEC)[1]


def test_file_that_changed_after_its_checksum_was_written_is_found(write_dataset):
    path = write_dataset()
    checksum_file(path).write_text(f"{'0' * 64}  {path.name}\n")
    assert f"expected the recorded sha256 {'0' * 64}" in refused(check_dataset, path, SPEC)[1]


def test_unsolved_tasks_are_a_warning(write_dataset):
    # data lie within x, y in [0, 8], but for three rows at (20, 20)
    with pytest.warns(UserWarning, match="a state that achieves each task, got none for 2, "):
        check_dataset(write_dataset(), SPEC)


def test_relabelling_in_parts_equals_distance_to_the_goal(monkeypatch):
    monkeypatch.setattr("zoo.datasets.check._CHUNK_ROWS", 7)
    env_id = TASK_1.replace("navigate-", "")
    qpos = small_arrays()["qpos"]
    rewards, masks = relabel({"qpos": qpos}, make_raw_env(env_id))
    is_success = np.linalg.norm(qpos - np.array([20.0, 20.0]), axis=1) <= 1.0
    np.testing.assert_array_equal(rewards, np.where(is_success, 0.0, -1.0))
    np.testing.assert_array_equal(masks, np.where(is_success, 0.0, 1.0))
