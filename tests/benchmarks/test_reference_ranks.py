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

import agents
from agents.common.engine import trainer
from benchmarks import planted_faults, reference_ranks
from benchmarks.rank_table import (
    COLUMNS,
    MEAN,
    Design,
    compare,
    describe_control,
    find_missing,
    summarise,
)
from benchmarks.reference_ranks import OURS, PAGE, REFERENCE, add_runs, with_earlier
from tests.common.toys import toy_dataset
from tests.envs import SpacesEnv
from tests.zoo.runs.test_read import write_run

DESIGN = Design({"qam": (10, 20), "fql": (10, 20)}, (1, 5), range(8))


def scores(shift: int = 0, seed: int = 0, design: Design = DESIGN) -> pd.DataFrame:
    """Return made-up scores of a design: 4 to 8 successes of 20, and a shift."""
    generator = np.random.default_rng(seed)
    rows = [
        [algorithm, task, run, step, successes, 20, 1000.0 - 40 * successes, 0]
        for algorithm, steps in design.checkpoints.items()
        for task in design.tasks
        for run in design.seeds
        for step in steps
        for successes in [int(generator.integers(4, 9)) + shift]
    ]
    return pd.DataFrame(rows, columns=COLUMNS)


def test_the_same_distribution_is_not_significant_and_a_shifted_one_is() -> None:
    ours, theirs = scores(), scores(seed=1)
    tests = compare(ours, theirs, DESIGN)
    assert len(tests) == DESIGN.tests == 2 * 2 * (2 * 2 + 1)  # each cell and each mean, of success and of length
    assert (tests["adjusted"] > 0.05).all()
    ours.loc[ours["algorithm"] == "fql", "successes"] += 8
    tests = compare(ours, theirs, DESIGN)
    found = tests[tests["adjusted"] <= 0.05]
    assert set(found["algorithm"]) == {"fql"}
    assert set(found["score"]) == {"success"}
    assert "fql, success, task 5 at 20 (p = " in summarise(tests, {}, DESIGN)


def test_what_is_missing_is_named_and_the_rest_is_tested_in_the_whole_family() -> None:
    ours = scores()
    ours = ours[(ours["algorithm"] == "qam") & ~((ours["task"] == 5) & (ours["seed"] == 3) & (ours["step"] == 20))]
    gaps = find_missing(ours, DESIGN)
    assert gaps == {("qam", 5): [3], ("fql", 1): list(range(8)), ("fql", 5): list(range(8))}
    tests = compare(ours, scores(seed=1, shift=8), DESIGN)
    assert tests["adjusted"].min() == pytest.approx(DESIGN.tests * tests["p"].min())
    assert set(tests["algorithm"]) == {"qam"}
    assert tests[tests["task"] == MEAN]["seeds"].tolist() == [(7, 8)] * 2
    text = summarise(tests, {"Ours": gaps, "Originals": {}}, DESIGN)
    assert "Ours: 1 of 4 pairs of algorithm and task; **missing**: qam task 5 (seeds 3), fql." in text
    assert "Originals: complete" in text


def test_the_control_counts_pairs_of_different_algorithms_that_the_tests_tell_apart() -> None:
    ours, theirs = scores(), scores(seed=1)
    assert "the means of 0 of 2 such pairs" in describe_control(ours, theirs, DESIGN)
    theirs.loc[theirs["algorithm"] == "fql", "successes"] += 8
    with_fault = pd.concat([ours, scores(design=Design({"fault": (10, 20)}, (1, 5), range(8)))])
    assert "the means of 1 of 2 such pairs" in describe_control(with_fault, theirs, DESIGN)


def test_tests_at_the_floor_leave_the_family_whatever_their_difference() -> None:
    ours, theirs = scores(), scores(seed=1)
    at_floor = (ours["algorithm"] == "fql") & (ours["step"] == 10)
    for table in (ours, theirs):
        table.loc[at_floor, ["successes", "mean_length"]] = [0, 1000]
    ours.loc[at_floor & (ours["seed"] < 3), "successes"] = 20  # however many of one side: three of 16 cannot be enough
    tests = compare(ours, theirs, DESIGN)
    left_out = tests[tests["adjusted"].isna()]
    assert len(left_out) == 4
    assert set(left_out["step"]) == {"10"}
    kept = tests["adjusted"].dropna()
    assert kept.min() == pytest.approx(min(1, (DESIGN.tests - 4) * tests.loc[kept.index, "p"].min()))


