"""Download datasets: from OGBench's host, else from a mirror; resumable, checked, and in place only when complete."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import requests
from ogbench.utils import DATASET_URL

from agents.common.files import atomic_path
from agents.common.files.bounded import FAULTS, open_zip
from zoo.datasets.check import check_structure, error_messages
from zoo.datasets.files import dataset_files, is_settled, make_folder, making, publish, shard_folder, training_files
from zoo.datasets.names import DatasetSpec, parse_name
from zoo.datasets.progress import progress_bar
from zoo.errors import UsageError

MIRROR_URL = "https://huggingface.co/datasets/zhouzypaul/ogbench_datasets/resolve/main"
SOURCES = (DATASET_URL, MIRROR_URL)
"""Folders that are tried in this order: OGBench's host, then its public mirror."""
CONNECT_TIMEOUT, READ_TIMEOUT = 10.0, 60.0  # seconds; the second is the longest silence, not the whole transfer
MAX_STALLS = 5  # attempts in a row that bring nothing new before the next source is tried
_CHUNK_BYTES = 1 << 16  # what a dropped connection can lose


class DownloadError(UsageError):
    """No source could give the file."""


class _SourceError(Exception):
    """One source cannot give the file; trying it again does not help."""


@dataclass
class _Part:
    """A partly downloaded file, and where its bytes came from."""

    path: Path

    @property
    def origin_path(self) -> Path:
        """Where url and validator are kept."""
        return self.path.with_name(f"{self.path.name}.json")

    @property
    def size(self) -> int:
        """Bytes so far."""
        return self.path.stat().st_size if self.path.exists() else 0

    def validator(self, url: str) -> str | None:
        """Return what must still hold at the source to continue the download; None to start again."""
        try:
            origin = json.loads(self.origin_path.read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            return None
        return origin["validator"] if origin["url"] == url and self.size else None

    def remember(self, url: str, response: requests.Response) -> None:
        """Record where the bytes come from; a server does not continue by a weak ETag (RFC 9110, 13.1.5)."""
        make_folder(self.path.parent)  # not before: there is something to write now
        validator = response.headers.get("ETag") or response.headers.get("Last-Modified")
        with atomic_path(self.origin_path) as temporary:
            temporary.write_text(json.dumps({"url": url, "validator": validator}), encoding="utf-8")

    def discard(self) -> None:
        """Remove the bytes and the note."""
        self.path.unlink(missing_ok=True)
        self.origin_path.unlink(missing_ok=True)


def download_dataset(
    name: str, dataset_dir: str | Path | None = None, *, sources: Sequence[str] | None = None, existing: str = "refuse"
) -> tuple[Path, Path]:
    """Download a dataset's training and validation file, and return their paths.

    :param sources: addresses of folders to try in this order; None takes `SOURCES`.
    :param existing: what to do if the dataset exists: ``"refuse"``, ``"keep"`` or ``"replace"``.
    """
    spec = parse_name(name).spec
    if not spec.hosted:
        raise UsageError(
            f"{spec.name} cannot be downloaded: OGBench hosts no file of it; "
            f"generate it with `zoo dataset generate {spec.name}`"
        )
    files = dataset_files(spec.name, dataset_dir)
    with making(files[0]):
        if is_settled(files[0], existing):
            return files
        for file in reversed(files):  # the training file comes last: where it is, the dataset is complete
            if existing == "replace" or not file.exists():
                download_file(file, sources or SOURCES, lambda path: _find_problems(path, spec))
    return files


def download_shards(
    name: str,
    dataset_dir: str | Path | None = None,
    *,
    names: Sequence[str] | None = None,
    sources: Sequence[str] | None = None,
    existing: str = "refuse",
) -> list[Path]:
    """Download the training files of a dataset of several, and return their paths; those that exist stay.

    :param names: which of its files, without ending; None takes all.
    :param sources: addresses of folders that hold the dataset's folder; None takes `SOURCES`.
    :param existing: what to do if all of them exist: ``"refuse"``, ``"keep"`` or ``"replace"``.
    """
    spec = parse_name(name).spec
    folder = shard_folder(spec.name, dataset_dir)
    paths = [path for path in training_files(spec, dataset_dir) if names is None or path.stem in names]
    with making(folder):
        missing = [path for path in paths if not path.exists()]
        if not missing and is_settled(paths[-1], existing):
            return paths
        for path in paths if existing == "replace" else missing:
            folders = [f"{source}/{spec.name}" for source in sources or SOURCES]
            download_file(path, folders, lambda path: _find_problems(path, spec))
    return paths


def download_file(file: Path, sources: Sequence[str], find_problems: Callable[[Path], list[str]]) -> None:
    """Download a file, continuing where it stopped; it gets its place when it is complete.

    :param sources: addresses of folders to try in this order.
    :param find_problems: returns what is wrong with what has arrived.
    """
    part = _Part(file.with_name(f"{file.name}.part"))
    problems = []
    for source in sources:
        url = f"{source.rstrip('/')}/{file.name}"
        try:
            _fetch(url, part)
            _check_content(part, find_problems)
        except (_SourceError, requests.RequestException) as error:
            problems.append(f"{url}: {_root_cause(error)}")
            continue
        publish(part.path, file)
        part.discard()
        return
    if not part.size:
        part.discard()  # the note about the origin of no bytes
    raise DownloadError(
        f"expected {file.name} from one of {len(sources)} sources, got: {'; '.join(problems)}; try again (it goes on "
        f"where it was), or put the file at {file}"
    )


def _root_cause(error: Exception) -> str:
    """Return what went wrong without the layers of `requests` around it."""
    reason = getattr(error.args[0], "reason", None) if error.args else None
    return str(reason or error)


def _fetch(url: str, part: _Part) -> None:
    """Download until the part file is whole, as long as attempts bring something new."""
    stalls = 0
    while True:
        before = part.size
        try:
            _transfer(url, part)
            return
        except (requests.ConnectTimeout, requests.exceptions.InvalidURL, requests.exceptions.MissingSchema):
            raise
        except requests.RequestException as error:
            # Nothing has ever come from here: no network, or no such host. Waiting does not help.
            if part.size == 0 and isinstance(error, requests.ConnectionError):
                raise
            stalls = 0 if part.size > before else stalls + 1
            if stalls >= MAX_STALLS:
                raise
            time.sleep(min(2.0**stalls / 4, 8.0))


def _transfer(url: str, part: _Part) -> None:
    """Make one request and append what it brings."""
    # No compression on the way: the file is compressed, and ranges must count its own bytes.
    headers = {"Accept-Encoding": "identity"}
    validator = part.validator(url)
    if validator is not None:
        headers |= {"Range": f"bytes={part.size}-", "If-Range": validator}
    with requests.get(url, headers=headers, stream=True, timeout=(CONNECT_TIMEOUT, READ_TIMEOUT)) as response:
        if response.status_code == 416 and response.headers.get("Content-Range") == f"bytes */{part.size}":
            return  # an earlier run had all of it
        _require_continuation(response, part)
        if response.status_code == 200:  # first request, no ranges at this server, or another file than before
            part.discard()
            part.remember(url, response)
        start, length = part.size, response.headers.get("Content-Length")
        total = None if length is None else start + int(length)
        with (
            part.path.open("ab") as target,
            progress_bar(url.rsplit("/", 1)[-1], total=total, done=start, unit="B", unit_scale=True) as bar,
        ):
            for chunk in response.iter_content(_CHUNK_BYTES):
                target.write(chunk)
                bar.update(len(chunk))
            target.flush()
            os.fsync(target.fileno())
    if total is not None and part.size != total:
        raise requests.ConnectionError(f"expected {total} bytes, got {part.size}")


def _require_continuation(response: requests.Response, part: _Part) -> None:
    """Refuse what is neither the whole file nor what follows the bytes so far, which are then of no use."""
    status, told = response.status_code, response.headers.get("Content-Range", "no range")
    if status >= 500 or status == 429:
        response.raise_for_status()  # busy or broken for now: tried again
    if status in (206, 416) and not told.startswith(f"bytes {part.size}-"):
        got = part.size
        part.discard()
        raise _SourceError(f"expected bytes from {got} on, got {told}")
    if status not in (200, 206):
        raise _SourceError(f"expected the file, got HTTP status {status} ({response.reason})")


def _check_content(part: _Part, find_problems: Callable[[Path], list[str]]) -> None:
    """Refuse bytes that are not what was expected; they are not kept."""
    problems = find_problems(part.path)
    if problems:
        part.discard()
        raise _SourceError(f"the downloaded file is not a valid dataset: {'; '.join(problems)}")


def _find_problems(path: Path, spec: DatasetSpec) -> list[str]:
    """Test the archive's checksums and the arrays' headers."""
    return error_messages(check_structure(path, spec)) or find_damage(path)


def find_damage(path: Path) -> list[str]:
    """Return which array of an npz file is damaged, or why it cannot be read; nothing if it is whole."""
    try:
        with open_zip(path, members=()) as archive:
            damaged = archive.testzip()
    except (*FAULTS, OSError) as error:
        damaged = str(error)
    return [f"damaged data in {damaged}"] if damaged else []
