import hashlib
import json
import re
from dataclasses import replace

import pandas as pd
import pytest

from tests.zoo.report.samples import SCENE, content_of, evaluations, scene_runs
from zoo.report.comparison import Method
from zoo.report.page import report
from zoo.report.page.scripts import scripts
from zoo.report.published_scores import load_set
from zoo.report.tables.entries import Entry, Table


def data_of(page):
    """Return the data that a page's script draws."""
    return json.loads(re.search(r'id="data">(.*?)</script>', page, flags=re.DOTALL)[1])


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
        "tasks_online",
    ):
        assert {f"tables/{table}.{kind}" for kind in ("csv", "md", "tex")} <= names
    for figure in ("verdict", "aggregates", "profiles", "improvement", "sample_efficiency", "domains", "heat_map"):
        assert {f"figures/{figure}.{kind}" for kind in ("pdf", "svg", "png")} <= names


def test_page_needs_nothing_from_outside(folder):
    page = (folder / "report.html").read_text()
    assert not re.search(r'<[^>]*(src|href)="(?!#)', page.replace("".join(scripts()), ""))
    assert "@import" not in page
    assert "url(" not in page[: page.index("</style>")]
    assert page.count("<script") == page.count("</script>") == 5


def test_page_draws_its_figures_itself_and_says_where_the_files_are(folder):
    page = (folder / "report.html").read_text()
    assert "<svg" not in page[: page.index("<script")]
    assert "the figures are in <code>figures/</code>" in page
    data = data_of(page)
    names = [drawing["name"] for drawing in data["drawings"]]
    assert sorted(re.findall(r'data-drawing="(.*?)"', page[: page.index("<script")])) == sorted(names)
    assert {path.stem for path in (folder / "figures").iterdir()} <= set(names)


def test_tables_unknown_to_the_layout_stand_under_more(content, tmp_path):
    extra = Table(
        "later_offline",
        "Later",
        "Something that the layout does not know.",
        ["method", "seeds"],
        [[Entry("QAM"), Entry("9")]],
        [{"method": "QAM", "seeds": 9}],
    )
    fuller = replace(content)
    fuller.__dict__["tables"] = [*content.tables, extra]
    page = report.to_html(fuller)
    assert page.index(">More</h2>") < page.index('id="later_offline"')
    assert 'id="later_offline" data-phase="offline"' in page
    assert ">More</h2>" not in report.to_html(content)
    for table in content.tables:
        assert page.count(f'id="{table.name}"') == 1


def test_sentences_of_a_verdict_come_first(content):
    focused = replace(content, comparisons=[replace(found, focus="QAM") for found in content.comparisons])
    page = report.to_html(focused)
    first = focused.verdicts[0][0]
    assert first.startswith("QAM, offline")
    places = [page.index(text) for text in (first.split(" (")[0], 'data-drawing="verdict"', "Scores are success rates")]
    assert page.index("</h1>") < places[0] < places[1] < places[2]
    assert content.verdicts[0][0].split()[1:3] == ["leads", "offline,"]


def test_page_says_where_it_comes_from(content, folder):
    page = report.to_html(replace(content, made="2026-11-30, commit 0123abc"))
    digest = hashlib.sha256((folder / "evaluations.csv").read_bytes()).hexdigest()[:12]
    assert f">2026-11-30, commit 0123abc · SHA-256 of evaluations.csv: {digest}<br><code>zoo compare logs<" in page


def test_skipped_runs_are_counted_and_listed_on_the_page(folder):
    page = (folder / "report.html").read_text()
    assert "1 of 2 run folders did not finish, or do not count" in page
    assert "<code>logs/b</code>: failed: at step 1" in page


def test_same_input_gives_the_same_bytes(content, folder, tmp_path):
    report.write_report(tmp_path, replace(content, formats=("svg",)))  # PDFs have a test of their own
    for path in folder.rglob("*"):
        if path.is_file() and path.suffix not in (".png", ".pdf"):
            assert path.read_bytes() == (tmp_path / path.relative_to(folder)).read_bytes(), path


def test_reproduction_stands_on_the_page():
    methods = {"qam": Method("qam", "QAM", "own", {env: {"sparse": True} for env in SCENE})}
    found = content_of(scene_runs([[1.0, 0.9, 0.8]] * 5), methods, sets=[load_set("qam2026")], baseline="qam")
    table = next(table for table in found.tables if table.name == "reproduction")
    row = next(row for row in table.rows if row[1].text == "scene-play")
    assert row[3] == Entry("96.9", "qam2026, 12 seeds")
    assert row[4] == Entry("90.0", "3 seeds")
    assert row[7].text == "settings not compared"
    page = report.to_html(found)
    assert "Reproduction of published scores" in page
    assert "Qiyang Li, Sergey Levine" in page


def test_names_from_run_folders_cannot_add_markup_to_the_page():
    name = "<script>alert(1)</script>"
    found = content_of(scene_runs([[0.5] * 6] * 5, name), problems=[("logs/<i>", "<u>")], baseline=name)
    page = report.to_html(found)
    assert page.count("<script") == page.count("</script>") == 5
    assert "alert(1)" in page
    assert "<i>" not in page
    assert "<u>" not in page


def test_labels_stay_inside_the_data():
    names = ["</script><script>alert(1)</script>", "<!--<script>", "a\u2028b", "a&amp;b'\"", "]]>"]
    found = content_of(pd.concat([scene_runs([[0.5] * 6], name) for name in names]), baseline=names[0])
    page = report.to_html(found)
    text = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, flags=re.DOTALL)[1]
    assert not set("<>&'\u2028") & set(text)
    assert {method["name"] for method in data_of(page)["methods"]} == set(names)
