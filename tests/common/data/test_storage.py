"""Where data are stored; `tests/fuzz/test_sampling.py` samples from the device and from host memory."""

import resource
import sys

import pytest
import torch

from agents.common.data import transitions
from agents.common.data.buffer import SequenceReplayBuffer
from agents.common.data.transitions import GIB, is_on_device
from tests.common.toys import SPACES, refuses


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
    with refuses("needs 465661.3 GiB on cpu.*lower `buffer_size`", MemoryError):
        SequenceReplayBuffer(10**13, *SPACES)


def test_online_transitions_take_no_memory_before_there_are_any():
    unit = 1 if sys.platform == "darwin" else 1024
    old_memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    buffer = SequenceReplayBuffer(10**7, *SPACES, device="cpu")
    size = sum(tensor.nbytes for tensor in buffer.tensors().values())
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - old_memory < size / 3 / unit
