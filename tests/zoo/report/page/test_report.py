import errno
import hashlib
import json
import re
import tomllib
from dataclasses import replace
from functools import partial

import pandas as pd
import pytest
import yaml

from agents.common.files import WriteError
from tests.zoo.outcomes import refuses
from tests.zoo.report.samples import (
    SCENE,
    compared,
    comparison_of_runs,
    content_of,
    evaluations,
    runs_table,
    scene_runs,
)
from tests.zoo.runs.helpers import write_run
from zoo.report import table_entries
from zoo.report.comparison import ComparedMethod
from zoo.report.figures.files import FORMATS
from zoo.report.figures.plots import all_figures
from zoo.report.page import report
from zoo.report.page.report import FOLDER, LONGEST_OPEN_TABLE, Content
from zoo.report.page.sentences import warnings
from zoo.report.published_scores import load_set
from zoo.report.request import CompareRequest
from zoo.report.significance import decide
from zoo.runs.read import read_runs

SCRIPT = (FOLDER / "report.js").read_text()


@pytest.fixture(scope="module")
def content():
    problems = [("logs/a", None), ("logs/b", "failed: at step 1")]
    return content_of(evaluations(["QAM", "FQL"]), problems=problems)


@pytest.fixture
def draw(monkeypatch):
    """Return what leaves only some figures in reports, by a pattern of their names: drawing is most of the work."""
    return lambda only: monkeypatch.setattr(report, "all_figures", partial(all_figures, only=only))


