"""The compare program: the user's runs, published sets, success and returns."""

import json

import pandas as pd
import pytest
import yaml

from tests.zoo.report.samples import CUBE, SCENE, write_published_runs, write_runs
from tests.zoo.runs.helpers import write_run
from zoo import compare
from zoo.report.scores import suite_tasks

SMALL = ["--reps", "200"]
RETURNS = ["Hopper-v5", "HalfCheetah-v5"]
pytestmark = pytest.mark.usefixtures("figures_on_demand")


@pytest.fixture
def logs(tmp_path):
    return tmp_path / "logs"


@pytest.fixture
def report(tmp_path):
    return tmp_path / "report"


@pytest.fixture
def compared(tmp_path, call):
    """Return a function that compares, and returns the numbers in the report's JSON file."""

    def compared(*words):
        call(compare.main, *words, "-o", tmp_path / "report", *SMALL)
        return json.loads((tmp_path / "report" / "results.json").read_text())

    return compared


def test_published_runs_alone_give_every_number_of_json_schema(tmp_path, compared, monkeypatch):
    scores = write_published_runs(tmp_path, monkeypatch)
    out = compared("--published", "qam2026")
    offline, online = out["offline"], out["online"]
    assert out["skipped"] == []
    qam = offline["aggregates"]["QAM"]
    assert (offline["tasks"], qam["seeds"]) == (SCENE, [6, 6])
    mean = scores[0, :, 1].mean()
    for metric in ("mean", "iqm"):
        low, high = qam[metric]["interval"]
        assert low < qam[metric]["point"] < high
    for cell, expected in (
        (qam, mean),
        (offline["domains"]["scene-play"]["QAM"], mean),
        (online["aggregates"]["FQL"], scores[1, :, 2].mean()),
        (offline["per_task"][SCENE[2]]["FQL"], scores[1, 2, 1].mean()),
    ):
        assert cell["mean"]["point"] == pytest.approx(expected)


def test_own_runs_stand_beside_published_ones_with_a_verdict(tmp_path, logs, compared, monkeypatch):
    write_published_runs(tmp_path, monkeypatch, [*SCENE, *CUBE])
    write_runs(logs, SCENE)
    out = compared(logs, "--published", "qam2026", "--methods", "qam", "FQL")
    assert out["online"] is None  # none of the user's runs has an online phase
    offline = out["offline"]
    assert offline["decision"]["subject"] == "qam"
    assert offline["tasks"] == SCENE
    assert set(offline["aggregates"]) == {"qam", "FQL"}  # without QAM
    # the user's runs are shorter
    assert {v["outcome"] for v in offline["decision"]["verdicts"]} == {"not comparable"}


@pytest.mark.usefixtures("with_figures")
def test_without_a_common_environment_there_is_no_aggregate(logs, report, compared):
    write_runs(logs, SCENE)
    write_runs(logs, CUBE[:1], algo="fql")
    out = compared(logs)["offline"]
    assert out["aggregates"] == {}
    files = {path.name for path in report.rglob("*") if path.is_file()}
    assert {"tasks_offline.csv", "domains_offline.csv", "domains.png"} <= files
    lacking = ("aggregates", "profiles_", "improvement", "sample_efficiency")
    assert not [name for name in files if name.startswith(lacking)]
    page = (report / "report.html").read_text()
    assert "no environment was run with every method: fql has cube-double-play " in page
    assert "<h2>Scores" not in page


@pytest.mark.parametrize(
    ("words", "message"),
    {
        "": "expected folders of runs, --published SET or --with FILE, got none",
        "--published qam2025": "unknown set of published scores `qam2025`; closest: qam2026",
        "{logs} --methods qamm": "unknown method `qamm`; closest: qam",
        "{logs} --envs * ant*": "unknown environment `ant*`",
        "{logs} -o {logs}": "{logs} is not empty and not a report",
        "{tmp}/unfinished": "expected finished runs below {tmp}/unfinished, got {tmp}/unfinished",
        "{logs} -o {tmp}/link": "`--output` must be a folder to write to, got {tmp}/link",
    }.items(),
)
def test_bad_input_is_refused_with_exit_code_2(tmp_path, logs, refusal, words, message):
    for algo in ("qam", "fql"):
        write_runs(logs, SCENE[:1], algo=algo, seeds=1)
    write_run(tmp_path / "unfinished" / "run", state="interrupted")
    (tmp_path / "link").symlink_to(tmp_path / "missing")
    names = {"logs": logs, "tmp": tmp_path}
    assert message.format(**names) in refusal(compare.main, *words.format(**names).split())


