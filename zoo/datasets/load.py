"""Load a dataset for training: find or create its files, check and read them, and relabel them for a task."""

import contextlib
import json
import shutil
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from agents.common.data.arrays import Transitions, compact_transitions, sparse_rewards
from agents.common.data.shards import Shard, Shards
from agents.common.files import atomic_folder, read_text
from zoo.datasets.download import download_dataset
from zoo.datasets.files import (
    ARRAYS,
    OFFICIAL,
    RECORD,
    Folder,
    data_path,
    locked_for_writing,
    missing_files,
    recorded_origin,
    settings_sha256,
)
from zoo.datasets.formats.base import Dataset, first_trajectories
from zoo.datasets.formats.read import npz_files
from zoo.datasets.generate import generate_dataset
from zoo.datasets.names import DatasetSpec, parse_env_name
from zoo.datasets.ogbench import explained, make_labelling_env, read_arrays, relabel
from zoo.settings.request import SOURCES
from zoo.terminal.errors import UsageError
from zoo.terminal.messages import log


def load_dataset(
    env_name: str,
    *,
    dataset_dir: Folder = None,
    dataset: str | Path = "auto",
    dataset_size: int | None = None,
    sparse: bool = False,
    replace_interval: int = 1000,
) -> Dataset:
    """Load the dataset of a single-task environment; missing files are downloaded or generated first.

    A dataset of several files is converted to memory-mapped arrays at its first use, see :func:`convert_shards`.

    :param dataset: source of missing files, ``"download"``, ``"generate"`` or ``"auto"`` (the first of these two that
        works); a path selects a file or a folder of files instead.
    :param dataset_size: keep whole trajectories from the start until they total this many transitions; None for all.
    :param sparse: use a reward of 0 in states that achieve the task, otherwise -1; OGBench's own reward in manipulation
        tasks is minus the number of open sub-goals.
    :param replace_interval: number of gradient steps after which training switches to the next of several files.

    >>> data = load_dataset("cube-single-play-singletask-v0", dataset_dir="data", dataset_size=20_000)  # doctest: +SKIP
    >>> model.learn_offline(10_000, dataset=data.content)  # doctest: +SKIP
    """
    name = parse_env_name(env_name)
    path = _find_files(name.spec, dataset_dir, dataset, dataset_size)
    settings: dict[str, Any] = {
        "environment": name.env_id,
        "dataset_size": dataset_size,
        "sparse": sparse,
        "split": "train",
    }
    # files that OGBench's own code has downloaded have no record of their origin
    origin = recorded_origin(path, OFFICIAL if dataset in SOURCES else None)
    content: Transitions | Shards
    if path.is_dir():
        assert name.task is not None
        converted = convert_shards(path, name.spec, size=dataset_size)
        parts = choose_parts(converted, name.task, path, dataset_size)
        content = Shards(parts, replace_interval, sparse)
        is_achieved = any(shard.solved[str(name.task)] for shard in converted)
        settings["files"] = [shard.sha256 for shard in converted]
        settings["replace_interval"] = replace_interval
    else:
        with contextlib.closing(make_labelling_env(name.env_id)) as env, explained(path):
            digest, arrays = read_arrays(path, name.spec)
            rewards, masks = relabel(arrays, env)
        # OGBench's reward is 0 only for success; otherwise it is -1 in mazes, and minus the number of open sub-goals
        # in manipulation
        if sparse:
            rewards = sparse_rewards(rewards)
        # `read_arrays` has checked the arrays, so `compact_transitions` need not check them again.
        content = compact_transitions({**arrays, "rewards": rewards, "masks": masks})
        if dataset_size is not None:
            content = first_trajectories(content, dataset_size, path)
        is_achieved = not content.arrays["masks"].all()
        settings["file"] = digest
        origin = {"sha256": digest, **origin}
    if not is_achieved:
        warnings.warn(
            f"no state in {path} achieves the task of {env_name}; every reward is negative",
            stacklevel=2,
        )
    return Dataset(path.stem, content, settings_sha256(settings), origin=origin)


def _find_files(
    spec: DatasetSpec, dataset_dir: Folder, dataset: str | Path, size: int | None
) -> Path:
    """Return the path of the file or folder to read; missing files are downloaded or generated first.

    :param dataset: one of `SOURCES`, or a path.
    :param size: number of transitions needed; None for all.
    """
    if dataset not in SOURCES:
        path = Path(dataset).expanduser()
        if path.is_dir() or (path.suffix.lower() == ".npz" and path.is_file()):
            return path
        raise UsageError(
            f"`--dataset` must be {', '.join(SOURCES)}, an .npz file or a folder of them, got {str(path)!r}"
        )
    path = data_path(spec, dataset_dir)
    missing = missing_files(spec, dataset_dir, size)
    if not missing:
        return path
    may_generate = dataset != "download" and spec.is_generatable
    if dataset != "generate" and spec.hosted:
        try:
            download_dataset(spec.name, dataset_dir, transitions=size, existing="keep")
            return path
        except UsageError as error:
            if not may_generate:
                raise
            warnings.warn(
                f"{error}; generating {spec.name} with OGBench's oracle instead", stacklevel=3
            )
    if may_generate:
        return generate_dataset(spec.name, dataset_dir, dataset_size=size, existing="keep")[0]
    raise UsageError(
        f"there is no {missing[0]}, which `--dataset {dataset}` cannot create; put the file there, or pass other data "
        "with `--dataset PATH`"
    )


# -- datasets of several files: converted once to raw arrays, which training maps into memory one file at a time -------


Tasks = dict[int, Any]
"""Number of a task -> its environment."""


