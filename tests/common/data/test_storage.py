"""Where data live, and batches from host memory: the same ones."""

import pytest
import torch

from agents.common.data import storage
from agents.common.data.storage import GIB, place
from tests.common.data.helpers import Recorder, assert_same_batches, loaded_buffer
from tests.common.toys import toy_dataset


def pair(**settings):
    """Return the same buffer with its data on the device and in host memory."""
    device, host = (
        loaded_buffer(toy_dataset(40, 1, 1), storage=storage, **settings)
        for storage in ("device", "host")
    )
    return device, host


@pytest.mark.parametrize("replicas", [1, 2])
def test_batches_are_the_same_as_on_the_device_also_while_transitions_are_added(replicas):
    device, host = pair(size=6, replicas=replicas, n_envs=replicas)
    first, second = (torch.Generator().manual_seed(0) for _ in range(2))
    recorders = [Recorder(device), Recorder(host)]
    for step in range(36):
        for recorder in recorders if step > 5 and step % 3 == 0 else []:
            recorder.add({0: "truncated"} if step % 4 == 3 else None)
        assert_same_batches(device.sample(9, generator=first), host.sample(9, generator=second))


# -- where data live --------------------------------------------------------------------------------------------------


GPU = torch.device("cuda")


def gpu_with(monkeypatch, free, total=20.0):
    """Pretend that there is a GPU with so many GiB."""
    monkeypatch.setattr(
        storage, "device_memory", lambda device: (int(free * GIB), int(total * GIB))
    )


@pytest.mark.parametrize("choice", ["auto", "device", "host"])
def test_data_larger_than_the_free_memory_are_warned_of(monkeypatch, choice):
    monkeypatch.setattr(storage, "available_memory", lambda: 3 * GIB)
    with pytest.warns(
        UserWarning, match=r"needs 4.00 GiB when it is full, and 3.00 GiB of memory are free"
    ):
        place(choice, torch.device("cpu"), 4 * GIB)


@pytest.mark.parametrize(
    ("free", "total", "needed", "fits"),
    [
        (10, 20, 8.0, True),  # 2 GiB stay free
        (10, 20, 8.1, False),
        (60, 100, 50.0, True),  # a tenth of 100 GiB stays free
        (60, 100, 50.1, False),
    ],
)
def test_data_are_on_a_gpu_as_long_as_enough_memory_stays_free(
    monkeypatch, free, total, needed, fits
):
    gpu_with(monkeypatch, free, total)
    monkeypatch.setattr(storage, "available_memory", lambda: 100 * GIB)
    placement = place("auto", GPU, int(needed * GIB))
    assert (placement.on_device, placement.device.type) == (
        (True, "cuda") if fits else (False, "cpu")
    )
