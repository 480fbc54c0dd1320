"""Batches from host memory: the same ones, and the next is ready in time."""

from __future__ import annotations

import dataclasses
import threading
from typing import Any

import pytest
import torch

from agents.common.batch import Batch
from agents.common.data.buffer import SequenceReplayBuffer
from agents.common.data.storage import Prefetcher
from tests.common.data.test_buffer import Recorder, assert_same_batches, loaded_buffer
from tests.common.toys import tiny_model, toy_dataset

CPU = torch.device("cpu")


def pair(**settings: Any) -> tuple[SequenceReplayBuffer, SequenceReplayBuffer]:
    """Return the same buffer with its data on the device and in host memory."""
    device, host = (loaded_buffer(toy_dataset(40, 1, 1), storage=storage, **settings) for storage in ("device", "host"))
    return device, host


def seeded(seed: int = 0) -> tuple[torch.Generator, torch.Generator]:
    return torch.Generator().manual_seed(seed), torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("replicas", [1, 2])
def test_batches_are_the_same_as_on_the_device_also_while_transitions_are_added(replicas: int) -> None:
    (device, host), (first, second) = pair(size=6, replicas=replicas, n_envs=replicas), seeded()
    recorders = [Recorder(device), Recorder(host)]
    for step in range(36):
        for recorder in recorders if step > 5 and step % 3 == 0 else []:
            recorder.add({0: "truncated"} if step % 4 == 3 else None)
        assert_same_batches(device.sample(9, generator=first), host.sample(9, generator=second))


def test_a_batch_that_was_prepared_and_not_used_moves_no_generator() -> None:
    _, host = pair()
    used, expected = seeded()
    for _ in range(4):
        host.sample(9, generator=used)
        host.draw_rows((1, 9), expected)
        assert torch.equal(used.get_state(), expected.get_state())


def test_a_failure_in_the_background_is_not_lost() -> None:
    source, generator, calls = Prefetcher(CPU), torch.Generator(), []

    def failing(size: int, drawn_from: torch.Generator) -> Batch:
        calls.append(size)
        if len(calls) == 3:
            raise RuntimeError("the disk is gone")
        return Batch(*[torch.rand(1, size, generator=drawn_from)] * 7)

    source.batch(failing, 4, generator)
    source.batch(failing, 4, generator)
    with pytest.raises(RuntimeError, match="the disk is gone"):
        source.batch(failing, 4, generator)


def test_models_draw_batches_in_host_memory_from_a_generator_of_their_own() -> None:
    model = tiny_model(replay_buffer_kwargs={"storage": "host"})
    model.load_dataset(toy_dataset())
    before = model.trainer.generators()["batches"].get_state()
    names: list[str] = []
    draw_batch = model.replay_buffer._draw_batch

    def noted(*given: Any) -> Batch:
        names.append(threading.current_thread().name.partition("_")[0])
        return draw_batch(*given)

    model.replay_buffer._draw_batch = noted
    model.learn_offline(6)
    assert not torch.equal(model.trainer.generators()["batches"].get_state(), before)
    assert names.count("next-batch") >= 4


def test_a_batch_is_copied_to_a_device_as_one_block_of_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    batch = loaded_buffer(toy_dataset(40, 3, 1)).sample(5, generator=seeded()[0])
    batch = dataclasses.replace(batch, observations=torch.arange(15, dtype=torch.uint8).view(1, 5, 3))
    prefetcher = Prefetcher(torch.device("meta"))  # no CPU, so that there is a block, and none that needs locked pages
    prepared = prefetcher._prepare(lambda size, generator: batch, 5, torch.Generator())
    assert prepared.block is not None
    assert prepared.block.nbytes == sum(value.nbytes for value in batch.tensors().values())
    prefetcher.device = CPU
    assert_same_batches(prefetcher._sent(prepared), batch)
