import json
import re
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.zoo.outcomes import call
from tests.zoo.report.samples import write_published_runs
from tests.zoo.runs.test_read import write_run
from zoo import compare
from zoo.report.published_scores import published_names

ROOT = Path(compare.__file__).resolve().parents[1]
SCENE = [f"scene-play-singletask-task{k}-v0" for k in range(1, 6)]
CUBE = [f"cube-double-play-singletask-task{k}-v0" for k in range(1, 6)]
SMALL = ["--reps", "200"]

pytestmark = pytest.mark.usefixtures("figures_on_demand")


def write_runs(folder, environments, *, algo="qam", seeds=6, start=20, **config):
    for k, env in enumerate(environments):
        for seed in range(seeds):
            last = min(start + seed + k, 50)
            write_run(folder / algo / f"{env}_{seed}", algo=algo, env=env, seed=seed, offline=(5, last), **config)


def write_return_runs(folder, algo, environments, *, seeds=6, start=-1500.0, **config):
    """Write online runs without success: each seed ends 10 above the one before."""
    for env in environments:
        for seed in range(seeds):
            last = start + 10 * seed
            name = folder / algo / f"{env}_{seed}"
            write_run(
                name, algo=algo, env=env, seed=seed, offline=(), online=(last - 100, last), has_success=False, **config
            )


def run(capsys, *words):
    """Run the program; return its exit code, its result and what it said on stderr."""
    return call(capsys, compare.main, *words)


def test_published_runs_alone_give_every_number_of_the_json_schema(tmp_path, capsys, monkeypatch):
    scores = write_published_runs(tmp_path, monkeypatch, SCENE)
    code, result, _ = run(capsys, "--published", "qam2026", "--json", tmp_path / "out.json", *SMALL)
    assert code == 0
    assert result["json"] == str(tmp_path / "out.json")
    out = json.loads((tmp_path / "out.json").read_text())
    assert out["offline"]["steps"] == 1_000_000
    assert out["online"]["steps"] == 1_500_000
    qam = out["offline"]["aggregates"]["QAM"]
    assert qam["mean"]["point"] == pytest.approx(scores[0, :, 1].mean())
    assert qam["mean"]["ci95"][0] < qam["mean"]["point"] < qam["mean"]["ci95"][1]
    assert (qam["tasks"], qam["seeds"]) == (5, 6)
    assert set(qam) >= {"mean", "iqm", "median", "optimality_gap"}
    online = out["online"]["aggregates"]["FQL"]
    assert online["mean"]["point"] == pytest.approx(scores[1, :, 2].mean())
    chance = out["offline"]["probability_of_improvement"]
    x, y = scores[0, :, 1][:, :, None], scores[1, :, 1][:, None, :]
    assert chance["QAM"]["FQL"]["point"] == pytest.approx(np.mean((x > y) + (x == y) / 2))
    assert chance["FQL"]["QAM"]["point"] == pytest.approx(1 - chance["QAM"]["FQL"]["point"])
    assert chance["FQL"]["QAM"]["ci95"] == pytest.approx([1 - bound for bound in chance["QAM"]["FQL"]["ci95"][::-1]])
    assert chance["QAM"]["FQL"]["difference"]["point"] == pytest.approx((scores[0] - scores[1])[:, 1].mean())
    assert out["offline"]["domains"]["scene-play"]["QAM"]["mean"]["point"] == pytest.approx(scores[0, :, 1].mean())
    assert out["offline"]["tasks"][SCENE[2]]["FQL"]["mean"] == pytest.approx(scores[1, 2, 1].mean())
    assert out["offline"]["tasks"][SCENE[2]]["FQL"]["seeds"] == 6
    assert out["skipped"] == []


def test_published_means_without_runs_have_no_intervals(tmp_path, capsys):
    code, _, err = run(capsys, "--published", "rql2026", "--json", tmp_path / "out.json", *SMALL)
    assert code == 0
    assert "rql2026: means without intervals" in err
    rql = json.loads((tmp_path / "out.json").read_text())["offline"]["aggregates"]["RQL"]
    assert rql["mean"] == {"point": pytest.approx(0.5552), "ci95": None, "interval": "none"}
    assert rql["iqm"]["point"] is None
    assert (rql["tasks"], rql["seeds"]) == (50, 4)


