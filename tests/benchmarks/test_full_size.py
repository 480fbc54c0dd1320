"""The documentation page about runs at the papers' size."""

import json
from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from benchmarks import full_size
from tests.zoo.runs.helpers import ENV, write_run
from zoo.runs.folder import RunFolder

PUBLISHED = np.array([20, 34, 36, 38, 40, 40, 42, 42, 44, 50, 56, 56])
TIED = [
    (np.array([56]), PUBLISHED),
    (np.array([40, 44]), PUBLISHED),
    (np.array([94, 100, 100]), np.array([86, 92, 94, 94, 94, 96, 96, 98, 98, 100, 100, 100])),
]


def test_runs_without_an_evaluation_are_refused_with_what_to_do(tmp_path, capsys):
    RunFolder.create(tmp_path, "qam", "scene-play-singletask-task4-v0")
    assert full_size.main(["-f", str(tmp_path), "-o", str(tmp_path)]) == 2
    assert "train some first" in capsys.readouterr().err


def test_groups_are_tested_by_all_choices_of_our_seeds():
    observed, choices = 0.0, np.zeros(1)
    for ours, published in TIED:
        ranks = stats.rankdata([*ours, *published]) / (len(ours) + len(published) + 1)
        observed += ranks[: len(ours)].sum()
        sums = [sum(choice) for choice in combinations(ranks, len(ours))]
        choices = np.add.outer(choices, sums).ravel()
    away = abs(observed - choices.mean())
    exact = np.mean(np.abs(choices - choices.mean()) > away - 1e-9)
    assert full_size.rank_test(TIED) == pytest.approx(exact)


def test_a_method_counts_once_on_a_task_after_most_updates():
    rows = [
        ("fql", 0, 25_000, 0),
        ("fql", 0, 50_000, 5),
        ("fql", 0, 100_000, 7),
        ("fql", 1, 50_000, 6),
        ("qam", 0, 100_000, 50),
    ]
    scores = pd.DataFrame(rows, columns=["method", "seed", "step", "successes"])
    published = [("FQL", step, seed, seed) for step in (50_000, 100_000) for seed in (4, 5)]
    published += [("QAM", 100_000, 0, 50)]
    published = pd.DataFrame(published, columns=["method", "step", "seed", "score"])
    published["score"] /= 50
    about = {"environment": ENV, "episodes": 50}
    comparison = full_size.compare(scores.assign(**about, data_seed=0), published.assign(**about))
    # ranks are fractions, because equal scores share their mean rank
    assert comparison["rank"].tolist()[1:] == [2.5, 3, 3, 1.5]
    groups = full_size.tested_groups(comparison)
    assert [*groups] == [f"FQL on {ENV}", f"QAM on {ENV}"]
    sides = [[side.tolist() for side in group] for group in groups.values()]
    assert sides == [[[10, 12], [8, 10]], [[100], [100]]]


def test_seeds_at_once_share_the_hours_of_their_gpu(tmp_path):
    versions = {
        "processor": "AMD EPYC",
        "git_commit": "c5fbd7b9",
        "packages": {"mujoco": "3.4.0"},
        "data": {"sha256": "58598f1c", "seed": 1},
    }
    for device, seeds in {"NVIDIA H100": [0, 1], "cpu": [2]}.items():
        for seed in seeds:
            folder = tmp_path / "logs" / f"qam_{seed}"
            write_run(
                folder,
                seed=seed,
                offline=[45],
                interval=50_000,
                hours=0.1,
                settings={"precision": "bf16"},
                seeds=seeds,
                folders=[f"qam_{seed}" for seed in seeds],
            )
            (folder / "versions.json").write_text(json.dumps(versions | {"device": device}))
    for _ in range(2):  # the second run appends to the table of the first
        assert full_size.main(["-f", str(tmp_path / "logs"), "-o", str(tmp_path)]) == 0
    scores = pd.read_csv(tmp_path / "full_size.csv")
    assert scores["hours"].tolist() == [0.05, 0.05, 0.1]
    assert scores["processor"].tolist() == ["NVIDIA H100", "NVIDIA H100", "AMD EPYC"]
    page = (tmp_path / "full_size.md").read_text()
    origin = "bf16, commit `c5fbd7b9`, MuJoCo 3.4.0, data of seed 1, SHA-256 58598f1c"
    assert f"- NVIDIA H100, {origin}" in page
    assert "| 24: 62 to 100 |" in page  # the row includes QAM-E's scores
    assert f"- QAM on {ENV}: p = " in page
    assert "3 scores in 1 groups" in page
