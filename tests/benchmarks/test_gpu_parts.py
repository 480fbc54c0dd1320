"""The parts of the check of a GPU, with a recorder of operations in place of a CUDA graph: what they let pass."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from agents.common.engine import branches, capture, fast_update, recorded_plans
from agents.common.engine.fast_update import Mode
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
    monkeypatch.setattr(fast_update, "choose_mode", lambda wish, *others: Mode(False, wish != "off", "test"))

    def noting(make: Callable[..., FlowQLearning]) -> Callable[..., FlowQLearning]:
        def made(*arguments: Any, **settings: Any) -> FlowQLearning:
            model = make(*arguments, **settings)
            if model.update_mode.captured:
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


def test_numbers_that_are_not_finite_differ(recorder: TapeRecorder) -> None:
    recorded, plain = correct.make_pair("bc", OPTIONS)
    with torch.no_grad():
        for model in (recorded, plain):
            next(iter(model.policy.parameters())).fill_(float("nan"))
    with pytest.raises(Violation, match="differs by nan"):
        correct.difference(recorded, plain, "now")


def test_what_an_update_reports_must_be_on_the_models_device() -> None:
    model, _ = correct.make_pair("bc", OPTIONS)
    correct.require_device(model, {"loss": torch.zeros(1)})
    with pytest.raises(Violation, match=r"info\['loss'\] is on meta, expected cpu"):
        correct.require_device(model, {"loss": torch.zeros(1, device="meta")})


def test_batches_of_a_thread_hold(recorder: TapeRecorder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(correct, "SLOW_BATCH", 0.001)
    assert "four models" in correct.check_host_storage(OPTIONS)["detail"]


def test_stale_batches_of_a_thread_differ(stale: None) -> None:
    with pytest.raises(Violation, match="with batches that take"):
        correct.check_host_storage(OPTIONS)


# -- a recording that fails -------------------------------------------------------------------------------------------


@pytest.fixture
def failing(recorder: TapeRecorder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a recording fail where the step waits for the device."""

    def record(step: Any, device: Any, generators: Any) -> Any:
        states = {generator: generator.get_state() for generator in recorder.model.generators().values()}
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
            patch.setattr(torch.Tensor, "item", refuse)
            try:
                step()
            finally:
                for generator, state in states.items():
                    generator.set_state(state)
        raise AssertionError("the step did not wait")

    def refuse(tensor: torch.Tensor) -> None:
        raise RuntimeError("operation not permitted when stream is capturing")

    monkeypatch.setattr(capture, "record", record)


def test_a_recording_that_fails_and_goes_on_with_the_same_numbers_holds(failing: None) -> None:
    found = correct.check_failed_recording(OPTIONS)
    assert "the same bits; updates are not captured: operation not permitted" in found["detail"]


def test_a_recording_that_does_not_fail_is_noticed(recorder: TapeRecorder) -> None:
    with pytest.raises(Violation, match="said to fail 0 times"):
        correct.check_failed_recording(OPTIONS)


def test_other_numbers_after_a_failed_recording_are_noticed(recorder: TapeRecorder, monkeypatch: Any) -> None:
    def record(step: Any, *others: Any) -> Any:
        step()  # is not undone
        raise RuntimeError("no")

    monkeypatch.setattr(capture, "record", record)
    with pytest.raises(Violation, match="differs from plain updates after a failed recording"):
        correct.check_failed_recording(OPTIONS)


# -- facts about a recording ------------------------------------------------------------------------------------------


@pytest.fixture
def kernels(recorder: TapeRecorder, monkeypatch: pytest.MonkeyPatch) -> list[throughput.Kernel]:
    """Return the list of kernels that the profiler will find."""
    found = [throughput.Kernel("gemm", 100, 1.0), throughput.Kernel("copy", 5, 1.0)]
    monkeypatch.setattr(throughput, "profile_kernels", lambda *arguments: found)
    monkeypatch.setattr(correct, "never_waiting", nullcontext)
    monkeypatch.setattr(correct, "time_updates", lambda *arguments, **named: (1e-5, 1e-3))
    return found


