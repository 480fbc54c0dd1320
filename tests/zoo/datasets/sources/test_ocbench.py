"""Where OCBench's data come from: a server like its host, what is on the disk, or its oracles."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Iterator
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.zoo.datasets.formats.test_ocbench import arrays
from tests.zoo.datasets.sources.test_download import Behaviour, Server, make_handler
from zoo.datasets.own import load_own
from zoo.datasets.sources import download
from zoo.datasets.sources import ocbench as sets
from zoo.datasets.sources.download import DownloadError
from zoo.datasets.sources.ocbench import (
    describe_task,
    download_ocbench,
    find_existing,
    find_set,
    generated_files,
    hosted_files,
)
from zoo.envs.ocbench import TASKS
from zoo.errors import UsageError

TASK = TASKS["block-cpu-lite-single-task1-v0"]
FULL = TASKS["block-cpu-single-task1-v0"]
FOLDER = "lite/block-lite-single-task1-v0"
STEMS = ("set-000", "set-001")


def content(seed: int) -> bytes:
    file = io.BytesIO()
    observations = np.random.default_rng(seed).normal(size=(11, 28)).astype(np.float32)
    np.savez_compressed(file, **arrays(observations=observations))
    return file.getvalue()


def entry(path: str, size: int, **changes: Any) -> str:
    return json.dumps({"path": path, "kind": "data", "split": "train", "bytes": size} | changes)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A server with two training files of one task, as OCBench's host has them."""
    behaviour = Behaviour()
    for number, name in enumerate(f"{stem}{split}.npz" for stem in STEMS for split in ("", "-val")):
        behaviour.files[f"{FOLDER}/{name}"] = content(number)
    lines = [entry(path, len(data)) for path, data in behaviour.files.items()]
    lines += [entry(f"{FOLDER}/{stem}-metadata.pkl", 5, kind="metadata") for stem in STEMS]
    lines += [entry("lite/block-lite-double-task1-v0/set-000.npz", 9), entry(f"{FOLDER}/../../x.npz", 9)]
    behaviour.files["manifest.jsonl"] = "\n".join(lines).encode()
    monkeypatch.setattr(download.time, "sleep", lambda seconds: None)
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), make_handler(behaviour))
    thread = threading.Thread(target=lambda: httpd.serve_forever(poll_interval=0.01))
    thread.start()
    found = Server(behaviour, f"http://127.0.0.1:{httpd.server_address[1]}")
    monkeypatch.setattr(sets, "HOSTS", found.sources)
    yield found
    httpd.shutdown()
    thread.join()
    httpd.server_close()


@pytest.fixture
def generated(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the tasks whose data are generated, which takes no time here."""
    names: list[str] = []

    def generate(task: Any, files: tuple[Path, Path], *, existing: str) -> None:
        if not files[0].exists():
            names.append(task.name)
            files[0].parent.mkdir(parents=True, exist_ok=True)
            files[0].write_bytes(content(9))

    monkeypatch.setattr(sets, "generate_ocbench", generate)
    return names


def test_every_file_but_the_pickled_ones_arrives_in_ocbenchs_place(server: Server, tmp_path: Path) -> None:
    assert download_ocbench(TASK, tmp_path) == tmp_path / FOLDER
    for path, data in server.behaviour.files.items():
        if path.endswith(".npz"):
            assert (tmp_path / path).read_bytes() == data
    assert not list(tmp_path.rglob("*.pkl"))
    assert len([path for path, _ in server.behaviour.requests if path.endswith(".npz")]) == 4
    assert {file.path for file in hosted_files(TASK, tmp_path)} == set(server.behaviour.files) - {"manifest.jsonl"}
    with pytest.raises(UsageError, match="expected no dataset yet"):
        download_ocbench(TASK, tmp_path)


@pytest.mark.slow
def test_ocbench_reads_what_was_downloaded(server: Server, tmp_path: Path) -> None:
    ocbench = pytest.importorskip("ocbench", reason="needs OCBench")
    folder = download_ocbench(TASK, tmp_path)
    manifest = tmp_path / ".cache" / "ocbench" / sets.REVISION / "manifest.jsonl"
    assert manifest.read_bytes() == server.behaviour.files["manifest.jsonl"]
    theirs = ocbench.load_dataset([folder / f"{stem}.npz" for stem in STEMS])
    np.testing.assert_array_equal(load_own(folder, TASK.name, {}).observations, theirs["observations"])


def test_the_first_files_alone_are_downloaded_and_the_others_later(server: Server, tmp_path: Path) -> None:
    folder = download_ocbench(TASK, tmp_path, num_files=1)
    assert {path.name for path in folder.glob("*.npz")} == {"set-000.npz", "set-000-val.npz"}
    assert not describe_task(TASK, tmp_path)["downloaded"]
    assert find_set(TASK, tmp_path, "auto") == folder  # which completes it
    assert describe_task(TASK, tmp_path)["downloaded"]


@pytest.mark.parametrize(
    ("data", "problem"),
    [(b"PK", "bytes, got 2"), (content(0)[:-30] + b"0" * 30, "not a valid dataset")],
    ids=["short", "damaged"],
)
def test_a_file_that_is_not_what_the_list_says_is_refused(
    server: Server, tmp_path: Path, data: bytes, problem: str
) -> None:
    path = f"{FOLDER}/set-000.npz"
    if len(data) > 2:
        size = len(server.behaviour.files[path])
        lines = server.behaviour.files["manifest.jsonl"].replace(str(size).encode(), str(len(data)).encode())
        server.behaviour.files["manifest.jsonl"] = lines
    server.behaviour.files[path] = data
    with pytest.raises(DownloadError, match=problem):
        download_ocbench(TASK, tmp_path)
    assert not (tmp_path / path).exists()


def test_a_damaged_list_is_named(server: Server, tmp_path: Path) -> None:
    server.behaviour.files["manifest.jsonl"] = b'{"kind": "data"}'
    with pytest.raises(UsageError, match=r"manifest\.jsonl must list OCBench's files, .*; remove it"):
        download_ocbench(TASK, tmp_path)


# -- which set a run uses ---------------------------------------------------------------------------------------------


def test_without_hosted_data_they_are_generated(server: Server, generated: list[str], tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="the download failed: OCBench hosts no dataset.*generating block-cpu-single"):
        assert find_set(FULL, tmp_path, "auto") == generated_files(FULL, tmp_path)[0]
    assert generated == [FULL.name]


def test_a_download_is_preferred_to_generated_data_unless_these_are_asked_for(
    server: Server, generated: list[str], tmp_path: Path
) -> None:
    find_set(TASK, tmp_path, "generate")
    assert find_set(TASK, tmp_path, "download") == tmp_path / FOLDER
    assert find_set(TASK, tmp_path, "auto") == tmp_path / FOLDER
    assert find_set(TASK, tmp_path, "generate") == generated_files(TASK, tmp_path)[0]


def test_an_incomplete_download_is_not_trained_on_silently(
    server: Server, generated: list[str], tmp_path: Path
) -> None:
    folder = download_ocbench(TASK, tmp_path, num_files=1)
    server.behaviour.files.clear()
    with pytest.raises(UsageError, match=f"there is no complete dataset in .*--dataset {folder}"):
        find_set(TASK, tmp_path, "auto")
    assert generated == []


def test_no_data_say_where_to_get_them(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=f"`zoo dataset generate {TASK.name}`, or download it with"):
        find_existing(TASK, tmp_path)
