import functools
from dataclasses import replace

import pandas as pd
import pytest
import yaml

from tests import code_blocks
from tests.zoo.outcomes import refuses
from tests.zoo.report.samples import SCENE, run_rows, write_small
from zoo.report import published_scores as published
from zoo.report.published_scores import COLUMNS, read_included_runs
from zoo.runs.read import EVALUATION_COLUMNS


@functools.cache
def means_of(name):
    """Return the means of a published set, which takes seconds to read."""
    return published.load_means(published.load_set(name))


OVERALL_OF_QAM = (
    "QAM-E 45.71, QAM-F 45.40, QAM 44.39, QSM 41.55, ReBRAC 39.99, DSRL 38.39, CGQL-L 36.83, FQL 35.74, DAC 36.49, "
    "BAM 35.38, CGQL-M 34.62, IFQL 34.42, FEdit 32.64, CGQL 29.79, FBRAC 10.77, FAWAC 8.42"
)
"""The release's overall scores in %, offline, as computed by others from the authors' data."""
OVERALL_OF_FQL = (
    "Gaussian BC 3, IQL 23, ReBRAC 31, IDQL 23, SRPO 14, CAC 25, FAWAC 16, FBRAC 29, IFQL 30, FQL 44, "
    "DriftQL 54"
)
"""Means of the 50 tasks as printed, in per cent."""


def read_scores(text):
    """Return method -> score."""
    words = [entry.rpartition(" ") for entry in text.split(", ")]
    return {method: float(score) for method, _, score in words}


def test_means_of_qam_are_the_published_overall_scores_and_those_of_domains_the_means_of_their_tasks():
    means = means_of("qam2026")
    assert set(means["seeds"]) == {12}
    ends = set(zip(means["phase"], means["step"], strict=True))
    assert ends == {("offline", 1_000_000), ("online", 1_500_000)}
    domain = means["environment"].str.replace(r"-singletask-.*", "", regex=True)
    is_task = means["environment"] != domain
    sizes = means.groupby(["phase", is_task]).size().to_dict()
    assert sizes == {
        ("offline", True): 50 * 16,
        ("offline", False): 10 * 16,
        ("online", True): 50 * 17,
        ("online", False): 10 * 17,
    }
    overall = means[is_task & (means["phase"] == "offline")].groupby("method")["mean"].mean()
    assert (100 * overall).round(2).to_dict() == pytest.approx(
        read_scores(OVERALL_OF_QAM), abs=0.011
    )
    tasks = means[is_task].groupby([means["method"], means["phase"], domain])["mean"].mean()
    domains = means[~is_task].set_index(["method", "phase", "environment"])["mean"]
    assert (tasks - domains).abs().max() < 2e-6


def test_trqam_table_rounds_to_its_own_overall_scores():
    # "all" of the authors' table: mean of the rounded domain means, rounded half up.
    overall = "FQL 28, CGQL-L 23, DSRL 46, IFQL 35, QAM 35, QAM-E 45, TRQAM 68, SQAM 75"
    means = means_of("trqam2026").groupby("method")["mean"].agg(["mean", "size"])
    rounded = (100 * means["mean"] + 0.5 + 1e-9).astype(int).astype(str)
    assert set(overall.split(", ")) == set(means.index + " " + rounded)
    assert (means["size"] == 10).all()


def test_rql_tasks_round_to_the_printed_means_of_domains_and_of_all_tasks():
    means = 100 * means_of("rql2026").set_index("environment")["mean"]
    assert len(means) == 60
    domains = means[~means.index.str.contains("-singletask-")]
    tasks = [means[published.tasks_of(domain)].mean() for domain in domains.index]
    assert [round(mean) for mean in tasks] == domains.round().tolist()
    assert round(sum(tasks) / 10) == 56


def test_fql_tasks_average_to_the_printed_domains_and_overall_scores():
    means, overall = means_of("fql2025"), read_scores(OVERALL_OF_FQL)
    for method, rows in means.groupby("method"):
        scores = 100 * rows.set_index("environment")["mean"]
        domains = scores[~scores.index.str.contains("-singletask-")]
        assert domains.mean() == pytest.approx(overall[method], abs=0.6)
        for domain, printed in domains.items():
            assert scores[published.tasks_of(domain)].mean() == pytest.approx(printed, abs=1.25)
    assert dict(means["method"].value_counts()) == dict.fromkeys(overall, 60)


@pytest.mark.parametrize("name", published.set_names())
def test_every_table_has_the_tasks_of_its_suite_and_its_baseline(name):
    entry = published.load_set(name)
    means = means_of(name)
    tasks = set()
    for place in means["environment"]:
        tasks.update(published.tasks_of(place))
    assert tasks == set(published.suite_tasks(entry.suite))
    assert entry.baseline in set(means["method"])


def test_runs_in_files_are_read_like_arrays_of_counts(tmp_path, monkeypatch):
    write_small(tmp_path, monkeypatch, [run_rows("qam", SCENE[0], 7, (5, 40))])
    runs = published.load_set("small").evaluations
    assert set(runs) == set(EVALUATION_COLUMNS)
    about = {"method": "QAM", "algorithm": "QAM", "source": "small", "seed": 7, "kind": "success"}
    about |= {"environment": SCENE[0], "domain": "scene-play", "task": "task1"}
    about |= {"successes": 40, "score": 0.8, "return": -100.0}
    row = runs[runs["step"] == 2000].iloc[0].to_dict()
    assert row.items() >= about.items()


