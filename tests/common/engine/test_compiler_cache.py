"""Libraries in the compiler's cache that cannot be loaded."""

import os
import subprocess
import sys

import pytest

from agents.common.engine.execution import remove_unloadable_library
from tests import ROOT

TRAIN = """
from tests.common.toys import tiny_model, toy_batch, toy_noise
model = tiny_model("bc", compile="on")
model.trainer.update_on(toy_batch(model), toy_noise(model))
assert model.trainer.mode.compiled
"""


@pytest.mark.slow
def test_what_a_killed_compilation_left_is_compiled_again_and_other_libraries_stay(tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TORCHINDUCTOR_CACHE_DIR": str(tmp_path)}
    library_in_use = tmp_path / "aa" / "of_another_process.so"
    for _ in range(2):
        subprocess.run([sys.executable, "-c", TRAIN], env=environment, check=True)
        for library in sorted(tmp_path.glob("*/*.main.so"))[:2]:
            os.truncate(library, 100)
        library_in_use.parent.mkdir(exist_ok=True)
        library_in_use.touch()
    assert library_in_use.exists()


def test_only_the_library_that_an_error_names_is_removed(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    damaged = tmp_path / "ab" / "cabc.main.so"
    intact = tmp_path / "cd" / "ccde.main.so"
    for library in (damaged, intact):
        library.parent.mkdir()
        library.touch()
    error = f"InductorError: ImportError: {damaged}: file too short"
    assert remove_unloadable_library(error) == damaged
    assert not damaged.exists()
    assert intact.exists()
    assert remove_unloadable_library(error) is None
    assert remove_unloadable_library("ImportError: /usr/lib/libgomp.so: file too short") is None
