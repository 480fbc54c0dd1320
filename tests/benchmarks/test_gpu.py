"""The check of a GPU as a program, on a CPU."""

import contextlib
import itertools
import json
import re

import pytest

from benchmarks import gpu


def test_on_a_cpu_all_speeds_are_measured_and_the_tests_are_skipped(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(gpu, "TESTS", gpu.TESTS[:1])
    monkeypatch.setattr(gpu, "SETTINGS", {("fql", 2, "bf16"): 0, ("qam", 1, "tf32"): 450})
    assert gpu.main(["--device", "cpu", "--small", "-o", str(tmp_path)]) == 0
    text = next(tmp_path.glob("*-small.md")).read_text()
    assert "skipped" in text
    assert "| fql | 2 | bf16 |" in text
    assert "| qam | 1 | tf32 |" in text


@pytest.mark.parametrize(
    ("code", "text", "expected"),
    [
        (0, "3 passed", 0),
        (1, "FAILED a.py\n1 failed", 1),
        (2, "5 passed", 3),
        (2, "FAILED a.py\n1 failed", 1),
        (3, "INTERNALERROR", 1),
        (None, "..", 3),
    ],
)
def test_the_exit_code_says_whether_tests_failed_or_had_no_time(code, text, expected, monkeypatch):
    monkeypatch.setattr(gpu, "run_python", lambda words, deadline: (code, text))
    lines, exit_code = gpu.run_tests(0.0)
    assert exit_code == expected
    assert ("FAILED a.py" in lines) == text.startswith("FAILED")
    assert ("the tests did not end in their time" in lines) == (code in (2, None))


def row(**changes):
    """Return what the throughput benchmark prints of QAM on a GPU."""
    values = {"algo": "qam", "seeds": 1, "precision": "tf32", "device": "cuda"}
    values |= {"mode": "compiled and captured (why)", "peak_memory_bytes": 2**30}
    values |= {"updates_per_s": 500, "seed_updates_per_s": 500, "fraction_of_peak": 0.1}
    values |= {"kernels_per_update": 9}
    return values | changes


@pytest.fixture
def check(monkeypatch, tmp_path):
    """Return a function that runs the program on a GPU that is none: with its exit code and page."""
    monkeypatch.setattr(gpu, "SETTINGS", {("qam", 1, "tf32"): 450})
    monkeypatch.setattr(gpu, "device_name", lambda device: "NVIDIA H200")
    monkeypatch.setattr(gpu, "running", contextlib.nullcontext)
    monkeypatch.setattr(gpu, "wait", lambda process, deadline: 0)

    def run(*measured):
        outcomes = iter([(0, "2 passed"), *measured])
        monkeypatch.setattr(gpu, "run_python", lambda words, deadline: next(outcomes))
        code = gpu.main(["-o", str(tmp_path)])
        return code, (tmp_path / "nvidia-h200.md").read_text()

    return run


def test_a_page_has_speed_memory_and_mode_and_ignores_what_is_printed_around_the_result(check):
    code, page = check((0, f"a warning\n{json.dumps(row())}\nanother one"))
    assert code == 0
    assert "- 2 passed" in page
    assert "| qam | 1 | tf32 | 500 | 500 | 450 | 10% | 9 | 1.0 | compiled and captured |" in page


@pytest.mark.parametrize(
    ("outcome", "expected", "message"),
    [
        ((0, json.dumps(row(seed_updates_per_s=449))), 4, "449 updates/s .* at least 450"),
        ((0, json.dumps(row(mode="captured (why)"))), 4, "are captured .why., expected compiled"),
        ((1, "Traceback"), 1, "qam with 1 seed.s. in tf32: the benchmark failed"),
        ((0, "nothing"), 1, "the benchmark failed"),
        ((None, ""), 3, "no time was left"),
    ],
    ids=["slow", "not compiled", "failed", "without a result", "too long"],
)
def test_what_is_wrong_with_one_measurement_is_on_the_page_beside_the_others(
    outcome, expected, message, check, monkeypatch
):
    monkeypatch.setattr(gpu, "SETTINGS", {("qam", 1, "tf32"): 450, ("fql", 1, "tf32"): 0})
    code, page = check(outcome, (0, json.dumps(row(algo="fql"))))
    assert code == expected
    assert re.search(f"- .*{message}", page)
    assert "| fql | 1 | tf32 | 500 |" in page


def test_each_part_has_a_limit_of_its_own_and_all_together_the_minutes(monkeypatch, tmp_path):
    now = [1000.0]
    limits = []

    def hang(words, deadline):
        limits.append(deadline)
        now[0] = max(now[0], deadline)
        return None, ""

    monkeypatch.setattr(gpu.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(gpu, "run_python", hang)
    monkeypatch.setattr(gpu, "running", contextlib.nullcontext)
    monkeypatch.setattr(gpu, "wait", lambda process, deadline: None)
    assert gpu.main(["--device", "cpu", "-o", str(tmp_path)]) == 3
    assert len(limits) == 1 + len(gpu.SETTINGS)
    assert limits[0] < 1000 + 0.55 * 540
    end = 1000 + 540 - gpu.RESERVE
    for limit, following in itertools.pairwise(limits):
        assert following == min(limit + gpu.LONGEST_MEASUREMENT, end)
    assert limits[-1] == end
    (page,) = tmp_path.glob("*.md")
    assert page.read_text().count("no time was left") == len(gpu.SETTINGS)