def test_a_method_of_two_sets_has_a_row_in_each(tmp_path, capsys):
    words = ["--published", "qam2026", "trqam2026", "--methods", "QAM (qam2026)", "QAM (trqam2026)", "TRQAM"]
    run(capsys, *words, "--json", tmp_path / "out.json", *SMALL)
    aggregates = json.loads((tmp_path / "out.json").read_text())["offline"]["aggregates"]
    assert aggregates["QAM (qam2026)"]["mean"]["point"] == pytest.approx(0.4439, abs=5e-5)
    assert aggregates["QAM (trqam2026)"]["mean"]["point"] == pytest.approx(0.347)
    assert "TRQAM" in aggregates


def test_own_runs_stand_beside_published_ones_with_a_verdict(tmp_path, capsys, monkeypatch):
    write_published_runs(tmp_path, monkeypatch, [*SCENE, *CUBE])
    write_runs(tmp_path / "logs", SCENE, seeds=6)
    run(capsys, tmp_path / "logs", "--published", "qam2026", "--json", tmp_path / "out.json", *SMALL)
    out = json.loads((tmp_path / "out.json").read_text())
    assert out["offline"]["common_tasks"] == SCENE
    assert set(out["offline"]["aggregates"]) == {"qam", "QAM", "FQL"}
    assert {cell["tasks"] for cell in out["offline"]["aggregates"].values()} == {5}
    assert out["online"] is None  # no run of our own went online
    assert out["focus"] == "qam"
    assert set(out["offline"]["verdicts"]) == {"QAM", "FQL"}
    assert out["offline"]["steps"] is None  # ours are shorter
    assert out["offline"]["aggregates"]["qam"]["steps"] == 2000


def test_tasks_that_a_method_lacks_are_left_out_of_aggregates_and_named(tmp_path, capsys):
    write_runs(tmp_path / "logs", SCENE[:2])
    write_runs(tmp_path / "logs", SCENE[:1], algo="fql")
    run(capsys, tmp_path / "logs", "--json", tmp_path / "out.json", *SMALL)
    out = json.loads((tmp_path / "out.json").read_text())["offline"]
    assert out["common_tasks"] == SCENE[:1]
    assert out["left_out_tasks"] == {SCENE[1]: ["fql"]}
    assert set(out["tasks"]) == set(SCENE[:2])
    assert set(out["domains"]["scene-play"]) == {"qam"}  # the other method has not all its tasks


@pytest.mark.usefixtures("with_figures")
def test_methods_without_a_common_environment_have_their_tables_and_the_reason_why_there_is_no_aggregate(
    tmp_path, capsys
):
    write_runs(tmp_path / "logs", SCENE)
    write_runs(tmp_path / "logs", CUBE[:1], algo="fql")
    words = ["-o", tmp_path / "report", "--format", "svg", "--json", tmp_path / "out.json", *SMALL]
    code, result, _ = run(capsys, tmp_path / "logs", *words)
    assert (code, result["methods"]) == (0, 2)
    out = json.loads((tmp_path / "out.json").read_text())["offline"]
    assert out["aggregates"] == out["probability_of_improvement"] == {}
    assert out["common_tasks"] == []
    assert out["tasks"][SCENE[0]]["qam"]["mean"] == pytest.approx(0.45)
    assert set(out["domains"]["scene-play"]) == {"qam"}
    files = {path.name for path in (tmp_path / "report").rglob("*") if path.is_file()}
    assert {"report.html", "tasks_offline.csv", "domains_offline.csv", "domains.svg"} <= files
    assert not files & {"aggregates.svg", "profiles.svg", "improvement.svg", "sample_efficiency.svg"}
    assert "aggregates_offline.csv" not in files
    page = (tmp_path / "report" / "report.html").read_text()
    assert "Offline: 2 methods on 6 tasks, none of them common to all" in page
    assert (
        "offline: no aggregate is possible, because no environment was run by all methods: fql has cube-double-play "
        "task1; qam has 5 tasks of scene-play." in page
    )
    for heading in ("Aggregates", "Performance profiles", "Improvement over", "Sample efficiency"):
        assert f"<h2>{heading}" not in page


