"""All random streams: each is identified by purpose, seed and index, and no two coincide.

Training, tuning, evaluation and the generation of datasets take their random numbers from streams of this module.
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
"""The largest number in an index, and the largest seed of a model with several seeds."""


@unique
class Purpose(IntEnum):
    """Purpose of a random stream. The numbers determine seeded results, so they are never changed or reused.

    In a comment, a colon precedes the parts of the stream's index; a use without a colon has no index.
    """

    TRAINING_DATA = 0  # generated datasets: episode, attempt
    VALIDATION_DATA = 1  # generated datasets: episode, attempt
    WEIGHTS = 2
    EXTRACTOR = 3  # weights of features extractors, from PyTorch's global generator
    UPDATES = 4  # batches and noise, shared by all seeds
    HOST_BATCHES = 5  # batches of data in host memory, shared by all seeds
    GLOBALS = 6  # global generators of Python, NumPy and PyTorch, shared by all seeds
    TRAINING_START = 7  # first reset of a training environment: its index within the replica
    WARM_UP = 8  # uniform actions before training
    ACTING = 9  # noise of actions in training
    REPLICAS = 10  # seeds of replicas, derived from one seed: replica
    ENVIRONMENT = 11  # randomness outside an environment's generator; the seed is that of the reset
    EVALUATION_START = 12  # resets: episode; batches of held-out losses and fitted Q evaluation
    EVALUATION_NOISE = (
        13  # actions: the replica's seed, episode; held-out losses and fitted Q evaluation
    )
    TRIALS = 17  # sampler of a tuning study, shared by all seeds: number of the process
    CHECKS = 21  # dummy data of checks: number of the check, or episode
    PREDICTION = 22  # noise of `predict`
    FIXED_CANDIDATES = 23  # candidates in deterministic mode, the same for all seeds


def stream(purpose: Purpose, seeds: int | Sequence[int], *index: int) -> np.random.SeedSequence:
    """Return the seed sequence of a random stream.

    :param purpose: purpose of the stream.
    :param seeds: the seed, or all seeds of a stream that replicas share.
    :param index: numbers from 0 to `MAX_SEED`, see :class:`Purpose`.
    :return: the sequence, for ``numpy.random.default_rng``.
    :raises ValueError: if a seed or an index is negative, or if an index or one of several seeds is too large.
    """
    first, *other_seeds = seeds if isinstance(seeds, Sequence) else [seeds]
    entropy: int | list[int] = integer("seed", first, at_least=0)
    words = [*index, *other_seeds]
    if other_seeds:
        # NumPy pads a single seed to four words with zeros. For several seeds, the fourth word is their count, so
        # their stream differs from the streams of all single seeds below 2^96.
        entropy = [first, 0, 0, len(other_seeds), *other_seeds]
        words.append(first)
    for word in words:
        integer("seed", word, at_least=0, at_most=MAX_SEED)
    return np.random.SeedSequence(entropy, spawn_key=(purpose, *index))


def seed_for(purpose: Purpose, seeds: int | Sequence[int], *index: int) -> int:
    """Return a 32-bit seed derived from a stream, for environments, spaces and other libraries."""
    return int(stream(purpose, seeds, *index).generate_state(1)[0])


def torch_generator(
    purpose: Purpose, seeds: int | Sequence[int], *index: int, device: torch.device | str = "cpu"
) -> torch.Generator:
    """Return a PyTorch generator at the start of a stream."""
    import torch  # not at the top, because environment processes do not need it

    seed = stream(purpose, seeds, *index).generate_state(1, np.uint64)[0]
    return torch.Generator(device).manual_seed(int(seed))


def seeds_of_replicas(seed: int, replicas: int) -> list[int]:
    """Derive the seeds of replicas from one seed; a single replica uses this seed itself."""
    if replicas == 1:
        return [seed]
    return [seed_for(Purpose.REPLICAS, seed, replica) for replica in range(replicas)]