def test_runs_need_the_end_of_both_phases(tmp_path, monkeypatch):
    finished, offline_only, cut_short = (run_rows("qam", SCENE[0], seed) for seed in range(3))
    for rows in (finished, cut_short):
        rows.append(rows[1] | {"phase": "online", "step": 3000})
    del cut_short[1]
    protocol = {"offline_steps": 2000, "online_steps": 1000}
    write_small(tmp_path, monkeypatch, [finished, offline_only, cut_short], protocol=protocol)
    assert set(published.load_set("small").evaluations["seed"]) == {0}


def test_means_of_included_runs_are_over_seeds_with_the_domains_that_are_whole(
    tmp_path, monkeypatch
):
    runs = []
    for k, task in enumerate(SCENE):
        runs += [run_rows("qam", task, seed, (0, 10 * k + 5 * seed)) for seed in (0, 1)]
    write_small(tmp_path, monkeypatch, runs)
    metadata = published._metadata()
    metadata["suites"]["small"] = ["scene-play", "cube-double-play"]
    monkeypatch.setattr(published, "_metadata", lambda: metadata)
    means = published.load_means(published.load_set("small")).set_index("environment")
    assert set(means.index) == {*SCENE, "scene-play"}
    columns = ["mean", "sd", "seeds"]
    assert means.loc[SCENE[1], columns].tolist() == pytest.approx([0.25, 0.1 / 2**0.5, 2])
    sd = (5 * 0.1**2 / 2) ** 0.5 / 5
    assert means.loc["scene-play", columns].tolist() == pytest.approx([0.45, sd, 2])


def test_the_entry_on_the_page_about_new_sets_is_one(monkeypatch):
    (block,) = code_blocks("docs/published.md", "yaml")
    monkeypatch.setattr(published, "_metadata", lambda: {"sets": yaml.safe_load(block)})
    protocol = published.load_set("my2026").protocol_of("My Method", "scene-play")
    assert protocol["offline_steps"] == 1_000_000


def test_damaged_counts_say_how_to_repair_them(tmp_path):
    (tmp_path / "qam2026.npz").write_bytes(b"nothing")
    damaged = replace(published.load_set("qam2026"), runs=str(tmp_path / "qam2026.npz"))
    with refuses("cannot be read"):
        _ = damaged.evaluations


def write(folder, rows, name="runs.csv"):
    pd.DataFrame(rows, columns=COLUMNS).to_csv(folder / name, index=False)
    return folder / name


def check_refused(folder, message):
    with refuses(message):
        read_included_runs(folder, SCENE)


def test_rows_of_all_files_are_read_with_their_types(tmp_path):
    write(tmp_path, run_rows("qam", SCENE[0], 0), name="a.csv")
    write(tmp_path, run_rows("fql", SCENE[0], 1, settings="1e5", length=""), name="b.csv")
    table = read_included_runs(tmp_path, SCENE)
    assert table["seed"].tolist() == [0, 0, 1, 1]
    assert table["settings"].tolist() == ["a1", "a1", "1e5", "1e5"]
    assert table["successes"].tolist() == [10, 20, 10, 20]
    assert table["length"].isna().tolist() == [False, False, True, True]


@pytest.mark.parametrize(
    ("column", "value"),
    {
        "environment": "pong",
        "phase": "before",
        "method": "",
        "seed": "one",
        "successes": "51",
        "episodes": "0",
    }.items(),
)
def test_damaged_value_is_named_with_its_file_and_line(tmp_path, column, value):
    rows = run_rows("qam", SCENE[0], 0)
    path = write(tmp_path, [rows[0], rows[1] | {column: value}])
    check_refused(tmp_path, f"`{path}`, line 3: ")


def test_file_that_ends_in_the_middle_of_a_line_or_lacks_columns_is_refused(tmp_path):
    path = write(tmp_path, run_rows("qam", SCENE[0], 0))
    text = path.read_text()
    path.write_text(text[:-30])
    check_refused(tmp_path, r"runs.csv`, line 3: ")
    path.write_text(text)
    pd.read_csv(path).drop(columns=["seed", "commit"]).to_csv(path, index=False)
    check_refused(tmp_path, r"seed.*commit")


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00", b'method,seed\n"a,1\n'])
def test_file_that_is_no_table_is_refused(tmp_path, content):
    (tmp_path / "runs.csv").write_bytes(content)
    check_refused(tmp_path, r"runs.csv` cannot be read .*; restore the file")


def test_evaluation_that_appears_twice_is_refused(tmp_path):
    write(tmp_path, run_rows("qam", SCENE[0], 0), name="a.csv")
    write(tmp_path, run_rows("qam", SCENE[0], 0)[1:], name="b.csv")
    check_refused(tmp_path, "b.csv`, line 2: expected one row for each evaluation of a run")
