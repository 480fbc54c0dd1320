"""The comparison with the originals: its intervals, the scores of runs, and the committed page."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from benchmarks import reference_ranks
from benchmarks.rank_table import COLUMNS, ONLINE_STEPS, compare_sides, describe_online
from benchmarks.reference_ranks import add_runs
from tests.zoo.runs.helpers import write_run
from zoo.training.plan import plan_run


def scores(algorithms, seed, seeds=8):
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


def test_the_difference_of_seed_means_has_welchs_interval():
    sides = [scores(["qam"], 0), scores(["qam"], 1, seeds=5)]
    comparison = compare_sides(sides, ["qam"])
    means = [100 * side.groupby("seed")["successes"].mean() / 20 for side in sides]
    interval = stats.ttest_ind(*means, equal_var=False).confidence_interval(0.9)
    assert comparison["seeds"] == (8, 5)
    assert comparison["success"] == pytest.approx(
        (means[0].mean() - means[1].mean(), interval.low, interval.high)
    )


def test_online_checkpoints_are_scored_without_the_end_of_the_offline_phase():
    sides = [scores(["qam_online"], seed) for seed in (0, 1)]
    for side in sides:
        side["step"] = side["step"].map(
            dict(zip((700, 1_400, 2_100), ONLINE_STEPS[1:], strict=True))
        )
    offline = [side[side["step"] == 2_000].assign(step=1_000, successes=0) for side in sides]
    text = describe_online(
        [pd.concat(pair) for pair in zip(sides, offline, strict=True)], ["qam_online"], []
    )
    overall, ended, *_ = [
        line for line in text.splitlines() if line.startswith(("| qam", "| after"))
    ]
    means = [f"{5 * side['successes'].mean():.1f}" for side in sides]
    assert overall.split(" | ")[1:4] == ["8 / 8", *means]
    assert ended.split(" | ")[:4] == ["| after 1,000", "8 / 8", "0.0", "0.0"]


def test_an_online_row_has_its_offline_phase_and_all_seeds_at_once():
    args = reference_ranks.make_parser(None).parse_args(["--seeds", "300-302"])
    (request,) = reference_ranks.requests("fql_online", 1, args)
    run = plan_run(request).config.run
    assert request.seeds == (300, 301, 302)
    assert (run.offline_steps, run.online_steps, run.eval_freq) == (1_000, 4_000, 1_000)


def own_run(folder, name, seed, **changes):
    """Write a run of FQL as this comparison trains it, with 2, 10 and 20 successes."""
    env = reference_ranks.ENV.format(5)
    values = {
        "algo": "fql",
        "env": env,
        "seed": seed,
        "offline": (2, 10, 20),
        "episodes": 20,
        "interval": 700,
    }
    return write_run(folder / name, **values | changes)


def test_finished_runs_become_scores_and_diverged_ones_have_none_where_they_did_not_come(tmp_path):
    own_run(tmp_path, "a", 4)
    diverged = own_run(tmp_path, "diverged", 7, offline=(2,), state="failed", offline_steps=2_100)
    status = json.loads((diverged / "status.json").read_text())
    (diverged / "status.json").write_text(
        json.dumps({**status, "reason": "training diverged: loss is NaN"})
    )
    own_run(tmp_path, "unfinished", 5, state="interrupted")
    comparison = add_runs(pd.DataFrame(columns=COLUMNS), tmp_path)
    assert comparison.to_numpy().tolist() == [
        ["fql", 5, 4, 700, 2, 20, 200.0, 0],
        ["fql", 5, 4, 1_400, 10, 20, 200.0, 0],
        ["fql", 5, 4, 2_100, 20, 20, 200.0, 0],
        ["fql", 5, 7, 700, 2, 20, 200.0, 0],
        ["fql", 5, 7, 1_400, 0, 20, 1000.0, 1],
        ["fql", 5, 7, 2_100, 0, 20, 1000.0, 1],
    ]


def test_the_committed_page_is_that_of_the_committed_scores(tmp_path, monkeypatch):
    copies = {}
    for name in ("PAGE", "OURS"):
        committed = getattr(reference_ranks, name)
        copies[committed] = Path(shutil.copy(committed, tmp_path))
        monkeypatch.setattr(reference_ranks, name, copies[committed])
    assert reference_ranks.main(["--table-only", "-f", str(tmp_path / "none")]) == 0
    for committed, copy in copies.items():
        assert copy.read_text() == committed.read_text()
