"""Generate OGBench's datasets: child processes simulate the episodes, which are then joined.

The child processes use only numerical kernels that run on every x86-64 processor with AVX2. Therefore datasets are
bitwise identical on all of these processors, and for any number of processes.
"""

import functools
import math
import multiprocessing
import shutil
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import numpy as np

from agents.common.files import atomic_path
from agents.common.files.npz import read_npz, read_npz_headers
from agents.common.processor import cpuinfo
from zoo.datasets.files import (
    Folder,
    dataset_file,
    dataset_files,
    keep_existing,
    locked_for_writing,
    settings_sha256,
    track,
)
from zoo.datasets.names import DatasetSpec, parse_name
from zoo.datasets.oracles import EpisodeCollector, ManipulationCollector, MazeCollector
from zoo.envs.rendering import require_pictures
from zoo.evaluation.workers import available_cores, environment_of_children, prepare_child
from zoo.terminal.errors import UsageError
from zoo.terminal.messages import log

KERNELS = {
    "OPENBLAS_CORETYPE": "Haswell",
    "NPY_DISABLE_CPU_FEATURES": (
        "AVX512F AVX512CD AVX512_SKX AVX512_CLX AVX512_CNL AVX512_ICL AVX512_SPR X86_V4"
    ),
}
"""Environment variables that limit OpenBLAS, and any version of NumPy, to kernels for AVX2."""

Job = tuple[str, int, Path]
"""An episode to simulate: its split, number and file."""


def generate_dataset(
    name: str,
    dataset_dir: Folder = None,
    *,
    dataset_size: int | None = None,
    episode_steps: int | None = None,
    seed: int = 0,
    existing: str = "refuse",
) -> tuple[Path, Path]:
    """Generate a dataset's two files with OGBench's scripted oracles and settings, and return their paths.

    Finished episodes are kept next to the training file until it is complete, so an interrupted generation can be
    continued. With the same seed, a smaller dataset is the beginning of a larger one.

    :param name: name of an OGBench dataset.
    :param dataset_dir: None for OGBench's folder or, if the size differs from OGBench's, a folder inside it.
    :param dataset_size: training transitions, rounded up to whole episodes; None for OGBench's number. The validation
        file has a tenth of these episodes, at least one.
    :param episode_steps: transitions per episode; None for OGBench's number.
    :param existing: what to do if the dataset exists: ``"refuse"``, ``"keep"`` or ``"replace"``.
    """
    spec = parse_name(name).spec
    if not spec.is_generatable:
        raise UsageError(
            f"{spec.name} cannot be generated, unlike pointmaze, cube, scene and puzzle datasets of one file; "
            f"download it with `zoo dataset download {spec.name}`"
        )
    if spec.is_visual:
        require_pictures(spec.name)
    official = spec
    steps = episode_steps or spec.steps
    episodes = spec.episodes
    if dataset_size:
        episodes = math.ceil(dataset_size / steps)
    spec = replace(spec, steps=steps, episodes=episodes)
    if dataset_dir is None and spec != official:
        # not in OGBench's folder itself, where other programs would mistake the file for OGBench's own
        dataset_dir = dataset_files(spec)[0].parent / f"{episodes}-episodes-of-{steps}"
    files = dataset_files(spec, dataset_dir)
    with locked_for_writing(files[0]):
        if keep_existing(files[0], existing):
            return files
        parts = files[0].with_name(f"{files[0].name}.parts")
        counts = {"train": episodes, "val": max(1, episodes // 10)}
        jobs = _jobs(spec, seed, counts, parts)
        missing = [job for job in jobs if not job[2].exists()]
        log.info(
            "generating %s: %d episodes, %d done already",
            spec.name,
            len(jobs),
            len(jobs) - len(missing),
        )
        if missing:
            _simulate(spec, seed, missing)
        episode_files = [file for _, _, file in jobs]
        # The training file is written last, so that it exists only if the dataset is complete.
        origin = f"MuJoCo {version('mujoco')}, seed {seed}"
        _join(episode_files[episodes:], files[1], origin)
        _join(episode_files[:episodes], files[0], origin)
        shutil.rmtree(parts)
    return files


def _jobs(spec: DatasetSpec, seed: int, counts: dict[str, int], parts: Path) -> list[Job]:
    """Return all episodes of a dataset, training episodes first.

    :param counts: split -> number of episodes.
    :param parts: folder of the finished episodes.
    """
    # The folder depends on the settings, so episodes of an interrupted generation with other settings are not used.
    settings = {
        "dataset": spec.name,
        "steps": spec.steps,
        "seed": seed,
        "versions": [version(package) for package in ("ogbench", "mujoco", "numpy")],
    }
    folder = parts / settings_sha256(settings)[:16]
    folder.mkdir(parents=True, exist_ok=True)
    jobs: list[Job] = []
    for split, count in counts.items():
        jobs += [(split, k, folder / f"{split}-{k:06d}.npz") for k in range(count)]
    return jobs


def _join(parts: Sequence[Path], file: Path, origin: str) -> None:
    """Write the episodes as one npz file; its bytes depend only on the data."""
    log.info("writing %s", file)
    arrays = {}
    for key in read_npz_headers(parts[0]):
        # Join one array at a time, so that memory does not hold all episodes twice.
        arrays[key] = np.concatenate([read_npz(part, [key])[key] for part in parts])
    with dataset_file(file, origin) as temporary:
        np.savez_compressed(temporary, allow_pickle=False, **arrays)


# -- processes --------------------------------------------------------------------------------------------------------


def _simulate(spec: DatasetSpec, seed: int, jobs: Sequence[Job]) -> None:
    """Simulate episodes in child processes, at most one per core."""
    earlier_children = set(multiprocessing.active_children())
    # spawned, because NumPy reads the variables below when imported, and a forked process has imported NumPy already
    context = multiprocessing.get_context("spawn")
    variables = {}
    if "avx2" in cpuinfo("flags").split():  # without AVX2, these kernels would crash
        variables = KERNELS
    # Children do not import the main module, so a script that loads a dataset needs no `if __name__ == "__main__"`.
    with (
        environment_of_children(imports_main=False, **variables),
        ProcessPoolExecutor(available_cores(), context, prepare_child) as pool,
    ):
        futures = [pool.submit(write_episode, spec, seed, *job) for job in jobs]
        try:
            for future in track(as_completed(futures), spec.name, len(futures)):
                future.result()
        except BaseException:
            # without this, the pool would wait until all episodes are finished
            for child in set(multiprocessing.active_children()) - earlier_children:
                child.kill()
            raise


def write_episode(spec: DatasetSpec, seed: int, split: str, episode: int, file: Path) -> None:
    """Simulate an episode and write it to a file atomically."""
    arrays = make_collector(spec, seed).collect(split, episode)
    with atomic_path(file) as temporary:
        np.savez_compressed(temporary, **arrays)  # type: ignore[arg-type]


@functools.cache
def make_collector(spec: DatasetSpec, seed: int) -> EpisodeCollector:
    """Return the collector of a dataset's episodes; each process creates it only once."""
    if spec.family.startswith("pointmaze"):
        return MazeCollector(spec, seed)
    return ManipulationCollector(spec, seed)
