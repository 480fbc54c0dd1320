"""Locate the data of robomimic's and D4RL's tasks."""

from pathlib import Path
from typing import Any

from zoo.datasets.files import Folder
from zoo.datasets.formats.minari import MINARI, minari_folder
from zoo.envs.tasks import Task
from zoo.terminal.errors import UsageError

ROBOMIMIC_FILE = "low_dim_v15.hdf5"
"""robomimic's name for observations that are vectors, recorded with robosuite 1.5."""
ROBOMIMIC_HOST = "https://huggingface.co/datasets/robomimic/robomimic_datasets/resolve/main/v1.5"
"""Where robomimic 0.5 downloads from (``robomimic/__init__.py``)."""


def find_data(task: Task, dataset_dir: Folder = None, *, generate: bool = False) -> str:
    """Return where the data of a task are, as `zoo.datasets.formats.read.read_source` takes it.

    :param dataset_dir: folder of datasets; None takes that of the benchmark's own package.
    :param generate: whether to generate them, which is not possible.
    :raises UsageError: if they are missing and cannot be downloaded.
    """
    if generate:
        raise UsageError(
            f"the data of {task.name} cannot be generated; leave out `--dataset generate`"
        )
    if task.benchmark == "robomimic":
        path = demonstrations_file(task, dataset_dir)
        if not path.is_file():
            url = f"{ROBOMIMIC_HOST}/{task.domain.replace('-', '/')}/{ROBOMIMIC_FILE}"
            raise UsageError(
                f"there are no demonstrations of {task.name} at {path}; download them with "
                f"`curl -L --create-dirs -o {path} {url}`, or give a file elsewhere with `--dataset PATH`"
            )
        return str(path)
    if dataset_dir is None:
        return f"{MINARI}{task.name}"
    return str(Path(dataset_dir).expanduser() / task.name)


def describe_task(task: Task, dataset_dir: Folder) -> dict[str, Any]:
    """Return a task's data as a row of a table."""
    if task.benchmark == "D4RL":
        return {"name": task.name, "here": minari_folder(task.name).is_dir()}
    path = demonstrations_file(task, dataset_dir)
    return {"name": task.name, "file": str(path), "here": path.is_file()}


def demonstrations_file(task: Task, dataset_dir: Folder = None) -> Path:
    """Return the path of a robomimic task's file, by default where Q-chunking looks for it."""
    root = Path(dataset_dir or "~/.robomimic").expanduser()
    return root / task.domain.replace("-", "/") / ROBOMIMIC_FILE
