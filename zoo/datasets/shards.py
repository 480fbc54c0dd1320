"""Datasets of several files: each converted once to raw arrays, which training maps, one file after the other."""

from __future__ import annotations

import contextlib
import json
import shutil
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from agents.common.data.shards import Shard, Shards
from agents.common.files import digest_of, read_text, sync
from zoo.datasets.check import check_headers, explained, make_labelling_env, read_arrays, relabel
from zoo.datasets.files import ARRAYS, locked_for_writing, progress_bar, settings_sha256
from zoo.datasets.names import DatasetSpec, parse_env_name
from zoo.terminal.errors import UsageError

FORMAT = 1  # of the converted files; raise it when they change
RECORD = "shard.json"

Tasks = dict[int, Any]
"""The environment of each task."""


@dataclass(frozen=True)
class ConvertedShard:
    """One file of a dataset as raw arrays: what training uses of it, with the rewards of every task.

    ``solved`` counts the states that achieve each task, by its number as text, and ``sizes`` are the bytes of the
    arrays' files. ``sha256``, ``bytes`` and ``modified`` (nanoseconds) tell whether the original file is still the
    same; ``environment``, the version of ``ogbench`` and ``format`` tell whether the arrays are.
    """

    folder: Path
    transitions: int
    trajectories: int
    solved: Mapping[str, int]
    sizes: Mapping[str, int]
    sha256: str
    bytes: int
    modified: int
    environment: str
    ogbench: str
    format: int = FORMAT

    def shard(self, task: int, min_transitions: int) -> Shard:
        """Return what training takes of it.

        :param task: whose rewards, 1 to 5.
        :param min_transitions: take the first whole trajectories with at least this many; all if there are fewer.
        """
        files = {}
        for name in ("observations", "actions", "terminals", "final_observations"):
            files[name] = self.folder / f"{name}.npy"
        for name in ("rewards", "masks"):
            files[name] = self.folder / f"{name}-task{task}.npy"
        if min_transitions >= self.transitions:
            return Shard(files, self.transitions, self.trajectories)
        ends = np.flatnonzero(np.load(files["terminals"], mmap_mode="r")) + 1
        last = int(np.searchsorted(ends, min_transitions))
        return Shard(files, int(ends[last]), last + 1)


@dataclass(frozen=True)
class ShardedDataset:
    """Transitions of one task in several files, which take turns in training.

    :param content: what an algorithm's ``load_dataset`` takes.
    :param fingerprint: sha256 of all files' content and of the settings.
    """

    path: Path
    content: Shards
    fingerprint: str

    @property
    def num_transitions(self) -> int:
        """Number of transitions in all files."""
        return sum(part.transitions for part in self.content.parts)


def load_shards(
    env_name: str, folder: Path, *, size: int | None, sparse: bool, replace_interval: int
) -> ShardedDataset:
    """Return a dataset of several files, converting them first if need be; see `zoo.datasets.load.load_dataset`."""
    name = parse_env_name(env_name)
    task = name.task
    assert task is not None
    converted = convert_shards(folder, name.spec, size=size)
    total = sum(shard.transitions for shard in converted)
    if size is not None and size > total:
        raise UsageError(
            f"`--dataset-size` must be at most {total}, the transitions in {folder}, got {size}; use fewer, or get "
            "more of its files"
        )
    if not any(shard.solved[str(task)] for shard in converted):
        warnings.warn(
            f"no state in {folder} achieves the task of {env_name}; every reward is negative",
            stacklevel=2,
        )
    remaining = total if size is None else size
    parts = []
    for shard in converted:
        parts.append(shard.shard(task, remaining))
        remaining -= shard.transitions
    settings = {
        "files": [shard.sha256 for shard in converted],
        "environment": name.env_id,
        "dataset_size": size,
        "sparse": sparse,
        "split": "train",
        "replace_interval": replace_interval,
    }
    return ShardedDataset(
        folder, Shards(parts, replace_interval, sparse), settings_sha256(settings)
    )


def shard_names(folder: Path) -> list[str]:
    """Return the names, without ending, of the training files that exist, as they came or converted, in order."""
    originals = {path.stem for path in folder.glob("*.npz") if not path.stem.endswith("-val")}
    converted = {path.parent.name for path in folder.glob(f"{ARRAYS}/*/{RECORD}")}
    return sorted(originals | converted)