def test_nothing_is_written_where_the_report_cannot_be_made(tmp_path, capsys, monkeypatch):
    def fail(*_):
        raise RuntimeError("no fonts")

    monkeypatch.setattr("zoo.report.page.report.all_figures", fail)
    write_runs(tmp_path / "logs", SCENE[:1])
    code, _, err = run(capsys, tmp_path / "logs", "-o", tmp_path / "report", *SMALL)
    assert code == 1
    assert "no fonts" in err
    assert not (tmp_path / "report").exists()


@pytest.mark.slow
@pytest.mark.usefixtures("with_figures")
def test_tables_and_figures_of_an_older_report_do_not_stay_beside_a_new_one(tmp_path, capsys):
    report = tmp_path / "report"
    write_runs(tmp_path / "logs", SCENE[:1])
    run(capsys, tmp_path / "logs", "-o", report, "--format", "svg", *SMALL)
    assert (report / "figures" / "aggregates.svg").exists()
    (report / "figures" / "mine.svg").write_text("")
    write_runs(tmp_path / "logs", CUBE[:1], algo="fql")
    run(capsys, tmp_path / "logs", "-o", report, "--format", "svg", *SMALL)
    assert not (report / "figures" / "aggregates.svg").exists()
    assert not (report / "tables" / "aggregates_offline.csv").exists()
    assert (report / "tables" / "tasks_offline.csv").exists()
    assert (report / "figures" / "mine.svg").exists()


def test_corrupt_run_is_named_and_counted_and_the_rest_compared(tmp_path, capsys):
    write_runs(tmp_path / "logs", SCENE[:1])
    bad = write_run(tmp_path / "logs" / "bad", seed=9)
    (bad / "evaluations.npz").write_bytes(b"PK\x03\x04")
    code, result, err = run(capsys, tmp_path / "logs", "--json", tmp_path / "out.json", *SMALL)
    assert code == 0
    assert result["skipped"] == 1
    assert f"skipped {bad}: evaluations.npz cannot be read" in err
    skipped = json.loads((tmp_path / "out.json").read_text())["skipped"]
    assert [entry["path"] for entry in skipped] == [str(bad)]


def test_strict_fails_on_a_skipped_run(tmp_path, capsys):
    write_runs(tmp_path / "logs", SCENE[:1])
    write_run(tmp_path / "logs" / "late", seed=9, state="running")
    code, _, err = run(capsys, tmp_path / "logs", "--strict", *SMALL)
    assert code == 2
    assert "--strict allows no skipped run, got 1" in err


def test_protocols_are_separate_rows_unless_merged(tmp_path, capsys):
    write_runs(tmp_path / "logs", SCENE[:1], seeds=3)
    for seed in (3, 4):
        write_run(tmp_path / "logs" / f"dense_{seed}", seed=seed, offline=(5, 9), sparse=False)
    code, result, _ = run(capsys, tmp_path / "logs", *SMALL)
    assert (code, result["methods"]) == (0, 2)
    code, result, _ = run(capsys, tmp_path / "logs", "--merge-protocols", *SMALL)
    assert (code, result["methods"]) == (0, 1)


