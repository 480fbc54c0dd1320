from dataclasses import replace

import pytest

from tests.zoo.report.samples import SCENE, run_rows, write_small
from zoo.errors import UsageError
from zoo.report import published_scores as published
from zoo.runs.read import EVALUATION_COLUMNS


def test_table_of_means_has_all_methods_domains_and_tasks():
    means = published.load_means(published.load_set("qam2026"))
    for phase, methods in (("offline", 16), ("online", 17)):
        part = means[means["phase"] == phase]
        assert part["method"].nunique() == methods
        is_task = part["environment"].str.contains("-singletask-")
        assert is_task.sum() == 50 * methods
        assert (~is_task).sum() == 10 * methods
    assert set(means["seeds"]) == {12}
    assert set(zip(means["phase"], means["step"], strict=True)) == {("offline", 1_000_000), ("online", 1_500_000)}


def test_means_of_all_tasks_are_the_published_overall_scores():
    # The release's overall scores in %, as computed by others from the authors' data.
    overall = {"QAM-E": 45.71, "QAM-F": 45.40, "QAM": 44.39, "QSM": 41.55, "ReBRAC": 39.99, "DSRL": 38.39}
    overall |= {"CGQL-L": 36.83, "FQL": 35.74, "DAC": 36.49, "BAM": 35.38, "CGQL-M": 34.62, "IFQL": 34.42}
    overall |= {"FEdit": 32.64, "CGQL": 29.79, "FBRAC": 10.77, "FAWAC": 8.42}
    means = published.load_means(published.load_set("qam2026"))
    tasks = means[(means["phase"] == "offline") & means["environment"].str.contains("-singletask-")]
    found = 100 * tasks.groupby("method")["mean"].mean()
    assert found.round(2).to_dict() == pytest.approx(overall, abs=0.011)


def test_domain_means_are_the_means_of_their_tasks():
    means = published.load_means(published.load_set("qam2026"))
    domain = means["environment"].str.replace(r"-singletask-.*", "", regex=True)
    is_task = means["environment"] != domain
    tasks = means[is_task].groupby([means["method"], means["phase"], domain])["mean"].mean()
    domains = means[~is_task].set_index(["method", "phase", "environment"])["mean"]
    assert (tasks - domains).abs().max() < 2e-6


def test_trqam_table_rounds_to_its_own_overall_scores():
    # "all" of the authors' table: mean of the rounded domain means, rounded half up.
    overall = {"FQL": 28, "CGQL-L": 23, "DSRL": 46, "IFQL": 35, "QAM": 35, "QAM-E": 45, "TRQAM": 68, "SQAM": 75}
    means = published.load_means(published.load_set("trqam2026"))
    found = 100 * means.groupby("method")["mean"].mean()
    assert {name: int(value + 0.5 + 1e-9) for name, value in found.items()} == overall
    assert (means.groupby("method").size() == 10).all()


DOMAINS_OF_RQL = {
    "antmaze-large-navigate": 83, "antmaze-giant-navigate": 37, "humanoidmaze-medium-navigate": 93,
    "humanoidmaze-large-navigate": 39, "scene-play": 89, "puzzle-3x3-play": 100, "puzzle-4x4-play": 37,
    "cube-double-play": 23, "cube-triple-play": 4, "cube-quadruple-play": 51,
}  # fmt: skip
"""Printed means of domains, in per cent."""


def test_rql_tasks_round_to_the_printed_means_of_domains_and_of_all_tasks():
    means = published.load_means(published.load_set("rql2026")).set_index("environment")["mean"]
    tasks = {domain: 100 * means[published.tasks_of(domain)].mean() for domain in DOMAINS_OF_RQL}
    assert {domain: round(value) for domain, value in tasks.items()} == DOMAINS_OF_RQL
    assert {domain: round(100 * means[domain]) for domain in DOMAINS_OF_RQL} == DOMAINS_OF_RQL
    assert len(means) == 60
    assert round(sum(tasks.values()) / 10) == 56


@pytest.mark.parametrize("name", published.set_names())
def test_every_table_has_the_tasks_of_its_suite(name):
    found = published.load_set(name)
    places = set(published.load_means(found)["environment"])
    tasks = {task for place in places for task in ([place] if "-task" in place else published.tasks_of(place))}
    suite = set(published.suite_tasks(found.suite))
    assert tasks == suite or (found.planned and tasks <= suite)  # planned runs may still be missing


def test_runs_in_files_are_read_like_arrays_of_counts(tmp_path, monkeypatch):
    write_small(tmp_path, monkeypatch, [run_rows("qam", SCENE[0], 7, (5, 40))])
    runs = published.load_runs(published.load_set("small"))
    assert set(runs) == set(EVALUATION_COLUMNS)
    row = runs[runs["step"] == 2000].iloc[0]
    assert (row["method"], row["algorithm"], row["source"], row["seed"]) == ("QAM", "QAM", "small", 7)
    assert (row["environment"], row["domain"], row["task"]) == (SCENE[0], "scene-play", "task1")
    assert (row["score"], row["successes"], row["kind"], row["return"]) == (0.8, 40, "success", -100.0)


