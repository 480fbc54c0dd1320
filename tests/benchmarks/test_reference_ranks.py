"""The comparison with the originals: what is tested, what is missing, what is trained and what is written."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats

import agents
from agents.common.engine import trainer
from benchmarks import planted_faults, reference_ranks
from benchmarks.rank_table import COLUMNS, compare_sides, describe_fresh
from benchmarks.reference_ranks import OURS, PAGE, add_runs
from tests.common.toys import toy_dataset
from tests.envs import SpacesEnv
from tests.zoo.runs.test_read import write_run


def scores(algorithms: list[str], seed: int, seeds: int = 8) -> pd.DataFrame:
    """Return made-up scores, 4 to 8 successes of 20; algorithms share them, as if all of their numbers were shared."""
    generator = np.random.default_rng(seed)
    rows = [
        [algorithm, task, run, step, successes, 20, 1000.0 - 40 * successes, 0]
        for run in range(seeds)
        for task in (1, 5)
        for step in (700, 1_400, 2_100)
        for successes in [int(generator.integers(4, 9))]
        for algorithm in algorithms
    ]
    return pd.DataFrame(rows, columns=COLUMNS)


def test_the_difference_of_seed_means_has_welchs_interval() -> None:
    sides = [scores(["qam"], 0), scores(["qam"], 1, seeds=5)]
    found = compare_sides(sides, ["qam"])
    means = [100 * side.groupby("seed")["successes"].mean() / 20 for side in sides]
    interval = stats.ttest_ind(*means, equal_var=False).confidence_interval(0.9)
    assert found is not None
    assert found["seeds"] == (8, 5)
    assert found["success"] == pytest.approx((means[0].mean() - means[1].mean(), interval.low, interval.high))


@pytest.mark.parametrize(("successes", "verdicts"), [(0, "yes | yes"), (1, "yes | not shown"), (2, "not shown")])
def test_a_row_is_within_a_margin_only_if_its_whole_interval_is(successes: int, verdicts: str) -> None:
    ours = scores(["qam"], 0, seeds=80)
    text = describe_fresh([ours.assign(successes=ours["successes"] + successes), ours], ["qam"], ["qam"])
    row = text.splitlines()[2]
    assert f"] | {verdicts}" in row


@pytest.mark.parametrize("fault", planted_faults.FAULTS)
def test_planted_faults_change_one_update_and_nothing_that_is_shipped(
    fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainer.Trainer, "apply", trainer.Trainer.apply)  # both are put back
    monkeypatch.setattr(trainer, "scale", trainer.scale)

    def update() -> torch.Tensor:
        model = agents.QAM("MlpPolicy", SpacesEnv(4, 2), seed=0, max_grad_norm=1e-3, tau=0.5, net_arch=[8])
        model.load_dataset(toy_dataset())
        for _ in range(2):
            model.trainer.update(8)
        return torch.cat([parameter.flatten() for parameter in model.policy.nets.parameters()])

    sound = update()
    assert torch.equal(sound, update())
    planted_faults.FAULTS[fault]()
    assert not torch.equal(sound, update())


def own_run(folder: Path, name: str, seed: int, **changes: Any) -> Path:
    """Write a run of FQL as this comparison trains it, with 2, 10 and 20 successes."""
    env = reference_ranks.ENV.format(5)
    values = {"algo": "fql", "env": env, "seed": seed, "offline": (2, 10, 20), "episodes": 20, "every": 700}
    return write_run(folder / name, **values | changes)


def test_finished_runs_become_scores_and_diverged_ones_have_none_where_they_did_not_come(tmp_path: Path) -> None:
    own_run(tmp_path, "a", 4)
    diverged = own_run(tmp_path, "diverged", 7, offline=(2,), state="failed", offline_steps=2_100)
    status = json.loads((diverged / "status.json").read_text())
    (diverged / "status.json").write_text(json.dumps({**status, "reason": "training diverged: loss is NaN"}))
    own_run(tmp_path, "unfinished", 5, state="interrupted")
    found = add_runs(pd.DataFrame(columns=COLUMNS), tmp_path)
    assert found.to_numpy().tolist() == [
        ["fql", 5, 4, 700, 2, 20, 200.0, 0],
        ["fql", 5, 4, 1_400, 10, 20, 200.0, 0],
        ["fql", 5, 4, 2_100, 20, 20, 200.0, 0],
        ["fql", 5, 7, 700, 2, 20, 200.0, 0],
        ["fql", 5, 7, 1_400, 0, 20, 1000.0, 1],
        ["fql", 5, 7, 2_100, 0, 20, 1000.0, 1],
    ]


def arguments(folder: Path) -> list[str]:
    scores(["fql"], 0).to_csv(folder / "theirs.csv", index=False)
    paths = {"--reference": "theirs.csv", "--scores": "ours.csv", "-o": "page.md", "-f": "logs"}
    return [word for flag, name in paths.items() for word in (flag, str(folder / name))] + ["--seeds", "200-201"]


def the_data(folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the words that name a folder with the data of the comparison."""
    (folder / "pointmaze-medium-navigate-v0.npz").write_bytes(b"the data")
    monkeypatch.setattr(reference_ranks, "DATA_SHA256", hashlib.sha256(b"the data").hexdigest())
    return ["--dataset-dir", str(folder)]


