"""A gradient step stays as easy to follow as it is."""

from __future__ import annotations

import json

import pytest

from benchmarks import trace_step


def test_a_step_of_fql_is_followed_through_few_files(capsys: pytest.CaptureFixture[str]) -> None:
    found = trace_step.main(["--algo", "fql"])
    assert json.loads(capsys.readouterr().out) == found
    assert "agents/fql.py" in found["files"]
    assert found["number_of_files"] <= 8
    assert found["lines"] <= 2_050
    assert found["file_changes"] <= 50
