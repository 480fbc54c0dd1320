"""Data of OCBench's tasks: where they are, and how they are downloaded, generated and loaded."""

from __future__ import annotations

import functools
import json
import os
import re
import warnings
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from agents.common.files import DamagedFile
from agents.common.files.bounded import read_text
from agents.common.validation import integer
from zoo.datasets.files import is_settled, making
from zoo.datasets.formats.ocbench import is_ocbench_format
from zoo.datasets.generate.ocbench import generate_ocbench
from zoo.datasets.sources.download import DownloadError, download_file, find_damage
from zoo.envs.ocbench import OcbenchTask
from zoo.errors import UsageError, as_usage_error
from zoo.terminal.messages import log

REVISION = "fd771640f7a47879d8b06657fe05389641b5bff9"
"""State of OCBench's datasets that version 1.0 of the package asks for."""
HOSTS = (f"https://huggingface.co/datasets/seohongpark/ocbench/resolve/{REVISION}",)
MANIFEST = "manifest.jsonl"
_MOST_MANIFEST_BYTES = 1 << 24
_VALIDATION = "-val.npz"


def dataset_root(dataset_dir: str | Path | None = None) -> Path:
    """Return the folder of all datasets: where OCBench itself looks for them, unless another is given."""
    if dataset_dir is not None:
        return Path(dataset_dir).expanduser()
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(cache).expanduser() / "ocbench" / "datasets"


def hosted_folder(task: OcbenchTask, dataset_dir: str | Path | None = None) -> Path:
    """Return the folder of a task's downloaded files, which tasks on GPUs share, whether it exists or not."""
    return dataset_root(dataset_dir) / ("lite" if task.is_lite else "full") / task.gpu_name


def generated_files(task: OcbenchTask, dataset_dir: str | Path | None = None) -> tuple[Path, Path]:
    """Return the paths of a task's generated training and validation file, whether they exist or not."""
    folder = dataset_root(dataset_dir) / "generated"
    return folder / f"{task.name}.npz", folder / f"{task.name}-val.npz"


def find_set(task: OcbenchTask, dataset_dir: str | Path | None, how: str | Path) -> Path:
    """Return the file or folder with a task's training data, after making it if needed.

    :param how: one of `zoo.datasets.load.SOURCES`. What is on the disk is used; a download comes before what was
        generated.
    """
    folder, generated = hosted_folder(task, dataset_dir), generated_files(task, dataset_dir)
    here = _set_here(task, dataset_dir)
    if here is not None and how in ("auto", "download" if here == folder else "generate"):
        return here
    if how != "generate":
        try:
            return download_ocbench(task, dataset_dir, existing="keep")
        except DownloadError as error:
            if how == "download" or _has_files(folder):
                raise UsageError(_not_there(folder, str(error))) from error
            warnings.warn(f"the download failed: {error}; generating {task.name} with its oracle instead", stacklevel=2)
    generate_ocbench(task, generated, existing="keep")
    return generated[0]


def find_existing(task: OcbenchTask, dataset_dir: str | Path | None = None) -> Path:
    """Return the file or folder with a task's training data; refuse a task that has none here."""
    here = _set_here(task, dataset_dir)
    if here is None:
        raise UsageError(
            f"there is no complete dataset of {task.name} in {dataset_root(dataset_dir)}; make it with `zoo dataset "
            f"generate {task.name}`, or download it with `zoo dataset download {task.name}`"
        )
    return here


def _set_here(task: OcbenchTask, dataset_dir: str | Path | None) -> Path | None:
    """Return what is on the disk: a complete download, else what was generated if there is no part of a download."""
    folder, generated = hosted_folder(task, dataset_dir), generated_files(task, dataset_dir)[0]
    if _has_files(folder):
        return None if _missing(task, dataset_dir) else folder
    return generated if generated.exists() else None


def _has_files(folder: Path) -> bool:
    return any(folder.glob("*.npz"))


def _not_there(folder: Path, problem: str) -> str:
    others = f"with the files that are there by `--dataset {folder}`, or " if _has_files(folder) else ""
    return (
        f"there is no complete dataset in {folder}: {problem}; train {others}on generated data by `--dataset generate`"
    )


