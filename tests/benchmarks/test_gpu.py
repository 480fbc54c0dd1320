"""The check of a GPU as a program: its process, and how it ends on a CPU."""

import pytest

from benchmarks import gpu
from benchmarks.gpu_parts import results as kept
from benchmarks.gpu_parts.part import Options, OutOfTime, Part, Runner
from tests.benchmarks import gpu_toys as toys

CPU = Options("cpu", small=True)


def part(name, run=toys.hold, **more):
    return Part(name, "a promise", run, **{"seconds": 10, **more})


def test_parts_share_a_process_until_one_of_them_spoils_it():
    with Runner(CPU) as runner:
        first, second = (runner.run(part("a"), 60) for _ in range(2))
        assert first["process"] == second["process"]
        with pytest.raises(OutOfTime):
            runner.run(part("b", toys.hang), 0.5)
        died = runner.run(part("c", toys.die), 60)
        assert died["state"] == "failed"
        assert "exit code 5" in died["detail"]
        third = runner.run(part("d", spoils=True), 60)
        fourth = runner.run(part("e"), 60)
        assert len({first["process"], third["process"], fourth["process"]}) == 3


def test_on_a_cpu_the_whole_command_holds_or_is_skipped(tmp_path, capsys):
    words = f"--device cpu --small -o {tmp_path}".split()
    names = ["contract qam", "parity", "capture x1", "speed qam x1 tf32"]
    assert gpu.main([*words, "--parts", *names]) == 0
    found = kept.read(next(tmp_path.glob("*-small.json")))
    assert [outcome["state"] for outcome in found["parts"].values()] == ["skipped", "holds", "skipped", "measured"]
    assert found["parts"]["speed qam x1 tf32"]["speed"]["updates_per_s"] > 0
    assert "speeds are compared with floors on an NVIDIA H200 only" in capsys.readouterr().err
