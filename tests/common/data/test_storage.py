"""Where data are stored; batches from host memory equal batches from the device."""

import resource
import sys

import pytest
import torch

from agents.common.data import transitions
from agents.common.data.buffer import SequenceReplayBuffer
from agents.common.data.transitions import GIB, is_on_device
from tests.common.data.helpers import Recorder, assert_same_batches, loaded_buffer
from tests.common.toys import SPACES, refuses, seeded, toy_dataset


@pytest.mark.parametrize("replicas", [1, 2])
def test_batches_are_the_same_as_on_the_device(replicas):
    settings = {"size": 6, "replicas": replicas, "n_envs": replicas}
    buffers = [
        loaded_buffer(toy_dataset(40, 1, 1), storage=storage, **settings)
        for storage in ("device", "host")
    ]
    recorders = [Recorder(buffer) for buffer in buffers]
    for step in range(36):
        ends = {0: "truncated"} if step % 2 else None
        if step > 5 and step % 3 == 0:
            for recorder in recorders:
                recorder.add(ends)
        batches = [buffer.draw(9, generator=seeded(step)) for buffer in buffers]
        assert_same_batches(*batches)


@pytest.mark.parametrize(
    ("free", "total", "needed", "expected"),
    [
        (10, 20, 8.0, True),  # 2 GiB must remain free
        (10, 20, 8.1, False),
        (60, 100, 50.0, True),  # a tenth of 100 GiB must remain free
        (60, 100, 50.1, False),
    ],
)
def test_data_are_on_a_gpu_as_long_as_enough_memory_stays_free(
    monkeypatch, free, total, needed, expected
):
    monkeypatch.setattr(transitions, "device_memory", lambda device: (free * GIB, total * GIB))
    assert is_on_device("auto", torch.device("cuda"), int(needed * GIB)) == expected


def test_a_buffer_that_does_not_fit_says_how_large_it_is():
    with refuses("needs .* GiB on cpu.*lower `buffer_size`", MemoryError):
        SequenceReplayBuffer(10**13, *SPACES)


def test_online_transitions_take_no_memory_before_there_are_any():
    unit = 1 if sys.platform == "darwin" else 1024
    old_memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    buffer = SequenceReplayBuffer(10**7, *SPACES, device="cpu")
    size = sum(tensor.nbytes for tensor in buffer.tensors().values())
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - old_memory < size / 3 / unit
