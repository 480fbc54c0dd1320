import pytest

from zoo.errors import UsageError
from zoo.report import published


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


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


def test_protocol_differs_between_domains_sets_and_methods():
    qam, trqam = published.load_set("qam2026"), published.load_set("trqam2026")
    assert qam.protocol_of("QAM", "scene-play")["sparse"] is True
    assert qam.protocol_of("QAM", "cube-double-play")["sparse"] is False
    assert qam.protocol_of("QAM", "puzzle-4x4-play")["dataset_size"] == 100_000_000
    assert trqam.protocol_of("QAM", "puzzle-4x4-play")["dataset_size"] == 10_000_000
    assert trqam.protocol_of("QAM", "puzzle-4x4-play")["net_arch"] == "1024x4"
    assert trqam.protocol_of("QAM", "scene-play")["sparse"] is None
    assert qam.protocol_of("RLPD", "scene-play")["offline_steps"] == 0


def test_algorithm_ids_have_the_names_of_the_papers():
    assert published.published_names()["qam_e"] == "QAM-E"
    known = set(published.published_names().values())
    for name in ("qam2026", "trqam2026"):
        assert set(published.load_means(published.load_set(name))["method"]) <= known


def test_unknown_set_names_the_closest():
    with pytest.raises(UsageError, match="unknown set of published scores `qam2025`; closest: qam2026"):
        published.load_set("qam2025")


def test_missing_tables_say_where_they_should_be(tmp_path, monkeypatch):
    monkeypatch.setattr(published, "FOLDER", tmp_path)
    with pytest.raises(
        UsageError, match=r"expected the published tables in .*, got no such folder; install the package again"
    ):
        published.load_set("qam2026")


def test_without_an_import_there_are_no_runs():
    assert published.load_runs(published.load_set("qam2026")) is None


def test_damaged_import_says_how_to_repair_it(cache):
    path = published.load_set("qam2026").imported
    path.parent.mkdir(parents=True)
    path.write_bytes(b"nothing")
    with pytest.raises(UsageError, match=r"cannot be read .*; run `zoo published import qam2026`"):
        published.load_runs(published.load_set("qam2026"))
