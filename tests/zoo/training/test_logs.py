"""Each replica's log, and how it is continued."""

import time
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from zoo.runs.folder import RunFolder
from zoo.training.logs import EMPTY_LOG, ReplicaLogger, Replicas


@pytest.fixture
def replicas(tmp_path):
    folders = [RunFolder.create(tmp_path, "qam", "some-v0") for _ in range(2)]
    return Replicas(SimpleNamespace(replica_values=dict, num_timesteps=1), folders, [3, 4])


def tables(replicas):
    return [pd.read_csv(folder.path / "progress.csv") for folder in replicas.folders]


def events(folder, name):
    accumulator = EventAccumulator(str(folder.path))
    accumulator.Reload()
    return accumulator.Scalars(name)


def test_every_replica_gets_its_own_and_shared_values_until_it_fails(replicas):
    logger = ReplicaLogger(replicas, EMPTY_LOG)
    for step in (7, 8):
        logger.record("train/loss", np.array([1.0, 5.0]))
        logger.record("train/learning_rate", 0.1)
        logger.dump(step)
        replicas.failed[0] = {"reason": "training diverged", "step": 7}
    logger.close()
    rows = [[(7, 1.0)], [(7, 5.0), (8, 5.0)]]
    for folder, table, expected in zip(replicas.folders, tables(replicas), rows, strict=True):
        names = ["time/total_timesteps", "train/loss"]
        assert [*table[names].itertuples(index=False, name=None)] == expected
        assert set(table["train/learning_rate"]) == {0.1}
        assert [(event.step, event.value) for event in events(folder, "train/loss")] == expected


def test_a_resumed_log_goes_on_from_its_checkpoint(replicas, monkeypatch):
    now = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    logger = ReplicaLogger(replicas, EMPTY_LOG)
    now[0] += 7
    logger.record("time/time_elapsed", 7)
    logger.dump(1)
    log_state = logger.state()
    logger.record("time/time_elapsed", 8)
    logger.dump(2)
    logger.close()
    now[0] = 5.0  # another process, with another clock
    # TensorBoard reads files in the order of their names, which begin with the second
    later = time.time() + 60
    monkeypatch.setattr("time.time", lambda: later)
    resumed = ReplicaLogger(replicas, log_state)
    now[0] += 6
    resumed.record("time/time_elapsed", 6)
    resumed.dump(2)
    resumed.close()
    assert [event.value for event in events(replicas.folders[0], "time/time_elapsed")] == [7, 6]
    assert tables(replicas)[0]["time/total_seconds"].tolist() == [7.0, 13.0]
