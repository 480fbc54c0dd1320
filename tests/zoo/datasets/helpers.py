"""Files of datasets that several tests write."""

import numpy as np

from tests.zoo.datasets.conftest import NAME, small_arrays


def write_shard(folder, number, episodes=3):
    """Write one file of a dataset; its first state, and no other, is at the goal of task 1."""
    folder.mkdir(exist_ok=True)
    arrays = small_arrays(episodes)
    draw = np.random.default_rng(number)
    arrays["observations"] = draw.standard_normal(arrays["observations"].shape).astype(np.float32)
    path = folder / f"{NAME}-{number:03d}.npz"
    np.savez_compressed(path, **arrays)
    return path
