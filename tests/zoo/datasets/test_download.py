"""Downloads from a server on this machine that misbehaves in every way we know."""

import contextlib
import dataclasses
import hashlib
import io
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from tests.zoo.datasets.conftest import NAME, small_arrays
from zoo.datasets import download
from zoo.datasets.download import DownloadError, download_dataset
from zoo.datasets.files import recorded_sha256
from zoo.datasets.names import DATASETS

FILES = (f"{NAME}-val.npz", f"{NAME}.npz")  # in the order in which they are fetched


@dataclass
class Behaviour:
    """What the server serves and how it misbehaves.

    :param files: content by name.
    :param drop_after: the connection ends after this many bytes of a response, one entry a request.
    :param ranges: whether it knows `Range`.
    :param silence: seconds before the content.
    :param status: answers with this status instead.
    :param sends_length: whether `Content-Length` is sent.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    drop_after: list[int | None] = field(default_factory=list)
    ranges: bool = True
    silence: float = 0.0
    status: list[int] = field(default_factory=list)
    sends_length: bool = True
    requests: list[tuple[str, str | None]] = field(default_factory=list)  # path and Range of each


@dataclass
class Server:
    behaviour: Behaviour
    url: str

    @property
    def sources(self):
        return (self.url,)

    def requests_for(self, name):
        return [byte_range for path, byte_range in self.behaviour.requests if path == f"/{name}"]


def make_handler(behaviour):
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            byte_range = self.headers.get("Range")
            behaviour.requests.append((self.path, byte_range))
            content = behaviour.files.get(self.path[1:])
            status = behaviour.status.pop(0) if behaviour.status else 200
            if content is None or status >= 400:
                self.send_error(404 if content is None else status)
                return
            start = 0
            if byte_range and behaviour.ranges:
                start = int(byte_range.removeprefix("bytes=").removesuffix("-"))
                if start >= len(content):
                    self.send_response(416)
                    self.send_header("Content-Range", f"bytes */{len(content)}")
                    self.end_headers()
                    return
                self.send_response(206)
                self.send_header(
                    "Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}"
                )
            else:
                self.send_response(200)
            if behaviour.sends_length:
                self.send_header("Content-Length", str(len(content) - start))
            self.end_headers()
            time.sleep(behaviour.silence)
            drop = behaviour.drop_after.pop(0) if behaviour.drop_after else None
            self.wfile.write(content[start:] if drop is None else content[start : start + drop])

        def log_message(self, *arguments):
            pass

    return Handler


@contextlib.contextmanager
def serving(behaviour):
    """Let a server on this machine behave so."""
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), make_handler(behaviour))
    thread = threading.Thread(target=lambda: httpd.serve_forever(poll_interval=0.01))
    thread.start()
    yield Server(behaviour, f"http://127.0.0.1:{httpd.server_address[1]}")
    httpd.shutdown()
    thread.join()
    httpd.server_close()


@pytest.fixture
def server(tmp_path):
    """A server that offers the dataset."""
    files = {}
    for name, episodes in zip(FILES, (1, 100), strict=True):
        np.savez_compressed(tmp_path / name, **small_arrays(episodes))
        files[name] = (tmp_path / name).read_bytes()
    with serving(Behaviour(files)) as server:
        yield server


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    monkeypatch.setattr(download.time, "sleep", lambda seconds: None)
    monkeypatch.setattr(download, "_CHUNK_BYTES", 512)


def assert_complete(server, folder):
    for name in FILES:
        path = folder / name
        assert path.read_bytes() == server.behaviour.files[name]
        assert recorded_sha256(path) == hashlib.sha256(server.behaviour.files[name]).hexdigest()
    left = {path.name for path in folder.iterdir() if path.suffix != ".lock"}
    assert left == {*FILES, *(f"{name}.sha256" for name in FILES)}


@pytest.mark.parametrize(
    ("behaviour", "asked"),
    [
        ({"drop_after": [None, 3072, 2048]}, [None, "bytes=3072-", "bytes=5120-"]),
        (
            {"drop_after": [None, 3072], "ranges": False},
            [None, "bytes=3072-"],
        ),  # which sends it all again
        ({"status": [503, 429]}, [None]),
    ],
    ids=["dropped", "without ranges", "busy"],
)
def test_what_stops_a_transfer_is_overcome(server, tmp_path, behaviour, asked):
    vars(server.behaviour).update(behaviour)
    download_dataset(NAME, tmp_path / "data", sources=server.sources)
    assert server.requests_for(FILES[1]) == asked
    assert_complete(server, tmp_path / "data")


def test_interrupted_program_goes_on_where_it_was(server, tmp_path):
    stop_halfway(server, tmp_path / "data")
    assert not (tmp_path / "data" / FILES[1]).exists()
    download_dataset(NAME, tmp_path / "data", sources=server.sources)
    assert server.requests_for(FILES[1])[-1] == "bytes=3072-"
    assert_complete(server, tmp_path / "data")


def test_file_that_changed_meanwhile_is_not_kept_and_fetched_again(server, tmp_path):
    stop_halfway(server, tmp_path / "data")
    np.savez_compressed(tmp_path / "new.npz", **small_arrays(50))
    server.behaviour.files[FILES[1]] = (tmp_path / "new.npz").read_bytes()
    with pytest.raises(DownloadError, match="not a valid dataset"):
        download_dataset(NAME, tmp_path / "data", sources=server.sources)
    download_dataset(NAME, tmp_path / "data", sources=server.sources)
    assert server.requests_for(FILES[1])[-2:] == ["bytes=3072-", None]
    assert_complete(server, tmp_path / "data")


def stop_halfway(server, folder):
    """Download the beginning of the training file only; return the part file."""
    server.behaviour.drop_after = [None, 3072] + [0] * download.MAX_STALLS
    with pytest.raises(DownloadError):
        download_dataset(NAME, folder, sources=server.sources)
    return folder / f"{FILES[1]}.part"


def test_next_source_goes_on_with_the_same_file(server, tmp_path):
    server.behaviour.files |= {f"first/{name}": server.behaviour.files[name] for name in FILES}
    server.behaviour.drop_after = [None, 3072] + [0] * download.MAX_STALLS
    download_dataset(NAME, tmp_path / "data", sources=(f"{server.url}/first", server.url))
    assert server.requests_for(FILES[1]) == ["bytes=3072-"]
    assert_complete(server, tmp_path / "data")


def test_missing_file_is_told_with_every_address(server, tmp_path):
    del server.behaviour.files[FILES[0]]
    with pytest.raises(DownloadError) as caught:
        download_dataset(NAME, tmp_path / "data", sources=(server.url, f"{server.url}/mirror/"))
    places = (
        f"{server.url}/{FILES[0]}",
        f"{server.url}/mirror/{FILES[0]}",
        str(tmp_path / "data" / FILES[0]),
    )
    assert all(place in str(caught.value) for place in places)
    assert str(caught.value).count("404 Client Error") == 2


def test_server_that_falls_silent_is_given_up(server, tmp_path, monkeypatch):
    monkeypatch.setattr(download, "READ_TIMEOUT", 0.02)
    monkeypatch.setattr(download, "MAX_STALLS", 2)
    server.behaviour.silence = 0.3
    # The handler sleeps by the same module that the fixture above silences, hence an event of its own.
    monkeypatch.setattr(download.time, "sleep", threading.Event().wait)
    with pytest.raises(DownloadError, match="Read timed out"):
        download_dataset(NAME, tmp_path / "data", sources=server.sources)


def damaged():
    file = io.BytesIO()
    np.savez(file, **small_arrays(1000))
    content = bytearray(file.getvalue())
    content[len(content) // 2] ^= 0xFF
    return bytes(content)


@pytest.mark.parametrize(
    ("content", "behaviour", "message"),
    [
        (
            b"<html>maintenance</html>",
            {},
            "file is not a valid dataset: expected a whole npz file, got ",
        ),
        (damaged(), {}, "damaged data in"),
        (None, {"sends_length": False, "drop_after": [None, 5000]}, "expected a whole npz file"),
    ],
    ids=["no dataset", "damaged", "truncated"],
)
def test_what_is_not_the_dataset_is_refused_and_not_kept(
    server, tmp_path, content, behaviour, message
):
    server.behaviour.files[FILES[1]] = content or server.behaviour.files[FILES[1]]
    vars(server.behaviour).update(behaviour)
    with pytest.raises(DownloadError, match=message):
        download_dataset(NAME, tmp_path / "data", sources=server.sources)
    assert not any((tmp_path / "data" / f"{FILES[1]}{end}").exists() for end in ("", ".part"))


# -- datasets of several files ----------------------------------------------------------------------------------------

LARGE = "humanoidmaze-giant-navigate-100m-v0"
SHARDS = [f"humanoidmaze-giant-navigate-v0-{number:03d}" for number in range(3)]


@pytest.fixture
def large(server, monkeypatch):
    """The server, which offers the three training files of a large dataset too."""
    monkeypatch.setitem(DATASETS, LARGE, dataclasses.replace(DATASETS[LARGE], files=3))
    for name in SHARDS:
        server.behaviour.files[f"{LARGE}/{name}.npz"] = server.behaviour.files[FILES[1]]
    return server


def test_files_of_a_large_dataset_arrive_in_a_folder(large, tmp_path):
    (first,) = download_dataset(LARGE, tmp_path / "data", names=SHARDS[1:2], sources=large.sources)
    paths = download_dataset(LARGE, tmp_path / "data", sources=large.sources)
    assert first == paths[1]
    assert [len(large.requests_for(f"{LARGE}/{name}.npz")) for name in SHARDS] == [1, 1, 1]
    assert paths == [tmp_path / "data" / LARGE / f"{name}.npz" for name in SHARDS]
    for path in paths:
        assert recorded_sha256(path) == hashlib.sha256(path.read_bytes()).hexdigest()
