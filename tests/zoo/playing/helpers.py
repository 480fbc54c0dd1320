"""Policies that play a toy: one whose bits do not depend on the batch, and one of matrix products."""

import itertools
import multiprocessing

import numpy as np
import torch
from numpy.testing import assert_equal

from tests.zoo.envs import toys  # noqa: F401  registers the environments

TOY = "Toy-v0"


class ElementwisePolicy:
    """Plans without matrix products, so a row's actions have the same bits in a batch of any shape."""

    def __init__(self, num_replicas=1, chunk_length=3, action_size=2):
        self.num_replicas, self.chunk_length = num_replicas, chunk_length
        self.action_size = action_size
        self.batches: list[np.ndarray] = []

    def draw_action_noise(self, rows, generator):
        shape = (rows, self.chunk_length, self.action_size)
        return {"noise": torch.rand(shape, generator=generator)}

    def plan(self, observations, noise):
        self.batches.append(observations.copy())
        return plan_rows(observations, noise["noise"].numpy())


def plan_rows(observations, noise):
    reaction = np.sin(3 * observations[..., None, : noise.shape[-1]])
    return np.clip(reaction * noise, -1, 1).astype(np.float32)


class NetworkPolicy(ElementwisePolicy):
    """A real network: matrix products of the whole batch."""

    def __init__(self, num_replicas=2, observation_size=3, chunk_length=3):
        super().__init__(num_replicas, chunk_length)
        generator = torch.Generator().manual_seed(0)
        sizes = [observation_size + 2 * chunk_length, 64, 64, 2 * chunk_length]
        self.weights = []
        for fan_in, fan_out in itertools.pairwise(sizes):
            weight = torch.randn(num_replicas, fan_in, fan_out, generator=generator)
            self.weights.append(weight / fan_in**0.5)

    def plan(self, observations, noise):
        observations = torch.as_tensor(observations, dtype=torch.float32)
        x = torch.cat([observations, noise["noise"].flatten(2)], -1)
        for weight in self.weights:
            x = torch.tanh(torch.bmm(x, weight))
        return x.unflatten(-1, (self.chunk_length, 2)).numpy()


def assert_same_results(first, second):
    assert_equal(vars(first), vars(second))


def worker_pids():
    """Return the ids of this process's children, without the server that forks them."""
    return {process.pid for process in multiprocessing.active_children()}
