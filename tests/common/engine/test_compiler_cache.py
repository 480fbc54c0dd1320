"""Libraries in the compiler's cache that cannot be loaded."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.common.toys import tiny_model, toy_batch, toy_noise

ROOT = Path(__file__).parents[3]
TRAIN = """
from tests.common.toys import tiny_model, toy_batch, toy_noise
model = tiny_model("bc", compile="on")
model.trainer.update_on(toy_batch(model), toy_noise(model))
assert model.trainer.mode.compiled
"""


@pytest.mark.parametrize(("failures", "is_compiled"), [(1, True), (2, False)])
def test_libraries_are_removed_once_and_compiled_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failures: int, is_compiled: bool
) -> None:
    library = tmp_path / "ab" / "cabc.main.so"
    library.parent.mkdir()
    library.touch()
    left = [ImportError(f"{library}: file too short")] * failures

    def compile(losses: Callable[..., Any], **settings: Any) -> Callable[..., Any]:
        def load(*arguments: Any) -> Any:
            if left:
                raise RuntimeError("backend='inductor' raised:\nImportError: " + str(left[0])) from left.pop()
            return losses(*arguments)

        return load

    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(torch, "compile", compile)
    model = tiny_model("bc", compile="on")
    with pytest.warns(UserWarning, match=f"{library}: file too short; the compiler's libraries are compiled again"):
        model.trainer.update_on(toy_batch(model), toy_noise(model))
    assert not library.exists()
    assert model.trainer.mode.compiled == is_compiled


@pytest.mark.slow
def test_what_a_killed_compilation_left_is_compiled_again(tmp_path: Path) -> None:
    known = {**os.environ, "PYTHONPATH": str(ROOT), "TORCHINDUCTOR_CACHE_DIR": str(tmp_path)}
    for _ in range(2):
        subprocess.run([sys.executable, "-c", TRAIN], env=known, check=True)
        for library in tmp_path.glob("*/*.main.so"):
            os.truncate(library, 100)
