"""A report's page, its folder and its sentences."""

import json
import re
from dataclasses import replace

import pandas as pd
import pytest
import yaml

from tests.zoo.outcomes import change_status
from tests.zoo.report.samples import (
    SCENE,
    compared,
    content_of,
    evaluations,
    scene_runs,
)
from tests.zoo.runs.helpers import write_run
from zoo.report import page as report
from zoo.report.comparison import ComparedMethod
from zoo.report.page import MARKER, Content
from zoo.report.request import CompareRequest
from zoo.report.scores import load_set
from zoo.report.sentences import warnings


@pytest.fixture(scope="module")
def content():
    return content_of(evaluations(["QAM", "FQL"]))


@pytest.fixture(scope="module")
def folder(content, tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    latex = replace(content.request, latex=True)
    report.write_report(folder, replace(content, request=latex))
    return folder


@pytest.fixture(scope="module")
def page(folder):
    return (folder / "report.html").read_text()


def html(content):
    """Return a page without figures."""
    return report.to_html(content, {})


def test_an_earlier_report_is_replaced_and_nothing_else(content, tmp_path, monkeypatch):
    monkeypatch.setattr(report, "all_figures", lambda comparison: {})  # because drawing is slow
    (tmp_path / ".results.1.json").touch()  # left by a process killed while writing
    report.check_folder(tmp_path)
    report.write_report(tmp_path, content)
    for name in ("tables/older.csv", "figures/older.png", "notes.txt", "report.html"):
        (tmp_path / name).write_text("earlier")
    with monkeypatch.context() as patch:
        patch.setattr(report, "atomic_path", None)
        with pytest.raises(TypeError):
            report.write_report(tmp_path, content)
    assert (tmp_path / "tables/older.csv").exists()  # removed last
    (tmp_path / "tables/own").mkdir()
    report.write_report(tmp_path, content)
    assert not [*tmp_path.glob("*/older.*")]
    assert (tmp_path / "notes.txt").read_text() == "earlier"
    assert (tmp_path / "report.html").read_text() != "earlier"


def test_report_is_one_page_with_tables_and_figures_beside_it(folder):
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    tables = ("verdict_offline", "aggregates_online", "tasks_online")
    expected = {"report.html", "scores.csv", "runs.csv", MARKER}
    expected |= {f"tables/{table}.{kind}" for table in tables for kind in ("csv", "tex")}
    expected |= {f"figures/verdict_offline.{kind}" for kind in ("pdf", "png")}
    assert expected <= names


def test_page_needs_nothing_from_outside(page):
    assert not re.search(r'<[^>]*(src|href)="(?!data:image/png)', page)
    assert "@import" not in page
    assert "<script" not in page


def test_page_shows_every_table_and_figure_once(content, folder, page):
    assert all(page.count(f'id="{table.name}"') == 1 for table in content.tables)
    shown = re.findall(r'id="figure-(\w+)"', page)
    assert sorted(shown) == sorted(path.stem for path in (folder / "figures").glob("*.png"))


def test_same_input_gives_the_same_bytes(content, folder, tmp_path):
    report.write_report(tmp_path, content)
    for pattern in ("*/*.tex", "*/*.pdf"):
        assert not [*tmp_path.glob(pattern)]
    for path in folder.rglob("*[!xf]"):  # neither .tex nor .pdf
        if path.is_file():
            assert path.read_bytes() == (tmp_path / path.relative_to(folder)).read_bytes(), path


def test_every_curve_and_profile_of_a_comparison_is_in_a_file(content, folder):
    table = pd.read_csv(folder / "evaluations.csv")
    # methods, tasks, seeds, evaluations
    assert len(table) == len(content.inputs.evaluations) == 2 * 2 * 6 * 3
    # offline and online
    assert len(pd.read_csv(folder / "scores.csv")) == 2 * 2 * 6 * 2
    assert table["method"].is_monotonic_increasing
    phases = content.comparisons[0].phases.values()
    for name in ("curves", "profiles"):
        expected = pd.concat([getattr(phase, name) for phase in phases], ignore_index=True)
        pd.testing.assert_frame_equal(pd.read_csv(folder / "figures" / f"{name}.csv"), expected)


def test_a_report_of_one_run_claims_nothing_it_cannot_say(tmp_path):
    write_run(tmp_path / "qam", offline=(10, 18), episodes=20)
    text = html(Content(*compared(curves=True, paths=[tmp_path]), CompareRequest()))
    assert "90.0% success" in text
    headings = re.findall("<h2>(.*?)</h2>", text)
    assert headings[0] == "Scores"
    assert {"Verdict", "Tasks"}.isdisjoint(headings)


def test_names_from_run_folders_add_no_markup_to_the_page(tmp_path):
    names = ["</script><script>alert(1)</script>", "<!--<script>", "a&amp;b'\"", "]]>"]
    runs = pd.concat([scene_runs([[0.5] * 6], name) for name in names])
    change_status(write_run(tmp_path / "<i>", state="failed"), reason="<u>")
    text = html(content_of(runs, paths=[tmp_path]))
    assert "alert(1)" in text
    assert "; &lt;u&gt;" in text
    assert not re.search("<(script|[iu]>)", text)


def test_what_was_left_out_of_set_stands_on_page_and_in_results():
    set_of_scores = load_set("rql2026")
    for source, names, words in (("own", ["RQL"], "RQL and 49 tasks"), ("rql2026", [], "49 tasks")):
        methods = {"qam": ComparedMethod("RQL", source)}
        content = content_of(scene_runs([[0.5] * 5]), methods, sets=[set_of_scores])
        assert json.loads(content.results)["left_out"]["rql2026"]["methods"] == names
        assert content.notes[0] == f"Not compared: {words} of rql2026."


# -- warnings ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("seeds", "expected"), [(3, "FQL (3), QAM (2)"), (6, None)])
def test_too_few_seeds_are_warned_of(seeds, expected):
    # without QAM's first run
    sentences = content_of(evaluations(["QAM", "FQL"], seeds=seeds)[3:]).notes
    assert len(sentences) == bool(expected)
    assert all(expected in text for text in sentences)


def test_departures_name_their_environments():
    steps = {"offline_steps": [3000, 1000000]}
    departures = {SCENE[0]: {"gamma": [0.9, 0.99], **steps}, SCENE[1]: steps, SCENE[2]: {}}
    protocols = {env: {"profile": "qam"} for env in departures}
    methods = {"qam": ComparedMethod("QAM", "own", protocols, departures)}
    content = content_of(scene_runs([[0.5] * 6] * 3), methods)
    (sentence,) = (text for text in content.notes if "protocol of its profile" in text)
    assert "offline_steps 3,000 instead of 1,000,000 (2 tasks of scene-play)" in sentence
    assert "gamma 0.9 instead of 0.99 (scene-play task1)" in sentence


def test_runs_that_never_reported_success_and_other_code_are_named(tmp_path):
    write_run(tmp_path / "1", seed=1, agent={"code": "a"})
    write_run(tmp_path / "2", seed=2, agent={"code": "b"}, has_success=False)
    inputs, comparisons = compared(paths=[tmp_path])
    notes = " ".join(warnings(inputs, comparisons))
    assert "no episode of 1 run of qam reported success, although other runs did" in notes
    assert "qam: runs were trained with 2 versions of the algorithm's source file." in notes


APART = """
- {env: Pendulum-v1, success_return: -300}
- {env: Pendulum-v1}
- &played {env: Hopper-v5, eval_env_kwargs: [at=1], env_kwargs: [at=2]}
- {env: Hopper-v5}
- {<<: *played, env: Left-out-v1}
- {env: Left-out-v1}
- {env: Ant-v5, dataset: {fingerprint: ffffffff}}
- {env: Ant-v5}
- {env: Reacher-v5, has_success: false, success_at: any}
- {env: Reacher-v5, has_success: false}
- {env: Swimmer-v5, success_at: any}
- {env: Swimmer-v5}
- {env: Walker2d-v5, env_wrapper: ["my:Skip"]}
- {env: Walker2d-v5}
"""


def test_what_sets_runs_apart_on_an_environment_is_said(tmp_path):
    for number, options in enumerate(yaml.safe_load(APART)):
        write_run(tmp_path / str(number), algo=f"mine{number}", **options)
    inputs, comparisons = compared(paths=[tmp_path], envs=["[!L]*"])
    sentences = warnings(inputs, comparisons)
    apart = [text.split(":")[0] for text in sentences if "may explain differences" in text]
    assert sorted(apart) == ["Ant-v5", "Hopper-v5", "Pendulum-v1", "Swimmer-v5", "Walker2d-v5"]
