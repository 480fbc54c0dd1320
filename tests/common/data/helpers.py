"""Buffers and datasets that the tests of stored data share."""

import numpy as np
import torch
from gymnasium import spaces

from agents.common.data.buffer import SequenceReplayBuffer


def empty_buffer(size=8, n_envs=1, observations=1, actions=1, device="cpu", **settings):
    observation_space = spaces.Box(-np.inf, np.inf, (observations,), np.float32)
    action_space = spaces.Box(-1, 1, (actions,), np.float32)
    settings = {"horizon_length": 3, "gamma": 0.9, **settings}
    return SequenceReplayBuffer(
        size * n_envs, observation_space, action_space, device, n_envs, **settings
    )


def loaded_buffer(dataset, **settings):
    sizes = {name: dataset[name].shape[1] for name in ("observations", "actions")}
    buffer = empty_buffer(**sizes, **settings)
    buffer.load_dataset(dataset)
    return buffer


def compacted(dataset):
    """Return a regular dataset in OGBench's compact layout: final observations are additional rows with `valids` 0."""
    ends = np.flatnonzero(dataset["terminals"])
    last = {"actions": 0.123, "rewards": 7.0, "masks": 0.0, "terminals": 1.0, "valids": 0.0}
    last["observations"] = dataset["next_observations"][ends]
    rows = {**dataset, "valids": np.ones(len(dataset["rewards"]))}
    return {
        name: np.insert(rows[name], ends + 1, value, 0).astype(np.float32)
        for name, value in last.items()
    }


def all_sequences(buffer):
    """Return a batch of every sequence that may be sampled, (S, starts, ...)."""
    starts = torch.arange(buffer.count_starts()).expand(buffer.replicas, -1)
    return buffer._get_samples(buffer.sequence_rows(starts))


def rows_of(batch, replica):
    """Return (s, a, R, discount, valid, s') of a replica's sequences."""
    scalars = torch.stack([batch.rewards, batch.discounts, batch.valid], -1)
    columns = batch.observations, batch.actions, scalars, batch.next_observations
    return torch.cat(columns, -1)[replica].tolist()


def assert_same_sequences(first, second):
    """Check that the same sequences may be sampled from two buffers."""
    expected = vars(all_sequences(second))
    for name, value in vars(all_sequences(first)).items():
        assert torch.equal(value, expected[name]), name


class Recorder:
    """Adds transitions to a buffer: observations are 100 * environment + step, and actions are the step."""

    def __init__(self, buffer):
        self.buffer, self.step = buffer, 0

    def add(self, ends=None, reward=-1.0):
        """Add one transition per environment; ``ends`` maps environments to "truncated" or "terminated"."""
        endings = [(ends or {}).get(e) for e in range(self.buffer.n_envs)]
        done = np.array([ending is not None for ending in endings])
        infos = [{"TimeLimit.truncated": ending == "truncated"} for ending in endings]
        observations = 100.0 * np.arange(len(done)) + self.step
        # the next episode starts with another observation than the final one
        columns = (
            observations,
            observations + 1 - 0.5 * done,
            np.full(len(done), self.step / 1000),
        )
        rewards = np.full(len(done), reward, ">f8")  # foreign byte order, as in some recordings
        self.buffer.add(*np.array(columns, ">f4")[..., None], rewards, done, infos)
        self.step += 1