@dataclass(frozen=True)
class ConvertedShard:
    """One file of a dataset, converted to raw arrays for training, with the rewards of every task.

    :param solved: number of a task, as text -> number of states that achieve the task.
    :param sizes: name of an array's file -> size in bytes.
    :param sha256: digest of the original file, which has size ``bytes`` and modification time ``modified`` (ns).
    :param environment: environment that computed the rewards, with version ``ogbench`` of OGBench.
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

    def shard(self, task: int, min_transitions: int) -> Shard:
        """Return the part of the file that training uses.

        :param task: the task whose rewards are used, 1 to 5.
        :param min_transitions: keep whole trajectories from the start until they total this many transitions; all if
            the file has fewer.
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


def choose_parts(
    shards: Sequence[ConvertedShard], task: int, folder: Path, size: int | None
) -> list[Shard]:
    """Return the parts of converted files that training uses one after the other.

    :param shards: no more files than ``size`` needs.
    :param task: the task whose rewards are used, 1 to 5.
    :param size: keep whole trajectories from the start until they total this many transitions; None for all.
    """
    total = sum(shard.transitions for shard in shards)
    if size is not None and size > total:
        raise UsageError(
            f"`--dataset-size` must be at most {total}, the transitions in {folder}, got {size}; use fewer, or add "
            "files"
        )
    remaining = size or total
    parts = []
    for shard in shards:
        parts.append(shard.shard(task, remaining))  # cuts only the last file
        remaining -= shard.transitions
    return parts


def shard_names(folder: Path) -> list[str]:
    """Return the sorted names, without extension, of the original and converted training files."""
    originals = {path.stem for path in npz_files(folder)}
    # the folder of a file that is being converted starts with a dot
    converted = {path.parent.name for path in folder.glob(f"{ARRAYS}/[!.]*/{RECORD}")}
    return sorted(originals | converted)


def convert_shards(folder: Path, spec: DatasetSpec, *, size: int | None) -> list[ConvertedShard]:
    """Return a dataset's converted files; missing ones are converted and saved one by one.

    :param size: convert files in order of name until they total this many transitions; None converts all.
    """
    names = shard_names(folder)
    if not names:
        raise UsageError(
            f"expected a folder of .npz files of {spec.name}, got none in {folder}; use another folder"
        )
    shards: list[ConvertedShard] = []
    tasks: Tasks = {}
    with contextlib.ExitStack() as stack:
        for number, name in enumerate(names, start=1):
            if size is not None and sum(shard.transitions for shard in shards) >= size:
                break
            shard = find_converted(folder, name, spec)
            if shard is None and not tasks:
                tasks = stack.enter_context(_converting(folder, spec))
                # Another process may have converted the file while this one waited for the lock.
                shard = find_converted(folder, name, spec)
            if shard is None:
                log.info("converting %s (%d of %d)", name, number, len(names))
                shard = _convert(folder, name, spec, tasks)
            shards.append(shard)
    return shards


@contextlib.contextmanager
def _converting(folder: Path, spec: DatasetSpec) -> Iterator[Tasks]:
    """Hold the lock of the converted files, and yield the environments of all tasks."""
    with locked_for_writing(folder / ARRAYS), contextlib.ExitStack() as stack:
        (folder / ARRAYS).mkdir(exist_ok=True)
        # folders left by a process that was killed; macOS leaves files such as .DS_Store
        for unfinished in (folder / ARRAYS).glob(".*/"):
            shutil.rmtree(unfinished)
        tasks: Tasks = {}
        for task, env_id in spec.task_env_ids.items():
            tasks[task] = stack.enter_context(contextlib.closing(make_labelling_env(env_id)))
        yield tasks


def find_converted(folder: Path, name: str, spec: DatasetSpec) -> ConvertedShard | None:
    """Return a converted file; None if it is missing or damaged, or does not match the environment or the original."""
    target = folder / ARRAYS / name
    source = folder / f"{name}.npz"
    try:
        shard = ConvertedShard(folder=target, **json.loads(read_text(target / RECORD)))
        sizes = {file: (target / file).stat().st_size for file in shard.sizes}
    except (OSError, ValueError, TypeError, RecursionError):
        return None
    made_for = (shard.environment, shard.ogbench)
    if sizes != shard.sizes or made_for != (spec.environment, version("ogbench")):
        return None
    if source.exists():  # the user may delete it after the conversion
        state = source.stat()
        if (state.st_size, state.st_mtime_ns) != (shard.bytes, shard.modified):
            return None
    return shard


def _convert(folder: Path, name: str, spec: DatasetSpec, tasks: Tasks) -> ConvertedShard:
    """Convert one file; the folder of its arrays is written atomically."""
    source = folder / f"{name}.npz"
    target = folder / ARRAYS / name
    with explained(source):
        state = source.stat()
        digest, arrays = read_arrays(source, spec)
    valid = arrays["valids"] > 0
    ends = arrays.pop("terminals")[valid] > 0
    shutil.rmtree(target, ignore_errors=True)
    with atomic_folder(target) as temporary:
        np.save(temporary / "terminals", ends)
        np.save(temporary / "actions", arrays.pop("actions")[valid])
        observations = arrays.pop("observations")
        np.save(temporary / "final_observations", observations[~valid])
        np.save(temporary / "observations", observations[valid])
        del observations  # free the largest array before the arrays of every task are created
        solved = {}
        for task, env in tasks.items():
            with explained(source):
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
        record = asdict(shard)
        del record["folder"]  # the record is stored in this folder, which may be moved
        (temporary / RECORD).write_text(json.dumps(record) + "\n", encoding="utf-8")
    return shard
