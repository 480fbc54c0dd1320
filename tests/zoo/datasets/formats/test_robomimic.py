"""robomimic's files: read as Q-chunking and TRQAM read them, and rejected in one sentence if they are not valid."""

import h5py
import numpy as np
import pytest
from numpy.testing import assert_array_equal

from tests.zoo.datasets import samples
from tests.zoo.datasets.samples import ENV_ARGS, demonstration, joined, read, write_robomimic
from zoo.dataset import main as dataset
from zoo.datasets.custom import find_data
from zoo.datasets.formats.read import metadata_of
from zoo.datasets.formats.robomimic import FILE, demonstrations_file
from zoo.envs.tasks import TASKS

LIFT = TASKS["lift-mh-low_dim"]


def test_transitions_are_those_of_q_chunking(tmp_path):
    # Q-chunking and TRQAM store rows consecutively, each with its next observation.
    parts = [demonstration(6, 2), demonstration(3, 1, seed=1), demonstration(4, 4, seed=2)]
    arrays = read(write_robomimic(tmp_path / "a.hdf5", parts))
    rows = np.flatnonzero(arrays["valids"])
    expected = {
        "observations": joined(parts, "observations", slice(None, -1)),
        "actions": joined(parts, "actions"),
        "rewards": joined(parts, "rewards") - 1,
        "masks": 1 - joined(parts, "dones"),
        "terminals": joined(parts, "dones"),
    }
    for name, array in expected.items():
        assert_array_equal(arrays[name][rows], array.astype(np.float32), err_msg=name)
    following = joined(parts, "observations", slice(1, None))
    assert_array_equal(arrays["observations"][rows + 1], following.astype(np.float32))


@pytest.mark.parametrize("next_obs", [True, False])
def test_a_demonstration_that_fails_is_cut_off(tmp_path, next_obs):
    failed, achieved = demonstration(4, 0), demonstration(3, 1)
    failed["dones"][-1] = 1
    arrays = read(write_robomimic(tmp_path / "a.hdf5", [failed, achieved], next_obs=next_obs))
    steps = 3 + next_obs  # otherwise the state after the last step is unknown
    assert_array_equal(arrays["valids"], [1] * steps + [0] + [1] * 3 + [0])
    assert np.flatnonzero(arrays["masks"] == 0).tolist() == [steps + 3]
    # The target of a success does not bootstrap, so the last state may be repeated.
    last = achieved["observations"][2 + next_obs]
    assert_array_equal(arrays["observations"][-1], last.astype(np.float32))


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (ENV_ARGS, "lift-mh-low_dim"),
        (ENV_ARGS | {"env_name": "ToolHang"}, None),
        ({"env_name": ["Lift"]}, None),
    ],
)
def test_a_file_says_which_of_the_tasks_it_is_of(tmp_path, args, expected, monkeypatch):
    path = write_robomimic(tmp_path / "a.hdf5", [demonstration(4)], env_args=args)
    monkeypatch.delattr("zoo.datasets.formats.robomimic.opened")  # opens every array
    assert metadata_of(path).environment == expected


def test_a_file_of_an_earlier_simulator_is_warned_about(tmp_path):
    path = write_robomimic(
        tmp_path / "a.hdf5", [demonstration(4)], env_args=ENV_ARGS | {"env_version": "1.4.1"}
    )
    with pytest.warns(
        UserWarning, match=r"recorded with robosuite 1\.4\.1, .* get low_dim_v15\.hdf5"
    ):
        read(path)


# -- rejected files ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("obs", None, "or write the arrays of another robot as npz files"),
        ("obs/object", np.zeros((3, 10)), "cannot be read as HDF5"),
        ("rewards", np.full(4, 0.5), "must be 0 or 1 in each of the 4 steps, got 0.5 in row 0"),
        ("actions", np.array([b"up"] * 4), "`actions` must hold rows of numbers, got |S2"),
    ],
)
def test_a_broken_file_is_refused_with_what_to_do(tmp_path, name, value, message):
    path = write_robomimic(tmp_path / "a.hdf5", [demonstration(4), demonstration(3)])
    with h5py.File(path, "a") as file:
        del file[f"data/demo_0/{name}"]
        if value is not None:
            file[f"data/demo_0/{name}"] = value
    assert message in samples.refusal(path)


# -- paths of files ---------------------------------------------------------------------------------------------------


def test_a_file_is_where_q_chunking_looks_for_it(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert demonstrations_file(LIFT) == tmp_path / ".robomimic" / "lift" / "mh" / FILE
    path = demonstrations_file(LIFT, tmp_path / "data")
    path.parent.mkdir(parents=True)
    write_robomimic(path, [demonstration(4)])
    assert find_data(LIFT, tmp_path / "data") == str(path)


def test_a_missing_file_is_told_where_it_comes_from_and_goes(tmp_path, refusal):
    text = refusal(dataset, "check", LIFT.name, "--dataset-dir", tmp_path)
    assert f"-o {tmp_path}/lift/mh/{FILE} https://huggingface.co/datasets/robomimic/" in text
