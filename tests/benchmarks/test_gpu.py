"""The check of a GPU as a program: which parts are done, when it stops, what it keeps and how it ends."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from agents.common.engine import capture, trainer
from agents.common.engine.strategies import Mode
from agents.common.sb3.model import FlowQLearning
from agents.testing.subject import Violation
from benchmarks import gpu, throughput
from benchmarks.gpu_parts import correct
from benchmarks.gpu_parts import results as kept
from benchmarks.gpu_parts.part import Options, OutOfTime, Part, Runner, outcome_of
from tests.benchmarks import gpu_toys as toys
from tests.common.engine.test_capture import TapeRecorder

CPU, CUDA = Options("cpu", small=True), Options("cuda", small=False)
H200 = "NVIDIA H200"


def part(name: str, run: Callable[[Options], dict[str, Any]] = toys.hold, **more: Any) -> Part:
    return Part(name, "a promise", run, **{"seconds": 10, **more})


def describe(options: Options) -> dict[str, Any]:
    return {"detail": "here", "device_name": H200, "commit": "abc"}


class Here:
    """Runs parts in this process."""

    def __init__(self, options: Options) -> None:
        self.options, self.begun = options, []

    def __enter__(self) -> Here:
        return self

    def __exit__(self, *exception: object) -> None:
        pass

    def run(self, part: Part, seconds: float) -> dict[str, Any]:
        self.begun.append(part.name)
        if part.run is toys.hang:
            raise OutOfTime
        return {**outcome_of(part, self.options), "seconds": 1.0}


@pytest.fixture
def check(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., tuple[int, dict[str, Any]]]:
    """Return a function that runs the program on some parts, and gives its exit code and what it keeps."""
    monkeypatch.setattr(gpu, "Runner", Here)
    monkeypatch.setattr(gpu, "ENVIRONMENT", part("environment", describe))

    def run(parts: list[Part], *words: str) -> tuple[int, dict[str, Any]]:
        monkeypatch.setattr(gpu, "all_parts", lambda options: parts)
        code = gpu.main(["-o", str(tmp_path), *words])
        path = tmp_path / "nvidia-h200.json"
        return code, json.loads(path.read_text()) if path.exists() else {}

    return run


# -- the program ------------------------------------------------------------------------------------------------------


def test_parts_that_hold_end_well_and_skipped_ones_are_named(
    check: Any, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    code, found = check([part("a"), part("b", toys.leave_out)])
    assert code == 0
    assert {name: each["state"] for name, each in found["parts"].items()} == {"a": "holds", "b": "skipped"}
    assert {each["commit"] for each in found["parts"].values()} == {"abc"}
    out, err = capsys.readouterr()
    result = json.loads(out.splitlines()[-1])
    assert (result["device"], result["held"], result["problems"], result["left"]) == (H200, 1, [], [])
    assert "1 parts were skipped, so nothing is known of them: b" in err
    assert "| a | holds |" in (tmp_path / "nvidia-h200.md").read_text()


@pytest.mark.parametrize(("bad", "why"), [(toys.differ, "`x` differs by 1"), (toys.fail, "an illegal memory access")])
def test_what_does_not_hold_ends_with_one_and_the_reason(
    bad: Any, why: str, check: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    code, found = check([part("a", bad), part("b")])
    assert code == 1
    assert found["parts"]["b"]["state"] == "holds"  # the others are tried
    assert f"a: {'' if bad is toys.differ else 'RuntimeError: '}{why}" in capsys.readouterr().err


def test_what_there_is_no_time_for_is_left_to_the_next_command(check: Any) -> None:
    parts = [part("a"), part("b", seconds=600), part("c")]
    code, found = check(parts)
    assert (code, list(found["parts"])) == (3, ["a"])
    code, found = check(parts, "--resume", "--minutes", "11")
    assert (code, list(found["parts"])) == (0, ["a", "b", "c"])
    process = found["parts"]["a"].pop("process")
    code, found = check([], "--resume")
    assert found["parts"]["a"]["process"] == process


# -- time -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("first", "seconds", "left", "outcome"),
    [
        (toys.hold, 100, ["b"], "holds"),  # begun however little time there is
        (toys.hang, 100, ["a", "b"], None),  # cut off by the end of the command
        (toys.hang, 10, ["b"], "failed"),  # longer than it may take
    ],
)
def test_time_decides_what_is_begun_left_and_failed(first: Any, seconds: int, left: list[str], outcome: str) -> None:
    outcomes: dict[str, Any] = {}
    parts, now = [part("a", first, seconds=seconds), part("b", seconds=100)], time.monotonic()
    assert gpu.do(parts, Here(CPU), lambda part, found: outcomes.update({part.name: found}), now, now + 50) == left  # type: ignore[arg-type]
    assert outcomes.get("a", {}).get("state") == outcome


# -- the process ------------------------------------------------------------------------------------------------------


def test_parts_share_a_process_until_one_of_them_spoils_it() -> None:
    with Runner(CPU) as runner:
        first, second = (runner.run(part("a"), 60) for _ in range(2))
        assert first["process"] == second["process"]
        with pytest.raises(OutOfTime):
            runner.run(part("b", toys.hang), 0.5)
        died = runner.run(part("c", toys.die), 60)
        assert (died["state"], "exit code 5" in died["detail"]) == ("failed", True)
        third = runner.run(part("d", spoils=True), 60)
        fourth = runner.run(part("e"), 60)
        assert len({first["process"], third["process"], fourth["process"]}) == 3


def test_on_a_cpu_the_whole_command_holds_or_is_skipped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--device", "cpu", "--small", "-o", str(tmp_path)]
    names = ["contract qam", "parity", "capture x1", "speed qam x1 tf32"]
    assert gpu.main([*words, "--parts", *names]) == 0
    found = kept.read(next(tmp_path.glob("*-small.json")))
    assert [outcome["state"] for outcome in found["parts"].values()] == ["skipped", "holds", "skipped", "measured"]
    assert found["parts"]["speed qam x1 tf32"]["speed"]["updates_per_s"] > 0
    assert "speeds are compared with floors on an NVIDIA H200 only" in capsys.readouterr().err


# -- what is measured, and the verdict --------------------------------------------------------------------------------


def row(algo: str = "qam", seeds: int = 1, precision: str = "tf32", **more: Any) -> dict[str, Any]:
    speed = {"algo": algo, "seeds": seeds, "precision": precision, "device": "cuda"}
    speed |= {"mode": "compiled and captured (...)", "updates_per_s": 500.0, "seed_updates_per_s": 500.0 * seeds}
    speed |= {"updates_per_s_range": [490.0, 510.0], "fraction_of_peak": 0.1, "peak_memory_bytes": 1 << 30}
    speed |= {"kernels_per_update": 440, "kernels": [{"name": "a|b", "count": 3, "microseconds": 1234.5}]}
    return {"state": "measured", "detail": "", "seconds": 1.0, "speed": {**speed, **more}}


def results(*rows: dict[str, Any], device: str = H200, small: bool = False) -> kept.Results:
    parts = {f"speed {k}": each for k, each in enumerate(rows)}
    return {"device_name": device, "small": small, "environment": {"cuda": "13"}, "parts": parts}


def test_a_missed_floor_is_a_problem_where_the_reference_was_measured() -> None:
    slow = row(seed_updates_per_s=449.0)
    assert kept.problems(results(slow)) == ["speed 0: 449 updates/s of all seeds, the floor is 450"]
    assert kept.problems(results(row())) == []
    assert kept.problems(results(slow, device="NVIDIA A100")) == []
    assert kept.problems(results(slow, small=True)) == []
    assert kept.problems(results(row("fql", seed_updates_per_s=1.0))) == []


def test_updates_that_are_not_recorded_or_not_compiled_are_a_problem_on_cuda() -> None:
    for mode in ("eager (why)", "captured (why)", "compiled (why)"):
        (found,) = kept.problems(results(row(mode=mode), device="NVIDIA A100"))
        assert mode in found
    assert kept.problems(results(row(mode="eager (why)", device="cpu"))) == []


# -- the parts, with a recorder of operations in place of a CUDA graph: what they let pass -----------------------------


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


def test_replays_that_do_nothing_differ(stale: None) -> None:
    with pytest.raises(Violation, match="after 12 updates of 1 seed"):
        correct.check_contract("bc", OPTIONS)


def test_recorded_updates_that_equal_plain_ones_hold(recorder: TapeRecorder) -> None:
    assert correct.check_contract("qam", OPTIONS)["largest_difference"] < 1e-5


def test_plain_updates_do_not_pass_for_recorded_ones() -> None:
    checks = ((correct.check_contract, "bc"), (correct.check_host_storage,), (correct.check_capture, 1))
    for check, *given in checks:
        with pytest.raises(Violation, match="expected captured ones"):
            check(*given, OPTIONS)


# -- the references, and evaluation -----------------------------------------------------------------------------------
