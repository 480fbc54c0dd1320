"""Data of the tasks of OCBench, robomimic and D4RL: where they are, and how OCBench's are downloaded and generated.

Source of the generation: OCBench (Park and Levine, 2026), ``data_gen_scripts/generate_ocbench.py``, version 1.0: the
oracles' own settings, and episodes in which something leaves the workspace are replaced.
"""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from zoo.datasets.download import DownloadError
from zoo.datasets.files import Folder, dataset_files, locked_for_writing
from zoo.datasets.formats.minari import MINARI, minari_folder
from zoo.datasets.formats.npz import INTERVAL
from zoo.datasets.parallel import Episode, EpisodeWriter, make_dataset, to_arrays
from zoo.envs.make import make_raw_env
from zoo.envs.tasks import Task, import_ocbench
from zoo.terminal.errors import UsageError

ROBOMIMIC_FILE = "low_dim_v15.hdf5"
"""robomimic's name for observations that are vectors, recorded with robosuite 1.5."""
ROBOMIMIC_HOST = "https://huggingface.co/datasets/robomimic/robomimic_datasets/resolve/main/v1.5"
"""Where robomimic 0.5 downloads from (``robomimic/__init__.py``)."""


def find_data(task: Task, dataset_dir: Folder = None, origin: str | None = None) -> str:
    """Return where the training data of a task are, as `zoo.datasets.formats.read.read_source` takes it.

    :param dataset_dir: folder of datasets; None takes that of the benchmark's own package.
    :param origin: one of `zoo.datasets.load.SOURCES`, to make what is missing; None refuses a task of OCBench without
        data.
    :raises UsageError: if there are none, and they cannot be made.
    """
    if task.benchmark == "robomimic":
        path = demonstrations_file(task, dataset_dir)
        if not path.is_file():
            url = f"{ROBOMIMIC_HOST}/{task.domain.replace('-', '/')}/{ROBOMIMIC_FILE}"
            raise UsageError(
                f"there are no demonstrations of {task.name} at {path}; people made them, so they can only be "
                f"downloaded: `curl -L --create-dirs -o {path} {url}`, or give a file elsewhere with `--dataset PATH`"
            )
        return str(path)
    if task.benchmark == "OCBench":
        return str(find_set(task, dataset_dir, origin))
    if origin == "generate":
        raise UsageError(
            f"the data of {task.name} cannot be generated; leave out `--dataset generate` to download them"
        )
    if dataset_dir is None:
        return f"{MINARI}{task.name}"
    return str(Path(dataset_dir).expanduser() / task.name)


def describe_task(task: Task, dataset_dir: Folder) -> dict[str, Any]:
    """Return a task's data as a row of a table: its name, its longest episode and whether the data exist."""
    if task.benchmark == "D4RL":
        return {"name": task.name, "here": minari_folder(task.name).is_dir()}
    row = {"name": task.name, "most_steps": task.steps}
    if task.benchmark == "robomimic":
        path = demonstrations_file(task, dataset_dir)
        return row | {"file": str(path), "here": path.is_file()}
    generated = generated_files(task, dataset_dir)[0]
    return row | {
        "downloaded": _has_files(hosted_folder(task, dataset_dir)),
        "generated": generated.exists(),
    }


def demonstrations_file(task: Task, dataset_dir: Folder = None) -> Path:
    """Return the path of a robomimic task's file, by default where Q-chunking looks for it."""
    return (
        Path(dataset_dir or "~/.robomimic").expanduser()
        / task.domain.replace("-", "/")
        / ROBOMIMIC_FILE
    )


# -- OCBench ----------------------------------------------------------------------------------------------------------


def dataset_root(dataset_dir: Folder) -> Path:
    """Return the folder of all datasets: where OCBench itself looks for them, unless another is given."""
    if dataset_dir is not None:
        return Path(dataset_dir).expanduser()
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(cache).expanduser() / "ocbench" / "datasets"


def hosted_folder(task: Task, dataset_dir: Folder) -> Path:
    """Return the folder of a task's downloaded files, which tasks on GPUs share, whether it exists or not."""
    category = "lite" if "-lite" in task.name else "full"
    return dataset_root(dataset_dir) / category / gpu_name(task)


def gpu_name(task: Task) -> str:
    """Return the name of the same task in OCBench's simulator for GPUs, which is that of the dataset too."""
    return task.name.replace("-cpu", "", 1)


def generated_files(task: Task, dataset_dir: Folder) -> tuple[Path, Path]:
    """Return the paths of a task's generated training and validation file, whether they exist or not."""
    return dataset_files(task.name, dataset_root(dataset_dir) / "generated")


