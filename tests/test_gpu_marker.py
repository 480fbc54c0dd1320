"""Tests that need a GPU run wherever there is one, and only they see it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PLUGIN = """
import os
import torch

torch.cuda.is_available = lambda: os.environ.get("CUDA_VISIBLE_DEVICES") != ""
torch.cuda.init = lambda: None
"""
TESTS = """
import os
import pytest
import torch

def sees():
    return torch.cuda.is_available(), os.environ.get("CUDA_VISIBLE_DEVICES")

@pytest.mark.gpu
def test_marked():
    assert sees() == (True, {devices!r})

def test_other():
    assert sees() == (False, "")
"""


@pytest.mark.slow
@pytest.mark.parametrize("devices", [None, "3"], ids=["a process", "a worker of pytest-xdist"])
def test_marked_tests_see_the_gpu_and_no_others(
    devices: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pretend_cuda.py").write_text(PLUGIN)
    (tmp_path / "gpu").mkdir()  # whose name is no mark
    (tmp_path / "gpu" / "test_it.py").write_text(TESTS.format(devices=devices))
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers =\n    gpu: needs CUDA\n")
    for name, value in {"CUDA_VISIBLE_DEVICES": "", "DEVICES_OF_GPU_TESTS": devices}.items():
        monkeypatch.setenv(name, value) if devices else monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{ROOT}")
    words = [sys.executable, "-m", "pytest", "-p", "pretend_cuda", "-p", "tests.conftest", "-q", str(tmp_path)]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True)
    assert "2 passed" in done.stdout, done.stdout + done.stderr
