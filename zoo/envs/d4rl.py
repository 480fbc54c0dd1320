"""D4RL's AntMaze, as Gymnasium-Robotics simulates it."""

import copy
from typing import Any

import gymnasium

from zoo.algorithms.packages import import_optional


def import_robotics(module: str, env_id: str) -> Any:
    """Return a module of Gymnasium-Robotics, or raise UsageError where it is not installed."""
    return import_optional(module, "Gymnasium-Robotics", f"`{env_id}`", "flow-rl-zoo[d4rl]")


def make_antmaze(
    maze: str, start: tuple[int, int], goal: tuple[int, int], **kwargs: Any
) -> gymnasium.Env[Any, Any]:
    """Return an ant in a maze with one start and one goal, which ends the episode.

    Observations are one vector: the position, the goal's, and the ant's coordinates and velocities.
    """
    maps = import_robotics("gymnasium_robotics.envs.maze.maps", maze)
    ants = import_robotics("gymnasium_robotics.envs.maze.ant_maze_v4", maze)
    cells = copy.deepcopy(getattr(maps, maze))
    cells[start[0]][start[1]] = maps.RESET
    cells[goal[0]][goal[1]] = maps.GOAL
    return gymnasium.wrappers.FlattenObservation(
        ants.AntMazeEnv(maze_map=cells, continuing_task=False, **kwargs)
    )
