"""Generate datasets with OGBench's oracles: in parallel, resumable, the same bytes whatever the number of processes."""

from __future__ import annotations

import contextlib
import functools
import math
import shutil
import zipfile
from collections import deque
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np

from agents.common.bounded import read_npz, read_npz_headers, size_text
from agents.common.validation import integer
from zoo.datasets.files import SPLITS, dataset_files, is_settled, making, publish, settings_sha256
from zoo.datasets.generate.ogbench import EpisodeWriter, oracle_settings
from zoo.datasets.names import IMAGE_SHAPE, DatasetSpec, parse_name
from zoo.datasets.progress import progress_bar
from zoo.envs.rendering import require_pictures
from zoo.errors import UsageError, as_usage_error
from zoo.messages import log
from zoo.processes import ServingProcess, available_cores, wait_for_answers

SMALLER_SIZE = 100_000  # transitions of the smaller set that is suggested
IMAGE_COMPRESSION = 6  # how much smaller images are in a file, roughly

Jobs = list[tuple[str, int, Path]]
"""Split, number and file of episodes."""


class Writer(Protocol):
    """Collects episodes, each into a file."""

    def write(self, split: str, episode: int, file: Path) -> Path:
        """Collect an episode and return its file, which appears when it is complete."""

    def close(self) -> None:
        """End what was started."""


@dataclass(frozen=True)
class Recipe:
    """How a dataset is made.

    :param name: of the dataset, for messages.
    :param build: makes what collects its episodes, in each process.
    :param settings: everything that decides what an episode holds, besides its split and number.
    :param plan: returns what to say before: given which episodes are missing, how many are collected at a time, and
        whether others are done already.
    :param package: that has the oracles.
    :param constants: numbers that its files hold besides the arrays of the episodes.
    """

    name: str
    build: functools.partial[Writer]
    settings: dict[str, Any]
    plan: Callable[[Jobs, int, bool], str]
    package: str = "ogbench"
    constants: Mapping[str, np.generic] = field(default_factory=dict)


