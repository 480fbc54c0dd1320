"""The page about registering an agent, command by command, with the zoo and the agent installed as packages."""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import sysconfig

import pytest

from tests import ROOT, code_blocks
from tests.docs.commands import commands_run_by
from tests.zoo.outcomes import status_of

SOURCES = (
    "agents",
    "zoo",
    "hyperparams",
    "benchmarks",
    "results",
    "pyproject.toml",
    "README.md",
    "LICENSE",
)
SMALLER = {
    "train": "--dataset-size 2000 --offline-steps 60 --eval-freq 20 --eval-episodes 1 --n-eval-envs 1 --device cpu",
    "tune": "--dataset-size 2000 --offline-steps 4 --eval-episodes 1 --device cpu --n-trials 1",
    "check": "--skip compiled",
    "pytest": "-k 'not compiled'",
    "benchmark": "--device cpu",
}
"""Flags that make the page's commands quick; later flags win."""
SUITE = "params: {offline_steps: 4, eval_freq: 4, eval_episodes: 1, dataset_size: 2000}\n"


def commands():
    """Yield the words of every command that the page marks as run by this test."""
    test = "test_the_page_works_word_by_word_in_a_fresh_environment"
    for words in commands_run_by(test).values():
        name = words[1 + (words[1] == "agents")] if words[0] == "zoo" else words[0]
        yield words + shlex.split(SMALLER.get(name, ""))


@pytest.fixture
def environment(tmp_path):
    """Return the environment variables of a virtual environment with this one's packages and the zoo from a wheel."""
    venv, source = tmp_path / "venv", tmp_path / "source"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(venv)], check=True)
    (site,) = venv.glob("lib/python*/site-packages")
    # .pth files in that folder are not read again, so an editable checkout of the zoo is not found
    (site / "parent.pth").write_text(sysconfig.get_path("purelib") + "\n")
    source.mkdir()
    for name in SOURCES:
        path = ROOT / name
        shutil.copytree(path, source / name) if path.is_dir() else shutil.copy(path, source / name)
    # with these variables, Python would find the checkout
    ours = ("PYTHON", "PYTEST", "VIRTUAL")
    variables = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    variables |= dict.fromkeys(
        ("PIP_NO_INDEX", "PIP_DISABLE_PIP_VERSION_CHECK", "OMP_NUM_THREADS"), "1"
    )
    # pip reads 0 as "without isolation"; with isolation it would download the build packages
    variables |= {"PIP_NO_BUILD_ISOLATION": "0", "PATH": f"{venv / 'bin'}:{os.environ['PATH']}"}
    run(f"pip install -q --no-deps --ignore-installed {source}".split(), tmp_path, variables)
    return variables


def run(words, folder, environment):
    """Run a command to its end, and return its output."""
    if words[0] in ("pip", "pytest"):
        # the programs on the PATH would start the parent environment's Python
        words = ["python", "-m", *words]
    program = str(shutil.which(words[0], path=environment["PATH"]))
    command = [program, *words[1:]]
    ran = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert ran.returncode == 0, f"{shlex.join(words)}\n{ran.stdout}\n{ran.stderr}"
    return ran.stdout


def interrupt(words, folder, environment):
    """Press Ctrl-C after the first evaluation of a run."""
    program = str(shutil.which(words[0], path=environment["PATH"]))
    with subprocess.Popen(
        [program, *words[1:]], cwd=folder, env=environment, stderr=subprocess.PIPE, text=True
    ) as process:
        for line in process.stderr:
            if "step 20" in line or re.search(r"\b20\b.*success", line):
                process.send_signal(signal.SIGINT)
                break
        process.stderr.read()
        assert process.wait(120) == 3


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_page_works_word_by_word_in_a_fresh_environment(tmp_path, environment):
    folder, outputs = tmp_path / "work", {}
    folder.mkdir()
    for words in commands():
        if words[0] == "cd":
            folder /= words[1]
        elif words[:2] == ["zoo", "train"] and "--resume" not in words:
            interrupt(words, folder, environment)
        else:
            if words[:2] == ["zoo", "benchmark"]:
                (suite,) = code_blocks("docs/register.md", "yaml")
                (folder / words[2]).write_text(suite + SUITE)
            outputs[" ".join(words[:2])] = run(words, folder, environment)
    runs = sorted((folder / "logs" / "my_agent").glob("pointmaze-*"))
    assert [status_of(path)["offline_step"] for path in runs] == [60, 60, 60]
    assert " passed" in outputs["pytest -k"]
    assert json.loads(outputs["zoo benchmark"].splitlines()[-1])["done"] == 2
    assert json.loads(outputs["zoo compare"].splitlines()[-1])["runs"] == 3
    study = "my_agent_pointmaze-medium-navigate-singletask-task1-v0"
    assert (folder / "logs" / "studies" / study / "best.yml").exists()


@pytest.mark.slow
def test_an_installed_zoo_brings_its_suites_and_scores(tmp_path, environment):
    plan = run(["zoo", "benchmark", "mini", "--dry-run", "--device", "cpu"], tmp_path, environment)
    assert json.loads(plan.splitlines()[-1])["jobs"] > 0
    words = shlex.split("zoo compare --published mini rql2026 -o report --reps 50")
    assert json.loads(run(words, tmp_path, environment).splitlines()[-1])["methods"] > 10
