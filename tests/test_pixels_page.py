"""The page on images: its commands work, in the order in which they stand there, at a small size."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from zoo.cli import main
from zoo.envs.rendering import PLATFORMS, VARIABLE, _works

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "pixels.md"
TINY = "-params net_arch=[16,16] flow_steps=2 batch_size=8 horizon_length=2 buffer_size=100 ensemble_size=2"
SMALL = {"--episode-steps": "12", "--offline-steps": "12", "--episodes": "2", "--env": "tests.envs:Pictures-v0"}
VISUAL_RUN = ["--offline-steps", "4", "--eval-freq", "4", "--n-eval-envs", "1", "--env-kwargs", "max_episode_steps=6"]


def commands(mark: str) -> list[str]:
    """Return the commands of the blocks that a test of this file runs."""
    blocks = re.findall(r"<!-- run by: \S+::(\w+) -->\n```bash\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)
    return [line for name, block in blocks if name == mark for line in block.splitlines()]


def made_small(command: str) -> list[str]:
    """Return the words of a command, with small numbers."""
    words = shlex.split(command)[1:]
    is_visual = any("visual-" in word for word in words)
    small = {key: value for key, value in SMALL.items() if not (is_visual and key in ("--env", "--episodes"))}
    words = [small.get(before, word) for before, word in zip(["", *words], words, strict=False)]
    if words[0] == "train":
        more = VISUAL_RUN if is_visual else ["--eval-freq", "6", "--eval-episodes", "2", "--n-eval-envs", "1"]
        index = words.index("-params") if "-params" in words else len(words)
        words = [*words[:index], *more, *shlex.split(TINY), *words[index + 1 :]]
    return words + (["--reps", "50"] if words[0] == "compare" else [])


@pytest.mark.slow
def test_every_command_for_ogbench_works(tmp_path: Path) -> None:
    platform = next((name for name in PLATFORMS if _works(name)), None)
    if platform is None:
        pytest.skip("MuJoCo can draw nothing here")
    fixed = {"HOME": str(tmp_path), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    environment = {name: value for name, value in os.environ.items() if name != VARIABLE} | fixed
    results = []
    for line in commands("test_every_command_for_ogbench_works"):
        program = [sys.executable, "-c", "import sys, zoo.cli; sys.exit(zoo.cli.main())", *made_small(line)]
        ended = subprocess.run(program, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600)
        assert ended.returncode == 0, (line, ended.stderr)
        results.append(json.loads(ended.stdout.splitlines()[-1]))
    generated, trained, resumed, evaluated, watched, _ = results
    assert generated["rows"] == 26
    assert resumed["already_done"]
    assert trained["return"] == resumed["return"] == evaluated["return"] == watched["return"]
    assert (tmp_path / "cube.gif").stat().st_size > 0
    config = yaml.safe_load((tmp_path / trained["run"] / "config.yml").read_text())
    found = [config["settings"][name] for name in ("encoder", "frame_stack", "random_crop")]
    assert found == ["impala_debug", 3, 0.5]  # the encoder is that of `--quick`
    assert any("untuned" in source for source in config["sources"])


@pytest.mark.slow
def test_every_command_for_your_own_images_works(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    results: list[dict[str, Any]] = []
    for line in commands("test_every_command_for_your_own_images_works"):
        assert main(made_small(line)) == 0, (line, capsys.readouterr().err)
        results.append(json.loads(capsys.readouterr().out.splitlines()[-1]))
    assert results[1]["sound"]
    config = yaml.safe_load((Path(results[2]["run"]) / "config.yml").read_text())
    assert config["settings"]["frame_stack"] == 3
