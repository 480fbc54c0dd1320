"""Run every algorithm on an emulated device other than the CPU, to find errors that would occur only on a GPU."""

import io
from unittest.mock import DEFAULT, Mock

import numpy as np
import pytest
import torch

import agents
from tests.common.data.helpers import Recorder, empty_buffer
from tests.common.elsewhere import Dispatch, emulation
from tests.common.toys import (
    assert_same,
    tiny_model,
    toy_dataset,
    toy_shards,
)

# PyTorch crashes in forward-mode derivatives of tensors that dispatch in Python, as the emulated device's tensors do;
# tests/common/engine/test_on_cuda.py tests MeanFlowQL on a GPU
emulated_algorithm = pytest.mark.parametrize(
    "id", [id for id in agents.algorithm_ids() if id != "meanflowql"]
)
SEEDS = {"one seed": {}, "two seeds": {"seeds": [0, 1]}}


@pytest.fixture
def elsewhere():
    """Return a device other than the CPU."""
    with emulation() as device:
        yield device


def on_cpu(tensors):
    return {name: value.cpu() for name, value in tensors.items()}


@pytest.mark.few
@pytest.mark.parametrize("seeds", SEEDS.values(), ids=SEEDS)
@emulated_algorithm
def test_offline_updates_neither_leave_device_nor_wait_for_host(id, seeds, elsewhere):
    model = tiny_model(id, device=elsewhere, **seeds)
    model.learn_offline(1, dataset=toy_dataset())
    with Dispatch(may_cross=False):
        info = model.trainer.update(16)
    assert {value.device for value in info.values()} == {elsewhere}


@pytest.mark.few
@emulated_algorithm
def test_a_model_acts_collects_and_is_loaded_on_either_device(id, elsewhere):
    model = tiny_model(id, device=elsewhere).learn(12)
    content = io.BytesIO()
    model.save(content)
    for device in ("cpu", elsewhere):
        content.seek(0)
        loaded = type(model).load(content, device=device)
        assert {p.device for p in loaded.policy.parameters()} == {torch.device(device)}
        states = [on_cpu(m.policy.state_dict()) for m in (loaded, model)]
        assert_same(*states)
        assert loaded.predict(np.zeros((1, 4)))[0].shape == (1, 2)


@pytest.mark.parametrize("storage", ["device", "host"])
@pytest.mark.parametrize("sharded", [False, True])
def test_batches_come_to_the_device_from_any_storage(storage, sharded, elsewhere, tmp_path):
    model = tiny_model("fql", device=elsewhere, replay_buffer_kwargs={"storage": storage})
    dataset = toy_dataset()
    if sharded:
        dataset = toy_shards(tmp_path, dataset, toy_dataset(seed=1), replace_interval=2)
    model.learn_offline(3, dataset=dataset)
    assert model.trainer.draw_batch(4).observations.device == elsewhere


def test_storing_transitions_never_waits_for_the_device(elsewhere):
    buffers = [empty_buffer(4, n_envs=2, device=device) for device in ("cpu", elsewhere)]
    recorders = [Recorder(buffer) for buffer in buffers]
    endings = [{}, {0: "terminated"}, {1: "truncated"}, {}]
    for ends in 3 * endings:  # each ring buffer wraps around twice
        recorders[0].add(ends)
        with Dispatch(may_cross=True, may_read=False):
            recorders[1].add(ends)
    for buffer in buffers:
        buffer.end_episodes()
    states = [buffer.online_state() for buffer in buffers]
    assert_same(on_cpu(states[1].pop("rings")), states[0].pop("rings"))
    assert states[0] == states[1]


def precisions():
    return torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32


@pytest.fixture(params=["highest", "high"])
def global_precision(request, monkeypatch):
    old_precision = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(request.param)
    # use opposite values, so that the test notices which of the two settings is read
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", request.param == "highest")
    yield request.param
    torch.set_float32_matmul_precision(old_precision)


@pytest.mark.parametrize(
    ("precision", "expected"), [("fp32", "highest"), ("tf32", "high"), ("bf16", "high")]
)
def test_a_models_precision_is_its_own(
    precision, expected, global_precision, elsewhere, monkeypatch
):
    model = tiny_model("fql", device=elsewhere, precision=precision)
    assert precisions() == (global_precision, global_precision == "highest")
    model.load_dataset(toy_dataset())
    used = []
    for hook in ("act", "losses"):
        call = Mock(wraps=getattr(model.method, hook))
        call.side_effect = lambda *_: used.append(precisions()) or DEFAULT
        monkeypatch.setattr(model.method, hook, call)
    model.trainer.update(16)
    model.predict(np.zeros((1, 4), np.float32))
    # for the next action, the losses and the chunk
    assert used == [(expected, expected == "high")] * 3
    assert precisions() == (global_precision, global_precision == "highest")
