import csv
import io
import json
import re
from dataclasses import replace

import pandas as pd
import pytest

from tests.zoo.evaluation.test_plots import evaluations
from zoo.cli import UsageError
from zoo.evaluation import comparison as comparing
from zoo.evaluation import report
from zoo.evaluation.comparison import MEAN_COLUMNS, Cell, Method, compare
from zoo.evaluation.report import Entry, Table
from zoo.evaluation.reproduction import reproduce
from zoo.evaluation.statistics import Estimate
from zoo.published import load_set
from zoo.run import RunTables

SCENE = [f"scene-play-singletask-task{k}-v0" for k in range(1, 6)]


def runs_table(problems=()):
    columns = ["run", "state", "method", "settings", "problem"]
    return RunTables(pd.DataFrame([[path, "done", "qam", {}, why] for path, why in problems], columns=columns), None)


def content_of(table, methods=None, problems=(), sets=(), baseline="QAM"):
    names = sorted(set(table["method"]))
    methods = methods or {name: Method(name, name, "own") for name in names}
    found = compare(methods, table, pd.DataFrame(columns=MEAN_COLUMNS), reps=50)
    return report.Input(
        comparison=found,
        reproduction=reproduce(methods, table, sets, 0.05),
        own=runs_table(problems),
        scores=comparing.last_evaluations(table),
        sets=sets,
        baseline=baseline,
        tolerance=0.05,
        command="zoo compare logs",
    )


@pytest.fixture(scope="module")
def content():
    return content_of(evaluations(["QAM", "FQL"]), problems=[("logs/a", None), ("logs/b", "failed: at step 1")])