def test_a_row_is_within_the_margin_only_if_its_whole_interval_is() -> None:
    ours, theirs = scores(), scores(seed=1)
    ours.loc[ours["algorithm"] == "fql", "successes"] += 2  # 10 points
    means = compare(ours, theirs, DESIGN).query("task == 'mean' and score == 'success'").set_index("algorithm")
    assert means["is_within"].to_dict() == {"qam": True, "fql": False}
    assert "**1 of 2 rows are shown to be equal" in summarise(compare(ours, theirs, DESIGN), {}, DESIGN)


def test_rows_come_from_the_earlier_file_until_both_sides_have_every_seed(tmp_path: Path) -> None:
    for side in ("ours", "originals"):
        scores(shift=1).to_csv(tmp_path / f"{side}.csv", index=False)
    now = {"Ours": scores(), "Originals": scores().query("algorithm == 'qam'")}
    sides, replaced = with_earlier(now, tmp_path, DESIGN)
    assert replaced == ["fql"]
    for side in sides.values():
        assert side.query("algorithm == 'qam'")["successes"].tolist() == scores()[:32]["successes"].tolist()
        assert side.query("algorithm == 'fql'")["successes"].tolist() == scores(shift=1)[32:]["successes"].tolist()


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
    settings = {"net_arch": [64, 64], "batch_size": 128} | changes.pop("settings", {})
    values = {"algo": "fql", "env": env, "seed": seed, "offline": (2, 10, 20), "episodes": 20, "every": 700}
    return write_run(folder / name, settings=settings, **values | changes)


def test_finished_runs_become_scores_and_diverged_ones_have_none_where_they_did_not_come(tmp_path: Path) -> None:
    own_run(tmp_path, "a", 4)
    diverged = own_run(tmp_path, "diverged", 7, offline=(2,), state="failed", offline_steps=2_100)
    status = json.loads((diverged / "status.json").read_text())
    (diverged / "status.json").write_text(json.dumps({**status, "reason": "training diverged: loss is NaN"}))
    own_run(tmp_path, "unfinished", 5, state="interrupted")
    own_run(tmp_path, "of_another_size", 6, settings={"net_arch": [128, 128, 128]})
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
    theirs = scores(design=Design({"fql": (700, 1_400, 2_100)}, (5,), range(2)))
    theirs.to_csv(folder / "theirs.csv", index=False)
    (folder / "theirs.yml").write_text(REFERENCE.with_suffix(".yml").read_text())
    paths = {"--reference": "theirs.csv", "--scores": "ours.csv", "-o": "page.md", "-f": "logs"}
    return [word for flag, name in paths.items() for word in (flag, str(folder / name))] + ["--seeds", "0-1"]


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
        for seed in range(2):
            own_run(tmp_path / "logs", f"run{len(commands)}_{seed}", seed, env=words[words.index("--env") + 1])
        return type("Finished", (), {"returncode": 0})

    monkeypatch.setattr(reference_ranks.subprocess, "run", train)
    words = [*arguments(tmp_path), "--only", "fql", *the_data(tmp_path, monkeypatch)]
    assert reference_ranks.main([*words, "--tasks", "5"]) == 0
    assert len(commands) == 1
    assert {"--quick", "--resume", "net_arch=[64, 64]", "batch_size=128", "eval_freq=700"} <= set(commands[0])
    assert commands[0][commands[0].index("--seeds") + 1] == "0-1"
    assert reference_ranks.main(words) == 0
    assert len(commands) == 2  # task 1
    assert "fql task5" not in json.loads(capsys.readouterr().out.splitlines()[-1])["missing"]["ours"]
    assert "| fql | 5 | 700 |" in (tmp_path / "page.md").read_text()


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


def test_a_file_of_other_columns_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = arguments(tmp_path)
    (tmp_path / "theirs.csv").write_text("algorithm,score\nfql,1\n")
    assert reference_ranks.main([*words, "--table-only"]) == 2
    assert "expected the columns algorithm,task" in capsys.readouterr().err


def test_the_committed_page_is_that_of_the_committed_scores(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "page.md"
    page.write_text(PAGE.read_text())
    shutil.copytree(OURS.parent, tmp_path, dirs_exist_ok=True)
    words = ["--table-only", "-f", str(tmp_path / "none"), "--scores", str(tmp_path / "ours.csv")]
    assert reference_ranks.main([*words, "-o", str(page)]) == 0
    assert page.read_text() == PAGE.read_text()
