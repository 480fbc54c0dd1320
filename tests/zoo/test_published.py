import hashlib
import json
import os
import pickle
import shutil
import subprocess
import sys
import zipfile

import numpy as np
import pytest

from zoo import published
from zoo.errors import UsageError

TASK = "scene-play-singletask-task1-v0"


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def authors_file(tmp_path, monkeypatch):
    """Write a file like the authors', and let the metadata expect it."""
    random = np.random.RandomState(0)
    content = {
        (TASK, "QAM"): random.randint(0, 51, (30, 12)) / 50,
        (TASK, "RLPD"): random.randint(0, 51, (10, 12)) / 50,
        ("scene-play", "QAM"): random.rand(30, 12),
    }
    path = tmp_path / "data.pkl"
    path.write_bytes(pickle.dumps(content, protocol=4))
    metadata = published._metadata()
    metadata["sets"]["qam2026"]["raw"]["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    monkeypatch.setattr(published, "_metadata", lambda: metadata)
    return path, content


def last_line(capsys):
    return json.loads(capsys.readouterr().out.splitlines()[-1])


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
    assert published.published_name("qam_e") == "QAM-E"
    assert published.published_name("my_agent") is None
    known = set(published.published_names())
    for name in ("qam2026", "trqam2026"):
        assert set(published.load_means(published.load_set(name))["method"]) <= known


def test_unknown_set_names_the_closest():
    with pytest.raises(UsageError, match="unknown set of published scores `qam2025`; closest: qam2026"):
        published.load_set("qam2025")


def test_missing_tables_say_where_they_should_be(tmp_path, monkeypatch):
    monkeypatch.setattr(published, "FOLDER", tmp_path)
    with pytest.raises(
        UsageError, match=r"expected the published tables in .*, got no such folder; install the package anew"
    ):
        published.load_set("qam2026")


def test_import_keeps_counts_of_single_tasks(authors_file, cache, capsys):
    path, content = authors_file
    assert published.main(["import", "qam2026", "--file", str(path)]) == 0
    result = last_line(capsys)
    assert result["methods"] == 2
    assert result["seeds"] == 12
    assert result["file"] == str(cache / "flow-rl-zoo" / "published" / "qam2026.npz")
    with np.load(result["file"], allow_pickle=False) as file:
        assert file["successes"].dtype == np.int16
    runs = published.load_runs(published.load_set("qam2026"))
    row = runs[(runs["method"] == "QAM") & (runs["step"] == 1_000_000) & (runs["seed"] == 3)]
    assert row["score"].tolist() == [content[TASK, "QAM"][19, 3]]
    assert row["phase"].tolist() == ["offline"]
    assert set(runs["environment"]) == {TASK}


def test_method_that_starts_online_is_aligned_at_the_end(authors_file):
    path, content = authors_file
    published.main(["import", "qam2026", "--file", str(path)])
    runs = published.load_runs(published.load_set("qam2026"))
    rlpd = runs[runs["method"] == "RLPD"]
    assert rlpd["step"].min() == 1_050_000
    assert set(rlpd["phase"]) == {"online"}
    last = rlpd[(rlpd["step"] == 1_500_000) & (rlpd["seed"] == 0)]
    assert last["score"].tolist() == [content[TASK, "RLPD"][-1, 0]]


def test_without_an_import_there_are_no_runs():
    assert published.load_runs(published.load_set("qam2026")) is None


def test_damaged_import_says_how_to_repair_it(cache):
    path = published.imported_path("qam2026")
    path.parent.mkdir(parents=True)
    path.write_bytes(b"nothing")
    with pytest.raises(UsageError, match=r"cannot be read .*; run `zoo published import qam2026`"):
        published.load_runs(published.load_set("qam2026"))


def test_file_with_another_checksum_is_refused_unread(tmp_path, capsys, monkeypatch):
    path = tmp_path / "other.pkl"
    path.write_bytes(b"other")
    monkeypatch.setattr(published, "read_pickle_of_arrays", lambda data: pytest.fail("the file was read"))
    assert published.main(["import", "qam2026", "--file", str(path)]) == 2
    assert "expected the file with sha256 fd57d0f8" in capsys.readouterr().err


def test_missing_file_is_named(tmp_path, capsys):
    assert published.main(["import", "qam2026", "--file", str(tmp_path / "none.pkl")]) == 2
    assert "`--file` must be a file that can be read" in capsys.readouterr().err


def test_set_without_runs_cannot_be_imported(capsys):
    assert published.main(["import", "trqam2026"]) == 2
    assert "released no data of single runs" in capsys.readouterr().err


def test_failed_download_says_to_fetch_the_file_elsewhere(capsys, monkeypatch):
    import requests

    def fail(*args, **kwargs):
        raise requests.ConnectionError("no network")

    monkeypatch.setattr(requests, "get", fail)
    assert published.main(["import", "qam2026"]) == 2
    assert "fetch it elsewhere and give it with --file" in capsys.readouterr().err


def test_download_is_checked_and_converted(authors_file, capsys, monkeypatch):
    import requests

    answer = requests.Response()
    answer.status_code, answer._content = 200, authors_file[0].read_bytes()
    monkeypatch.setattr(requests, "get", lambda url, timeout: answer)
    assert published.main(["import", "qam2026"]) == 0
    assert last_line(capsys)["environments"] == 1


def test_scores_off_the_grid_of_episodes_are_refused():
    content = {(TASK, "QAM"): np.full((30, 12), 0.123)}
    with pytest.raises(ValueError, match="expected fractions of 50 episodes for QAM"):
        published._convert(content, published.load_set("qam2026"))


def test_list_tells_which_sets_were_imported(authors_file, capsys):
    published.main(["import", "qam2026", "--file", str(authors_file[0])])
    assert published.main(["list"]) == 0
    sets = {entry["set"]: entry for entry in last_line(capsys)["sets"]}
    assert sets["qam2026"]["runs"] == "imported"
    assert sets["trqam2026"]["runs"] == "not released"


@pytest.mark.parametrize("protocol", [3, 4])
def test_arrays_of_numbers_are_read(protocol):
    content = {("a", "x"): np.arange(6.0).reshape(2, 3), ("b",): np.asfortranarray(np.arange(6).reshape(2, 3))}
    found = published.read_pickle_of_arrays(pickle.dumps(content, protocol=protocol))
    assert found.keys() == content.keys()
    for key, array in content.items():
        np.testing.assert_array_equal(found[key], array)
        assert found[key].dtype == array.dtype


class Evil:
    """Pickles as a call."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize("place", ["value", "key", "whole", "beside"])
def test_pickle_that_calls_anything_is_refused_and_nothing_runs(tmp_path, protocol, place):
    target = tmp_path / "made"
    for function, argument in ((os.mkdir, str(target)), (eval, f"__import__('os').mkdir({str(target)!r})")):
        evil = Evil(function, argument)
        content = {
            "value": {("a", "x"): evil},
            "key": {(evil,): np.ones(1)},
            "whole": evil,
            "beside": {("a", "x"): np.ones(1), ("b", "x"): [evil]},
        }[place]
        with pytest.raises(ValueError, match="refused this one: it asks for"):
            published.read_pickle_of_arrays(pickle.dumps(content, protocol=protocol))
    assert not target.exists()


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (pickle.dumps({("a",): np.array([{}], dtype=object)}, protocol=4), "something else than numbers"),
        (pickle.dumps({("a",): np.array(["text"])}, protocol=4), "something else than numbers"),
        (pickle.dumps({"a": np.ones(2)}, protocol=4), "it has the key 'a'"),
        (pickle.dumps({("a",): 1.0}, protocol=4), "`a` is a float"),
        (pickle.dumps([1], protocol=4), "it holds a list"),
        (pickle.dumps({("a",): np.ones(2)}, protocol=4)[:-30], "refused"),
        (b"", "refused"),
        (b"cnumpy\nload\n(S'x'\ntR.", "it asks for `numpy.load`"),
        (b"cnumpy.core.multiarray\nscalar\n.", "it asks for `numpy.core.multiarray.scalar`"),
        (b"cnumpy\nndarray\n(I9\ntR.", "not callable"),
        (b"(cnumpy.core.multiarray\n_reconstruct\nS'other'\n(I0\ntS'b'\ntR.", "refused"),
        (b"cnumpy\ndtype\n}S'__init__'\nI1\nsb.", "refused"),
        (b"Pother\n.", "refused"),
    ],
)
def test_pickle_of_anything_else_is_refused(data, reason):
    with pytest.raises(ValueError, match=f"expected a pickle of arrays .*{reason}"):
        published.read_pickle_of_arrays(data)


def test_refused_pickle_does_not_change_the_reader():
    with pytest.raises(ValueError, match="refused"):
        published.read_pickle_of_arrays(b"cnumpy\ndtype\n}S'code'\nI1\nsb.")
    content = {("a",): np.ones(2)}
    found = published.read_pickle_of_arrays(pickle.dumps(content, protocol=4))
    np.testing.assert_array_equal(found["a",], content["a",])


def test_help_answers_at_once_when_run_as_a_file():
    command = [sys.executable, "zoo/published.py", "-h"]
    found = subprocess.run(command, cwd=published.FOLDER.parents[1], capture_output=True, text=True, timeout=20)
    assert found.returncode == 0
    assert "import" in found.stdout


@pytest.mark.slow
def test_an_installed_package_brings_its_data(tmp_path):
    """A wheel is built from a copy of the sources, without a network, and used far from any checkout."""
    pytest.importorskip("setuptools", minversion="77")
    sources, wheels, site = (tmp_path / name for name in ("sources", "wheels", "site"))
    root = published.FOLDER.parents[1]
    for name in ("agents", "zoo", "hyperparams", "results"):
        shutil.copytree(root / name, sources / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(root / name, sources / name)
    build = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--no-deps",
        "--no-build-isolation",
        "--no-index",
        "-q",
        str(sources),
    ]
    subprocess.run([*build, "-w", str(wheels)], check=True, capture_output=True)
    (wheel,) = wheels.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    code = (
        "import agents, zoo.published as p, zoo.layers as c\n"
        f"assert agents.__file__.startswith({str(site)!r}), agents.__file__\n"
        "print(len(p.load_means(p.load_set('qam2026'))), bool(c.read_hyperparameters('qam')))"
    )
    environment = {**os.environ, "PYTHONPATH": str(site), "PYTHONSAFEPATH": "1"}
    found = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert found.stdout.split() == [str(len(published.load_means(published.load_set("qam2026")))), "True"], found.stderr
