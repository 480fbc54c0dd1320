"""Libraries in the compiler's cache that cannot be loaded."""

import os
import subprocess
import sys

import pytest

from tests import ROOT

TRAIN = """
from tests.common.toys import tiny_model, toy_batch, toy_noise
model = tiny_model("bc", compile="on")
model.trainer.update_on(toy_batch(model), toy_noise(model))
assert model.trainer.mode.compiled
"""


@pytest.mark.slow
def test_what_a_killed_compilation_left_is_compiled_again(tmp_path):
    known = {**os.environ, "PYTHONPATH": str(ROOT), "TORCHINDUCTOR_CACHE_DIR": str(tmp_path)}
    for _ in range(2):
        subprocess.run([sys.executable, "-c", TRAIN], env=known, check=True)
        for library in tmp_path.glob("*/*.main.so"):
            os.truncate(library, 100)
