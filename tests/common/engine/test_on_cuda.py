"""Captured and compiled updates equal plain updates. `make gpu-check` runs these tests on a GPU.

Without a GPU, a recorder of operations on the CPU replaces the CUDA graph if possible.
"""

import pytest
import torch

from agents.common.engine import execution
from tests.common.engine.helpers import assert_alike, loaded_model, plain_model, update
from tests.common.toys import (
    assert_same,
    assert_same_parameters,
    every_algorithm,
    parameters_of,
    warns,
)

UPDATES = execution.WARMUP_STEPS + 7


def assert_close(model, plain):
    assert model.trainer.mode.captured
    assert_alike(model, plain)


def pair_on_cuda(id="qam", compile="auto", **settings):
    """Return a model whose updates are captured, and an otherwise equal model without capture."""
    return [loaded_model(id, device="cuda", compile=wish, **settings) for wish in (compile, "off")]


@pytest.fixture(params=["stand-in", pytest.param("cuda", marks=pytest.mark.gpu)])
def make_pair(request):
    """Return `pair_on_cuda`, or its counterpart on the CPU."""
    if request.param == "cuda":
        return pair_on_cuda
    captured = request.getfixturevalue("captured")
    return lambda id="qam", **settings: [captured(id, **settings), plain_model(id, **settings)]


@pytest.mark.few
@pytest.mark.parametrize("seeds", [[0], [0, 1]], ids=["one seed", "two seeds"])
@every_algorithm
def test_captured_offline_updates_equal_plain_ones(id, seeds, make_pair):
    captured, plain = make_pair(id, seeds=seeds, seed=None)
    for model in (captured, plain):
        devices = {value.device.type for value in update(model, UPDATES).values()}
        assert devices == {model.device.type}
    assert_close(captured, plain)


@pytest.mark.few
@every_algorithm
def test_captured_online_updates_equal_plain_ones(id, make_pair):
    captured, plain = make_pair(id, learning_starts=4)
    for model in (captured, plain):
        model.learn(24)
    assert_close(captured, plain)


def test_captured_updates_from_host_memory_equal_plain_ones(make_pair):
    captured, plain = make_pair(replay_buffer_kwargs={"storage": "host"})
    update(captured, UPDATES)
    update(plain, UPDATES)
    assert_close(captured, plain)


def test_where_a_capture_begins_changes_no_bit(make_pair):
    outcomes = []
    for beginnings in ((0,), (0, 6, 8)):  # as if a run were stopped after 6 and after 8 updates
        model, _ = make_pair(learning_rate=1e-3 / 3)
        for number in range(12):
            if number in beginnings:
                model.trainer.prepare()
            update(model)
        assert model.trainer.mode.captured
        outcomes.append(parameters_of(model))
    assert_same(*outcomes)


@pytest.mark.gpu
@pytest.mark.parametrize("seeds", [1, 12])
def test_a_replayed_update_never_waits_and_draws_a_new_batch(seeds):
    model, _ = pair_on_cuda(seeds=list(range(seeds)), seed=None)
    update(model, UPDATES)
    torch.cuda.set_sync_debug_mode("error")
    try:
        losses = [update(model)["td_loss"].clone() for _ in range(4)]
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert len({loss.sum().item() for loss in losses}) == 4


@pytest.mark.gpu
def test_a_capture_that_fails_leaves_a_working_model(monkeypatch):
    model, plain = pair_on_cuda()
    draw_noise = model.trainer.draw_noise

    def wait_for_device(size):
        noise = draw_noise(size)
        if torch.cuda.is_current_stream_capturing():
            noise["bc_t"].sum().item()
        return noise

    monkeypatch.setattr(model.trainer, "draw_noise", wait_for_device)
    update(model, execution.WARMUP_STEPS)
    with warns("updates are not captured"):
        update(model)
    assert torch.cuda.current_stream() == torch.cuda.default_stream()
    torch.rand(1, device="cuda")  # raises if the generator is still in capture
    update(plain, execution.WARMUP_STEPS + 1)
    assert_same_parameters(model, plain)


@pytest.mark.gpu
@pytest.mark.slow
@every_algorithm
def test_compiled_updates_equal_plain_ones(id):
    compiled, plain = pair_on_cuda(id, compile="on")
    update(compiled, UPDATES)
    update(plain, UPDATES)
    assert compiled.trainer.mode.compiled
    assert_close(compiled, plain)
