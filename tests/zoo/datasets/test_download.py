"""Downloads from a local server that fails in every known way."""

import dataclasses
import hashlib
import io
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from tests.zoo.datasets.conftest import NAME, small_arrays, write_shard
from zoo.dataset import main
from zoo.datasets import download
from zoo.datasets.download import download_dataset
from zoo.datasets.files import missing_files, recorded_sha256
from zoo.datasets.load import convert_shards
from zoo.datasets.names import DATASETS
from zoo.terminal.errors import UsageError

FILES = (f"{NAME}-val.npz", f"{NAME}.npz")  # in the order of download


class Server(ThreadingHTTPServer):
    """A local server, with the files that it serves and the ways in which it fails."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files = {}
        self.requests = []  # path and Range header of each request
        self.drop_after = []  # per request, bytes of the response after which the connection ends
        self.errors = []  # per request, whether the server answers with an error
        self.knows_ranges = self.sends_length = True

    def requests_for(self, name):
        return [byte_range for path, byte_range in self.requests if path == f"/{name}"]


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        server = self.server
        byte_range = self.headers.get("Range")
        server.requests.append((self.path, byte_range))
        if server.errors and server.errors.pop(0):
            self.send_error(503)
            return
        content = server.files[self.path[1:]]
        start, status = 0, 200
        if byte_range and server.knows_ranges:
            start = int(byte_range.removeprefix("bytes=").removesuffix("-"))
            status = 206 if start < len(content) else 416
        self.send_response(status)
        if server.sends_length:
            self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        drop = server.drop_after.pop(0) if server.drop_after else None
        self.wfile.write(content[start:][:drop])

    def log_message(self, *arguments):
        pass


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A server with the dataset, used as the only host."""
    with Server() as server:
        for name, episodes in zip(FILES, (1, 100), strict=True):
            np.savez_compressed(tmp_path / name, **small_arrays(episodes))
            server.files[name] = (tmp_path / name).read_bytes()
        monkeypatch.setattr(download, "CHUNK_BYTES", 512)
        monkeypatch.setattr(download, "HOSTS", [f"http://127.0.0.1:{server.server_port}"])
        server.folder = tmp_path / "data"
        thread = threading.Thread(target=server.serve_forever, args=[0.01])
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def fetch(server):
    return download_dataset(NAME, server.folder)


def assert_complete(server):
    folder = server.folder
    for name in FILES:
        path = folder / name
        assert path.read_bytes() == server.files[name]
        assert recorded_sha256(path) == hashlib.sha256(server.files[name]).hexdigest()
    left = {path.name for path in folder.iterdir() if path.suffix != ".lock"}
    assert left == {*FILES, *(f"{name}.sha256" for name in FILES)}


@pytest.mark.parametrize(
    ("behaviour", "ranges"),
    [
        ({"drop_after": [None, 3072, 2048]}, [None, "bytes=3072-", "bytes=5120-"]),
        # the server ignores the Range header and sends the whole file again
        ({"drop_after": [None, 3072], "knows_ranges": False}, [None, "bytes=3072-"]),
        # an error page does not replace what was downloaded
        (
            {"drop_after": [None, 3072], "errors": [False, False, True]},
            [None, "bytes=3072-", "bytes=3072-"],
        ),
    ],
    ids=["dropped", "without ranges", "error"],
)
def test_what_stops_a_transfer_is_overcome(server, behaviour, ranges):
    vars(server).update(behaviour)
    fetch(server)
    assert server.requests_for(FILES[1]) == ranges
    assert_complete(server)


def test_a_complete_partial_file_is_not_fetched_again(server):
    server.folder.mkdir()
    (server.folder / f"{FILES[1]}.part").write_bytes(server.files[FILES[1]])
    fetch(server)
    assert_complete(server)


def test_a_file_that_changed_meanwhile_is_fetched_again(server, tmp_path):
    server.drop_after = [None, 3072] + [0] * (download.ATTEMPTS - 1)
    with pytest.raises(UsageError):
        fetch(server)
    assert not (server.folder / FILES[1]).exists()
    np.savez_compressed(tmp_path / "new.npz", **small_arrays(50))
    server.files[FILES[1]] = (tmp_path / "new.npz").read_bytes()
    fetch(server)
    assert server.requests_for(FILES[1])[-2:] == ["bytes=3072-", None]
    assert_complete(server)


def test_next_host_goes_on_with_the_same_file(server):
    server.files |= {f"first/{name}": server.files[name] for name in FILES}
    server.drop_after = [None, 3072]
    download.HOSTS.insert(0, f"{download.HOSTS[0]}/first")
    fetch(server)
    assert server.requests_for(FILES[1]) == ["bytes=3072-"]
    assert_complete(server)


def damaged():
    file = io.BytesIO()
    np.savez(file, **small_arrays(1000))
    content = bytearray(file.getvalue())
    content[len(content) // 2] ^= 0xFF
    return bytes(content)


@pytest.mark.parametrize(
    ("content", "behaviour", "message"),
    [
        (b"<html>maintenance</html>", {}, "file is not a valid dataset: .* File is not a zip file"),
        (damaged(), {}, "damaged data in"),
        (
            None,
            {"sends_length": False, "drop_after": [None, *[5000] * 3]},
            "File is not a zip file",
        ),
    ],
    ids=["no dataset", "damaged", "truncated"],
)
def test_what_is_not_the_dataset_is_refused_and_not_kept(server, content, behaviour, message):
    server.files[FILES[1]] = content or server.files[FILES[1]]
    vars(server).update(behaviour)
    with pytest.raises(UsageError, match=message):
        fetch(server)
    assert not any((server.folder / f"{FILES[1]}{end}").exists() for end in ("", ".part"))


# -- datasets of several files ----------------------------------------------------------------------------------------

LARGE = "humanoidmaze-giant-navigate-100m-v0"


def test_files_of_a_large_dataset_arrive_in_a_folder(server, tmp_path, monkeypatch, call):
    monkeypatch.setitem(DATASETS, LARGE, dataclasses.replace(DATASETS[LARGE], files=3))
    names = [f"{LARGE}/humanoidmaze-giant-navigate-v0-00{number}.npz" for number in range(3)]
    server.files |= dict.fromkeys(names, server.files[FILES[1]])
    words = ("download", LARGE, "--dataset-dir", tmp_path / "data", "--dataset-size", "1")
    assert call(main, *words)[0]["files"] == 1
    paths = download_dataset(LARGE, tmp_path / "data")
    assert [len(server.requests_for(name)) for name in names] == [1, 1, 1]
    assert paths == [tmp_path / "data" / name for name in names]
    for path in paths:
        assert recorded_sha256(path) == hashlib.sha256(path.read_bytes()).hexdigest()


def test_converted_file_that_was_deleted_is_not_downloaded_again(server, tmp_path, monkeypatch):
    spec = dataclasses.replace(DATASETS[NAME], files=2)
    monkeypatch.setitem(DATASETS, NAME, spec)
    for number in range(2):
        write_shard(tmp_path / NAME, number)
    convert_shards(tmp_path / NAME, spec, size=None)
    for file in (tmp_path / NAME).glob("*.npz"):
        file.unlink()
    assert not missing_files(spec, tmp_path)
    download_dataset(NAME, tmp_path, existing="keep")
    assert not server.requests