def test_a_recordings_kernels_are_compared_with_those_counted(
    kernels: list[throughput.Kernel], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(correct, "counted_nodes", lambda seeds: 100)
    monkeypatch.setattr(correct.Setting, "words", with_small_words)
    found = correct.check_capture(2, Options("cpu", small=False))
    assert (found["kernels"], found["counted_nodes"]) == (105, 100)
    assert found["detail"].startswith("105 kernels (100 counted without a GPU), 1000 updates/s")
    kernels.append(throughput.Kernel("more", 6, 1.0))
    with pytest.raises(Violation, match="a replay runs 111 kernels, 100 were counted"):
        correct.check_capture(2, Options("cpu", small=False))


def with_small_words(setting: correct.Setting, options: Options) -> list[str]:
    return small_words(setting, OPTIONS)


small_words = correct.Setting.words


def test_at_other_sizes_no_kernels_were_counted(kernels: list[throughput.Kernel]) -> None:
    assert "none counted at these sizes" in correct.check_capture(1, OPTIONS)["detail"]


def test_an_update_is_timed_on_the_host_and_on_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    model, _ = correct.make_pair("bc", OPTIONS)
    waits = iter([0.0, 0.2])
    monkeypatch.setattr(throughput, "wait_for", lambda device: time.sleep(next(waits)))
    host, whole = correct.time_updates(model, 16, count=2)
    assert whole - host == pytest.approx(0.1, rel=0.2)


def test_replays_without_new_batches_are_noticed(kernels: Any, stale: None) -> None:
    with pytest.raises(Violation, match="repeat their losses"):
        correct.check_capture(1, OPTIONS)


def test_counted_nodes_are_those_of_the_committed_table() -> None:
    assert correct.counted_nodes(1)
    assert correct.counted_nodes(12)
    assert correct.counted_nodes(5) is None


# -- the references, and evaluation -----------------------------------------------------------------------------------


def test_recorded_plans_that_equal_plain_ones_hold(recorder: TapeRecorder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorded_plans, "may_record", lambda device: True)
    assert "4 rows to 0.0e+00" in correct.check_plans(OPTIONS)["detail"]


def test_plans_that_do_not_follow_the_parameters_differ(stale: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorded_plans, "may_record", lambda device: True)
    with pytest.raises(Violation, match="recorded plans differ from plain ones"):
        correct.check_plans(OPTIONS)


def test_plans_that_were_not_recorded_do_not_pass_for_recorded_ones(recorder: TapeRecorder) -> None:
    with pytest.raises(Violation, match="plans were not recorded: none was tried"):
        correct.check_plans(OPTIONS)


@pytest.fixture
def streams(recorder: TapeRecorder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let branches be evaluated one after the other, and leave the compiler out."""
    monkeypatch.setattr(torch.cuda, "Stream", lambda device: SimpleNamespace(wait_stream=lambda other: None))
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: SimpleNamespace(wait_stream=lambda other: None))
    monkeypatch.setattr(torch.cuda, "stream", nullcontext)
    monkeypatch.setattr(fast_update, "_compiled", lambda evaluate: evaluate)


def test_updates_in_branches_that_equal_plain_ones_hold(streams: None) -> None:
    assert "QAM and SQAM" in correct.check_branches(OPTIONS)["detail"]


def test_branches_that_lose_a_gradient_differ(streams: None, monkeypatch: pytest.MonkeyPatch) -> None:
    evaluate = branches.BranchedLosses.__call__

    def lose(self: Any, *arguments: Any) -> Any:
        info, grads = evaluate(self, *arguments)
        return info, [None, *grads[1:]]

    monkeypatch.setattr(branches.BranchedLosses, "__call__", lose)
    with pytest.raises(Violation, match=r"differs by .* in branches"):
        correct.check_branches(OPTIONS)


def test_updates_in_one_branch_do_not_pass_for_branched_ones(streams: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fast_update.FastUpdate, "_branches", lambda *arguments: None)
    with pytest.raises(Violation, match="in one branch"):
        correct.check_branches(OPTIONS)


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


class Player:
    """Plays evaluations of made-up returns."""

    def __init__(self, env: str, returns: list[float]) -> None:
        returns_of = np.array(returns)
        same = np.ones_like(returns_of)
        self.results = SimpleNamespace(returns=returns_of, lengths=same, seeds=same, played=same)

    def __enter__(self) -> Player:
        return self

    def __exit__(self, *exception: object) -> None:
        pass

    def evaluate(self, *arguments: Any) -> Any:
        return self.results

    def begin(self, *arguments: Any) -> None:
        pass

    def is_ready(self) -> bool:
        return True

    def finish(self) -> Any:
        return self.results


@pytest.mark.parametrize(
    ("beside", "why"),
    [([1.0, 2.0], None), ([1.0, 2.5], "`returns` of an evaluation beside"), ([1.0, 1.0], "same return")],
)
def test_an_evaluation_beside_training_must_be_that_in_line(
    beside: list[float], why: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_line = [1.0, 1.0] if why == "same return" else [1.0, 2.0]
    monkeypatch.setattr(correct, "BackgroundEvaluator", lambda env, **how: Player(env, beside))
    monkeypatch.setattr(correct, "Evaluator", lambda env, **how: Player(env, in_line))
    with nullcontext() if why is None else pytest.raises(Violation, match=why):
        assert "2 episodes" in correct.check_evaluation(OPTIONS)["detail"]


def test_a_device_that_is_not_there_is_named() -> None:
    with pytest.raises(Violation, match="PyTorch finds no CUDA device"):
        correct.describe_environment(Options("cuda", small=True))