def test_only_what_is_missing_is_trained_by_the_training_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    commands: list[list[str]] = []

    def train(words: list[str], **_: Any) -> Any:
        commands.append(words)
        for seed in (200, 201):
            own_run(tmp_path / "logs", f"run{len(commands)}_{seed}", seed, env=words[words.index("--env") + 1])
        return type("Finished", (), {"returncode": 0})

    monkeypatch.setattr(reference_ranks.subprocess, "run", train)
    words = [*arguments(tmp_path), "--only", "fql", *the_data(tmp_path, monkeypatch)]
    assert reference_ranks.main([*words, "--tasks", "5"]) == 0
    assert len(commands) == 1
    assert {"--quick", "--resume", "net_arch=[64, 64]", "batch_size=128", "eval_freq=700"} <= set(commands[0])
    assert commands[0][commands[0].index("--seeds") + 1] == "200-201"
    assert reference_ranks.main(words) == 0
    assert len(commands) == 2  # task 1
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["trained"] == ["fql task1"]
    assert len(pd.read_csv(tmp_path / "ours.csv")) == 2 * 2 * 3


@pytest.mark.parametrize("content", [b"other data", None])
def test_data_that_the_originals_were_not_trained_on_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], content: bytes | None
) -> None:
    words = the_data(tmp_path, monkeypatch)
    path = tmp_path / "pointmaze-medium-navigate-v0.npz"
    path.unlink() if content is None else path.write_bytes(content)
    monkeypatch.setattr(reference_ranks.subprocess, "run", lambda *_, **__: pytest.fail("it trains"))
    assert reference_ranks.main([*arguments(tmp_path), *words]) == 2
    message = capsys.readouterr().err
    assert hashlib.sha256(b"the data").hexdigest() in message
    assert "no such file" in message if content is None else hashlib.sha256(content).hexdigest() in message
    assert "zoo dataset generate pointmaze-medium-navigate-v0" in message
    assert not (tmp_path / "ours.csv").exists()


def test_the_committed_page_is_that_of_the_committed_scores(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "page.md"
    page.write_text(PAGE.read_text())
    shutil.copytree(OURS.parent, tmp_path, dirs_exist_ok=True)
    words = ["--table-only", "-f", str(tmp_path / "none"), "--scores", str(tmp_path / "ours.csv")]
    assert reference_ranks.main([*words, "-o", str(page)]) == 0
    assert page.read_text() == PAGE.read_text()
