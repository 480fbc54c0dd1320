"""Data of the tasks of OCBench, robomimic and D4RL: where they are, and how OCBench's are downloaded."""

import contextlib
import shutil
import sys
import warnings
from pathlib import Path
from typing import Any

from zoo.datasets.download import DownloadError
from zoo.datasets.files import Folder, generated_files, locked_for_writing, ocbench_root
from zoo.datasets.formats.minari import MINARI, minari_folder
from zoo.datasets.generate import generate_dataset
from zoo.envs.tasks import Task, import_ocbench
from zoo.terminal.errors import UsageError, one_line

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
    generated = generated_files(task.name, dataset_dir)[0]
    return row | {
        "downloaded": any(hosted_folder(task, dataset_dir).glob("*.npz")),
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


def hosted_folder(task: Task, dataset_dir: Folder) -> Path:
    """Return the folder of a task's downloaded files, which tasks on GPUs share, whether it exists or not."""
    category = "lite" if "-lite" in task.name else "full"
    return ocbench_root(dataset_dir) / category / gpu_name(task)


def gpu_name(task: Task) -> str:
    """Return the name of the same task in OCBench's simulator for GPUs, which is that of the dataset too."""
    return task.name.replace("-cpu", "", 1)


def find_set(task: Task, dataset_dir: Folder, origin: str | None = None) -> Path:
    """Return the file or folder with a task's training data, after making it if needed.

    :param origin: one of `zoo.datasets.load.SOURCES`, or None to refuse a task that has no data here. What is on the
        disk is used; a download, which is completed if it was stopped, comes before what was generated.
    """
    folder = hosted_folder(task, dataset_dir)
    generated, _ = generated_files(task.name, dataset_dir)
    is_downloaded = any(folder.glob("*.npz"))
    if origin is None:
        if is_downloaded or generated.exists():
            return folder if is_downloaded else generated
        raise UsageError(
            f"there is no dataset of {task.name} in {ocbench_root(dataset_dir)}; make it with `zoo dataset "
            f"generate {task.name}`, or download it with `zoo dataset download {task.name}`"
        )
    # A download that was stopped has some of its files: asking again completes it.
    if origin == "download" or (origin == "auto" and (is_downloaded or not generated.exists())):
        try:
            return download_ocbench(task, dataset_dir)
        except DownloadError as error:
            # Training on a part of the data, or on others than were asked for, would go unnoticed.
            if origin == "download" or any(folder.glob("*.npz")):
                raise UsageError(
                    f"there is no complete dataset in {folder}: {error}; train on generated data by `--dataset "
                    f"generate`, or on the files that are there by `--dataset {folder}`"
                ) from error
            warnings.warn(
                f"the download failed: {error.problem}; generating {task.name} with its oracle instead",
                stacklevel=2,
            )
    return generate_dataset(task.name, dataset_dir, existing="keep")[0]


def download_ocbench(
    task: Task, dataset_dir: Folder = None, *, num_files: int | None = None, replace: bool = False
) -> Path:
    """Download a task's files as OCBench does, those that are missing, and return their folder.

    OCBench's metadata, which are pickled, are downloaded too; nothing here opens them.

    :param num_files: the first so many training files; None takes all.
    :param replace: download all files again; those that exist stay until the download is complete.
    """
    library = import_ocbench(task.name, "ocbench.dataset_utils")
    root = ocbench_root(dataset_dir)
    folder = hosted_folder(task, dataset_dir)
    download_root = root
    if replace:  # a name that stays the same, so that a download that was stopped goes on
        download_root = root / f".{gpu_name(task)}.new"
    # OCBench prints how far it is, and standard output is for the result.
    with locked_for_writing(folder), contextlib.redirect_stdout(sys.stderr):
        try:
            library.download_datasets(gpu_name(task), download_root, num_files)
        except Exception as error:  # whatever its host raises
            raise DownloadError(one_line(error)) from error
        if replace:
            downloaded = download_root / folder.relative_to(root)
            names = {file.name for file in downloaded.glob("*.npz")}
            # The host's receipts too: OCBench trusts files whose size and time they say.
            shutil.copytree(download_root, root, copy_function=shutil.move, dirs_exist_ok=True)
            for file in folder.glob("*.npz"):
                if file.name not in names:
                    file.unlink()
            shutil.rmtree(download_root)
    return folder
