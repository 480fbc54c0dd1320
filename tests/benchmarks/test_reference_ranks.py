"""The comparison with the originals: its intervals, the scores of runs, and the committed page."""

import shutil
from pathlib import Path

import pandas as pd

from benchmarks import reference_ranks
from benchmarks.rank_table import COLUMNS
from benchmarks.reference_ranks import add_runs
from tests.zoo.outcomes import change_status
from tests.zoo.runs.helpers import write_run
from zoo.training.plan import plan_run


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
    change_status(diverged, reason="training diverged: loss is NaN")
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
