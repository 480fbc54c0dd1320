"""Policies for toy environments: one whose results do not depend on the batch, and one with matrix products."""

import multiprocessing

import numpy as np
import torch
from numpy.testing import assert_equal

from tests.common.toys import tiny_model
from tests.zoo.envs.toys import ToyEnv  # importing the module registers the environments

TOY = "Toy-v0"


class ElementwisePolicy:
    """Samples actions without matrix products, so that a row's actions are bitwise equal in any batch."""

    def __init__(self, num_replicas=1, chunk_length=3):
        self.num_replicas, self.chunk_length = num_replicas, chunk_length
        self.batches: list[np.ndarray] = []

    def draw_action_noise(self, rows, generator):
        return {"noise": torch.rand(rows, self.chunk_length, 2, generator=generator)}

    def sample_chunks(self, observations, noise):
        self.batches.append(observations.copy())
        return plan_rows(observations, noise["noise"].numpy())


def plan_rows(observations, noise):
    reaction = np.sin(3 * observations[..., None, : noise.shape[-1]])
    return np.clip(reaction * noise, -1, 1).astype(np.float32)


def network_policy():
    """Return a policy of two replicas; its matrix products depend on the whole batch."""
    return tiny_model("bc", ToyEnv(), seeds=[0, 1], net_arch=[64, 64]).policy


def assert_same_results(first, second):
    assert_equal(vars(first), vars(second))


def worker_pids():
    """Return the ids of this process's children, except the server that forks them."""
    return {process.pid for process in multiprocessing.active_children()}
