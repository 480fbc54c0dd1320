"""Make datasets of episodes: in parallel, resumable, the same bytes whatever the number of processes.

Episodes are played in child processes, also by one alone, whose kernels are those that processors have in common.
"""

from __future__ import annotations

import contextlib
import functools
import json
import shutil
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from agents.common.files import atomic_path, write_text
from agents.common.files.npz import read_npz, read_npz_headers
from agents.common.streams import Purpose, stream
from zoo.datasets.files import (
    dataset_file,
    keep_existing,
    locked_for_writing,
    progress_bar,
    provenance_file,
    settings_sha256,
)
from zoo.datasets.formats.base import Arrays
from zoo.envs.make import global_numpy_seed
from zoo.processes.serving import WorkerProcess, available_cores, wait_for_answers
from zoo.processes.versions import common_kernels, describe_rounding
from zoo.terminal.errors import UsageError
from zoo.terminal.messages import log

MAX_ATTEMPTS = 100  # far above need: few episodes are unhealthy

MAX_EPISODES = 1_000_000
"""Ten times those of OGBench's largest dataset; each is a file until the dataset is complete."""

PURPOSES = {"train": Purpose.TRAINING_DATA, "val": Purpose.VALIDATION_DATA}

Jobs = list[tuple[str, int, Path]]
"""Split, number and file of episodes."""


def to_arrays(rows: Sequence[Mapping[str, Any]]) -> Arrays:
    """Stack rows into arrays as in the benchmarks' files: floating-point numbers become float32, the others stay."""
    arrays = {key: np.array([row[key] for row in rows]) for key in rows[0]}
    for key, array in arrays.items():
        if array.dtype.kind == "f":
            arrays[key] = array.astype(np.float32)
    return arrays


class EpisodeWriter:
    """Collects episodes of a dataset, each into a file: one seed, one episode, bit for bit."""

    packages: tuple[str, ...] = ("ogbench", "mujoco", "gymnasium")
    """Whose versions decide what an episode holds."""
    constants: ClassVar[Mapping[str, np.generic]] = {}
    """Numbers that the files hold besides the arrays of the episodes."""

    def __init__(self, name: str, seed: int) -> None:
        self.name = name
        self.seed = seed

    @property
    def rounding(self) -> dict[str, Any]:
        """What decides the rounding of episodes."""
        return describe_rounding(self.packages)

    def collect(self, split: str, episode: int) -> Arrays:
        """Return an episode's arrays, which depend on the seed, the split and its number only.

        The global NumPy generator, from which oracles draw, is left as it was.
        """
        for attempt in range(MAX_ATTEMPTS):
            words = stream(PURPOSES[split], self.seed, episode, attempt).generate_state(6)
            with global_numpy_seed(words[:4]):
                arrays = self.play(int(words[4]), int(words[5]))
            if arrays is not None:
                return arrays
        raise RuntimeError(f"{self.name}: {MAX_ATTEMPTS} episodes in a row were unhealthy")

    def play(self, reset_seed: int, action_seed: int) -> Arrays | None:
        """Return the arrays of one episode; None if it is to be replaced by another."""
        raise NotImplementedError

    def write(self, split: str, episode: int, file: Path) -> Path:
        """Collect an episode and return its file, which appears when it is complete."""
        arrays = self.collect(split, episode)
        with atomic_path(file) as temporary:
            np.savez_compressed(temporary, **arrays)  # type: ignore[arg-type]
        return file

    def close(self) -> None:
        """Do nothing: the process ends, and the environment with it."""