def find_set(task: Task, dataset_dir: Folder, origin: str | None = None) -> Path:
    """Return the file or folder with a task's training data, after making it if needed.

    :param origin: one of `zoo.datasets.load.SOURCES`, or None to refuse a task that has no data here. What is on the
        disk is used; a download, which is completed if it was stopped, comes before what was generated.
    """
    folder = hosted_folder(task, dataset_dir)
    generated = generated_files(task, dataset_dir)
    is_downloaded = _has_files(folder)
    if origin is None:
        if is_downloaded:
            return folder
        if generated[0].exists():
            return generated[0]
        raise UsageError(
            f"there is no dataset of {task.name} in {dataset_root(dataset_dir)}; make it with `zoo dataset "
            f"generate {task.name}`, or download it with `zoo dataset download {task.name}`"
        )
    # A download that was stopped has some of its files: asking again completes it.
    if origin == "download" or (origin == "auto" and (is_downloaded or not generated[0].exists())):
        try:
            return download_ocbench(task, dataset_dir)
        except DownloadError as error:
            # Training on a part of the data, or on others than were asked for, would go unnoticed.
            if origin == "download" or _has_files(folder):
                raise UsageError(
                    f"there is no complete dataset in {folder}: {error}; train on generated data by `--dataset "
                    f"generate`, or on the files that are there by `--dataset {folder}`"
                ) from error
            warnings.warn(
                f"the download failed: {error.problem}; generating {task.name} with its oracle instead",
                stacklevel=2,
            )
    generate_ocbench(task, generated, existing="keep")
    return generated[0]


def download_ocbench(
    task: Task, dataset_dir: Folder = None, *, num_files: int | None = None, replace: bool = False
) -> Path:
    """Download a task's files as OCBench does, those that are missing, and return their folder.

    OCBench's metadata, which are pickled, are downloaded too; nothing here opens them.

    :param num_files: the first so many training files; None takes all.
    :param replace: download all files again; those that exist stay until the download is complete.
    """
    library = import_ocbench(task.name, "ocbench.dataset_utils")
    root = dataset_root(dataset_dir)
    folder = hosted_folder(task, dataset_dir)
    download_root = root
    if replace:  # a name that stays the same, so that a download that was stopped goes on
        download_root = root / f".{gpu_name(task)}.new"
    # OCBench prints how far it is, and standard output is for the result.
    with locked_for_writing(folder), contextlib.redirect_stdout(sys.stderr):
        try:
            library.download_datasets(gpu_name(task), download_root, num_files)
        except Exception as error:  # whatever its host raises
            raise DownloadError(" ".join(str(error).split()) or type(error).__name__) from error
        if replace:
            _replace_files(folder, download_root, root)
    return folder


def _replace_files(folder: Path, download_root: Path, root: Path) -> None:
    """Move all files of a download to the same places below another root, and remove other npz files of its folder."""
    outdated = set(folder.glob("*.npz"))
    for file in list(download_root.rglob("*")):
        if (
            file.is_file()
        ):  # the host's receipts too: OCBench trusts files whose size and time they say
            target = root / file.relative_to(download_root)
            target.parent.mkdir(parents=True, exist_ok=True)
            file.replace(target)
            outdated.discard(target)
    for path in outdated:
        path.unlink()
    shutil.rmtree(download_root)


def _has_files(folder: Path) -> bool:
    return any(folder.glob("*.npz"))


EPISODES = 1000  # as in OCBench's script


def generate_ocbench(
    task: Task,
    files: tuple[Path, Path],
    *,
    num_episodes: int | None = None,
    seed: int = 0,
    num_workers: int | None = None,
    existing: str = "refuse",
) -> None:
    """Generate a task's training and validation file; see :func:`zoo.datasets.generate.generate_dataset`.

    :param files: their paths.
    :param num_episodes: training episodes; None takes `EPISODES`. The validation file gets a tenth of them.
    """
    import_ocbench(task.name)
    make_dataset(
        task.name,
        files,
        num_episodes or EPISODES,
        functools.partial(OracleWriter, task.name, seed),
        {"dataset": task.name, "seed": seed},
        num_workers=num_workers,
        existing=existing,
        constants={INTERVAL: np.int32(1)},
    )


class OracleWriter(EpisodeWriter):
    """Collects episodes of a task with OCBench's oracle."""

    packages = ("ocbench", *EpisodeWriter.packages[1:])

    def __init__(self, name: str, seed: int) -> None:
        super().__init__(name, seed)
        oracles = import_ocbench(name, "ocbench.oracles")
        self._make_oracle = getattr(oracles, f"{name.partition('-')[0].capitalize()}Controller")
        self._env = make_raw_env(name)

    def play(self, reset_seed: int, action_seed: int) -> Episode | None:
        """Return the arrays of one episode; None if something left the workspace in it."""
        observation, info = self._env.reset(seed=reset_seed)
        oracle = self._make_oracle(env=self._env)
        oracle.reset(observation, info)
        observations = [observation]
        rows = []
        is_over = False
        while not is_over:
            action = np.clip(oracle.select_action(observation, info), -1.0, 1.0).astype(np.float32)
            observation, reward, terminated, truncated, info = self._env.step(action)
            is_over = terminated or truncated
            observations.append(observation)
            # OCBench's files end an episode at its time limit too; only a mask says that the task ended it.
            rows.append(
                {
                    "actions": action,
                    "rewards": float(reward),
                    "masks": 1.0 - terminated,
                    "terminals": is_over,
                }
            )
            if not info["healthy"]:
                return None
        return {"observations": np.array(observations, np.float32), **to_arrays(rows)}
