"""Make datasets of episodes: in parallel, resumable, the same bytes whatever the number of processes."""

from __future__ import annotations

import contextlib
import functools
import math
import shutil
import zipfile
from collections import deque
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import IO, Any

import numpy as np

from agents.common.files import atomic_path
from agents.common.files.bounded import read_npz, read_npz_headers
from zoo.datasets.environment import global_numpy_seed
from zoo.datasets.files import SPLITS, is_settled, making, publish, settings_sha256
from zoo.datasets.progress import progress_bar
from zoo.processes.serving import ServingProcess, available_cores, wait_for_answers
from zoo.terminal.messages import log

MOST_ATTEMPTS = 100  # far above need: few episodes are unhealthy

Jobs = list[tuple[str, int, Path]]
"""Split, number and file of episodes."""
Episode = dict[str, np.ndarray]


class EpisodeWriter:
    """Collects episodes of a dataset, each into a file: one seed, one episode, bit for bit."""

    compresses = False

    def __init__(self, name: str, seed: int) -> None:
        self.name, self.seed = name, seed

    def collect(self, split: str, episode: int) -> Episode:
        """Return an episode's arrays, which depend on the seed, the split and its number only.

        The global NumPy generator, from which oracles draw, is left as it was.
        """
        for attempt in range(MOST_ATTEMPTS):
            key = (SPLITS.index(split), episode, attempt)
            words = np.random.SeedSequence(self.seed, spawn_key=key).generate_state(6)
            with global_numpy_seed(words[:4]):
                arrays = self.play(int(words[4]), int(words[5]))
            if arrays is not None:
                return arrays
        raise RuntimeError(f"{self.name}: {MOST_ATTEMPTS} episodes in a row were unhealthy")

    def play(self, reset_seed: int, action_seed: int) -> Episode | None:
        """Return the arrays of one episode; None if it is to be replaced by another."""
        raise NotImplementedError

    def write(self, split: str, episode: int, file: Path) -> Path:
        """Collect an episode and return its file, which appears when it is complete."""
        arrays = self.collect(split, episode)
        with atomic_path(file) as temporary:
            (np.savez_compressed if self.compresses else np.savez)(temporary, **arrays)  # type: ignore[arg-type]
        return file

    def close(self) -> None:
        """Do nothing: the process ends, and the environment with it."""


@dataclass(frozen=True)
class Recipe:
    """How a dataset is made.

    :param name: of the dataset, for messages.
    :param build: makes what collects its episodes, in each process.
    :param settings: everything that decides what an episode holds, besides its split and number.
    :param steps: of an episode, if ``all_are_as_long``, else the most.
    :param steps_per_second: of one core, roughly.
    :param note: what the plan says besides.
    :param smaller: how to make a smaller set, which the plan says before the first episode.
    :param package: that has the oracles.
    :param constants: numbers that its files hold besides the arrays of the episodes.
    """

    name: str
    build: functools.partial[Any]
    settings: dict[str, Any]
    steps: int
    steps_per_second: int
    all_are_as_long: bool = True
    note: str = ""
    smaller: str = ""
    package: str = "ogbench"
    constants: Mapping[str, np.generic] = field(default_factory=dict)


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
        cores = min(num_workers, available_cores())
        log.info("%s", _describe_plan(recipe, missing, cores, is_resumed=len(missing) < len(jobs)))
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
    options: dict[str, Any] = {"what": "episode collector", "name": recipe.name, "preload": [build.func.__module__]}
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


def _describe_plan(recipe: Recipe, missing: Jobs, cores: int, *, is_resumed: bool) -> str:
    """Return in one line what will be generated and how long that takes.

    :param cores: how many episodes are collected at a time.
    :param is_resumed: whether other episodes are done already.
    """
    rounds, train = math.ceil(len(missing) / cores), sum(split == "train" for split, _, _ in missing)
    counts, unit, words = (train, len(missing) - train), f"episodes of at most {recipe.steps:,} steps", "at most"
    if recipe.all_are_as_long:
        counts, unit, words = (counts[0] * recipe.steps, counts[1] * recipe.steps), "transitions", "about"
    return (
        f"generating {recipe.name}: {counts[0]:,} {'more ' if is_resumed else ''}{unit} (and {counts[1]:,} for "
        f"validation), {words} {_duration_text(rounds * (recipe.steps + 1) / recipe.steps_per_second)} on {cores} "
        f"core{'' if cores == 1 else 's'}{recipe.note}{'' if is_resumed else recipe.smaller}"
    )


def _duration_text(seconds: float) -> str:
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