def test_runs_that_have_not_reached_their_last_step_do_not_count(tmp_path, monkeypatch):
    late = run_rows("qam", SCENE[0], 1)[:1]
    write_small(tmp_path, monkeypatch, [run_rows("qam", SCENE[0], 0), late])
    small = published.load_set("small")
    assert set(published.load_runs(small)["seed"]) == {0}
    assert published.load_progress(small).finished == 1


def test_runs_need_the_end_of_both_phases(tmp_path, monkeypatch):
    protocol = {"offline_steps": 2000, "online_steps": 1000}
    online = [run_rows("qam", SCENE[0], 0)[1] | {"phase": "online", "step": 3000}]
    runs = [run_rows("qam", SCENE[0], 0), online, run_rows("qam", SCENE[0], 1)]
    write_small(tmp_path, monkeypatch, runs, protocol=protocol)
    assert set(published.load_runs(published.load_set("small"))["seed"]) == {0}


def test_means_of_included_runs_are_over_seeds(tmp_path, monkeypatch):
    scores = {SCENE[0]: (10, 20), SCENE[1]: (50, 40)}
    runs = [run_rows("qam", task, seed, (0, x)) for task, found in scores.items() for seed, x in enumerate(found)]
    write_small(tmp_path, monkeypatch, runs)
    means = published.load_means(published.load_set("small")).set_index("environment")
    assert set(means.index) == set(SCENE[:2])  # not the domain, which has five tasks
    assert means.loc[SCENE[0], ["mean", "seeds", "step"]].tolist() == [pytest.approx(0.3), 2, 2000]
    assert means.loc[SCENE[0], "sd"] == pytest.approx(0.2 / 2**0.5)


def test_means_of_included_runs_have_the_domains_that_are_whole(tmp_path, monkeypatch):
    runs = [run_rows("qam", task, seed, (0, 10 * k + 5 * seed)) for k, task in enumerate(SCENE) for seed in (0, 1)]
    write_small(tmp_path, monkeypatch, runs)
    metadata = published._metadata()
    metadata["suites"]["small"] = ["scene-play"]
    monkeypatch.setattr(published, "_metadata", lambda: metadata)
    row = published.load_means(published.load_set("small")).set_index("environment").loc["scene-play"]
    assert row["mean"] == pytest.approx(0.45)
    assert row["seeds"] == 2
    assert row["sd"] == pytest.approx((5 * 0.1**2 / 2) ** 0.5 / 5)


def test_protocol_differs_between_domains_sets_and_methods():
    qam, trqam = published.load_set("qam2026"), published.load_set("trqam2026")
    assert qam.protocol_of("QAM", "scene-play")["sparse"] is True
    assert qam.protocol_of("QAM", "cube-double-play")["sparse"] is False
    assert qam.protocol_of("QAM", "puzzle-4x4-play")["dataset_size"] == 100_000_000
    assert trqam.protocol_of("QAM", "puzzle-4x4-play")["dataset_size"] == 10_000_000
    assert trqam.protocol_of("QAM", "puzzle-4x4-play")["net_arch"] == "1024x4"
    assert trqam.protocol_of("QAM", "scene-play")["sparse"] is None
    assert qam.protocol_of("RLPD", "scene-play")["offline_steps"] == 0


def test_unknown_set_names_the_closest():
    with pytest.raises(UsageError, match="unknown set of published scores `qam2025`; closest: qam2026"):
        published.load_set("qam2025")


def test_method_that_starts_online_is_aligned_at_the_end():
    runs = published.load_runs(published.load_set("qam2026"))
    rlpd = runs[runs["method"] == "RLPD"]
    assert (rlpd["step"].min(), rlpd["step"].max()) == (1_050_000, 1_500_000)
    assert set(rlpd["phase"]) == {"online"}


def test_damaged_counts_say_how_to_repair_them(tmp_path, monkeypatch):
    (tmp_path / "qam2026.npz").write_bytes(b"nothing")
    damaged = replace(published.load_set("qam2026"), runs=tmp_path / "qam2026.npz")
    with pytest.raises(UsageError, match="cannot be read"):
        published.load_runs(damaged)


@pytest.mark.parametrize("name", published.set_names())
def test_baseline_of_a_set_is_one_of_its_methods(name):
    found = published.load_set(name)
    assert found.baseline in set(published.load_means(found)["method"])


def test_what_differs_for_a_method_of_a_set_is_said_under_its_published_name():
    names = set(published.published_names().values())
    for found in map(published.load_set, published.set_names()):
        planned = found.planned["methods"] if found.planned else []
        assert set(found.methods) | set(planned) <= names, found.name
    assert published.load_set("mini").last_steps("SAC", "scene-play-singletask-task1-v0") == {"online": 10_000}
