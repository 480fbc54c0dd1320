"""Recording on CUDA, with a stand-in that keeps account of devices, streams, pools and generators as CUDA does.

Where a recording fails, the stand-in does what PyTorch 2.13 does: ending the recording raises an error of its own, the
recording's stream stays current, the allocator goes on filling its pool, and generators take themselves for recorded.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch

from agents.common.engine import capture, trainer
from agents.common.engine.strategies import Mode
from tests.common.engine.test_capture import made, state_of

# -- updates ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def refusing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let updates be captured by a recording that fails after it has run the step's Python."""

    def fail(step: Any, device: torch.device, generators: Any) -> Any:
        states = [generator.get_state() for generator in generators]
        step()
        for generator, state in zip(generators, states, strict=True):
            generator.set_state(state)
        raise RuntimeError("operation not permitted")

    monkeypatch.setattr(capture, "record", fail)
    monkeypatch.setattr(capture, "run_aside", lambda step, device: step())
    monkeypatch.setattr(capture, "_failures", [])
    monkeypatch.setattr(trainer, "choose_mode", lambda *arguments: Mode(False, True, "test"))


def test_after_a_failure_no_model_of_the_process_is_recorded(refusing: None) -> None:
    first = made()
    for _ in range(capture.WARM_UP):
        first.trainer.update(16)
    with pytest.warns(UserWarning, match="not captured: operation not permitted"):
        first.trainer.update(16)
    second = made()
    second.trainer.prepare()
    assert not second.trainer.mode.captured
    assert second.trainer.mode.reason == "an earlier recording failed: operation not permitted"


# -- on a device ------------------------------------------------------------------------------------------------------


@pytest.mark.gpu
def test_on_cuda_a_recording_that_fails_leaves_a_working_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capture, "_failures", [])
    model, plain = (made(device="cuda", compile=wish) for wish in ("auto", "off"))
    draw = model.trainer.draw_noise

    def wait(size: int) -> Any:
        noise = draw(size)
        if torch.cuda.is_current_stream_capturing():
            noise["bc_t"].sum().item()
        return noise

    monkeypatch.setattr(model.trainer, "draw_noise", wait)
    for _ in range(capture.WARM_UP):
        model.trainer.update(16)
    with pytest.warns(UserWarning, match="updates are not captured"):
        model.trainer.update(16)
    assert torch.cuda.current_stream() == torch.cuda.default_stream()
    torch.rand(1, device="cuda")
    for _ in range(capture.WARM_UP + 1):
        plain.trainer.update(16)
    torch.testing.assert_close(state_of(model), state_of(plain), rtol=0, atol=0)


@pytest.mark.gpu
def test_on_cuda_where_a_recording_begins_changes_no_bit() -> None:
    models = [made(device="cuda", compile="auto") for _ in range(2)]
    for update in range(12):
        if update in (6, 8):
            models[0].trainer.prepare()
        for model in models:
            model.policy.optimizer.param_groups[0]["lr"] = 1e-3 / 3
            model.trainer.update(16)
    assert all(model.trainer.mode.captured for model in models)
    torch.testing.assert_close(*map(state_of, models), rtol=0, atol=0)
