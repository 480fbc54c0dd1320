"""Download OGBench's datasets; downloads can resume, and are checked and written atomically."""

import math
import zipfile
from pathlib import Path
from urllib.parse import urlsplit

import requests
from ogbench.utils import DATASET_URL

from agents.common.files import (
    DamagedFileError,
    explaining_write_errors,
    raising_damaged_file,
)
from zoo.datasets.files import (
    OFFICIAL,
    Folder,
    dataset_file,
    dataset_files,
    keep_existing,
    locked_for_writing,
    make_folder,
    missing_files,
    track,
    training_files,
)
from zoo.datasets.names import DatasetSpec, parse_name
from zoo.datasets.ogbench import check_headers
from zoo.terminal.errors import UsageError

HOSTS = ["https://huggingface.co/datasets/zhouzypaul/ogbench_datasets/resolve/main", DATASET_URL]
"""URLs in the order in which they are tried: a public mirror, which is more reliable, and OGBench's host."""
TIMEOUTS = (10.0, 60.0)
"""Timeouts for connecting and for reading, in seconds."""
ATTEMPTS = 3
"""Number of attempts per host."""
CHUNK_BYTES = 1 << 16  # a dropped connection loses at most this many bytes


def download_dataset(
    name: str,
    dataset_dir: Folder = None,
    *,
    transitions: int | None = None,
    existing: str = "refuse",
) -> list[Path]:
    """Download a dataset and return its training files.

    A large dataset has several training files, any other dataset one training and one validation file. Unless
    `existing` is ``"replace"``, a file of a large dataset is downloaded only if neither its original nor its converted
    form exists.

    :param transitions: download files from the first on until they total this many transitions; None for all.
    :param existing: what to do if the dataset exists: ``"refuse"``, ``"keep"`` or ``"replace"``.
    """
    spec = parse_name(name).spec
    if not spec.hosted:
        raise UsageError(
            f"{spec.name} cannot be downloaded, because OGBench does not host it; "
            f"generate it with `zoo dataset generate {spec.name}`"
        )
    train = training_files(spec, dataset_dir, transitions)
    single, validation = dataset_files(spec, dataset_dir)
    with locked_for_writing(single):
        # Another process may have downloaded the files while this one waited for the lock.
        files = train
        if existing != "replace":
            files = missing_files(spec, dataset_dir, transitions)
        if not files:
            keep_existing(train[-1], existing)
        elif spec.files == 1 and (existing == "replace" or not validation.exists()):
            # The training file is downloaded last, so that it exists only if the dataset is complete.
            files = [validation, single]
        for file in files:
            _download_file(file, spec)
    return train


def _download_file(file: Path, spec: DatasetSpec) -> None:
    """Download a file, or resume its download; once complete and checked, the file gets its final name."""
    folder = f"/{spec.name}" if spec.files > 1 else ""
    make_folder(file.parent)
    part = file.with_name(f"{file.name}.part")
    problems = []
    for host in HOSTS * ATTEMPTS:  # an interrupted download is resumed from the next host
        url = f"{host}{folder}/{file.name}"
        try:
            _transfer(url, part)
            # Reject a maintenance page, and a file that changed on the server while it was downloaded.
            check_headers(part, spec)
            with raising_damaged_file(str(part)), zipfile.ZipFile(part) as archive:
                damaged = archive.testzip()
                if damaged:
                    raise ValueError(f"damaged data in {damaged}")
        except requests.RequestException as error:
            problems.append(f"{urlsplit(url).netloc}: {error}")
        except (UsageError, DamagedFileError) as error:
            part.unlink()  # its beginning may be from an earlier version of the file
            problems.append(f"{url}: the downloaded file is not a valid dataset: {error}")
        else:
            with dataset_file(file, f"MuJoCo {OFFICIAL}") as temporary:
                part.rename(temporary)
            return
    raise UsageError(
        f"{'; '.join(dict.fromkeys(problems))}; try again (interrupted downloads resume), put the file at {file}, or "
        "train on other data with `--dataset PATH`"
    )


def _transfer(url: str, part: Path) -> None:
    """Send one request, and append the response to the partial file."""
    start = part.stat().st_size if part.exists() else 0
    # without HTTP compression: the file is compressed already, and Range headers must count the file's own bytes
    headers = {"Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
    with requests.get(url, headers=headers, stream=True, timeout=TIMEOUTS) as response:
        if response.status_code == 416:
            return  # the file is complete already
        response.raise_for_status()
        count = math.ceil(int(response.headers.get("Content-Length", 0)) / CHUNK_BYTES)
        # Unless the status is 206, the response is the whole file.
        mode = "ab" if response.status_code == 206 else "wb"
        with explaining_write_errors(part), part.open(mode) as target:
            for chunk in track(response.iter_content(CHUNK_BYTES), part.stem, count):
                target.write(chunk)