def download_ocbench(
    task: OcbenchTask,
    dataset_dir: str | Path | None = None,
    *,
    num_files: int | None = None,
    sources: Sequence[str] | None = None,
    existing: str = "refuse",
) -> Path:
    """Download a task's training files, each with its validation file, and return their folder.

    OCBench's metadata, which are pickled, are left out.

    :param num_files: the first so many training files; None takes all.
    :param sources: addresses of folders that hold OCBench's; None takes `HOSTS`.
    :param existing: what to do if the files exist: ``"refuse"``, ``"keep"`` or ``"replace"``.
    """
    with as_usage_error():
        count = None if num_files is None else integer("num_files", num_files, at_least=1)
    root, sources = dataset_root(dataset_dir), sources or HOSTS
    manifest = _manifest_path(dataset_dir)
    with making(manifest):
        if not manifest.exists():
            download_file(manifest, sources, lambda path: [] if path.stat().st_size else ["it is empty"])
    files = _selected(task, dataset_dir, count)
    folder = hosted_folder(task, dataset_dir)
    with making(folder):
        missing = [path for path in files if not (root / path).exists()]
        if not missing and is_settled(root / list(files)[-1], existing):
            return folder
        wanted = list(files) if existing == "replace" else missing
        size = sum(files[path] for path in wanted)
        log.info("downloading %s: %d files, %.2f GB, to %s", task.gpu_name, len(wanted), size / 1e9, folder)
        for path in wanted:
            folders = [f"{source}/{PurePosixPath(path).parent}" for source in sources]
            download_file(root / path, folders, functools.partial(_find_problems, files[path]))
    return folder


def _selected(task: OcbenchTask, dataset_dir: str | Path | None, num_files: int | None) -> dict[str, int]:
    """Return the files to download and their bytes, each training file after its validation file."""
    hosted = hosted_files(task, dataset_dir)
    training = [path for path in hosted if not path.endswith(_VALIDATION)][:num_files]
    if not training:
        raise DownloadError(
            f"OCBench hosts no dataset of {task.gpu_name}; generate it with `zoo dataset generate {task.name}`"
        )
    pairs = ((path.removesuffix(".npz") + _VALIDATION, path) for path in training)
    return {path: hosted[path] for pair in pairs for path in pair if path in hosted}


def hosted_files(task: OcbenchTask, dataset_dir: str | Path | None = None) -> dict[str, int]:
    """Return the files that OCBench hosts for a task, by the list that was downloaded before; none without it.

    :return: path below the folder of all datasets -> bytes, sorted.
    """
    manifest = _manifest_path(dataset_dir)
    if not manifest.exists():
        return {}
    folder = hosted_folder(task, dataset_dir).relative_to(dataset_root(dataset_dir)).as_posix()
    try:
        entries = [json.loads(line) for line in read_text(manifest, _MOST_MANIFEST_BYTES).splitlines() if line]
        found = {str(entry["path"]): int(entry["bytes"]) for entry in entries if entry["kind"] == "data"}
    except (DamagedFile, OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(
            f"{manifest} must list OCBench's files, one JSON mapping a line: {error}; remove it"
        ) from error
    return {path: size for path, size in sorted(found.items()) if re.fullmatch(rf"{folder}/[^/]+\.npz", path)}


def _manifest_path(dataset_dir: str | Path | None) -> Path:
    """Return where the list of hosted files is kept, by OCBench too."""
    return dataset_root(dataset_dir) / ".cache" / "ocbench" / REVISION / MANIFEST


def _missing(task: OcbenchTask, dataset_dir: str | Path | None) -> list[str]:
    """Return the training files that OCBench hosts and that are not here, as far as is known."""
    root = dataset_root(dataset_dir)
    return [
        path for path in hosted_files(task, dataset_dir) if not (path.endswith(_VALIDATION) or (root / path).exists())
    ]


def _find_problems(expected: int, path: Path) -> list[str]:
    """Return what is wrong with a downloaded file, given its bytes."""
    size = path.stat().st_size
    if size != expected:
        return [f"expected {expected:,} bytes, got {size:,}"]
    return find_damage(path) or ([] if is_ocbench_format([path]) else ["it is not in OCBench's format"])


def describe_task(task: OcbenchTask, dataset_dir: str | Path | None = None) -> dict[str, Any]:
    """Return what is known about a task's data, for a table."""
    return {
        "name": task.name,
        "most_steps": task.steps,
        "downloaded": _has_files(hosted_folder(task, dataset_dir)) and not _missing(task, dataset_dir),
        "generated": generated_files(task, dataset_dir)[0].exists(),
    }
