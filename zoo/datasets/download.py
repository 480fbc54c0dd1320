"""Download datasets: from OGBench's host, else from a mirror; resumable, checked, and in place only when complete."""

import time
import zipfile
from pathlib import Path
from urllib.parse import urlsplit

import requests
from ogbench.utils import DATASET_URL

from agents.common.files import DamagedFileError, raising_damaged_file
from zoo.datasets.check import check_headers
from zoo.datasets.files import (
    DatasetError,
    Folder,
    dataset_file,
    dataset_files,
    keep_existing,
    locked_for_writing,
    make_folder,
    missing_files,
    progress_bar,
    training_files,
)
from zoo.datasets.names import DatasetSpec, parse_name
from zoo.terminal.errors import UsageError

HOSTS = [DATASET_URL, "https://huggingface.co/datasets/zhouzypaul/ogbench_datasets/resolve/main"]
"""Folders that are tried in this order: OGBench's own, then its public mirror."""
TIMEOUTS = (10.0, 60.0)
"""Seconds: for a connection, and of the longest silence, not the whole transfer."""
MAX_STALLS = 5  # attempts in a row that bring nothing new before the next host is tried
_CHUNK_BYTES = 1 << 16  # what a dropped connection can lose


class DownloadError(UsageError):
    """No source could give the file.

    :param problem: why not.
    :param advice: what to do, which is left out where the program does something itself.
    """

    def __init__(self, problem: str, advice: str = "try again") -> None:
        super().__init__(f"{problem}; {advice}")
        self.problem = problem


def download_dataset(
    name: str,
    dataset_dir: Folder = None,
    *,
    transitions: int | None = None,
    existing: str = "refuse",
) -> list[Path]:
    """Download a dataset's training and validation file, or its training files where it has several; return the former.

    Of several files, those that exist stay, also those that are only converted.

    :param transitions: of several files, the first that hold so many; None takes all.
    :param existing: what to do if the dataset exists: ``"refuse"``, ``"keep"`` or ``"replace"``.
    """
    spec = parse_name(name).spec
    if not spec.hosted:
        raise UsageError(
            f"{spec.name} cannot be downloaded: OGBench hosts no file of it; "
            f"generate it with `zoo dataset generate {spec.name}`"
        )
    train = training_files(spec, dataset_dir, transitions)
    single, validation = dataset_files(spec.name, dataset_dir)
    with locked_for_writing(single):
        # Another process may have downloaded it while this one waited for the lock.
        files = train
        if existing != "replace":
            files = missing_files(spec, dataset_dir, transitions)
        if not files:
            keep_existing(train[-1], existing)
        elif spec.files == 1 and (existing == "replace" or not validation.exists()):
            # The training file comes last: where it is, the dataset is complete.
            files = [validation, single]
        for file in files:
            _download_file(file, spec)
    return train


def _download_file(file: Path, spec: DatasetSpec) -> None:
    """Download a file, continuing where it stopped; it gets its place when it is complete and sound."""
    folder = f"/{spec.name}" if spec.files > 1 else ""
    make_folder(file.parent)
    part = file.with_name(f"{file.name}.part")
    problems = []
    for host in HOSTS:
        url = f"{host}{folder}/{file.name}"
        try:
            _fetch(url, part)
            check_headers(part, spec)
            with raising_damaged_file(str(part)), zipfile.ZipFile(part) as archive:
                damaged = archive.testzip()
                if damaged:
                    raise ValueError(f"damaged data in {damaged}")
        except requests.RequestException as error:
            problems.append(f"{urlsplit(url).netloc}: {error}")
        except (DatasetError, DamagedFileError) as error:
            part.unlink()  # perhaps it began as another file than the one that is there now
            problems.append(f"{url}: the downloaded file is not a valid dataset: {error}")
        else:
            with dataset_file(file) as temporary:
                part.rename(temporary)
            return
    raise DownloadError(
        "; ".join(problems), f"try again (it continues where it stopped), or put the file at {file}"
    )


def _size(part: Path) -> int:
    """Return how many bytes of a file have come so far."""
    return part.stat().st_size if part.exists() else 0


def _fetch(url: str, part: Path) -> None:
    """Download until the part file is whole, as long as attempts bring something new."""
    stalls = 0
    while True:
        size_before = _size(part)
        try:
            _transfer(url, part)
            return
        except requests.RequestException as error:
            status = getattr(error.response, "status_code", 0)
            # 429 asks to come again later; a ValueError is an address that is none.
            is_refused = isinstance(error, ValueError) or (400 <= status < 500 and status != 429)
            # Nothing has ever come from here: no network, or no such host. Waiting does not help.
            is_absent = _size(part) == 0 and isinstance(error, requests.ConnectionError)
            stalls += 1
            if _size(part) > size_before:
                stalls = 0
            if is_refused or is_absent or stalls >= MAX_STALLS:
                raise
            time.sleep(min(2.0**stalls / 4, 8.0))


def _transfer(url: str, part: Path) -> None:
    """Make one request and append what it brings."""
    start = _size(part)
    # No compression on the way: the file is compressed, and ranges must count its own bytes.
    headers = {"Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
    with requests.get(url, headers=headers, stream=True, timeout=TIMEOUTS) as response:
        if start and response.status_code == 416:
            return  # there is no more
        response.raise_for_status()
        if response.status_code == 200:  # the whole file: this server has no ranges
            start = 0
        total = None
        if "Content-Length" in response.headers:
            total = start + int(response.headers["Content-Length"])
        bar = progress_bar(part.stem, total=total, initial=start, unit="B", unit_scale=True)
        with part.open("ab" if start else "wb") as target, bar:
            for chunk in response.iter_content(_CHUNK_BYTES):
                target.write(chunk)
                bar.update(len(chunk))
    if total is not None and _size(part) != total:
        raise requests.ConnectionError(f"expected {total} bytes, got {_size(part)}")
