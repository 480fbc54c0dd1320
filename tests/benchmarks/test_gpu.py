"""The check of a GPU as a program: which parts are done, when it stops, what it keeps and how it ends."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks import gpu
from benchmarks.gpu_parts import results as kept
from benchmarks.gpu_parts.part import Options, OutOfTime, Part, Runner, outcome_of
from benchmarks.gpu_parts.speed import SETTINGS, speed_parts
from tests.benchmarks import gpu_toys as toys

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


def test_parts_that_hold_end_well(check: Any, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, found = check([part("a"), part("b")])
    assert code == 0
    assert {name: each["state"] for name, each in found["parts"].items()} == {"a": "holds", "b": "holds"}
    assert {each["commit"] for each in found["parts"].values()} == {"abc"}
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (result["device"], result["held"], result["problems"], result["left"]) == (H200, 2, [], [])
    assert "| a | holds |" in (tmp_path / "nvidia-h200.md").read_text()


@pytest.mark.parametrize(("bad", "why"), [(toys.differ, "`x` differs by 1"), (toys.fail, "an illegal memory access")])
def test_what_does_not_hold_ends_with_one_and_the_reason(
    bad: Any, why: str, check: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    code, found = check([part("a", bad), part("b")])
    assert code == 1
    assert found["parts"]["b"]["state"] == "holds"  # the others are tried
    assert f"a: {'' if bad is toys.differ else 'RuntimeError: '}{why}" in capsys.readouterr().err


def test_what_is_skipped_is_said_and_does_not_count_as_held(check: Any, capsys: pytest.CaptureFixture[str]) -> None:
    code, found = check([part("a"), part("b", toys.leave_out)])
    assert (code, found["parts"]["b"]["state"]) == (0, "skipped")
    out, err = capsys.readouterr()
    assert json.loads(out.splitlines()[-1])["held"] == 1
    assert "1 parts were skipped, so nothing is known of them: b" in err


def test_what_there_is_no_time_for_is_left_to_the_next_command(check: Any) -> None:
    parts = [part("a"), part("b", seconds=600), part("c")]
    code, found = check(parts)
    assert (code, list(found["parts"])) == (3, ["a"])
    code, found = check(parts, "--resume", "--minutes", "11")
    assert (code, list(found["parts"])) == (0, ["a", "b", "c"])
    process = found["parts"]["a"].pop("process")
    code, found = check([], "--resume")
    assert found["parts"]["a"]["process"] == process


def test_single_parts_are_done_again_and_the_others_are_kept(check: Any) -> None:
    code, _ = check([part("a", toys.differ), part("b")])
    assert code == 1
    code, found = check([part("a"), part("b", toys.differ)], "--parts", "a")
    assert code == 0
    assert [each["state"] for each in found["parts"].values()] == ["holds", "holds"]


def test_unknown_parts_and_folders_are_refused(check: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert check([part("parity")], "--parts", "party")[0] == 2
    assert "parity" in capsys.readouterr().err
    assert check([part("a")], "-o", "/nowhere")[0] == 2


def test_a_missing_device_is_bad_input(check: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "ENVIRONMENT", part("environment", toys.differ))
    assert check([part("a")]) == (2, {})


# -- time -------------------------------------------------------------------------------------------------------------


def do(parts: list[Part], seconds: float) -> tuple[list[str], dict[str, Any], list[str]]:
    """Run parts with some time left; return what is left, the outcomes and what was begun."""
    runner, outcomes, now = Here(CPU), {}, time.monotonic()
    left = gpu.do(parts, runner, lambda part, outcome: outcomes.update({part.name: outcome}), now, now + seconds)  # type: ignore[arg-type]
    return left, outcomes, runner.begun


def test_the_first_part_is_begun_however_little_time_there_is() -> None:
    left, outcomes, begun = do([part("a", seconds=100), part("b", seconds=100)], seconds=50)
    assert (left, list(outcomes), begun) == (["b"], ["a"], ["a"])


def test_a_part_that_the_commands_end_cuts_off_is_left() -> None:
    left, outcomes, _ = do([part("a", toys.hang, seconds=100), part("b")], seconds=50)
    assert (left, outcomes) == (["a", "b"], {})


def test_a_part_that_takes_longer_than_it_may_has_failed() -> None:
    left, outcomes, _ = do([part("a", toys.hang, seconds=10), part("b")], seconds=50)
    assert (left, outcomes["a"]["state"], outcomes["a"]["detail"]) == ([], "failed", "took longer than 10 s")


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


def test_what_needs_cuda_is_skipped_on_a_cpu_without_being_tried() -> None:
    with Runner(CPU) as runner:
        outcome = runner.run(part("a", toys.die, needs_cuda=True), 60)
    assert (outcome["state"], outcome["detail"]) == ("skipped", "needs CUDA")


def test_on_a_cpu_the_whole_command_holds_or_is_skipped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--device", "cpu", "--small", "-o", str(tmp_path)]
    names = ["contract qam", "parity", "capture x1", "speed qam x1 tf32"]
    assert gpu.main([*words, "--parts", *names]) == 0
    found = kept.read(next(tmp_path.glob("*-small.json")))
    assert [outcome["state"] for outcome in found["parts"].values()] == ["skipped", "holds", "skipped", "measured"]
    assert found["parts"]["speed qam x1 tf32"]["speed"]["updates_per_s"] > 0
    assert "speeds are compared with floors on an NVIDIA H200 only" in capsys.readouterr().err


@pytest.mark.slow
def test_on_a_cpu_all_parts_are_done(tmp_path: Path) -> None:
    assert gpu.main(["--device", "cpu", "--small", "-o", str(tmp_path)]) == 0
    found = kept.read(next(tmp_path.glob("*-small.json")))["parts"]
    done = [name for name, outcome in found.items() if outcome["state"] != "skipped"]
    speeds = ["speed qam x1 tf32", "speed fql x2 bf16"]
    assert done == ["parity", "evaluation", *speeds]
    assert list(found) == [part.name for part in gpu.all_parts(CPU)]


# -- what is measured, and the verdict --------------------------------------------------------------------------------


def test_all_that_was_asked_for_is_measured() -> None:
    names = [part.name for part in gpu.all_parts(CUDA)]
    assert len(set(names)) == len(names)
    for seeds in (1, 4, 12, 24):
        assert {f"speed qam x{seeds} {precision}" for precision in ("tf32", "bf16")} <= set(names)
    for algo in ("fql", "fawac", "qam_e", "sqam"):
        assert {f"speed {algo} x1 tf32", f"speed {algo} x12 tf32"} <= set(names)
    assert {(each.algo, each.seeds, each.precision) for each in SETTINGS} >= kept.FLOORS.keys()
    for each in speed_parts(CUDA):
        assert each.warm_up[1].endswith("throughput.py")


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


def test_goals_are_no_floors() -> None:
    assert kept.problems(results(row(seed_updates_per_s=999.0))) == []


def test_updates_that_are_not_recorded_or_not_compiled_are_a_problem_on_cuda() -> None:
    for mode in ("eager (why)", "captured (why)", "compiled (why)"):
        (found,) = kept.problems(results(row(mode=mode), device="NVIDIA A100"))
        assert mode in found
    assert kept.problems(results(row(mode="eager (why)", device="cpu"))) == []


def test_the_page_has_speeds_floors_kernels_and_what_is_wrong() -> None:
    text = kept.page(results(row(), row(seeds=12, seed_updates_per_s=1_300.0)))
    assert "| qam | 1 | tf32 | 500 | 500 | 490 to 510 | 450 | 1,000 | 319 / 444 | 440 | 1.0 | 10% | compiled" in text
    assert "- speed 1: 1,300 updates/s of all seeds, the floor is 1,350" in text
    assert "| `a/b` | 3 | 1,234 |" in text
    assert "they are judged here" in text
    assert "they are not judged here" in kept.page(results(row(), device="NVIDIA A100"))


def test_the_page_names_other_commits() -> None:
    found = results({**row(), "commit": "old"}, {**row(), "commit": "new"})
    found["environment"]["commit"] = "new"
    assert "some parts are of other commits: old" in kept.page(found)


def test_results_with_tiny_sizes_have_a_file_of_their_own(tmp_path: Path) -> None:
    paths = [kept.results_path(tmp_path, "AMD EPYC 9B14 (x)", small) for small in (False, True)]
    assert [path.name for path in paths] == ["amd-epyc-9b14-x.json", "amd-epyc-9b14-x-small.json"]
    kept.write(paths[1], results(row(), small=True))
    assert kept.read(paths[1]) == results(row(), small=True)
    assert "sizes are tiny" in paths[1].with_suffix(".md").read_text()
