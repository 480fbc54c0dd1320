"""Failed and unfinished runs: how they are counted, scored and shown."""

import json

import numpy as np
import pytest

from tests.zoo.report.samples import SCENE, compared
from tests.zoo.runs.helpers import write_run
from zoo import compare
from zoo.report.comparison import Tally
from zoo.report.page import Content
from zoo.report.request import CompareRequest


def write_method(folder, algo, ends, failed=(), **config):
    """Write a run for each final number of successes (of 50); runs with a number in `failed` end half-way."""
    for seed, end in enumerate(ends):
        about = {"offline": (5, 10, end)}
        if seed in failed:
            about = {"offline": (end,), "offline_steps": 3000, "state": "failed"}
        write_run(folder / algo / str(seed), algo=algo, seed=seed, **about, **config)


def content_of(folder, **options):
    inputs, (comparison,) = compared(paths=[folder], **options)
    return Content(inputs, [comparison], CompareRequest(**options))


def mean_of(content, phase="offline"):
    return content.comparisons[0].phases[phase].aggregates["qam"].mean.point


def test_unfinished_runs_are_started_but_have_not_failed(tmp_path):
    write_method(tmp_path, "qam", [40] * 5)
    write_run(tmp_path / "late", seed=5, state="running")
    write_run(tmp_path / "stopped", seed=6, state="interrupted")
    write_run(tmp_path / "early", env=SCENE[1], state="interrupted")
    write_run(tmp_path / "again", state="failed")  # as a run of this seed has finished
    content = content_of(tmp_path)
    assert content.inputs.methods["qam"].tallies == {
        SCENE[0]: Tally(7, 5, 0),
        SCENE[1]: Tally(1, 0, 0),
    }
    assert content.inputs.methods["qam"].tally() == Tally(8, 5, 0)
    assert Tally(1, 0, 1) + Tally(2, 2, 0) == Tally(3, 2, 1)
    (chosen,) = content_of(tmp_path, envs=[SCENE[0]]).inputs.methods.values()
    assert set(chosen.tallies) == {SCENE[0]}
    assert mean_of(content) == pytest.approx(0.8)
    table = {table.name: table for table in content.tables}["aggregates_offline"]
    assert "5 of 7" in [entry.text for entry in table.rows[0]]


@pytest.mark.parametrize("has_start", [False, True])
def test_run_that_failed_before_its_first_score_has_none(tmp_path, has_start):
    write_method(tmp_path, "qam", [50, 50, 1], failed=(2,))
    bad = tmp_path / "qam" / "2" / "evaluations.npz"
    arrays = dict(np.load(bad))
    if has_start:  # an evaluation at step 0 is not a final score
        np.savez(bad, **(arrays | {"timesteps": np.zeros(1, int)}))
    else:
        bad.unlink()
    content = content_of(tmp_path)
    assert mean_of(content) == pytest.approx(1.0)
    assert any(text.startswith("Failed runs: qam 1 of 3.") for text in content.notes)


def test_run_that_failed_offline_counts_online_too(tmp_path):
    for seed in range(3):
        write_run(tmp_path / str(seed), seed=seed, offline=(10, 20), online=(40, 50))
    failed = {"offline_steps": 2000, "online_steps": 2000, "state": "failed"}
    status = write_run(tmp_path / "bad", seed=3, offline=(10,), **failed) / "status.json"
    status.write_text(status.read_text().replace("{", '{"failure": "diverged", '))
    content = content_of(tmp_path)
    assert set(content.inputs.evaluations.groupby("seed").size()) == {4}
    assert mean_of(content) == pytest.approx((3 * 0.4 + 0.2) / 4)
    assert mean_of(content, phase="online") == pytest.approx((3 * 1.0 + 0.2) / 4)


def test_report_says_what_failed_runs_count_for(tmp_path, figures_on_demand):
    logs = tmp_path / "logs"
    write_method(logs, "qam", [41, 41, 41, 5, 5, 5], failed=(3, 4, 5))
    write_method(logs, "fql", [35] * 6)
    report = tmp_path / "report"
    assert compare.main(f"{logs} --reps 50 -o {report}".split()) == 0
    text = (report / "report.html").read_text()
    assert "Failed runs: qam 3 of 6. Their last evaluation is" in text
    assert text.count(". Failed runs: qam 3 of 6.") == 2  # the captions of both tables
    numbers = json.loads((report / "results.json").read_text())
    offline = numbers["offline"]
    for place in (numbers["methods"], offline["aggregates"], offline["per_task"][SCENE[0]]):
        assert place["qam"]["tally"] == {"started": 6, "finished": 3, "failed": 3}
