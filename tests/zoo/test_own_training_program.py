"""The page's agent with rates, priorities and a temperature of its own, through the programs."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from benchmarks.fault_suite.programs import Ended, Programs
from tests.zoo.test_benchmark_program import write_suite
from zoo.list_agents import main
from zoo.runs.folder import RunFolder

PAGE = Path(__file__).parents[2] / "docs" / "register.md"
ENV = "pointmaze-medium-navigate-singletask-task1-v0"
OWN = ["--algo", "my_sac:MySAC"]
WORDS = [*OWN, "--env", ENV, "--offline-steps", "12", "--eval-episodes", "1", "--n-eval-envs", "1", "--device", "cpu"]
WORDS += ["--env-kwargs", "max_episode_steps=9", "--verbose", "0"]
TINY = ["-params", "net_arch=[8]", "batch_size=8", "buffer_size=40", "learning_starts=4", "cloning_updates=20"]
RATE = "per_network.critic.learning_rate"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    blocks = re.findall(r"```py\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)
    (code,) = (block for block in blocks if "class MySAC" in block)
    (tmp_path / "my_sac.py").write_text(code)
    return tmp_path


@pytest.fixture
def run(folder: Path, programs: Programs, data: Path) -> Callable[..., Ended]:
    """Return what runs a program from the folder of the agent's file."""

    def ended(program: str, *words: str, **how: tuple[str, int]) -> Ended:
        return programs.run(program, [*WORDS, "--dataset-dir", str(data), *words], folder=folder, **how)

    return ended


@pytest.mark.slow
@pytest.mark.usefixtures("own_agents")
def test_it_passes_the_conformance_kit(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(folder)
    assert main(["check", "my_sac:MySAC", "--skip", "compiled"]) == 0, capsys.readouterr().err


@pytest.mark.slow
def test_a_killed_run_with_overrides_ends_as_an_uninterrupted_one(run: Callable[..., Ended], folder: Path) -> None:
    words = ["--seed", "3", "--online-steps", "24", "--save-freq", "5", "--eval-freq", "12", "--log-interval", "3"]
    words += ["--resume", *TINY, "learning_rate=lin_1e-3", f"{RATE}=warmup_4_cos_1e-2", "per_network.critic.tau=0.1"]
    found = []
    for logs, kills in (("whole", []), ("parts", [("update", 8), ("step", 14)])):
        for kill in kills:  # offline, then online
            assert run("train", "-f", logs, *words, kill=kill).code == -9
        ended = run("train", "-f", logs, *words)
        assert ended.code == 0, ended.err
        path = folder / logs / "my_sac" / f"{ENV}_1"
        assert json.loads((path / "status.json").read_text())["state"] == "done"
        table = pd.read_csv(path / "progress.csv").filter(regex="^train/")
        with np.load(path / "evaluations.npz") as kept:
            found.append((table, {name: kept[name].tobytes() for name in kept.files}))
        config = RunFolder(path).read_config()["settings"]
        assert config["per_network"] == {"critic": {"learning_rate": "warmup_4_cos_1e-2", "tau": 0.1}}
    pd.testing.assert_frame_equal(*(table.sort_index(axis=1) for table, _ in found))
    assert found[0][1] == found[1][1]
    rates = found[0][0]["train/learning_rate_critic"].dropna()
    assert rates.iloc[0] == pytest.approx(1e-2 * 3 / 4 * (1 + np.cos(np.pi * 2 / 12)) / 2)


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("per_network.critc.tau=1", "unknown network of MySAC `critc`; closest: critic"),
        ("per_network.actor.train_evry=2", "closest: train_every"),
        ("balanced_sampling=true", "set `balanced_sampling` to False"),
    ],
)
def test_what_is_wrong_is_refused_before_training(
    run: Callable[..., Ended], folder: Path, word: str, message: str
) -> None:
    ran = run("train", *TINY, word)
    assert (ran.code, message in ran.err.splitlines()[-1]) == (2, True), ran.err
    assert not list(folder.glob("logs/*"))


@pytest.mark.slow
def test_a_suite_trains_it_and_tuning_searches_a_networks_rate(
    run: Callable[..., Ended], folder: Path, data: Path, programs: Programs
) -> None:
    params = {"per_network": {"critic": {"learning_rate": 1e-3}}, "batch_size": 8, "net_arch": [8]}
    suite = write_suite(folder, data, ["my_sac:MySAC"], steps=6)
    content = yaml.safe_load(suite.read_text())
    suite.write_text(yaml.safe_dump(content | {"params": content["params"] | params}))
    ended = programs.run("benchmark", ["suite.yml", "-f", "logs", "--device", "cpu", "--no-report"], folder=folder)
    assert ended.code == 0, ended.err
    assert ended.result["runs"] == 2
    words = ["--seeds", "4-5", "--study-name", "s", "--max-total-trials", "2", "--search", f"{RATE}=1e-4:1e-2:log"]
    tuned = run("tune", *words, *TINY)
    assert tuned.code == 0, tuned.err
    tried = pd.read_csv(folder / "logs" / "studies" / "s" / "trials.csv")[RATE]
    assert tried.between(1e-4, 1e-2).all()
    assert tried.nunique() == 2
    best = yaml.safe_load(Path(tuned.result["best_conf"]).read_text())[ENV]
    assert set(best["per_network"]["critic"]) == {"learning_rate"}
