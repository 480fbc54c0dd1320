"""Tasks of robomimic and D4RL, listed without importing the packages that simulate them.

Sources: robomimic's names and time limits are from Q-chunking (Li, Zhou and Levine, arXiv 2507.07969,
``envs/robomimic_utils.py``) and TRQAM (Dong et al., arXiv 2605.27079), which evaluate on these tasks; robomimic's own
evaluations have episodes of 500 steps. D4RL's datasets are named as in Minari. D4RL's environments and time limits, and
AntMaze's starts and goals, are from Minari's scripts (``Farama-Foundation/minari-dataset-generation-scripts``).
"""

import logging
from dataclasses import dataclass


@dataclass(frozen=True)
class Task:
    """A task of a benchmark other than OGBench.

    :param benchmark: ``"robomimic"`` or ``"D4RL"``; also an entry of settings files that applies to the task.
    :param name: the benchmark's name of the environment or, in D4RL, of the dataset, e.g. ``"D4RL/pen/human-v2"``.
    :param domain: environment and variant, as named in settings files and reports, e.g. ``"lift-mh"``.
    :param env_id: Gymnasium id of the environment.
    """

    benchmark: str
    name: str
    domain: str
    env_id: str


# -- robomimic --------------------------------------------------------------------------------------------------------

SCENES = {
    "lift-mh-low_dim": ("Lift", 300),
    "can-mh-low_dim": ("PickPlaceCan", 300),
    "square-mh-low_dim": ("NutAssemblySquare", 400),
}
"""Robomimic's task -> robosuite's environment, and time limit; "mh" means demonstrations by several humans."""
_ARMS = [Task("robomimic", name, name.removesuffix("-low_dim"), name) for name in SCENES]
OBSERVATIONS = ("robot0_eef_pos", "robot0_eef_quat", "robot0_gripper_qpos", "object")
"""Parts of an observation, in order, by their names in robomimic's files."""

# hide robosuite's messages at import about missing optional packages and about the files it reads
logging.getLogger("robosuite_logs").addFilter(lambda record: record.levelno >= logging.ERROR)

# -- D4RL -------------------------------------------------------------------------------------------------------------

_LOCOMOTION = {"halfcheetah": "HalfCheetah-v5", "hopper": "Hopper-v5", "walker2d": "Walker2d-v5"}
MAZES = {
    "umaze": ("U_MAZE", (3, 1), (1, 1), 700, ("", "-diverse")),
    "medium": ("MEDIUM_MAZE", (1, 1), (6, 6), 1000, ("-play", "-diverse")),
    "large": ("LARGE_MAZE", (1, 1), (7, 9), 1000, ("-play", "-diverse")),
}
"""Maze size -> name of Gymnasium-Robotics' map, start, goal, time limit of an episode, suffixes of dataset names."""
_HANDS = [
    Task("D4RL", f"D4RL/{hand}/{kind}-v2", "d4rl-adroit", f"AdroitHand{hand.title()}-v1")
    for hand in ("pen", "door", "hammer", "relocate")
    for kind in ("human", "cloned", "expert")
]
_ROBOTS = [
    Task("D4RL", f"mujoco/{robot}/{kind}-v0", "d4rl-mujoco", env_id)
    for robot, env_id in _LOCOMOTION.items()
    for kind in ("simple", "medium", "expert")
]
_ANTS = [
    Task("D4RL", f"D4RL/antmaze/{size}{kind}-v1", "d4rl-antmaze", f"d4rl-antmaze-{size}")
    for size, (*_, kinds) in MAZES.items()
    for kind in kinds
]
ROBOTICS = {task.env_id for task in (*_HANDS, *_ANTS)}
"""Ids of environments that Gymnasium-Robotics simulates."""
TASKS = {task.name: task for task in (*_ARMS, *_HANDS, *_ROBOTS, *_ANTS)}
"""Name -> task, for benchmarks other than OGBench; the data of these benchmarks contain rewards."""
UNKNOWN_ENV_ADVICE = (
    "; name your own environment as module:Id, with the module's folder in PYTHONPATH, or name its package with "
    "`--gym-packages`"
)
"""End of the message about an unknown environment."""
