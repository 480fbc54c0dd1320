"""The comparison of two checkouts: this one with itself."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import alternate

ROOT = Path(alternate.__file__).resolve().parent.parent
SMALL = ["--algo", "bc", "-params", "net_arch=[8]", "flow_steps=2"]


@pytest.mark.slow
def test_a_checkout_is_about_as_fast_as_itself(capsys: pytest.CaptureFixture[str]) -> None:
    assert alternate.main([str(ROOT), str(ROOT), "--rounds", "3", "--updates", "20", *SMALL]) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert 0.2 < found["after_by_before"] < 5
    assert all(seconds > 0 for seconds in found["cpu_seconds_per_update"])


def test_turns_are_taken_in_changing_order(monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []

    class Worker:
        def __init__(self, name: str, seconds: str) -> None:
            self.name, self.seconds = name, seconds
            self.stdin = self.stdout = self

        def write(self, text: str) -> None:
            order.append(f"{self.name} {text.strip()}")

        def flush(self) -> None:
            pass

        def readline(self) -> str:
            return self.seconds

    workers = [Worker("before", "0.5\n"), Worker("after", "0.25\n")]
    for is_odd in (False, True):
        assert alternate.take_turns(workers, 3, is_odd) == (0.5, 0.25)  # type: ignore[arg-type]
    assert order == ["before 3", "after 3", "after 3", "before 3"]


def test_a_folder_that_is_no_checkout_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert alternate.main([str(tmp_path), str(ROOT)]) == 2
    assert "expected the root of a checkout of this repository" in capsys.readouterr().err
