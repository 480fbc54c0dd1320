"""The check of a GPU as a program, on a CPU."""

import pytest

from benchmarks import gpu


def test_on_a_cpu_all_speeds_are_measured_and_the_tests_are_skipped(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(gpu, "TESTS", gpu.TESTS[:1])
    monkeypatch.setattr(gpu, "SETTINGS", (("fql", 2, "bf16"), ("qam", 1, "tf32")))
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
        (None, "..", 3),
        (None, "FAILED a.py", 1),
    ],
)
def test_the_exit_code_says_whether_tests_failed_or_had_no_time(code, text, expected, monkeypatch):
    monkeypatch.setattr(gpu, "run_python", lambda words, deadline: (code, text))
    lines, exit_code = gpu.run_tests(0.0)
    assert exit_code == expected
    assert [line for line in lines if line.startswith("FAILED")] == text.splitlines()[:1] * (
        expected == 1
    )


@pytest.mark.parametrize(
    ("speed", "mode", "message"),
    [
        (449, "compiled and captured", "at least 450"),
        (900, "captured (why)", "expected compiled"),
    ],
)
def test_slow_and_plain_updates_are_named(speed, mode, message):
    row = {
        "algo": "qam",
        "seeds": 1,
        "precision": "tf32",
        "device": "cuda",
        "mode": mode,
        "seed_updates_per_s": speed,
    }
    (problem,) = gpu.speed_problems(row, "NVIDIA H200", gpu.make_parser().parse_args([]))
    assert message in problem