def test_methods_and_environments_can_be_chosen(tmp_path, capsys, monkeypatch):
    write_published_runs(tmp_path, monkeypatch, [*SCENE, *CUBE])
    words = ["--published", "qam2026", "--methods", "QAM", "--envs", "cube-*", "--json", tmp_path / "out.json"]
    run(capsys, *words, *SMALL)
    out = json.loads((tmp_path / "out.json").read_text())["offline"]
    assert set(out["aggregates"]) == {"QAM"}
    assert out["common_tasks"] == CUBE


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "expected folders of runs, or --published SET for published scores alone, got none"),
        (["--published", "qam2025"], "unknown set of published scores `qam2025`; closest: qam2026"),
        (["{logs}", "--baseline", "qan"], "unknown method `qan`; closest: qam"),
        (["{logs}", "--methods", "qam", "--baseline", "fql"], "must be a method of the comparison, got `fql`, which"),
        (["{logs}", "--methods", "qam", "--focus", "fql"], "`--focus` must be a method of the comparison, got `fql`"),
        (["{logs}", "--envs", "ant*"], "expected scores on environments like ant*, got none"),
        (["{logs}", "--resolve", "0"], "`--resolve` must be a finite number > 0 and <= 100, got 0.0"),
        (["{tmp}/nowhere"], "expected a folder of runs, got `{tmp}/nowhere`"),
        (["{tmp}/unfinished"], "expected finished runs below {tmp}/unfinished, got 1 that cannot be counted"),
        (["{logs}", "-o", "{tmp}/file"], "`--output` must be a place to write to, got {tmp}/file"),
        (["{logs}", "--reference-scores", "Pendulum-v1=1,2"], "unknown environment `Pendulum-v1`; closest: scene-play"),
    ],
)
def test_bad_input_is_refused_with_exit_code_2(tmp_path, capsys, words, message):
    for algo in ("qam", "fql"):
        write_runs(tmp_path / "logs", SCENE[:1], algo=algo, seeds=1)
    write_run(tmp_path / "unfinished" / "run", state="interrupted")
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    names = {"logs": tmp_path / "logs", "tmp": tmp_path}
    code, _, err = run(capsys, *(word.format(**names) for word in words))
    assert code == 2
    assert message.format(**names) in err


@pytest.mark.usefixtures("with_figures")
def test_runs_with_returns_only_are_compared_by_their_return(tmp_path, capsys):
    write_return_runs(tmp_path / "logs", "sac", ["Pendulum-v1"])
    write_return_runs(tmp_path / "logs", "td3", ["Pendulum-v1"], start=-1400.0)
    out, report = tmp_path / "out.json", tmp_path / "report"
    code, result, err = run(capsys, tmp_path / "logs", "--json", out, "-o", report, "--format", "svg", *SMALL)
    assert (code, result["skipped"], err) == (0, 0, "")
    out = json.loads(out.read_text())
    assert out["offline"] is None  # these are success rates
    assert out["online"] is None
    assert out["return"]["offline"] is None
    online = out["return"]["online"]
    assert online["aggregates"]["sac"]["mean"]["point"] == pytest.approx(-1475.0)
    low, high = online["aggregates"]["sac"]["mean"]["ci95"]
    assert -1500 <= low < -1475 < high <= -1450
    counts = {"tasks", "seeds", "most_seeds", "steps", "started", "finished", "failed"}
    assert set(online["aggregates"]["sac"]) == {"mean", "iqm", *counts}
    chance = online["probability_of_improvement"]["td3"]["sac"]
    assert chance["point"] == 1.0
    assert chance["difference"]["point"] == pytest.approx(100.0)
    assert online["tasks"]["Pendulum-v1"]["td3"]["mean"] == pytest.approx(-1375.0)
    files = {path.stem for path in report.rglob("*") if path.is_file()}
    tables = {f"{name}_online_return" for name in ("verdict", "aggregates", "improvement", "tasks")}
    figures = ("verdict", "aggregates", "profiles", "improvement", "sample_efficiency", "environments")
    assert files == tables | {f"{name}_return" for name in figures} | {
        "protocol",
        "report",
        "results",
        "runs",
        "scores",
        *("evaluations", "curves", "profiles"),
    }
    page = (report / "report.html").read_text()
    assert "Online, return: 2 methods on 1 common task, scored at 2,000 steps." in page
    assert "Scores are mean returns of the last evaluation of a phase" in page
    assert "success" not in re.sub(r"<style>.*?</style>", "", page, flags=re.DOTALL).lower()