def convert_shards(folder: Path, spec: DatasetSpec, *, size: int | None) -> list[ConvertedShard]:
    """Convert the files of a dataset that are not converted yet, one at a time; a file that is done stays done.

    :param size: convert only the first files with at least this many transitions; None converts all.
    """
    names = shard_names(folder)
    if not names:
        raise UsageError(
            f"expected a folder of .npz files of {spec.name}, got none in {folder}; give another folder"
        )
    shards = _converted_so_far(folder, names, spec, size)
    if len(shards) == len(names) or _is_enough(shards, size):
        return shards
    with contextlib.ExitStack() as stack:
        stack.enter_context(locked_for_writing(folder / ARRAYS))
        (folder / ARRAYS).mkdir(exist_ok=True)
        tasks: Tasks = {}
        for task, env_id in spec.task_env_ids.items():
            tasks[task] = stack.enter_context(contextlib.closing(make_labelling_env(env_id)))
        # A later file that does not fit is refused now, and not after the minutes that those before it take.
        for name in names[len(shards) :]:
            if find_converted(folder, name, spec) is None:
                source = folder / f"{name}.npz"
                with explained(source, spec):
                    check_headers(source, spec, tasks[1])
        bar = stack.enter_context(
            progress_bar(f"converting {folder.name}", unit=" files", total=len(names))
        )
        for name in names[len(shards) :]:
            if _is_enough(shards, size):
                break
            # Another process may have converted it while this one waited for the lock.
            shards.append(find_converted(folder, name, spec) or _convert(folder, name, spec, tasks))
            bar.update(len(shards) - bar.n)
    return shards


def _converted_so_far(
    folder: Path, names: list[str], spec: DatasetSpec, size: int | None
) -> list[ConvertedShard]:
    """Return the first files of a dataset that are converted, up to the first that is not."""
    shards: list[ConvertedShard] = []
    for name in names:
        shard = None if _is_enough(shards, size) else find_converted(folder, name, spec)
        if shard is None:
            break
        shards.append(shard)
    return shards


def _is_enough(shards: list[ConvertedShard], size: int | None) -> bool:
    """Return whether files have so many transitions; None: those of all files."""
    return size is not None and sum(shard.transitions for shard in shards) >= size


def find_converted(folder: Path, name: str, spec: DatasetSpec) -> ConvertedShard | None:
    """Return a converted file if it exists, is whole, and was made from the original beside it."""
    target = folder / ARRAYS / name
    source = folder / f"{name}.npz"
    try:
        shard = ConvertedShard(folder=target, **json.loads(read_text(target / RECORD)))
    except (OSError, ValueError, TypeError, RecursionError):
        return None
    # Another version of OGBench may label states otherwise.
    if (shard.format, shard.environment, shard.ogbench) != (
        FORMAT,
        spec.environment,
        version("ogbench"),
    ):
        return None
    for file, size in shard.sizes.items():
        if not (target / file).is_file() or (target / file).stat().st_size != size:
            return None
    if source.exists():  # else it was deleted after the conversion
        state = source.stat()
        if state.st_size != shard.bytes:
            return None
        # The digest reads the whole file, so it is asked only where the file may be another.
        if state.st_mtime_ns != shard.modified and digest_of(source) != shard.sha256:
            return None
    return shard


def _convert(folder: Path, name: str, spec: DatasetSpec, tasks: Tasks) -> ConvertedShard:
    """Convert one file; its folder appears when it is whole."""
    source = folder / f"{name}.npz"
    target = folder / ARRAYS / name
    state = source.stat()
    with explained(source, spec):
        digest, arrays = read_arrays(source, spec)
    valid = arrays["valids"] > 0
    temporary = target.with_name(
        f".{target.name}.tmp"
    )  # the lock is held, so no other process writes a left-over one
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    ends = arrays.pop("terminals")[valid] > 0
    np.save(temporary / "terminals", ends)
    np.save(temporary / "actions", arrays.pop("actions")[valid])
    observations = arrays.pop("observations")
    np.save(temporary / "final_observations", observations[~valid])
    np.save(temporary / "observations", observations[valid])
    del observations  # the largest array, before those of every task
    solved = {}
    for task, env in tasks.items():
        rewards, masks = relabel(arrays, env)
        np.save(temporary / f"rewards-task{task}", rewards[valid])
        np.save(temporary / f"masks-task{task}", masks[valid] > 0)
        solved[str(task)] = int(np.count_nonzero(masks == 0))
    shard = ConvertedShard(
        folder=target,
        transitions=len(ends),
        trajectories=int(np.count_nonzero(ends)),
        solved=solved,
        sizes={file.name: file.stat().st_size for file in sorted(temporary.iterdir())},
        sha256=digest,
        bytes=state.st_size,
        modified=state.st_mtime_ns,
        environment=spec.environment,
        ogbench=version("ogbench"),
    )
    record = {key: value for key, value in asdict(shard).items() if key != "folder"}
    (temporary / RECORD).write_text(json.dumps(record) + "\n", encoding="utf-8")
    for file in temporary.iterdir():
        sync(file)
    # Only what is on the disk gets its name, so that a crash leaves no folder that looks complete.
    shutil.rmtree(target, ignore_errors=True)
    temporary.rename(target)
    sync(target.parent)
    return shard
