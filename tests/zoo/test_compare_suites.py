"""Comparisons of published sets: what their aggregates are over, and what is missing in them."""

import json

import pandas as pd
import pytest

from tests.zoo.report.samples import SCENE, run_rows, write_published_runs, write_set, write_small
from tests.zoo.test_compare import run
from zoo import compare
from zoo.report.compute import compare_kinds
from zoo.report.inputs import Request, collect
from zoo.report.published_scores import suite_tasks

SMALL = ["--reps", "100"]

pytestmark = pytest.mark.usefixtures("figures_on_demand")


@pytest.fixture(autouse=True)
def published_scores(tmp_path, monkeypatch):
    """Two methods on the 50 tasks stand for the 17: reports of all take long."""
    return write_published_runs(tmp_path, monkeypatch, suite_tasks("qam50"), seeds=3)


def json_of(tmp_path, capsys, *words):
    code, _, err = run(capsys, *words, "--json", tmp_path / "out.json", *SMALL)
    assert code == 0, err
    return json.loads((tmp_path / "out.json").read_text())


def printed(capsys, *words):
    assert compare.main([*map(str, words), "--print", *SMALL]) == 0
    return " ".join(capsys.readouterr().out.split())


def write_set_of_other_tasks(tmp_path, monkeypatch):
    """Add a set with a method on FQL's 50 tasks, half of the episodes of each a success."""
    protocol = {"offline_steps": 1_000_000, "online_steps": 0}
    folder = write_set(tmp_path, monkeypatch, "other", suite="fql50", protocol=protocol)
    fixed = {"method": "Half", "phase": "offline", "step": 1_000_000, "mean": 0.5, "sd": 0.1, "seeds": 8}
    rows = [fixed | {"environment": task} for task in suite_tasks("fql50")]
    pd.DataFrame(rows).to_csv(folder / "other.csv", index=False)


def test_sets_of_one_suite_share_its_50_tasks(tmp_path, capsys):
    out = json_of(tmp_path, capsys, "--published", "qam2026", "trqam2026", "rql2026")["offline"]
    assert (out["suite"], out["suites"], out["left_out_tasks"]) == ("qam50", {}, {})
    assert {cell["tasks"] for cell in out["aggregates"].values()} == {50}
    assert {"TRQAM", "RQL", "QAM (qam2026)", "QAM (trqam2026)"} <= set(out["aggregates"])
    assert out["aggregates"]["RQL"]["mean"]["point"] == pytest.approx(0.5552)


def test_sets_of_different_suites_share_no_aggregate_over_50_tasks(tmp_path, capsys, monkeypatch, published_scores):
    write_set_of_other_tasks(tmp_path, monkeypatch)
    out = json_of(tmp_path, capsys, "--published", "qam2026", "other")["offline"]
    assert (out["suite"], len(out["common_tasks"]), len(out["left_out_tasks"])) == (None, 40, 20)
    assert {cell["tasks"] for cell in out["aggregates"].values()} == {40}
    assert set(out["suites"]) == {"qam50", "fql50"}
    assert set(out["suites"]["fql50"]) == {"Half"}
    assert "Half" not in out["suites"]["qam50"]
    assert out["suites"]["qam50"]["QAM"]["mean"]["point"] == pytest.approx(published_scores[0, :, 1].mean())
    assert {cell["tasks"] for cells in out["suites"].values() for cell in cells.values()} == {50}


def test_tables_of_different_suites_are_apart_and_named(tmp_path, capsys, monkeypatch):
    write_set_of_other_tasks(tmp_path, monkeypatch)
    report = tmp_path / "report"
    run(capsys, "--published", "qam2026", "other", "-o", report, *SMALL)
    common, qam, fql = (
        (report / "tables" / f"aggregates_offline{end}.md").read_text() for end in ("", "_qam50", "_fql50")
    )
    assert common.startswith("**Aggregates, offline, 40 common tasks, 1,000,000 steps.**")
    assert "the 40 tasks that all methods have (antmaze-giant-navigate (5 tasks), " in common
    assert qam.startswith("**Aggregates, offline, 50 tasks of qam50, ")
    assert fql.startswith("**Aggregates, offline, 50 tasks of fql50, 8 seeds, 1,000,000 steps.**")
    assert "all tasks of fql50, for the methods that have them all, 8 seeds, 1,000,000 steps, " in fql
    assert "| Half | **50.0** | - |" in fql
    assert "Half" not in qam
    page = (report / "report.html").read_text()
    assert "<b>Aggregates, offline, 50 tasks of fql50, 8 seeds, 1,000,000 steps.</b>" in page
    run(capsys, "--published", "qam2026", "-o", report, *SMALL)  # tables of an older report go
    assert not list((report / "tables").glob("aggregates_*50.*"))


def test_learning_curves_are_over_the_same_tasks_in_both_phases(tmp_path, monkeypatch):
    write_published_runs(tmp_path, monkeypatch, SCENE)
    write_small(tmp_path, monkeypatch, [run_rows("qam", task, seed) for task in SCENE[:2] for seed in (0, 1)])
    inputs = collect(Request(published=["qam2026", "small"]))
    (found,) = compare_kinds(inputs.methods, inputs.evaluations, inputs.means, reps=50)
    offline, online = (found.phases[name] for name in ("offline", "online"))
    assert (len(offline.tasks), len(online.tasks)) == (2, 5)  # there are no online runs of the small benchmark
    assert found.curves_label == "2 tasks of small"
    last = inputs.evaluations.query("method == 'FQL' and step == 1_500_000")
    expected = last.loc[last["environment"].isin(SCENE[:2]), "score"].mean()
    assert online.curves["FQL"].mean.points[-1] == pytest.approx(expected)


def test_incomplete_set_of_included_runs_is_compared_and_says_what_is_missing(tmp_path, capsys, monkeypatch):
    runs = [run_rows("qam", task, seed) for task in SCENE[:2] for seed in (0, 1)] + [run_rows("fql", SCENE[0], 0)]
    write_small(tmp_path, monkeypatch, runs)
    out = json_of(tmp_path, capsys, "--published", "small")["offline"]
    assert out["common_tasks"] == SCENE[:1]
    assert set(out["aggregates"]) == {"QAM", "FQL"}
    assert set(out["suites"]["small"]) == {"QAM"}
    assert out["suites"]["small"]["QAM"]["mean"]["point"] == pytest.approx(0.4)
    text = printed(capsys, "--published", "small")
    assert "! small: 5 of 8 planned runs are finished: FQL has 1 of 4." in text
    assert "Aggregates, offline, 2 tasks of small" in text
