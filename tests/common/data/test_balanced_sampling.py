"""Balanced sampling: the dataset is kept apart, and every batch is half of it and half online transitions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces

from agents.common.data.buffer import SequenceReplayBuffer
from tests.common.toys import tiny_model, toy_dataset

HORIZON = 3


def buffer(
    dataset_rows: int, online_rows: int, size: int = 100, n_envs: int = 1, **settings: Any
) -> SequenceReplayBuffer:
    """Return a buffer with dataset rewards 1 and online rewards -1, -2, ... in the order of the steps."""
    box = spaces.Box(-1.0, 1.0, (2,), np.float32)
    made = SequenceReplayBuffer(size, box, box, "cpu", n_envs, horizon_length=HORIZON, gamma=1.0, **settings)
    if dataset_rows:
        data = toy_dataset(dataset_rows, observations=2, length=dataset_rows)
        made.load_dataset({**data, "rewards": np.ones(dataset_rows, np.float32)})
    for step in range(online_rows):
        zeros, nothing = np.zeros((n_envs, 2), np.float32), np.zeros(n_envs, bool)
        made.add(zeros, zeros, zeros, np.full(n_envs, -1.0 - step), nothing, [{}] * n_envs)
    return made


def first_rows(made: SequenceReplayBuffer, batch_size: int = 400, replicas: int = 1) -> torch.Tensor:
    """Return the rows where drawn sequences begin, (S, B)."""
    return made.draw_rows((replicas, batch_size), torch.Generator().manual_seed(0))[..., 0]


def test_first_half_is_from_the_dataset_and_second_half_online() -> None:
    rows = first_rows(buffer(20, 9, balanced=True))[0]
    assert bool((rows[:200] < 20).all())
    assert bool((rows[200:] >= 20).all())


def test_every_start_of_both_sides_is_drawn_and_none_crosses_from_one_into_the_other() -> None:
    rows = first_rows(buffer(20, 9, balanced=True))[0]
    assert sorted(set(rows[:200].tolist())) == list(range(20 - HORIZON + 1))
    assert sorted(set(rows[200:].tolist())) == list(range(20, 29 - HORIZON + 1))


def test_shares_are_those_of_the_numbers_of_transitions_without_balance() -> None:
    rows = first_rows(buffer(20, 9), batch_size=2700)[0]
    online = int((rows >= 20).sum()) / len(rows)
    assert online == pytest.approx(7 / 27, abs=0.03)


@pytest.mark.parametrize(("dataset_rows", "online_rows", "online"), [(20, 0, False), (20, 2, False), (0, 9, True)])
def test_one_side_fills_the_batch_while_the_other_has_no_sequence(
    dataset_rows: int, online_rows: int, online: bool
) -> None:
    rows = first_rows(buffer(dataset_rows, online_rows, balanced=True))
    assert bool(((rows >= dataset_rows) == online).all())


def test_full_ring_is_read_from_its_oldest_transition() -> None:
    made = buffer(20, 13, size=8, balanced=True)
    batch = made.sample(400, generator=torch.Generator().manual_seed(0))
    sums = sorted(set(batch.rewards[0, 200:].tolist()))
    assert sums == [-(3.0 * middle) for middle in range(12, 6, -1)]  # steps 6..13 are left


def test_each_replica_draws_the_dataset_and_its_own_environment() -> None:
    made = buffer(20, 9, n_envs=2, replicas=2, balanced=True)
    rows = first_rows(made, replicas=2)
    ring = made.buffer_size
    for replica in range(2):
        assert bool((rows[replica, :200] < 20).all())
        own = 20 + replica * ring
        assert bool(((rows[replica, 200:] >= own) & (rows[replica, 200:] < own + 9)).all())


@pytest.mark.parametrize("id", ["qam", "fql"])
def test_any_algorithm_trains_on_balanced_batches(id: str) -> None:
    model = tiny_model(id, balanced_sampling=True)
    model.learn_offline(2, dataset={**toy_dataset(), "rewards": np.full(60, 7.0, np.float32)})
    seen: list[Any] = []
    sample = model.replay_buffer.sample
    model.replay_buffer.sample = lambda *given: seen.append(sample(*given)) or seen[-1]
    model.learn(15, reset_num_timesteps=False)
    assert seen
    for batch in seen:
        assert (batch.rewards > 0).tolist() == [[True] * 8 + [False] * 8]
