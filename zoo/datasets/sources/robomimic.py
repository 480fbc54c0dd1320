"""Where the demonstrations of robomimic's tasks are, and where they come from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from zoo.envs.robomimic import RobomimicTask
from zoo.errors import UsageError

FILE = "low_dim_v15.hdf5"
"""robomimic's name for observations that are vectors, recorded with robosuite 1.5."""
HOST = "https://huggingface.co/datasets/robomimic/robomimic_datasets/resolve/main/v1.5"
"""Where robomimic 0.5 downloads from (``robomimic/__init__.py``)."""


def demonstrations_file(task: RobomimicTask, dataset_dir: str | Path | None = None) -> Path:
    """Return the path of a task's file, whether it exists or not: by default where Q-chunking and TRQAM look for it."""
    return Path(dataset_dir or "~/.robomimic").expanduser() / task.folder / FILE


def find_demonstrations(task: RobomimicTask, dataset_dir: str | Path | None = None) -> Path:
    """Return the path of a task's file.

    :raises UsageError: if it is not there, with where it comes from.
    """
    path = demonstrations_file(task, dataset_dir)
    if not path.is_file():
        url = f"{HOST}/{task.folder}/{FILE}"
        raise UsageError(
            f"there are no demonstrations of {task.name} at {path}; people made them, so they can only be downloaded: "
            f"`curl -L --create-dirs -o {path} {url}`, or give a file elsewhere with `--dataset PATH`"
        )
    return path


def describe_task(task: RobomimicTask, dataset_dir: str | Path | None = None) -> dict[str, Any]:
    """Return what is known about a task's data, for a table."""
    path = demonstrations_file(task, dataset_dir)
    return {"name": task.name, "most_steps": task.steps, "file": str(path), "here": path.is_file()}
