"""robomimic's tasks with human demonstrations: names known without robosuite, which simulates them, and the files.

Sources: the names and the steps of an episode are those of Q-chunking (Li, Zhou and Levine, arXiv 2507.07969,
``envs/robomimic_utils.py``) and TRQAM (Dong et al., arXiv 2605.27079), which evaluate on these tasks. robomimic's own
evaluations have 500 steps.
"""

from __future__ import annotations

import importlib.util
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zoo.errors import UsageError

EXTRA = "pip install 'flow-rl-zoo[robomimic]'"
OBSERVATIONS = ("robot0_eef_pos", "robot0_eef_quat", "robot0_gripper_qpos", "object")
"""What an observation is made of, in this order: robomimic's names, in its files and of robosuite's sensors."""
GROUP = "robomimic"
"""Entry of settings files for all tasks."""


@dataclass(frozen=True)
class RobomimicTask:
    """One of robomimic's tasks.

    :param domain: robomimic's task and kind of demonstrations: ``"lift-mh"``, of several humans.
    :param scene: robosuite's name of the environment.
    :param steps: most steps of an episode.
    """

    domain: str
    scene: str
    steps: int

    @property
    def name(self) -> str:
        """Name of the environment, and its Gymnasium id."""
        return f"{self.domain}-low_dim"

    @property
    def entries(self) -> tuple[str, ...]:
        """The entries of settings files that hold for it besides those of its domain and name."""
        return (GROUP,)

    @property
    def folder(self) -> str:
        """Where robomimic keeps the demonstrations, on its host and on disks."""
        return self.domain.replace("-", "/")


TASKS = {
    task.name: task
    for task in (
        RobomimicTask("lift-mh", "Lift", 300),
        RobomimicTask("can-mh", "PickPlaceCan", 300),
        RobomimicTask("square-mh", "NutAssemblySquare", 400),
    )
}

# it tells whenever it is imported which optional packages are missing, and which files it reads
logging.getLogger("robosuite_logs").addFilter(lambda record: record.levelno >= logging.ERROR)


def require_robosuite(name: str) -> None:
    """Refuse to make an environment while robosuite is not installed; it is not imported, which takes seconds.

    :param name: what needs it, for the message.
    """
    if importlib.util.find_spec("robosuite") is None:
        raise UsageError(f"`{name}` is simulated by robosuite, which is not installed; `{EXTRA}`")


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