def make_dataset(
    files: tuple[Path, Path],
    episodes: int,
    build: functools.partial[Any],
    settings: Mapping[str, Any],
    num_workers: int | None,
    existing: str,
) -> None:
    """Make a dataset's training file and its validation file, which has a tenth of the episodes, at least one.

    :param files: their paths.
    :param build: makes what collects its episodes, in each process.
    :param settings: everything that decides what an episode holds, besides its split and number; ``dataset`` is its
        name.
    :param num_workers: processes; None takes one for each core.
    :param existing: what to do if the dataset exists: ``"refuse"``, ``"keep"`` or ``"replace"``.
    """
    name = settings["dataset"]
    if episodes > MAX_EPISODES:
        raise UsageError(
            f"a dataset may have {MAX_EPISODES:,} episodes, got {episodes:,} of {name}; make fewer"
        )
    with locked_for_writing(files[0]):
        if keep_existing(files[0], existing):
            return
        counts = (episodes, max(1, episodes // 10))  # for training, for validation
        num_workers = min(num_workers or available_cores(), sum(counts))
        with _worker_processes(name, build, num_workers) as workers:
            rounding, *_ = [worker.receive() for worker in workers]
            if not rounding["has_common_kernels"]:
                log.warning(
                    "%s: no kernels that other processors share; data made elsewhere may round differently",
                    name,
                )
            origin = {**settings, **rounding}
            jobs: Jobs = []
            for split, file, count in zip(PURPOSES, files, counts, strict=True):
                # Finished episodes of another origin, which a stopped generation has left, must not mix in.
                folder = _parts_folder(file) / settings_sha256(origin)[:16]
                folder.mkdir(parents=True, exist_ok=True)
                jobs += [(split, k, folder / f"{k:06d}.npz") for k in range(count)]
            missing = [job for job in jobs if not job[2].exists()]
            num_done = len(jobs) - len(missing)
            log.info("generating %s: %d episodes, %d of them are there", name, len(jobs), num_done)
            with progress_bar(name, unit=" episodes", total=len(jobs), done=num_done) as bar:
                for _ in _write(workers, missing):
                    bar.update()
        parts = [path for _, _, path in jobs]
        writer: Any = build.func
        # The training file comes last: where it is, the dataset is complete.
        _join(parts[episodes:], files[1], writer.constants, origin)
        _join(parts[:episodes], files[0], writer.constants, origin)
        for file in files:
            shutil.rmtree(_parts_folder(file))


def _parts_folder(file: Path) -> Path:
    """Return the folder of a dataset file's episodes until it is complete."""
    return file.with_name(f"{file.name}.parts")


@contextlib.contextmanager
def _worker_processes(
    name: str, build: functools.partial[Any], count: int
) -> Iterator[list[WorkerProcess]]:
    """Start the processes that write episodes; the first answer of each is its rounding."""
    kernels = common_kernels()
    workers: list[WorkerProcess] = []
    with contextlib.ExitStack() as stack:
        for _ in range(count):
            worker = WorkerProcess(
                build,
                "write",
                noun="episode collector",
                name=name,
                preload=[build.func.__module__],
                imports_main=False,
                first="rounding",
                variables=kernels,
            )
            stack.callback(worker.close)
            # perhaps in the middle of an episode, of which no file exists then
            stack.callback(worker.kill)
            workers.append(worker)
        yield workers


def _write(workers: Sequence[WorkerProcess], jobs: Jobs) -> Iterator[Path]:
    """Write the episodes; yield each finished file."""
    waiting = deque(jobs)
    busy = list(workers[: len(jobs)])
    for worker in busy:
        worker.send(*waiting.popleft())
    while busy:
        for worker in wait_for_answers(busy, 0.0):
            yield worker.receive()
            if waiting:
                worker.send(*waiting.popleft())
            else:
                busy.remove(worker)


def _join(
    parts: Sequence[Path], file: Path, constants: Mapping[str, np.generic], origin: dict[str, Any]
) -> None:
    """Write the episodes as one npz, and their provenance; equal data become equal bytes."""
    log.info("writing %s", file)
    arrays = {}
    for key in read_npz_headers(parts[0]):
        # One array after the other, so that parts need no second copy of all.
        arrays[key] = np.concatenate([read_npz(part, [key])[key] for part in parts])
    with dataset_file(file) as temporary:
        np.savez_compressed(temporary, allow_pickle=False, **arrays, **constants)
    provenance = json.dumps({**origin, "episodes": len(parts)}, indent=2)
    write_text(provenance_file(file), provenance + "\n")
