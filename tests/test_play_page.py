"""Every command of docs/play.md and docs/trained.md, as it stands there, with fewer and shorter episodes."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import numpy as np
import pytest

import agents
from tests.zoo.models.conftest import ENV, maze_model, write_run
from zoo import enjoy, evaluate
from zoo.envs import rendering

DOCS = Path(__file__).parents[1] / "docs"
PROGRAMS = {"zoo/enjoy.py": enjoy.main, "zoo/evaluate.py": evaluate.main}
NOT_RUN = {"zoo/benchmark.py", "tools/make_trained.py"}


def commands() -> list[list[str]]:
    """Return the words after ``python`` of every command on the pages."""
    text = (DOCS / "play.md").read_text() + (DOCS / "trained.md").read_text()
    blocks = re.findall(r"```bash\n(.*?)```", text, flags=re.DOTALL)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines() if line.strip()]
    assert all(line.startswith("python ") for line in lines), lines
    return [shlex.split(line, comments=True)[1:] for line in lines]


@pytest.fixture(autouse=True)
def _logs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work where there are two runs and a saved model, and where only maps are drawn."""
    model = maze_model(seed=3)
    for _ in range(2):
        model.save(write_run(tmp_path / "logs", model).best_model)
    model.save(tmp_path / "model.zip")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(rendering, "_works", lambda name: False)


def test_there_are_commands_of_both_programs() -> None:
    assert {words[0] for words in commands()} == {*PROGRAMS, *NOT_RUN}


@pytest.mark.parametrize("words", [each for each in commands() if each[0] in PROGRAMS], ids=" ".join)
def test_a_command_of_the_pages_runs(words: list[str], tmp_path: Path) -> None:
    fewer = [] if "--interval" in words else ["--episodes", "1"]
    if "--video" in words:
        fewer += ["--every", "50"]
    # nothing of these untrained models reaches the goal, so a stated success of at least 90% is not reproduced
    expected = 1 if "--interval" in words else 0
    assert PROGRAMS[words[0]]([*words[1:], *fewer]) == expected
    if "--video" in words:
        assert (tmp_path / words[words.index("--video") + 1]).stat().st_size > 1000


def test_the_snippet_that_saves_a_policy_runs() -> None:
    (snippet,) = re.findall(r"```python\n(.*?)```", (DOCS / "play.md").read_text(), flags=re.DOTALL)
    names = {"observation": np.zeros(maze_model().observation_space.shape)}  # type: ignore[arg-type]  # it has a shape
    exec(snippet, names)  # type: ignore[arg-type]  # more names follow
    assert names["action"].shape == (2,)
    assert agents.load_policy("policy.safetensors").seeds == [3]
    assert ENV in snippet