@pytest.fixture(scope="module")
def folder(content, tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    report.write_report(folder, content)
    return folder


def scene_runs(scores, method="qam"):
    """Return offline evaluations on all tasks of scene: one list of scores a task."""
    fixed = {"method": method, "domain": "scene-play", "phase": "offline", "step": 1_000_000, "episodes": 50}
    rows = [
        {**fixed, "environment": env, "seed": seed, "score": score, "source": "own", "run": f"{env}/{seed}"}
        for env, task in zip(SCENE, scores, strict=True)
        for seed, score in enumerate(task)
    ]
    return pd.DataFrame(rows)


def test_report_is_one_page_with_tables_and_figures_beside_it(folder):
    names = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert {"report.html", "scores.csv", "runs.csv", "results.json"} <= names
    for table in ("aggregates_offline", "improvement_online", "domains_offline", "tasks_online"):
        assert {f"tables/{table}.{kind}" for kind in ("csv", "md", "tex")} <= names
    for figure in ("aggregates", "profiles", "improvement", "sample_efficiency", "domains"):
        assert {f"figures/{figure}.{kind}" for kind in ("svg", "png")} <= names


def test_page_needs_nothing_from_outside(folder):
    page = (folder / "report.html").read_text()
    assert page.count("<svg") == 5
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
    assert "1 of 2 run folders are not counted" in page
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
    expected = comparing.to_json(content.comparison, content.own.skipped())
    assert json.loads((folder / "results.json").read_text()) == json.loads(json.dumps(expected))


def test_csv_has_the_numbers_as_fractions(content, folder):
    with (folder / "tables" / "aggregates_offline.csv").open() as file:
        rows = {(row["method"], row["metric"]): row for row in csv.DictReader(file)}
    mean = content.comparison.phases["offline"].aggregates["QAM"].estimates["mean"]
    row = rows["QAM", "mean"]
    assert float(row["score"]) == mean.point
    assert (float(row["score_low"]), float(row["score_high"])) == mean.interval
    assert row["score_interval"] == "bootstrap"


def test_table_of_aggregates_has_points_in_per_cent_with_intervals(content):
    phase = content.comparison.phases["offline"]
    table = report.aggregates_table(content.comparison, phase)
    row = next(row for row in table.rows if row[0].text == "FQL")
    mean = phase.aggregates["FQL"].estimates["mean"]
    assert row[1].text.startswith(f"{100 * mean.point:.1f}")
    assert row[1].detail == f"[{100 * mean.interval[0]:.1f}, {100 * mean.interval[1]:.1f}]"
    assert [entry.text for entry in row[5:]] == ["2", "6", "2,000"]


def test_bold_is_within_95_per_cent_of_the_best_and_a_dagger_reaches_it(content):
    phase = content.comparison.phases["offline"]
    cells = {
        "best": Cell({"mean": Estimate(0.80, (0.7, 0.9), "bootstrap")}, 1, (6, 6)),
        "near": Cell({"mean": Estimate(0.76, (0.7, 0.79), "bootstrap")}, 1, (6, 6)),
        "reaching": Cell({"mean": Estimate(0.75, (0.7, 0.80), "bootstrap")}, 1, (6, 6)),
        "below": Cell({"mean": Estimate(0.75, (0.7, 0.79), "bootstrap")}, 1, (6, 6)),
    }
    methods = {name: Method(name, name, "own") for name in cells}
    phase = replace(phase, domains={"scene-play": cells}, domain_tasks={"scene-play": SCENE[:1]}, aggregates=cells)
    comparison = replace(content.comparison, methods=methods, phases={"offline": phase})
    entries = {row[0].text: row[1] for row in report.domains_table(comparison, phase).rows}
    assert {name: (entry.is_bold, "†" in entry.text) for name, entry in entries.items()} == {
        "best": (True, False),
        "near": (True, False),
        "reaching": (False, True),
        "below": (False, False),
    }


def test_nothing_is_bold_where_everyone_fails():
    table = scene_runs([[0.0] * 6] * 5)
    found = content_of(table, baseline="qam")
    assert not any(entry.is_bold for t in report.all_tables(found) for row in t.rows for entry in row)


@pytest.mark.parametrize(
    ("seeds", "sentence"),
    [(1, "One seed gives no interval: FQL, QAM."), (4, "Fewer than 5 seeds: FQL (4), QAM (4).")],
)
def test_too_few_seeds_are_warned_of(seeds, sentence):
    found = content_of(evaluations(["QAM", "FQL"], seeds=seeds))
    assert any(sentence in warning for warning in report.warnings(found))


def test_enough_seeds_on_the_same_tasks_give_no_warning():
    assert report.warnings(content_of(evaluations(["QAM", "FQL"]))) == []


def test_unequal_seeds_left_out_tasks_and_different_steps_are_warned_of():
    table = pd.concat([evaluations(["QAM"], tasks=4), evaluations(["FQL"], tasks=2, steps=((500, "offline"),))])
    table = table[~((table["environment"] == SCENE[0]) & (table["seed"] == 5) & (table["method"] == "QAM"))]
    text = "\n".join(report.warnings(content_of(table)))
    assert "offline: unequal numbers of seeds between tasks: QAM (5 to 6)" in text
    assert (
        f"aggregates leave out tasks that some methods lack: cube-double-play-singletask-task2-v0 (FQL); {SCENE[1]}"
        in text
    )
    assert "offline: methods were scored at different steps" in text


def test_published_value_and_own_runs_give_a_difference_with_a_verdict():
    # QAM's published means on the tasks of scene: 100, 98.33, 99.5, 99.67 and 87 %.
    methods = {"qam": Method("qam", "QAM", "own")}
    near = scene_runs([[1.0, 1.0, 0.98, 1.0, 1.0, 1.0]] * 4 + [[0.86, 0.88, 0.84, 0.9, 0.86, 0.88]])
    found = {entry.where: entry for entry in reproduce(methods, near, [load_set("qam2026")], 0.05)}
    assert set(found) == {*SCENE, "scene-play"}
    whole = found["scene-play"]
    assert whole.published_mean == pytest.approx(0.969, abs=1e-3)
    assert whole.own == pytest.approx(near["score"].mean())
    assert whole.difference.point == pytest.approx(near["score"].mean() - whole.published_mean)
    assert whole.verdict == "agrees"
    assert (whole.published_seeds, whole.own_seeds) == (12, (6, 6))
    far = scene_runs([[0.5, 0.52, 0.48, 0.5, 0.52, 0.48]] * 5)
    assert {entry.verdict for entry in reproduce(methods, far, [load_set("qam2026")], 0.05)} == {"differs"}
    wide = scene_runs([[1.0, 0.6, 1.0, 1.0]] * 5)
    assert "open" in {entry.verdict for entry in reproduce(methods, wide, [load_set("qam2026")], 0.05)}
    alone = scene_runs([[1.0]] * 5)
    assert {entry.verdict for entry in reproduce(methods, alone, [load_set("qam2026")], 0.05)} == {"no interval"}


def test_difference_has_scipys_welch_interval():
    from scipy import stats

    scores = [0.9, 0.8, 0.95, 1.0, 0.85, 0.9]
    methods = {"qam": Method("qam", "QAM", "own")}
    table = scene_runs([scores] * 5)
    found = {entry.where: entry for entry in reproduce(methods, table, [load_set("trqam2026")], 0.05)}
    own = [pd.Series(scores).mean(), pd.Series(scores).var(ddof=1) / 5]  # mean of five tasks with equal spread
    # Satterthwaite over the five tasks and the published domain (64 % +- 4 over 8 seeds), written out.
    parts = [own[1] / 5 / 6] * 5 + [0.04**2 / 8]
    total = sum(parts)
    freedom = total**2 / (5 * parts[0] ** 2 / 5 + parts[-1] ** 2 / 7)
    half = stats.t.ppf(0.975, freedom) * total**0.5
    assert found["scene-play"].difference.interval == pytest.approx((own[0] - 0.64 - half, own[0] - 0.64 + half))


def test_reproduction_names_what_differs_in_the_protocol():
    protocol = {"offline_steps": 10_000, "net_arch": "128x2", "sparse": True}
    methods = {"qam": Method("qam", "QAM", "own", {env: protocol for env in SCENE})}
    found = reproduce(methods, scene_runs([[1.0, 0.9]] * 5), [load_set("qam2026")], 0.05)
    assert {tuple(entry.protocol) for entry in found} == {
        ("net_arch 128x2 against 512x4", "offline_steps 10,000 against 1,000,000")
    }


def test_reproduction_stands_on_the_page():
    methods = {"qam": Method("qam", "QAM", "own", {env: {"sparse": True} for env in SCENE})}
    found = content_of(scene_runs([[1.0, 0.9, 0.8]] * 5), methods, sets=[load_set("qam2026")], baseline="qam")
    table = next(table for table in report.all_tables(found) if table.name == "reproduction")
    row = next(row for row in table.rows if row[1].text == "scene-play")
    assert row[3] == Entry("96.9", "qam2026, 12 seeds")
    assert row[4] == Entry("90.0", "3 seeds")
    assert row[7].text == "same"
    page = report.to_html(found, report.all_tables(found), {})
    assert "Reproduction of published scores" in page
    assert "Qiyang Li, Sergey Levine" in page


def test_protocol_table_has_one_row_for_each_protocol():
    protocols = {env: {"offline_steps": 1000, "sparse": True} for env in SCENE}
    methods = {name: Method(name, name, "own", protocols) for name in ("a", "b")}
    methods["c"] = Method("c", "c", "own", {SCENE[0]: {"offline_steps": 2000, "sparse": True}})
    runs = pd.concat([scene_runs([[0.5] * 6] * 5, name) for name in methods])
    table = report.protocol_table(content_of(runs, methods, baseline="a").comparison)
    assert table.header == ["source", "methods", "where", "offline steps", "sparse"]
    assert [[entry.text for entry in row] for row in table.rows] == [
        ["own", "a, b", "scene-play (5 tasks)", "1,000", "True"],
        ["own", "c", "scene-play task1", "2,000", "True"],
    ]


def test_nothing_to_compare_is_refused():
    with pytest.raises(UsageError, match="expected runs with evaluations, got none"):
        compare({}, scene_runs([[0.5]] * 5).iloc[:0], pd.DataFrame(columns=MEAN_COLUMNS))


def nasty():
    rows = [[Entry("<b>|50% & a_b$"), Entry("1.0†", "[0.5, 1.5]", True)]]
    return Table("nasty", "A title", "100% of a_b", ["a|b", "x_y"], rows, [{"name": "<b>|50%", "score": 1.0}])


def test_markdown_is_a_table_with_its_signs_escaped():
    lines = report.to_markdown(nasty()).splitlines()
    assert lines[2:] == [r"| a\|b | x_y |", "| --- | --- |", r"| <b>\|50% & a_b$ | **1.0†** [0.5, 1.5] |"]


def test_latex_signs_are_escaped():
    text = report.to_latex(nasty())
    assert r"\textless{}b\textgreater{}|50\% \& a\_b\$" in text
    assert r"\textbf{1.0\textsuperscript{\dag}} {\tiny [0.5, 1.5]}" in text
    assert r"\caption{100\% of a\_b}" in text
    assert text.count(r"\\") == 2  # one line of names, one row


def test_csv_is_read_back():
    rows = list(csv.DictReader(io.StringIO(report.to_csv(nasty()))))
    assert rows == [{"name": "<b>|50%", "score": "1.0"}]


def test_names_from_run_folders_cannot_add_markup_to_the_page():
    name = "<script>alert(1)</script>"
    found = content_of(scene_runs([[0.5] * 6] * 5, name), problems=[("logs/<i>", "<u>")], baseline=name)
    page = report.to_html(found, report.all_tables(found), {})
    assert "<script" not in page
    assert "<i>" not in page
    assert "<u>" not in page