def test_success_and_returns_never_share_a_number(tmp_path, capsys):
    write_runs(tmp_path / "logs", SCENE[:1], algo="sac")
    write_runs(tmp_path / "logs", SCENE[:1], start=30)
    alone, both = tmp_path / "alone.json", tmp_path / "both.json"
    run(capsys, tmp_path / "logs", "--json", alone, "--no-focus", *SMALL)
    write_return_runs(tmp_path / "logs", "sac", ["Pendulum-v1", "HalfCheetah-v5"])
    write_return_runs(tmp_path / "logs", "td3", ["Pendulum-v1"])
    run(capsys, tmp_path / "logs", "--json", both, "-o", tmp_path / "report", *SMALL)
    alone, both = (json.loads(path.read_text()) for path in (alone, both))
    assert both["offline"] == alone["offline"]  # success as if there were nothing else
    assert both["online"] is None
    assert set(both["return"]["online"]["tasks"]) == {"Pendulum-v1", "HalfCheetah-v5"}
    assert set(both["return"]["online"]["aggregates"]) == {"sac", "td3"}
    scores = pd.read_csv(tmp_path / "report" / "scores.csv")
    kinds = scores.groupby("environment")["kind"].unique().apply(list).to_dict()
    assert kinds == {SCENE[0]: ["success"], "Pendulum-v1": ["return"], "HalfCheetah-v5": ["return"]}
    runs = pd.read_csv(tmp_path / "report" / "runs.csv")
    assert runs.groupby("kind").size().to_dict() == {"success": 12, "return": 18}


@pytest.mark.usefixtures("with_figures")
def test_returns_of_several_environments_are_not_averaged(tmp_path, capsys):
    for algo, better in (("sac", 0.0), ("td3", 25.0)):
        write_return_runs(tmp_path / "logs", algo, ["Pendulum-v1"], start=-1500.0 + better)
        write_return_runs(tmp_path / "logs", algo, ["HalfCheetah-v5"], start=4000.0 + better)
    words = ["--json", tmp_path / "out.json", "-o", tmp_path / "report", "--format", "svg", *SMALL]
    run(capsys, tmp_path / "logs", *words)
    online = json.loads((tmp_path / "out.json").read_text())["return"]["online"]
    assert online["aggregates"] == {}
    chance = online["probability_of_improvement"]["td3"]["sac"]
    assert chance["point"] == pytest.approx(30 / 36)  # 25, 35, ... 75 above sac's 0, 10, ... 50
    assert "difference" not in chance
    assert online["tasks"]["HalfCheetah-v5"]["sac"]["mean"] == pytest.approx(4025.0)
    page = (tmp_path / "report" / "report.html").read_text()
    assert "online, return: returns of 2 environments are not averaged" in page
    assert not (tmp_path / "report" / "figures" / "aggregates_return.svg").exists()


def test_reference_scores_put_returns_on_one_scale(tmp_path, capsys):
    write_return_runs(tmp_path / "logs", "sac", ["Pendulum-v1"], start=-850.0)
    write_return_runs(tmp_path / "logs", "sac", ["HalfCheetah-v5"], start=2975.0)
    path = tmp_path / "references.yml"
    path.write_text("HalfCheetah-v5: [0, 6000]\n")
    out = tmp_path / "out.json"
    words = ["--reference-scores", "Pendulum-v1=-1500,-150", path]
    run(capsys, tmp_path / "logs", *words, "--json", out, "-o", tmp_path / "report", *SMALL)
    out = json.loads(out.read_text())
    assert out["reference_scores"] == {"Pendulum-v1": [-1500.0, -150.0], "HalfCheetah-v5": [0.0, 6000.0]}
    assert "return" not in out
    sac = out["normalised_return"]["online"]["aggregates"]["sac"]
    assert sac["mean"]["point"] == pytest.approx((675 / 1350 + 3000 / 6000) / 2)
    assert sac["tasks"] == 2
    assert sac["optimality_gap"]["point"] == pytest.approx(0.5)
    assert (tmp_path / "report" / "tables" / "aggregates_online_normalised_return.md").exists()
    page = (tmp_path / "report" / "report.html").read_text()
    assert "<li>Pendulum-v1: random -1,500, expert -150</li>" in page


