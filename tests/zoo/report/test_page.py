import csv
import json
import re

import pandas as pd
import pytest

from tests.zoo.report.samples import NO_MEANS, SCENE, content_of, evaluations, scene_runs
from zoo.errors import UsageError
from zoo.report import page as report
from zoo.report.comparison import Method
from zoo.report.compute import compare_kinds
from zoo.report.entries import Entry
from zoo.report.published import load_set
from zoo.report.results import to_json


@pytest.fixture(scope="module")
def content():
    return content_of(evaluations(["QAM", "FQL"]), problems=[("logs/a", None), ("logs/b", "failed: at step 1")])


@pytest.fixture(scope="module")
def folder(content, tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    report.write_report(folder, content)
    return folder


def test_report_is_one_page_with_tables_and_figures_beside_it(folder):
    names = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert {"report.html", "scores.csv", "runs.csv", "results.json"} <= names
    for table in (
        "aggregates_offline",
        "improvement_online",
        "seeds_needed_offline",
        "half_best_online",
        "tasks_online",
    ):
        assert {f"tables/{table}.{kind}" for kind in ("csv", "md", "tex")} <= names
    for figure in ("aggregates", "profiles", "improvement", "sample_efficiency", "domains", "heat_map"):
        assert {f"figures/{figure}.{kind}" for kind in ("pdf", "svg", "png")} <= names


def test_page_needs_nothing_from_outside(folder):
    page = (folder / "report.html").read_text()
    assert page.count("<svg") == 6
    assert not re.search(r'(src|href)="(?!#)', page)
    assert "<script" not in page
    assert "@import" not in page


def test_names_inside_the_drawings_do_not_collide(folder):
    page = (folder / "report.html").read_text()
    drawings = re.findall(r"<svg.*?</svg>", page, flags=re.DOTALL)
    names = [set(re.findall(r'\bid="([^"]*)"', drawing)) for drawing in drawings]
    assert all(not a & b for k, a in enumerate(names) for b in names[:k])
    for drawing, known in zip(drawings, names, strict=True):
        assert set(re.findall(r'href="#([^"]*)"', drawing)) <= known
        assert set(re.findall(r"url\(#([^)]*)\)", drawing)) <= known


def test_skipped_runs_are_counted_and_listed_on_the_page(folder):
    page = (folder / "report.html").read_text()
    assert "1 of 2 run folders did not finish, or do not count" in page
    assert "<code>logs/b</code>: failed: at step 1" in page


def test_same_input_gives_the_same_bytes(content, folder, tmp_path):
    report.write_report(tmp_path, content)
    for path in folder.rglob("*"):
        if path.is_file() and path.suffix != ".png":  # libpng's version is in the PNG
            assert path.read_bytes() == (tmp_path / path.relative_to(folder)).read_bytes(), path


def test_all_scores_are_in_a_file_with_seeds_episodes_and_steps(content, folder):
    scores = pd.read_csv(folder / "scores.csv")
    assert len(scores) == 2 * 2 * 6 * 2  # methods, tasks, seeds, phases
    assert {"method", "environment", "seed", "phase", "step", "successes", "episodes", "score"} <= set(scores.columns)


def test_results_are_the_json_of_the_program(content, folder):
    expected = to_json(content.comparisons, content.inputs.own.skipped())
    assert json.loads((folder / "results.json").read_text()) == json.loads(json.dumps(expected))


def test_csv_has_the_numbers_as_fractions(content, folder):
    with (folder / "tables" / "aggregates_offline.csv").open() as file:
        rows = {(row["method"], row["metric"]): row for row in csv.DictReader(file)}
    mean = content.comparisons[0].phases["offline"].aggregates["QAM"].estimates["mean"]
    row = rows["QAM", "mean"]
    assert float(row["score"]) == mean.point
    assert (float(row["score_low"]), float(row["score_high"])) == mean.interval
    assert row["score_interval"] == "t"


def test_reproduction_stands_on_the_page():
    methods = {"qam": Method("qam", "QAM", "own", {env: {"sparse": True} for env in SCENE})}
    found = content_of(scene_runs([[1.0, 0.9, 0.8]] * 5), methods, sets=[load_set("qam2026")], baseline="qam")
    table = next(table for table in found.tables if table.name == "reproduction")
    row = next(row for row in table.rows if row[1].text == "scene-play")
    assert row[3] == Entry("96.9", "qam2026, 12 seeds")
    assert row[4] == Entry("90.0", "3 seeds")
    assert row[7].text == "settings not compared"
    page = report.to_html(found, {})
    assert "Reproduction of published scores" in page
    assert "Qiyang Li, Sergey Levine" in page


def test_nothing_to_compare_is_refused():
    with pytest.raises(UsageError, match="expected runs with evaluations, got none"):
        compare_kinds({}, scene_runs([[0.5]] * 5).iloc[:0], NO_MEANS, reps=10)


def test_names_from_run_folders_cannot_add_markup_to_the_page():
    name = "<script>alert(1)</script>"
    found = content_of(scene_runs([[0.5] * 6] * 5, name), problems=[("logs/<i>", "<u>")], baseline=name)
    page = report.to_html(found, {})
    assert "<script" not in page
    assert "<i>" not in page
    assert "<u>" not in page
