"""Small point-maze datasets, whose rewards are easy to compute by hand."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from zoo.datasets import generate

NAME = "pointmaze-medium-navigate-v0"
TASK_1 = "pointmaze-medium-navigate-singletask-task1-v0"  # goal: within 1.0 of (20, 20)


def small_arrays(episodes=3):
    """Return trajectories of 11 rows; the first starts at task 1's goal, the others never come near the goal."""
    generator = np.random.default_rng(0)
    rows = 11 * episodes
    qpos = generator.uniform(0.0, 8.0, (rows, 2)).astype(np.float32)
    qpos[:3] = (20.0, 20.5)
    return {
        "observations": qpos.copy(),
        "actions": generator.uniform(-1.0, 1.0, (rows, 2)).astype(np.float32),
        "terminals": np.arange(rows) % 11 == 10,
        "qpos": qpos,
        "qvel": np.zeros((rows, 2), np.float32),
    }


def changed(arrays, changes):
    """Return arrays with some of them changed; arrays changed to None are left out."""
    return {name: array for name, array in (arrays | changes).items() if array is not None}


def write_shard(folder, number, episodes=3):
    """Write one file of a dataset; only its first state is at the goal of task 1."""
    folder.mkdir(exist_ok=True)
    arrays = small_arrays(episodes)
    draw = np.random.default_rng(number)
    arrays["observations"] = draw.standard_normal(arrays["observations"].shape).astype(np.float32)
    path = folder / f"{NAME}-{number:03d}.npz"
    np.savez_compressed(path, **arrays)
    return path


def generate_in_process(patch):
    """Generate datasets in a thread, because starting a process takes seconds; `test_generate.py` starts processes."""
    patch.setattr(generate, "ProcessPoolExecutor", lambda *options: ThreadPoolExecutor(1))


@pytest.fixture
def in_process(monkeypatch):
    generate_in_process(monkeypatch)


@pytest.fixture
def write_dataset(tmp_path):
    """Return a function that writes a small dataset with some changes, and returns its path."""

    def write(**changes):
        np.savez(tmp_path / f"{NAME}.npz", **changed(small_arrays(), changes))
        return tmp_path / f"{NAME}.npz"

    return write