def test_published_success_rates_are_not_set_beside_returns(tmp_path, capsys, monkeypatch):
    write_published_runs(tmp_path, monkeypatch, SCENE)
    write_return_runs(tmp_path / "logs", "sac", SCENE[:1])
    code, result, err = run(capsys, tmp_path / "logs", "--published", "qam2026", *SMALL)
    assert (code, result["methods"]) == (0, 1)
    assert "qam2026: covers none of your environments" in err


@pytest.mark.few(1)
@pytest.mark.parametrize("algo", ["qam", "mine:Mine"])
def test_differences_from_a_published_set_come_first(tmp_path, capsys, algo):
    settings = {"net_arch": [128] * 3, "batch_size": 256, "inverse_temperature": 3.0, "gamma": 0.995}
    env = "pointmaze-medium-navigate-singletask-task1-v0"
    more = {"episodes": 20, "settings": settings, "sparse": False, "departures": ["eval_episodes 20 instead of 50"]}
    for seed in range(2):
        write_run(
            tmp_path / "logs" / str(seed), algo=algo, env=env, seed=seed, offline=(2, 4, 6), profile="qam", **more
        )
    compare.main([str(tmp_path / "logs"), "--published", "mini", "--print", *SMALL])
    output = " ".join(capsys.readouterr().out.split())
    first = output[output.index("! ") :].split(" ! ")[0]
    assert first.startswith(f"! {algo} was not run as mini was: ")
    for expected in ("net_arch 128x3 against 64x2", "eval_episodes 20 against 50", "batch_size 256 against 128"):
        assert expected in first
    assert ("inverse_temperature 3.0 against 1.21" in first) == (algo == "qam")
    assert f"{algo} departs from the protocol of profile qam: eval_episodes 20 instead of 50" in output


def test_neither_torch_nor_rliable_is_imported():
    code = "import sys, zoo.report.page.report; assert not {'torch', 'rliable', 'seaborn', 'arch'} & set(sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert found.returncode == 0, found.stderr


@pytest.mark.slow
def test_everything_about_17_methods_50_tasks_and_12_seeds_takes_a_minute_on_two_cores(tmp_path, monkeypatch):
    domains = ("scene-play", "cube-double-play", "cube-triple-play", "puzzle-3x3-play", "puzzle-4x4-play")
    domains += ("antmaze-large-navigate", "antmaze-giant-navigate", "humanoidmaze-medium-navigate")
    domains += ("humanoidmaze-large-navigate", "cube-quadruple-play")
    environments = [f"{domain}-singletask-task{k}-v0" for domain in domains for k in range(1, 6)]
    write_published_runs(
        tmp_path, monkeypatch, environments, methods=list(published_names().values())[:17], seeds=12, evaluations=30
    )
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "zoo/compare.py", "--published", "qam2026", "-o", str(tmp_path / "report")]
    subprocess.run(command, cwd=ROOT, check=True, timeout=600)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    assert used < 2 * 60  # seconds of processor time; the wall clock depends on what else runs


@pytest.mark.usefixtures("with_figures")
def test_figures_and_tables_are_made_for_a_paper(tmp_path, capsys):
    write_runs(tmp_path / "logs", SCENE[:2], algo="qam")
    write_runs(tmp_path / "logs", SCENE[:2], algo="fql")
    words = ["--width", "column", "--format", "pdf", "--labels", "qam=Ours", "--order", "fql", "qam"]
    code, _, _ = run(capsys, tmp_path / "logs", "-o", tmp_path / "report", *words, *SMALL)
    assert code == 0
    assert {path.suffix for path in (tmp_path / "report" / "figures").iterdir()} == {".pdf"}
    assert b"/MediaBox [ 0 0 234 " in (tmp_path / "report" / "figures" / "profiles.pdf").read_bytes()
    rows = (tmp_path / "report" / "tables" / "aggregates_offline.md").read_text().splitlines()[-2:]
    assert [row.split(" ")[1] for row in rows] == ["fql", "Ours"]
    assert 'data-drawing="profiles"' in (tmp_path / "report" / "report.html").read_text()
