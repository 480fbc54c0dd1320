"""D4RL's tasks as Minari has them: the name of a dataset, and the environment that it is for.

Sources: the names are Minari's; steps and environments are those of its scripts
(``Farama-Foundation/minari-dataset-generation-scripts``), AntMaze's starts and goals too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from zoo.packages import import_optional

_LOCOMOTION = {"halfcheetah": "HalfCheetah-v5", "hopper": "Hopper-v5", "walker2d": "Walker2d-v5"}
MAZES = {
    "umaze": ("U_MAZE", (3, 1), (1, 1), 700, ("", "-diverse")),
    "medium": ("MEDIUM_MAZE", (1, 1), (6, 6), 1000, ("-play", "-diverse")),
    "large": ("LARGE_MAZE", (1, 1), (7, 9), 1000, ("-play", "-diverse")),
}
"""Size -> Gymnasium-Robotics' map, the cells of the start and of the goal, most steps of an episode, datasets."""


@dataclass(frozen=True)
class D4rlTask:
    """A dataset of D4RL in Minari, which is a task of its own.

    :param name: Minari's, e.g. ``"D4RL/pen/human-v2"``.
    :param domain: the domain in settings files and reports: ``"d4rl-adroit"``, ``"d4rl-mujoco"`` or ``"d4rl-antmaze"``.
    :param env_id: Gymnasium id of the environment.
    """

    name: str
    domain: str
    env_id: str
    entries: tuple[str, ...] = ()


def _build_table() -> dict[str, D4rlTask]:
    hands = [
        D4rlTask(f"D4RL/{hand}/{kind}-v2", "d4rl-adroit", f"AdroitHand{hand.title()}-v1")
        for hand in ("pen", "door", "hammer", "relocate")
        for kind in ("human", "cloned", "expert")
    ]
    robots = [
        D4rlTask(f"mujoco/{robot}/{kind}-v0", "d4rl-mujoco", env_id)
        for robot, env_id in _LOCOMOTION.items()
        for kind in ("simple", "medium", "expert")
    ]
    mazes = [
        D4rlTask(f"D4RL/antmaze/{size}{kind}-v1", "d4rl-antmaze", f"d4rl-antmaze-{size}")
        for size, (*_, kinds) in MAZES.items()
        for kind in kinds
    ]
    return {task.name: task for task in (*hands, *robots, *mazes)}


TASKS = _build_table()
_ROBOTICS = {task.env_id for task in TASKS.values()} - set(_LOCOMOTION.values())


def require_robotics(env_id: str) -> None:
    """Register Gymnasium-Robotics' environments if an id is that of a task in one of them.

    :raises UsageError: if the package is not installed.
    """
    if env_id in _ROBOTICS:
        import_robotics("gymnasium_robotics", env_id)


def import_robotics(module: str, env_id: str) -> Any:
    """Return a module of Gymnasium-Robotics, or raise UsageError where it is not installed."""
    return import_optional(module, "Gymnasium-Robotics", f"`{env_id}`", "flow-rl-zoo[d4rl]")
