"""Buffers and datasets that the tests of stored data share."""

import numpy as np
import torch
from gymnasium import spaces

from agents.common.data.buffer import SequenceReplayBuffer


def empty_buffer(size=8, n_envs=1, observations=1, actions=1, **settings):
    observation_space = spaces.Box(-np.inf, np.inf, (observations,), np.float32)
    action_space = spaces.Box(-1, 1, (actions,), np.float32)
    arguments = {"horizon_length": 3, "gamma": 0.9, **settings}
    return SequenceReplayBuffer(
        size * n_envs, observation_space, action_space, "cpu", n_envs, **arguments
    )


def loaded_buffer(dataset, **settings):
    buffer = empty_buffer(
        observations=dataset["observations"].shape[1],
        actions=dataset["actions"].shape[1],
        **settings,
    )
    buffer.load_dataset(dataset)
    return buffer


def compacted(dataset):
    """Return a regular dataset in OGBench's compact layout: the final observation is one more row, with `valids` 0."""
    ends = np.flatnonzero(dataset["terminals"])
    last = {"actions": 0.123, "rewards": 7.0, "masks": 0.0, "terminals": 1.0, "valids": 0.0}
    last["observations"] = dataset["next_observations"][ends]
    rows = {**dataset, "valids": np.ones(len(dataset["rewards"]))}
    return {
        name: np.insert(rows[name], ends + 1, value, 0).astype(np.float32)
        for name, value in last.items()
    }


def all_rows(buffer):
    """Return the rows of every start that may be drawn, (S, starts, H)."""
    index = torch.arange(buffer.count_starts()).expand(buffer.replicas, -1)
    return buffer._sequence_rows(index)


def assert_same_batches(first, second):
    for name, value in first.tensors().items():
        assert torch.equal(value, getattr(second, name)), name


class Recorder:
    """Feeds transitions to a buffer: observation 100 e + step, action step."""

    def __init__(self, buffer):
        self.buffer, self.step = buffer, 0

    def add(self, ends=None, rewards=-1.0):
        """Add one transition of every environment; ``ends`` maps environments to "truncated" or "terminated"."""
        ends, envs = ends or {}, self.buffer.n_envs
        first = np.array([[100.0 * e + self.step] for e in range(envs)], np.float32)
        next_observations = first + np.array(
            [[0.5 if e in ends else 1.0] for e in range(envs)], np.float32
        )
        infos = [{"TimeLimit.truncated": ends.get(e) == "truncated"} for e in range(envs)]
        done = np.array([e in ends for e in range(envs)])
        action = np.full((envs, 1), self.step / 1000, np.float32)
        self.buffer.add(
            first, next_observations, action, np.full(envs, rewards, np.float32), done, infos
        )
        self.step += 1


def found_sequences(buffer, replica=0):
    """Return (s, R, discount, s', valid) of every start of a replica, rounded and sorted."""
    batch = buffer.batch_of(all_rows(buffer))
    columns = (
        batch.observations[..., 0],
        batch.rewards,
        batch.discounts,
        batch.next_observations[..., 0],
        batch.valid,
    )
    return sorted(map(tuple, torch.stack(columns, -1)[replica].double().round(decimals=4).tolist()))