@pytest.fixture(scope="module")
def folder(content, tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    report.write_report(folder, content)
    return folder


@pytest.fixture(scope="module")
def page(folder):
    return (folder / "report.html").read_text()


def test_files_that_no_report_has_written_are_neither_replaced_nor_removed(content, tmp_path, draw):
    """Folders of papers have files with such names, too."""
    draw("none")
    content = replace(content)  # its figures are drawn once
    for name in ("scores.csv", "figures/runs_online.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("mine")
    with refuses(r"figures/runs_online\.png, scores\.csv no report has written"):
        report.write_report(tmp_path, content)
    assert not (tmp_path / "report.html").exists()
    (tmp_path / "scores.csv").unlink()
    (tmp_path / "figures/runs_online.png").rename(tmp_path / "figures/mine.png")
    report.write_report(tmp_path, content)
    (tmp_path / "figures/runs_online.png").write_text("mine")
    with refuses("runs_online"):
        report.write_report(tmp_path, content)


def test_a_full_disk_leaves_the_earlier_report_as_it_was(content, tmp_path, draw, monkeypatch):
    draw("none")
    content = replace(content)  # its figures are drawn once
    page = report.write_report(tmp_path, content)
    page.write_text("earlier")
    (tmp_path / "evaluations.csv").write_text("earlier")

    def write_file(path, text):
        if path.name == "runs.csv":
            raise OSError(errno.ENOSPC, "No space left on device")
        table_entries.write_file(path, text)

    monkeypatch.setattr(report, "write_file", write_file)
    with pytest.raises(WriteError, match="could not be written: No space left"):
        report.write_report(tmp_path, content)
    assert page.read_text() == (tmp_path / "evaluations.csv").read_text() == "earlier"
    assert not list(tmp_path.glob(".report_*/"))


def test_report_is_one_page_with_tables_and_figures_beside_it(folder):
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    tables = ("aggregates_offline", "improvement_online", "seeds_needed_offline", "tasks_online")
    expected = {"report.html", "scores.csv", "runs.csv", "results.json"}
    expected |= {f"tables/{table}.{kind}" for table in tables for kind in ("csv", "md", "tex")}
    assert expected <= names
    of_phases = ("verdict", "aggregates", "profiles", "improvement", "heat_map", "runs")
    figures = {f"{name}_{phase}.svg" for name in of_phases for phase in ("offline", "online")}
    figures |= {"sample_efficiency_mean.svg", "sample_efficiency_iqm.svg", "domains.svg"}
    assert {path.name for path in (folder / "figures").iterdir()} == figures


def test_page_needs_nothing_from_outside(page):
    assert not re.search(r'<[^>]*(src|href)="(?!#)', page.replace(SCRIPT, ""))
    assert "@import" not in page
    assert "url(" not in page[: page.index("</style>")]
    assert page.count("<script") == page.count("</script>") == 2


def test_page_shows_every_table_once_and_every_figure_as_its_file(content, folder, page):
    assert all(page.count(f'id="{table.name}"') == 1 for table in content.tables)
    shown = dict(re.findall(r'id="figure-(\w+)".*?>\n(<svg.*?</svg>)', page, flags=re.DOTALL))
    files = (folder / "figures").iterdir()
    assert shown == {path.stem: path.read_text().strip() for path in files}


def test_figures_are_files_of_the_formats_that_are_asked_for_and_always_on_the_page(
    content, tmp_path, draw
):
    draw("verdict_offline")
    for formats in (FORMATS, ("png",)):
        asked = replace(content, request=CompareRequest(format=formats))
        page = report.write_report(tmp_path, asked).read_text()
        names = {path.name for path in (tmp_path / "figures").iterdir()}
        assert names == {f"verdict_offline.{name}" for name in formats}
        assert page.count("<svg") == 1


def test_title_names_the_only_task(draw):
    draw("none")
    runs = scene_runs([[0.5, 0.6]])
    (title,) = re.findall("<h1>(.*)</h1>", report.to_html(content_of(runs, baseline="qam")))
    assert title == "Report on qam: scene-play task1"


def test_sentences_of_a_verdict_come_first(content, draw):
    draw("verdict_offline")
    comparisons = [decide(comparison, focus="QAM") for comparison in content.comparisons]
    focused = replace(content, comparisons=comparisons)
    page = report.to_html(focused)
    verdict = focused.verdicts[0][0].split(" (")[0]
    assert verdict.startswith("QAM, offline")
    parts = ("</h1>", verdict, 'id="figure-verdict_offline"', "Scores are those of the last")
    places = [page.index(part) for part in parts]
    assert places == sorted(places)
    assert content.verdicts[0][0].split()[1:3] == ["leads", "offline,"]


@pytest.mark.usefixtures("figures_on_demand")
def test_page_says_where_it_comes_from_and_what_was_skipped(content, folder, page):
    origin = "2026-11-30, commit 0123abc"
    digest = hashlib.sha256((folder / "evaluations.csv").read_bytes()).hexdigest()[:12]
    provenance = f">{origin} · SHA-256 of evaluations.csv: {digest}<br><code>zoo compare logs<"
    assert provenance in report.to_html(replace(content, origin=origin))
    assert "1 of 2 run folders did not finish, or do not count" in page
    assert "<code>logs/b</code>: failed: at step 1" in page


def test_same_input_gives_the_same_bytes(content, folder, tmp_path):
    report.write_report(tmp_path, replace(content))  # drawn again
    for path in folder.rglob("*"):
        if path.is_file():
            assert path.read_bytes() == (tmp_path / path.relative_to(folder)).read_bytes(), path


@pytest.mark.usefixtures("figures_on_demand")
def test_reproduction_stands_on_the_page():
    methods = {"qam": ComparedMethod("qam", "QAM", "own", {env: {"sparse": True} for env in SCENE})}
    runs = scene_runs([[1.0, 0.9, 0.8]] * 5)
    content = content_of(runs, methods, sets=[load_set("qam2026")], baseline="qam")
    table = next(table for table in content.tables if table.name == "reproduction")
    row = next(row for row in table.rows if row[1].text == "scene-play")
    assert [row[3].plain, row[4].plain] == ["96.9 qam2026, 12 seeds", "90.0 3 seeds"]
    assert row[7].text == "same"
    page = report.to_html(content)
    assert "Reproduction of published scores" in page
    assert "Qiyang Li, Sergey Levine" in page


def page_of_runs(paths):
    """Return the page of run folders, without its style and script."""
    page = report.to_html(Content(*compared(curves=True, paths=paths), CompareRequest()))
    return page[page.index("<body>") : page.index('<script type="application/json"')]


def test_first_report_of_one_run_claims_nothing_that_one_run_cannot_say(tmp_path):
    write_run(tmp_path / "qam", offline=(10, 18), episodes=20)
    page = page_of_runs([tmp_path])
    # the interval by the formula of Wilson, for 18 of 20
    assert "18 of 20 episodes of one seed, 90.0% [69.9, 97.2] success" in page
    headings = re.findall("<h2[^>]*>(.*?)</h2>", page)
    assert headings[:2] == ["Scores", "Sample efficiency"]
    assert not {"Verdict", "Aggregates", "Domains", "Tasks", "Performance profiles"} & {*headings}
    words = re.sub("<svg.*?</svg>|<[^>]*>", " ", page, flags=re.DOTALL)
    assert not re.search(r"\b(best method|[Bb]old:|[Ss]haded|[Gg]rey|[Bb]ands?:|IQM:)", words)
    assert re.findall('id="figure-([a-z_]+)"', page) == ["sample_efficiency_mean"]


@pytest.mark.usefixtures("figures_on_demand")
def test_long_tables_are_folded_below_a_line_that_says_what_is_inside():
    # own and published methods may have names that differ in their case alone
    names = [f"agent{k:02d}" for k in range(LONGEST_OPEN_TABLE // 2)]
    names += [*map(str.upper, names), "agent99"]
    page = report.to_html(content_of(evaluations(names), baseline=names[0]))
    folds = re.findall(r"<summary>(.*?)</summary>\n<figure.*? id=.(\w+)", page)
    summaries = {name: summary for summary, name in folds}
    assert summaries.keys() >= {"aggregates_offline", "domains_offline", "pairs_online"}
    assert not summaries.keys() & {"tasks_offline", "verdict_offline"}
    assert re.fullmatch(
        r"Domains, offline: 13 rows \(((?i:agent)\d\d, ){3}and 10 more\)",
        summaries["domains_offline"],
    )


@pytest.mark.usefixtures("figures_on_demand")
def test_names_from_run_folders_stay_inside_the_data_and_add_no_markup_to_the_page():
    names = ["</script><script>alert(1)</script>", "<!--<script>", "a\u2028b", "a&amp;b'\"", "]]>"]
    runs = pd.concat([scene_runs([[0.5] * 6], name) for name in names])
    page = report.to_html(content_of(runs, problems=[("logs/<i>", "<u>")], baseline=names[0]))
    pattern = r'<script type="application/json" id="files">(.*?)</script>'
    data = re.search(pattern, page, flags=re.DOTALL)[1]
    assert not set("<>&'\u2028") & set(data)
    assert page.count("<script") == page.count("</script>") == 2
    assert "alert(1)" in page
    assert not re.search("<[iu]>", page)


def test_wheel_has_every_file_of_the_page():
    project = tomllib.loads((FOLDER.parents[3] / "pyproject.toml").read_text())
    package = project["tool"]["setuptools"]["package-data"]["zoo"]
    root = FOLDER.parents[2]
    included = {path for pattern in package for path in root.glob(pattern)}
    assert {path for path in FOLDER.rglob("*") if path.is_file()} <= included


def test_script_can_stand_in_a_page():
    assert not re.search(r"</script|<!--|\r|innerHTML|eval\(", SCRIPT, flags=re.IGNORECASE)


@pytest.mark.parametrize(
    ("seeds", "expected"), [(1, "One seed of FQL, QAM"), (3, "FQL (3), QAM (3)"), (6, None)]
)
def test_too_few_seeds_are_warned_of(seeds, expected):
    sentences = content_of(evaluations(["QAM", "FQL"], seeds=seeds)).warnings
    assert len(sentences) == bool(expected)
    assert all(expected in text for text in sentences)


def test_left_out_tasks_and_different_steps_are_warned_of():
    short = evaluations(["FQL"], tasks=2, steps=((500, "offline"),))
    text = "\n".join(content_of(pd.concat([evaluations(["QAM"], tasks=4), short])).warnings)
    assert "lack: cube-double-play task2, scene-play task2 (FQL)" in text
    assert "offline: methods were scored at different steps" in text


@pytest.mark.parametrize("names", [[], ["qam2026"]])
def test_departures_name_their_environments_also_beside_a_set_without_scores_there(names):
    short = "3,000 of 1,000,000 offline steps"
    steps = {"offline_steps": [3000, 1000000]}
    departures = {SCENE[0]: {"gamma": [0.9, 0.99], **steps}, SCENE[1]: steps, SCENE[2]: {}}
    protocols = {env: {"profile": "qam"} for env in departures}
    methods = {"qam": ComparedMethod("qam", "QAM", "own", protocols, departures)}
    comparison = comparison_of_runs(scene_runs([[0.5] * 6] * 3), methods=methods)
    sentences = warnings([comparison], runs_table(), [load_set(name) for name in names])
    (sentence,) = (text for text in sentences if "Departs" in text)
    gamma = "gamma 0.9 instead of 0.99 (scene-play task1)"
    assert sentence.endswith(f"profile: {short} (2 tasks of scene-play); {gamma}.")


QUICK = """
profile: quick
departures: {gamma: [0.995, 0.99], offline_steps: [3000, 1000000]}
"""


@pytest.mark.parametrize("algos", [("qam",), ("qam", "bc")])
def test_departures_of_quick_runs_are_said_once_with_their_steps_first(tmp_path, algos):
    for algo in algos:
        write_run(tmp_path / algo, algo=algo, env="Pendulum-v1", **yaml.safe_load(QUICK))
    inputs, comparisons = compared(paths=[tmp_path])
    sentences = list(warnings(comparisons, inputs.own_runs))
    quick = [text for text in sentences if "--quick" in text]
    names = "bc, qam t" if len(algos) > 1 else "T"
    steps = "rained with `--quick`: 3,000 of 1,000,000 offline steps, gamma 0.995 instead of 0.99"
    assert quick == [f"{names}{steps} (Pendulum-v1)."]


def test_seeds_with_rewards_or_code_of_other_versions_are_told(tmp_path):
    for seed, version in enumerate(("1.1.0", "1.2.1", "1.2.1")):
        agent = {"class": "mine:Mine", "code": version[:3] * 4}
        run = write_run(tmp_path / str(seed), seed=seed, agent=agent)
        (run / "versions.json").write_text(json.dumps({"packages": {"ogbench": version}}))
    comparisons = content_of(evaluations(["qam"])).comparisons
    rewards, code = warnings(comparisons, read_runs([tmp_path]))
    assert rewards.endswith("may differ for that alone: qam (1.1.0), and qam (1.2.1).")
    assert code == "qam: runs were trained by 2 versions of the algorithm's file."


APART = """
- {env: Pendulum-v1, success_return: -300}
- {env: Pendulum-v1, success_return: -500.5}
- &played {env: Hopper-v5, eval_env_kwargs: [at=1], env_kwargs: [at=2]}
- {env: Hopper-v5}
- {<<: *played, env: Left-out-v1}
- {env: Left-out-v1}
- {env: Ant-v5, dataset: {fingerprint: ffffffff}}
- {env: Ant-v5}
- {env: Reacher-v5}
"""


def test_what_sets_runs_apart_on_an_environment_that_is_shown_is_told(tmp_path):
    for number, options in enumerate(yaml.safe_load(APART)):
        write_run(tmp_path / str(number), algo=f"mine{number}", **options)
    inputs, comparisons = compared(paths=[tmp_path], envs=["[!L]*"])
    sentences = warnings(comparisons, inputs.own_runs)
    apart = [text.partition(". That alone")[0] for text in sentences if text.endswith("apart.")]
    assert [text.rpartition(": ")[2] for text in apart] == [
        "-500.5 (mine1); -300.0 (mine0)",
        "['at=1'] (mine2); none (mine3)",
        "01234567 (mine7); ffffffff (mine6)",
    ]
