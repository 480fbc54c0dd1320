"""The one source of random streams: what a stream is for, a seed and an index decide it, and no two are the same.

Every seed and generator of the two packages comes from here, except those of fixed test data.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum, unique
from typing import TYPE_CHECKING

import numpy as np

from agents.common.validation import integer

if TYPE_CHECKING:
    import torch

MAX_SEED = 2**32 - 1
"""The largest index, and the largest of several seeds that draw together."""


@unique
class Purpose(IntEnum):
    """What random numbers are for. Seeded results follow from the numbers here: none changes, and none is used again.

    Each says what its index is; where nothing is said, there is none.
    """

    TRAINING_DATA = 0  # of generated datasets: episode, attempt
    VALIDATION_DATA = 1  # episode, attempt
    WEIGHTS = 2
    EXTRACTOR = 3  # weights that a features extractor draws from PyTorch's global generator
    UPDATES = 4  # batches and noise, of all seeds together
    HOST_BATCHES = 5  # batches where the data are in host memory, of all seeds together
    GLOBALS = 6  # Python's, NumPy's and PyTorch's global generators, of all seeds together
    TRAINING_START = 7  # first reset of a training environment: its number in its replica
    WARM_UP = 8  # uniform actions
    ACTING = 9  # noise of actions in training
    REPLICAS = 10  # seeds of replicas that all follow from one: replica
    ENVIRONMENT = 11  # what one draws besides its own generator; the seed is that of its reset
    EVALUATION_START = 12  # episode; 0 also for features and resampled trajectories of an estimate without environment
    EVALUATION_NOISE = 13  # seed of the replica, episode; there, repetition
    TRIALS = 17  # of a study, of all seeds together: call
    CHECKS = 21  # made-up data of a check: its number
    PREDICTION = 22  # noise of `predict`, which is outside of training
    FIXED_CANDIDATES = 23  # of deterministic plans, of any seed


def stream(purpose: Purpose, seeds: int | Sequence[int], *index: int) -> np.random.SeedSequence:
    """Return the source of one random stream.

    :param purpose: what it is for.
    :param seeds: the seed, or all seeds of what is drawn together.
    :param index: numbers from 0 to `MAX_SEED`; each purpose has a fixed count of them.
    :return: the source, for ``numpy.random.default_rng``.
    :raises ValueError: if a seed is negative, or it or an index is too large.
    """
    first, *other_seeds = seeds if isinstance(seeds, Sequence) else [seeds]
    entropy: int | list[int] = integer("seed", first, at_least=0)
    words = [*index, *other_seeds]
    if other_seeds:
        # a seed alone has its four words to itself; the number of others keeps them apart from purpose and index
        entropy = [first, 0, 0, len(other_seeds), *other_seeds]
        words.append(first)
    for word in words:
        integer("seed", word, at_least=0, at_most=MAX_SEED)
    return np.random.SeedSequence(entropy, spawn_key=(purpose, *index))


def seed_for(purpose: Purpose, seeds: int | Sequence[int], *index: int) -> int:
    """Return a stream's seed for what takes 32 bits: environments, spaces and other libraries."""
    return int(stream(purpose, seeds, *index).generate_state(1)[0])


def torch_generator(
    purpose: Purpose, seeds: int | Sequence[int], *index: int, device: torch.device | str = "cpu"
) -> torch.Generator:
    """Return a PyTorch generator at the beginning of a stream."""
    import torch  # the processes of environments do without it

    seed = stream(purpose, seeds, *index).generate_state(1, np.uint64)[0]
    return torch.Generator(device).manual_seed(int(seed))


def seeds_of_replicas(seed: int, replicas: int) -> list[int]:
    """Return one seed for each replica that follows from one seed: the seed itself where there is one replica."""
    if replicas == 1:
        return [seed]
    return [seed_for(Purpose.REPLICAS, seed, replica) for replica in range(replicas)]
