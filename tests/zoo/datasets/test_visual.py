"""OGBench's datasets of images: labelled as those of states are, checked by their headers, drawn by MuJoCo."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from tests import ROOT
from zoo.datasets.generate import generate_dataset
from zoo.datasets.load import load_dataset
from zoo.envs.rendering import PLATFORMS, VARIABLE, _works
from zoo.terminal.errors import UsageError

STATES, IMAGES = "cube-single-play-v0", "visual-cube-single-play-v0"


@pytest.fixture(scope="module")
def states(tmp_path_factory):
    """Return a file of two episodes of seven transitions."""
    folder = tmp_path_factory.mktemp("data")
    return generate_dataset(STATES, folder, num_episodes=2, episode_steps=7, num_workers=1)[0]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:no state in")
def test_images_are_read_as_they_are_and_labelled_as_states(states, tmp_path):
    images = np.random.default_rng(0).integers(256, size=(16, 64, 64, 3), dtype=np.uint8)
    with np.load(states) as arrays:
        np.savez(tmp_path / f"{IMAGES}.npz", **{**arrays, "observations": images})
    dataset = load_dataset("visual-cube-single-play-singletask-task2-v0", dataset_dir=tmp_path)
    of_states = load_dataset("cube-single-play-singletask-task2-v0", dataset=states)
    assert_array_equal(dataset.content.arrays["observations"], images)
    assert dataset.content.arrays["observations"].dtype == np.uint8
    for name in ("actions", "rewards", "masks", "terminals"):
        assert_array_equal(dataset.content.arrays[name], of_states.content.arrays[name])


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.zeros((16, 64, 64, 3)), "`observations` must be images as uint8 from 0 to 255 with 4"),
        (np.zeros((16, 3, 64, 64), np.uint8), r"must have rows of shape \(64, 64, 3\) as in the"),
    ],
)
def test_other_images_are_refused_by_their_headers(tmp_path, images, message):
    sizes = {"actions": 5, "qpos": 21, "qvel": 20}
    arrays = {name: np.zeros((16, size), np.float32) for name, size in sizes.items()}
    arrays |= {"observations": images, "terminals": np.zeros(16, bool)}
    np.savez(tmp_path / f"{IMAGES}.npz", **arrays)
    with pytest.raises(UsageError, match=message):
        load_dataset("visual-cube-single-play-singletask-task2-v0", dataset_dir=tmp_path)


def test_images_that_nothing_draws_are_refused(tmp_path, monkeypatch):
    monkeypatch.setenv(VARIABLE, "")
    monkeypatch.delenv("DISPLAY", raising=False)
    with pytest.raises(UsageError, match="MuJoCo can draw nothing here; install EGL"):
        generate_dataset(IMAGES, tmp_path / "new")
    assert not (tmp_path / "new").exists()


# -- drawn by MuJoCo --------------------------------------------------------------------------------------------------


def generate(folder, *flags):
    """Generate a small set in a process that draws with what works here."""
    words = f"generate {IMAGES} --dataset-dir {folder} --episodes 2 --episode-steps 7".split()
    environment = {key: value for key, value in os.environ.items() if key != VARIABLE}
    program = [sys.executable, str(ROOT / "zoo" / "dataset.py"), *words, *flags]
    ended = subprocess.run(program, env=environment, capture_output=True, text=True, timeout=300)
    assert ended.returncode == 0, ended.stderr
    return dict(json.loads(ended.stdout.splitlines()[-1]))


@pytest.mark.slow
def test_images_follow_from_the_seed_alone_and_the_trajectories_are_those_of_states(
    states, tmp_path
):
    if not any(map(_works, PLATFORMS)):
        pytest.skip("MuJoCo can draw nothing here")
    first, second = (generate(tmp_path / count, "--num-workers", count) for count in "12")
    assert first["sha256"] == second["sha256"]
    with np.load(first["train"]) as drawn, np.load(states) as of_states:
        assert drawn["observations"].dtype == np.uint8
        assert drawn["observations"].shape == (16, 64, 64, 3)
        assert drawn["observations"].std() > 10
        for name in ("actions", "qpos", "qvel", "terminals"):
            assert_array_equal(drawn[name], of_states[name])
