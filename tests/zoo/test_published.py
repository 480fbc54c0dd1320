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

from tests.zoo.report.samples import SCENE, run_rows, write_small
from zoo import published
from zoo.report import published as library
from zoo.report.published import FOLDER, load_means, load_runs, load_set

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
    metadata = library._metadata()
    metadata["sets"]["qam2026"]["raw"]["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    monkeypatch.setattr(library, "_metadata", lambda: metadata)
    return path, content


def last_line(capsys):
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def test_import_keeps_counts_of_single_tasks(authors_file, cache, capsys):
    path, content = authors_file
    assert published.main(["import", "qam2026", "--file", str(path)]) == 0
    result = last_line(capsys)
    assert result["methods"] == 2
    assert result["seeds"] == 12
    assert result["file"] == str(cache / "flow-rl-zoo" / "published" / "qam2026.npz")
    with np.load(result["file"], allow_pickle=False) as file:
        assert file["successes"].dtype == np.int16
    runs = load_runs(load_set("qam2026"))
    row = runs[(runs["method"] == "QAM") & (runs["step"] == 1_000_000) & (runs["seed"] == 3)]
    assert row["score"].tolist() == [content[TASK, "QAM"][19, 3]]
    assert row["phase"].tolist() == ["offline"]
    assert set(runs["environment"]) == {TASK}


def test_method_that_starts_online_is_aligned_at_the_end(authors_file):
    path, content = authors_file
    published.main(["import", "qam2026", "--file", str(path)])
    runs = load_runs(load_set("qam2026"))
    rlpd = runs[runs["method"] == "RLPD"]
    assert rlpd["step"].min() == 1_050_000
    assert set(rlpd["phase"]) == {"online"}
    last = rlpd[(rlpd["step"] == 1_500_000) & (rlpd["seed"] == 0)]
    assert last["score"].tolist() == [content[TASK, "RLPD"][-1, 0]]


def test_file_with_another_checksum_is_refused_unread(tmp_path, capsys, monkeypatch):
    path = tmp_path / "other.pkl"
    path.write_bytes(b"other")
    monkeypatch.setattr(
        "zoo.report.published_import.read_pickle_of_arrays", lambda data: pytest.fail("the file was read")
    )
    assert published.main(["import", "qam2026", "--file", str(path)]) == 2
    assert "expected the file with sha256 fd57d0f8" in capsys.readouterr().err


def test_missing_file_is_named(tmp_path, capsys):
    assert published.main(["import", "qam2026", "--file", str(tmp_path / "none.pkl")]) == 2
    assert "`--file` must be a file that can be read" in capsys.readouterr().err


def test_set_without_runs_cannot_be_imported(capsys):
    assert published.main(["import", "trqam2026"]) == 2
    assert "there are no single runs of `trqam2026` to import" in capsys.readouterr().err


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


def test_list_tells_which_sets_were_imported(authors_file, capsys):
    published.main(["import", "qam2026", "--file", str(authors_file[0])])
    assert published.main(["list"]) == 0
    sets = {entry["set"]: entry for entry in last_line(capsys)["sets"]}
    assert sets["qam2026"]["runs"] == "imported"
    assert sets["trqam2026"]["runs"] == "none to import"
    assert sets["trqam2026"]["suite"] == "qam50"


def test_list_tells_how_many_planned_runs_are_included(tmp_path, monkeypatch, capsys):
    write_small(tmp_path, monkeypatch, [run_rows("qam", SCENE[0], 0), run_rows("fql", SCENE[0], 0)])
    assert published.main(["list"]) == 0
    printed = capsys.readouterr().out
    assert "small: A small benchmark (this repository), tasks: small, single runs: included (2 of 8 planned)" in printed
    entry = json.loads(printed.splitlines()[-1])["sets"][-1]
    expected = {"set": "small", "suite": "small", "methods": 2, "runs": "included", "finished": 2, "planned": 8}
    assert entry == expected


def test_included_runs_need_no_import(tmp_path, monkeypatch, capsys):
    write_small(tmp_path, monkeypatch, [run_rows("qam", SCENE[0], 0)])
    assert published.main(["import", "small"]) == 2
    assert "the single runs of `small` come with the code; they need no import" in capsys.readouterr().err


@pytest.mark.slow
def test_an_installed_package_brings_its_data(tmp_path):
    """A wheel is built from a copy of the sources, without a network, and used far from any checkout."""
    pytest.importorskip("setuptools", minversion="77")
    sources, wheels, site = (tmp_path / name for name in ("sources", "wheels", "site"))
    root = FOLDER.parents[1]
    for name in ("agents", "zoo", "hyperparams", "benchmarks", "results"):
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
        "import agents, zoo.report.published as p, zoo.layers as c\n"
        f"assert agents.__file__.startswith({str(site)!r}), agents.__file__\n"
        "from pathlib import Path; from zoo.suites.suite import find_suite\n"
        "assert find_suite(Path('mini')).is_file()\n"
        "assert len(p.load_runs(p.load_set('mini')))\n"
        "print(len(p.load_means(p.load_set('qam2026'))), bool(c.read_profiles('qam')['qam']))"
    )
    environment = {**os.environ, "PYTHONPATH": str(site), "PYTHONSAFEPATH": "1"}
    found = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert found.stdout.split() == [str(len(load_means(load_set("qam2026")))), "True"], found.stderr
