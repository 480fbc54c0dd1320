"""The parts of the check of a GPU, with a recorder of operations in place of a CUDA graph: what they let pass."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from agents.common.engine import capture, trainer
from agents.common.engine.strategies import Mode
from agents.common.sb3.model import FlowQLearning
from agents.testing.subject import Violation
from benchmarks import throughput
from benchmarks.gpu_parts import correct
from benchmarks.gpu_parts.part import Options
from tests.common.engine.test_capture import TapeRecorder
from tests.parity import reference

OPTIONS = Options("cpu", small=True)


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> TapeRecorder:
    """Let models that are not plain record their updates with the recorder of operations."""
    recorder = TapeRecorder()
    monkeypatch.setattr(capture, "record", recorder)
    monkeypatch.setattr(capture, "run_aside", lambda step, device: step())
    monkeypatch.setattr(capture, "_failures", [])
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)
    monkeypatch.setattr(trainer, "choose_mode", lambda wish, *others: Mode(False, wish != "off", "test"))

    def noting(make: Callable[..., FlowQLearning]) -> Callable[..., FlowQLearning]:
        def made(*arguments: Any, **settings: Any) -> FlowQLearning:
            model = make(*arguments, **settings)
            if model.trainer.mode.captured:
                recorder.model = model
            return model

        return made

    monkeypatch.setattr(correct, "tiny_model", noting(correct.tiny_model))
    monkeypatch.setattr(throughput, "make_model", noting(throughput.make_model))
    return recorder


@pytest.fixture
def stale(recorder: TapeRecorder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let replays do nothing."""

    def record(*arguments: Any) -> Any:
        _, info = recorder(*arguments)
        return lambda: None, info

    monkeypatch.setattr(capture, "record", record)


# -- recorded against plain -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("id", ["qam", "fql", "trqam"])
def test_recorded_updates_that_equal_plain_ones_hold(id: str, recorder: TapeRecorder) -> None:
    found = correct.check_contract(id, OPTIONS)
    assert found["largest_difference"] < 1e-5


def test_replays_that_do_nothing_differ(stale: None) -> None:
    with pytest.raises(Violation, match="after 12 updates of 1 seed"):
        correct.check_contract("bc", OPTIONS)


def test_updates_that_were_not_recorded_do_not_pass_for_recorded_ones() -> None:
    with pytest.raises(Violation, match="expected captured ones"):
        correct.check_contract("bc", OPTIONS)
    with pytest.raises(Violation, match="expected captured ones"):
        correct.check_host_storage(OPTIONS)
    with pytest.raises(Violation, match="expected captured ones"):
        correct.check_capture(1, OPTIONS)


# -- facts about a recording ------------------------------------------------------------------------------------------


# -- the references, and evaluation -----------------------------------------------------------------------------------


def test_plans_that_were_not_recorded_do_not_pass_for_recorded_ones(recorder: TapeRecorder) -> None:
    with pytest.raises(Violation, match="plans were not recorded: none was tried"):
        correct.check_plans(OPTIONS)


def test_a_number_that_is_not_the_references_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    paths = reference.fixture_paths()[:1]
    monkeypatch.setattr(reference, "fixture_paths", lambda: paths)
    assert "1 of 1 fixtures" in correct.check_parity(OPTIONS)["detail"]
    update = reference.OurAgents.update

    def update_from_elsewhere(self: Any, agent: Any, *given: Any) -> Any:
        with torch.no_grad():
            for parameter in agent.model.policy.parameters():
                parameter.mul_(1.01)
        return update(self, agent, *given)

    monkeypatch.setattr(reference.OurAgents, "update", update_from_elsewhere)
    with pytest.raises(Violation, match=f"1 of 1 fixtures differ: {paths[0].parent.name}/{paths[0].stem}"):
        correct.check_parity(OPTIONS)


def test_a_device_that_is_not_there_is_named() -> None:
    with pytest.raises(Violation, match="PyTorch finds no CUDA device"):
        correct.describe_environment(Options("cuda", small=True))
