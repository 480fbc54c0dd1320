"""Each replica's log, and how it is continued."""

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
    return Replicas(SimpleNamespace(replica_values=dict), folders, [3, 4])


def tables(replicas):
    return [pd.read_csv(folder.path / "progress.csv") for folder in replicas.folders]


def test_every_replica_gets_its_own_and_shared_values(replicas):
    logger = ReplicaLogger(replicas, EMPTY_LOG)
    logger.record("train/loss", np.array([1.0, 5.0]))
    logger.record("train/learning_rate", 0.1)
    logger.dump(7)
    logger.close()
    for folder, table, expected in zip(replicas.folders, tables(replicas), (1.0, 5.0), strict=True):
        assert table[["train/loss", "train/learning_rate"]].to_numpy().tolist() == [[expected, 0.1]]
        events = EventAccumulator(str(folder.path))
        events.Reload()
        (event,) = events.Scalars("train/loss")
        assert (event.step, event.value) == (7, expected)


def test_a_failed_replica_is_written_no_more(replicas):
    logger = ReplicaLogger(replicas, EMPTY_LOG)
    for step in (1, 2):
        logger.record("train/loss", np.array([1.0, 5.0]))
        logger.dump(step)
        replicas.failed[0] = {"reason": "training diverged", "step": 1}
    assert [len(table) for table in tables(replicas)] == [1, 2]


def test_the_seconds_of_the_run_go_on_after_a_resume(replicas, monkeypatch):
    now = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    logger = ReplicaLogger(replicas, EMPTY_LOG)
    now[0] += 7
    logger.record("time/time_elapsed", 7)
    logger.dump(1)
    log_state = logger.state(1)
    now[0] = 5.0  # another process, with another clock
    resumed = ReplicaLogger(replicas, log_state)
    now[0] += 6
    resumed.record("time/time_elapsed", 6)
    resumed.dump(2)
    assert tables(replicas)[0]["time/total_seconds"].tolist() == [7.0, 13.0]