def generate_dataset(
    name: str,
    dataset_dir: str | Path | None = None,
    *,
    num_episodes: int | None = None,
    dataset_size: int | None = None,
    episode_steps: int | None = None,
    seed: int = 0,
    num_workers: int | None = None,
    existing: str = "refuse",
) -> tuple[Path, Path]:
    """Generate a dataset's two files with OGBench's scripted oracles and settings, and return their paths.

    Finished episodes are kept next to the file until it is complete, so a stopped generation continues where it was. A
    dataset of fewer episodes is the beginning of one of more.

    :param num_episodes: training episodes; the validation file gets a tenth of them, at least one.
    :param dataset_size: training transitions instead of episodes, rounded up to whole episodes; None for both takes
        OGBench's size.
    :param episode_steps: transitions of an episode; None takes OGBench's number.
    :param existing: what to do if the dataset exists: ``"refuse"``, ``"keep"`` or ``"replace"``.
    """
    spec = parse_name(name).spec
    if not spec.is_generatable:
        raise UsageError(_no_oracle_message(spec))
    if spec.is_visual:
        require_pictures(spec.name)
    if episode_steps is not None:
        with as_usage_error():
            spec = replace(spec, steps=integer("episode_steps", episode_steps, at_least=1))
    episodes = _count_episodes(spec, num_episodes, dataset_size)
    with as_usage_error():
        seed = integer("seed", seed, at_least=0)
        workers = integer("num_workers", available_cores() if num_workers is None else num_workers, at_least=1)
    whole = num_episodes is None and dataset_size is None and episode_steps is None
    recipe = Recipe(
        name=spec.name,
        build=functools.partial(EpisodeWriter, spec.name, seed, spec.steps),
        settings={"dataset": spec.name, "rows": spec.steps + 1, "seed": seed, "oracle": oracle_settings(spec)},
        plan=lambda missing, cores, resumed: describe_plan(spec, missing, cores, is_resumed=resumed, whole=whole),
    )
    files = dataset_files(spec.name, dataset_dir)
    if spec.is_visual and not files[0].exists():
        _require_disk(files[0].parent, bytes_on_disk(spec, episodes + max(1, episodes // 10)))
    make_dataset(recipe, files, episodes, num_workers=workers, existing=existing)
    return files


def _require_disk(folder: Path, needed: int) -> None:
    """Refuse to begin what the disk has no room for."""
    there = next(parent for parent in (folder, *folder.resolve().parents) if parent.exists())
    free = shutil.disk_usage(there).free
    if needed > free:
        raise UsageError(
            f"{folder} needs about {size_text(needed)} of disk, {size_text(free)} are free; make a smaller set with "
            "`--dataset-size`, or choose another folder with `--dataset-dir`"
        )


def make_dataset(recipe: Recipe, files: tuple[Path, Path], episodes: int, *, num_workers: int, existing: str) -> None:
    """Make a dataset's training file and its validation file, which has a tenth of the episodes, at least one.

    :param existing: what to do if the dataset exists: ``"refuse"``, ``"keep"`` or ``"replace"``.
    """
    with making(files[0]):
        if is_settled(files[0], existing):
            return
        counts = {"train": episodes, "val": max(1, episodes // 10)}
        parts = {split: _parts_folder(file, recipe) for split, file in zip(SPLITS, files, strict=True)}
        jobs = [(split, k, parts[split] / f"{k:06d}.npz") for split in SPLITS for k in range(counts[split])]
        _collect(recipe, jobs, num_workers)
        # The training file comes last: where it is, the dataset is complete.
        for split, file in reversed(list(zip(SPLITS, files, strict=True))):
            _join([part for own, _, part in jobs if own == split], file, recipe.constants)
        for folder in parts.values():
            shutil.rmtree(folder.parent)


def _no_oracle_message(spec: DatasetSpec) -> str:
    if spec.files > 1:
        reason = f"{spec.name} is a folder of {spec.files} files"
    else:
        reason = "OGBench collected it with trained expert policies, not with a scripted oracle"
    return (
        f"{spec.name} cannot be generated: {reason}; download it with `zoo dataset download {spec.name}` "
        "(pointmaze, cube, scene and puzzle datasets of standard size can be generated)"
    )


def _count_episodes(spec: DatasetSpec, num_episodes: int | None, dataset_size: int | None) -> int:
    if num_episodes is not None and dataset_size is not None:
        raise UsageError(
            f"expected `--episodes` or `--dataset-size`, got both ({num_episodes} and {dataset_size}); leave one out"
        )
    with as_usage_error():
        if dataset_size is not None:
            return math.ceil(integer("dataset_size", dataset_size, at_least=1) / spec.steps)
        return spec.episodes if num_episodes is None else integer("num_episodes", num_episodes, at_least=1)


def _parts_folder(file: Path, recipe: Recipe) -> Path:
    """Return the folder of finished episodes; its name carries the settings, so that others do not mix in."""
    versions = {name: version(name) for name in (recipe.package, "mujoco", "numpy", "gymnasium")}
    digest = settings_sha256({**recipe.settings, "versions": versions})
    folder = file.with_name(f"{file.name}.parts") / digest[:16]
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _collect(recipe: Recipe, jobs: Jobs, num_workers: int) -> None:
    """Collect the episodes that are missing, after saying how long that takes."""
    missing = [job for job in jobs if not job[2].exists()]
    num_workers = min(num_workers, len(missing))
    if missing:
        log.info("%s", recipe.plan(missing, min(num_workers, available_cores()), len(missing) < len(jobs)))
    finished = _write_in_processes(recipe, missing, num_workers) if num_workers > 1 else _write(recipe, missing)
    with (
        progress_bar(recipe.name, unit=" episodes", total=len(jobs), done=len(jobs) - len(missing)) as bar,
        contextlib.closing(finished),
    ):
        for _ in finished:
            bar.update()


def _write(recipe: Recipe, jobs: Jobs) -> Generator[Path, None, None]:
    """Write the episodes in this process; yield each finished file."""
    if jobs:
        with contextlib.closing(recipe.build()) as writer:
            yield from (writer.write(*job) for job in jobs)


def _write_in_processes(recipe: Recipe, jobs: Jobs, num_workers: int) -> Generator[Path, None, None]:
    """Write the episodes in child processes; yield each finished file."""
    build = recipe.build
    options = {"what": "episode collector", "name": recipe.name, "preload": [build.func.__module__]}
    workers = [ServingProcess(build, "write", **options, imports_main=False) for _ in range(num_workers)]
    left, busy = deque(jobs), list(workers)
    try:
        while busy:
            for worker in wait_for_answers(busy, 0.0):
                file = worker.receive()
                if file is not None:  # the first answer says that the process is ready
                    yield file
                if left:
                    worker.send(*left.popleft())
                else:
                    busy.remove(worker)
    finally:
        for worker in workers:
            worker.kill()  # perhaps in the middle of an episode, of which no file exists then
        for worker in workers:
            worker.close()


def describe_plan(spec: DatasetSpec, missing: Jobs, cores: int, *, is_resumed: bool, whole: bool) -> str:
    """Return in one line what will be generated and how long that takes.

    :param cores: how many episodes are collected at a time.
    :param is_resumed: whether other episodes are done already.
    :param whole: whether the set has OGBench's size, because no other was asked for.
    """
    train = spec.steps * sum(split == "train" for split, _, _ in missing)
    val = spec.steps * len(missing) - train
    seconds = math.ceil(len(missing) / cores) * (spec.steps + 1) / spec.rows_per_second
    smaller = f"; --dataset-size {SMALLER_SIZE} makes a smaller set" if whole and train > SMALLER_SIZE else ""
    space = ""
    if spec.is_visual:
        memory = 2 * math.prod(IMAGE_SHAPE) * (train + train // spec.steps)
        space = (
            f" without a GPU, {size_text(bytes_on_disk(spec, len(missing)))} of disk; to train on it takes "
            f"{size_text(memory)} of memory"
        )
    return (
        f"generating {spec.name}: {train:,} {'more ' if is_resumed else ''}transitions (and {val:,} for validation), "
        f"about {duration_text(seconds)} on {cores} core{'' if cores == 1 else 's'}{space}{smaller}"
    )


def bytes_on_disk(spec: DatasetSpec, episodes: int) -> int:
    """Return roughly what episodes of images take while a set is made: twice what they take in the end."""
    return 2 * math.prod(IMAGE_SHAPE) // IMAGE_COMPRESSION * episodes * (spec.steps + 1)


def duration_text(seconds: float) -> str:
    """Return an expected duration in words."""
    if seconds < 60:
        return f"{math.ceil(seconds)} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def _join(parts: Sequence[Path], file: Path, constants: Mapping[str, np.generic]) -> None:
    """Write the episodes as one npz; memory stays that of one episode, and equal data become equal bytes.

    :param constants: numbers that the file holds besides.
    """
    temporary = file.with_name(f"{file.name}.tmp")  # the lock is held, so no other process writes a left-over one
    rows = [{key: shape[0] for key, (shape, _) in read_npz_headers(part).items()} for part in parts]
    examples = read_npz(parts[0])
    with (
        zipfile.ZipFile(temporary, "w") as archive,
        progress_bar(f"writing {file.name}", unit=" parts", total=len(examples) * len(parts)) as bar,
    ):
        for key, example in examples.items():
            shape = (sum(part[key] for part in rows), *example.shape[1:])
            header = {"descr": example.dtype.str, "fortran_order": False, "shape": shape}
            with _opened_member(archive, key) as target:
                np.lib.format.write_array_header_1_0(target, header)
                for part in parts:
                    target.write(np.ascontiguousarray(read_npz(part, [key])[key]).tobytes())
                    bar.update()
        for key, value in constants.items():
            with _opened_member(archive, key) as target:
                np.lib.format.write_array(target, np.asarray(value), (1, 0))
    publish(temporary, file)


def _opened_member(archive: zipfile.ZipFile, key: str) -> IO[bytes]:
    """Return an array's file in an archive, to write to."""
    member = zipfile.ZipInfo(f"{key}.npy")  # dated 1980, so the bytes do not depend on the clock
    member.compress_type = zipfile.ZIP_DEFLATED
    return archive.open(member, "w", force_zip64=True)
