"""The page on your own data: its commands work, in the order in which they stand there, at a small size."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import gymnasium
import numpy as np
import pytest

from tests.zoo.datasets.own import joined, write_d4rl, write_minari, write_parquet
from zoo.cli import main

PAGE = Path(__file__).parents[1] / "docs" / "data.md"
TINY = "-params net_arch=[16,16] flow_steps=2 batch_size=16 horizon_length=2 buffer_size=1000"
SMALL = {"--offline-steps": "12", "--eval-freq": "6", "--episodes": "3"}


def commands() -> list[str]:
    """Return the commands of the page."""
    blocks = re.findall(r"```bash\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)
    return [line for block in blocks for line in block.splitlines() if not line.startswith("#")]


def made_small(command: str) -> list[str]:
    """Return the words of a command, with small numbers."""
    words = shlex.split(command)[1:]
    words = [SMALL.get(before, word) for before, word in zip(["", *words], words, strict=False)]
    if words[0] == "train":
        ensemble = " ensemble_size=2" if "bc" not in words else ""
        words += [*shlex.split(TINY + ensemble), "--eval-episodes", "2", "--n-eval-envs", "1"]
    return words + (["--reps", "50", "--format", "svg"] if words[0] == "compare" else [])


def pendulum(count: int = 2) -> list[dict[str, np.ndarray]]:
    """Play episodes of which the first is said to terminate."""
    env, generator, parts = gymnasium.make("Pendulum-v1", max_episode_steps=12), np.random.default_rng(0), []
    for number in range(count):
        observations, actions, rewards, is_over = [env.reset(seed=number)[0]], [], [], False
        while not is_over:
            actions.append(generator.uniform(-2, 2, 1).astype(np.float32))
            observation, reward, _, is_over, _ = env.step(actions[-1])
            observations.append(observation)
            rewards.append(float(reward))
        ends = np.zeros(len(actions), bool)
        ends[-1] = number == 0
        arrays = {"observations": observations, "actions": actions, "rewards": rewards, "terminated": ends}
        parts.append({name: np.array(values) for name, values in arrays.items()})
    return parts


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder with what the page takes as given, which is the current one."""
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    parts = pendulum()
    env = gymnasium.make("Pendulum-v1")
    spaces = {"observation_space": env.observation_space, "action_space": env.action_space}
    write_minari(tmp_path / "minari", parts, "pendulum/mine-v0", env="Pendulum-v1", **spaces)
    write_parquet(tmp_path, parts)
    write_d4rl(tmp_path, parts)
    table = {"joints": list(parts[0]["observations"][:-1]), "torque": list(joined(parts[:1], "actions"))}
    parquet.write_table(pyarrow.table(table), "logs_of_a_robot.parquet")
    Path("my_controller.py").write_text("def swing_up(observation):\n    return -observation[2:]\n")
    return tmp_path


@pytest.mark.slow
def test_every_command_of_the_page_works(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = commands()
    assert len(lines) >= 14
    results = {}
    for line in lines:
        assert line.startswith("zoo ")
        assert main(made_small(line)) == 0, (line, capsys.readouterr().err)
        results[line] = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert all(result["sound"] for line, result in results.items() if " check " in line)
    assert [result["already_done"] for line, result in results.items() if line.endswith("--resume")] == [True]
    assert [result["normalised_return"] < 1 for line, result in results.items() if "--reference" in line] == [True]
    assert [result["success"] for line, result in results.items() if "--success-return" in line] == [0.0]
    assert (place / "report" / "report.html").is_file()


def test_each_option_of_the_page_is_one(capsys: pytest.CaptureFixture[str]) -> None:
    options = set(re.findall(r"--[a-z][a-z-]+", PAGE.read_text()))
    known = ""
    programs = (["train"], ["compare"], *(["dataset", word] for word in ("check", "convert", "collect", "show")))
    for words in programs:
        with pytest.raises(SystemExit):
            main([*words, "--help"])
        known += capsys.readouterr().out
    assert {option for option in options if not re.search(rf"{option}\b", known)} == set()