def test_success_and_returns_never_share_a_number(logs, report, compared, capsys):
    write_runs(logs, SCENE[:1], algo="sac")
    write_runs(logs, SCENE[:1], start=30)
    alone = compared(logs)
    for algo, start in {"sac": -1500.0, "td3": -1497.5}.items():
        write_runs(logs, RETURNS, algo=algo, start=start, has_success=False)
    out = compared(logs)
    # equal to the success scores without any other runs
    assert out["offline"]["aggregates"] == alone["offline"]["aggregates"]
    assert out["online"] is None
    returns = out["return"]["offline"]
    assert returns["aggregates"] == {}
    assert returns["decision"]["subject"] == "td3"
    (verdict,) = returns["decision"]["verdicts"]
    # 2.5, 3.5, ... 7.5 compared with sac's 0, 1, ... 5
    assert verdict["probability"]["point"] == pytest.approx(30 / 36)
    assert verdict["difference"] is None
    curves = pd.read_csv(report / "figures" / "curves_return.csv")
    assert {*curves["where"]} == {*RETURNS}
    compare.main([str(logs), *SMALL])
    assert "Tasks, offline, return" in capsys.readouterr().out  # which have no aggregates


def test_reference_scores_put_returns_on_one_scale(logs, report, compared):
    write_runs(logs, RETURNS, algo="sac", start=-827.5, has_success=False)
    write_run(logs / "success", online=(9,))
    words = f"--reference-scores Hopper-v5=-1500,-150 HalfCheetah-v5=-1574,-824 {SCENE[0]}=0,1"
    out = compared(logs, *words.split())
    assert out["reference_scores"] == {"Hopper-v5": [-1500, -150], "HalfCheetah-v5": [-1574, -824]}
    assert "return" not in out
    sac = out["normalised_return"]["offline"]["aggregates"]["sac"]
    assert sac["mean"]["point"] == pytest.approx((675 / 1350 + 750 / 750) / 2)
    assert (report / "tables" / "aggregates_offline_normalised_return.csv").exists()


def test_published_success_rates_are_not_set_beside_returns(
    tmp_path, logs, report, call, monkeypatch
):
    write_published_runs(tmp_path, monkeypatch)
    write_run(logs / "sac", algo="sac", env=SCENE[0], offline=(-9.0,), has_success=False)
    result, errors = call(compare.main, logs, "--published", "qam2026", "-o", report, *SMALL)
    assert result["methods"] == 1
    assert "qam2026 has no scores for the environments and phases of your runs" in errors


DIFFERENT = """
env: pointmaze-medium-navigate-singletask-task1-v0
algo: rlpd
profile: qam
episodes: 20
settings: {net_arch: [128, 128, 128]}
sparse: false
departures: {eval_episodes: [20, 50]}
label: "lab:Robot"  # with a colon after it, the code of an emoji
"""


@pytest.mark.few(1)
def test_a_terminal_shows_tables_and_differences(logs, capsys):
    for seed in range(2):
        write_run(logs / str(seed), seed=seed, offline=(2, 4, 6), **yaml.safe_load(DIFFERENT))
    write_run(logs / "other", **yaml.safe_load(DIFFERENT) | {"env": SCENE[1]})  # which mini lacks
    (write_run(logs / "unreadable") / "config.yml").write_text("")
    compare.main([*f"{logs} --published mini".split(), *SMALL])
    output = " ".join(capsys.readouterr().out.split())
    assert "lab:Robot: differs from the protocol of mini: " in output
    for difference in (
        "net_arch 128x3 against 64x2 (pointmaze",
        "eval_episodes 20 against 50",
        "offline_steps 3,000 against 0",
    ):
        assert difference in output
    assert "Scores, offline" in output
    assert "lab:Robot against the other methods, offline" in output


def test_sets_of_one_suite_share_its_50_tasks(tmp_path, report, compared, monkeypatch):
    # two methods on the 50 tasks instead of 17, whose reports take long
    write_published_runs(tmp_path, monkeypatch, sorted(suite_tasks("qam50")), seeds=3)
    out = compared("--published", "qam2026", "trqam2026", "rql2026")["offline"]
    assert out["suite"] == "qam50"
    assert "50 tasks of qam50" in (report / "report.html").read_text()
    assert {"TRQAM", "RQL", "QAM (qam2026)", "QAM (trqam2026)"} <= set(out["aggregates"])
    assert out["aggregates"]["QAM (trqam2026)"]["mean"]["point"] == pytest.approx(0.347)
    rql = out["aggregates"]["RQL"]
    assert rql["mean"] == {"point": pytest.approx(0.5552), "interval": None}
    assert rql["iqm"] is None
    assert rql["seeds"] == [4, 4]
