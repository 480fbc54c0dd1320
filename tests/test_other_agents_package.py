"""Another distribution's package `agents`, installed into the same folder before or after ours."""

import shutil
import subprocess
import sys

import pytest

from tests import ROOT


@pytest.mark.parametrize(
    ("ours_last", "code"), [(True, "import agents"), (True, "import zoo"), (False, "import zoo")]
)
def test_a_mixture_of_the_two_is_refused_with_the_way_on(tmp_path, ours_last, code):
    for package in ("agents", "zoo"):
        shutil.copytree(
            ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__")
        )
    (tmp_path / "agents" / "run.py").touch()
    if not ours_last:
        (tmp_path / "agents" / "__init__.py").write_text("import openai_of_theirs")
    command = [sys.executable, "-c", code]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert ran.returncode == 1
    message = ran.stderr.splitlines()[-1]
    assert message.startswith("ImportError: openai-agents and flow-rl-zoo both install")
    assert "pip uninstall openai-agents flow-rl-zoo" in message
