"""Paths, locks, checksums and progress bars of dataset files."""

import contextlib
import hashlib
import json
import math
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import rich.progress

from agents.common.files import (
    DamagedFileError,
    atomic_path,
    digest_of,
    read_text,
    write_text,
)
from zoo.datasets.names import DatasetSpec
from zoo.runs.locks import Lock
from zoo.terminal.errors import UsageError
from zoo.terminal.messages import log
from zoo.terminal.parser import check_output
from zoo.terminal.tables import terminal

Item = TypeVar("Item")

DEFAULT_DATASET_DIR = "~/.ogbench/data"
"""OGBench's default folder, so that OGBench and the zoo share downloaded files."""
ARRAYS = "arrays"
"""Name of the folder with the converted arrays of a dataset of several files, next to these files."""
RECORD = "shard.json"
"""Metadata file in a folder of converted arrays."""
OFFICIAL = "3.4.0 or older"
"""MuJoCo version with which OGBench's datasets were generated."""
Folder: TypeAlias = str | Path | None
"""A folder of datasets; None is the default folder."""


def dataset_files(spec: DatasetSpec, dataset_dir: Folder = None) -> tuple[Path, Path]:
    """Return the paths of a dataset's training and validation file, whether they exist or not.

    :param dataset_dir: folder of datasets; None for OGBench's default, ``~/.ogbench/data``.
    """
    folder = Path(dataset_dir or DEFAULT_DATASET_DIR).expanduser()
    return folder / f"{spec.name}.npz", folder / f"{spec.name}-val.npz"


def data_path(spec: DatasetSpec, dataset_dir: Folder) -> Path:
    """Return the path of a dataset's training file or, if there are several, of their folder; it may not exist."""
    file, _ = dataset_files(spec, dataset_dir)
    return file if spec.files == 1 else file.with_suffix("")


def training_files(
    spec: DatasetSpec, dataset_dir: Folder, transitions: int | None = None
) -> list[Path]:
    """Return the paths of a dataset's training files, one or several, in order, whether they exist or not.

    :param transitions: return files from the first on until they total this many transitions; None for all.
    """
    path = data_path(spec, dataset_dir)
    if spec.files == 1:
        return [path]
    size = transitions or spec.transitions
    count = min(spec.files, math.ceil(size * spec.files / spec.transitions))
    name = f"{spec.environment}-{spec.kind}-v0"
    return [path / f"{name}-{number:03d}.npz" for number in range(count)]


def missing_files(
    spec: DatasetSpec, dataset_dir: Folder, transitions: int | None = None
) -> list[Path]:
    """Return the training files of which neither the original nor the converted form exists."""
    missing = []
    for path in training_files(spec, dataset_dir, transitions):
        # Users may delete the original files after the conversion.
        if not path.exists() and not (path.parent / ARRAYS / path.stem / RECORD).exists():
            missing.append(path)
    return missing


def make_folder(folder: Path) -> None:
    """Create a folder and its parents; raise UsageError if it cannot be created or written to."""
    check_output("--dataset-dir", folder, "folder")
    folder.mkdir(parents=True, exist_ok=True)


@contextlib.contextmanager
def locked_for_writing(path: Path) -> Iterator[None]:
    """Hold the lock of a file or folder while it is written; its parent is created if missing.

    The operating system releases the lock when a process dies, so a killed process does not block others.
    """
    make_folder(path.parent)
    lock = Lock(path.with_name(f"{path.name}.lock"))
    if not lock.take():
        log.info("waiting: %s is being written by %s", path, lock.describe_holder())
    with lock:
        yield


def keep_existing(train: Path, existing: str) -> bool:
    """Return whether to keep an existing dataset.

    :param train: the dataset's training file, which is written last, so it exists only if the dataset is complete.
    :param existing: what to do if the dataset exists: ``"refuse"``, ``"keep"`` or ``"replace"``.
    :raises UsageError: if the dataset exists and ``existing`` is ``"refuse"``.
    """
    if existing == "replace" or not train.exists():
        return False
    if existing == "refuse":
        raise UsageError(f"{train} exists already; add `--force` to replace it")
    return True


@contextlib.contextmanager
def dataset_file(path: Path, origin: str = "") -> Iterator[Path]:
    """Yield a temporary path for a dataset file; on exit, rename it, and write the checksum next to it.

    The old checksum is removed before the rename and the new one is written after it, so a crash never leaves a wrong
    checksum.

    :param origin: how the file was created, for :func:`recorded_origin`; `sha256sum -c` skips it as a comment.
    """
    with atomic_path(path) as temporary:
        yield temporary
        digest = digest_of(temporary)
        checksum_file(path).unlink(missing_ok=True)
    comment = f"# {origin}\n" if origin else ""
    write_text(checksum_file(path), f"{digest}  {path.name}\n{comment}")


def checksum_file(path: Path) -> Path:
    """Return the path of a file's checksum, ``NAME.npz.sha256``, in the format of ``sha256sum -c``."""
    return path.with_name(f"{path.name}.sha256")


def recorded_sha256(path: Path) -> str | None:
    """Return the sha256 recorded next to a file, or None."""
    try:
        text = read_text(checksum_file(path))
    except FileNotFoundError:
        return None
    return next(iter(text.split()), None)  # `sha256sum` writes the hash first, then the path


def recorded_origin(path: Path, otherwise: str | None) -> dict[str, Any]:
    """Return the ``mujoco`` version and the ``seed`` with which a file was generated, as far as recorded.

    :param otherwise: MuJoCo version to assume for a file without a checksum file.
    """
    try:
        text = read_text(checksum_file(path))
    except FileNotFoundError:
        return {"mujoco": otherwise}
    match = re.search(r"^# MuJoCo ([^,\n]+)(?:, seed (\d+))?$", text, flags=re.MULTILINE)
    if match is None:
        return {}
    origin: dict[str, Any] = {"mujoco": match[1]}
    if match[2]:
        origin["seed"] = int(match[2])
    return origin


def check_checksum(path: Path) -> str:
    """Return the sha256 of a file; reject it if it differs from the recorded one."""
    digest = digest_of(path)
    expected = recorded_sha256(path)
    if expected not in (None, digest):
        raise DamagedFileError(str(path), f"its sha256 is {digest}, but {expected} was recorded")
    return digest


def settings_sha256(settings: Mapping[str, Any]) -> str:
    """Return the hexadecimal sha256 of settings with JSON-serialisable values; their order does not matter."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()


def track(items: Iterable[Item], title: str, total: int) -> Iterable[Item]:
    """Iterate over items, with a progress bar if stderr is a terminal."""
    return rich.progress.track(
        items, title, total, console=terminal(), disable=not sys.stderr.isatty()
    )
