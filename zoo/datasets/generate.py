"""Generate the datasets of OGBench and OCBench with their scripted oracles and settings.

Sources of the settings: OGBench (Park et al., arXiv 2410.20092), `data_gen_scripts/commands.sh`, version 1.2; OCBench
(Park and Levine, 2026), `data_gen_scripts/generate_ocbench.py`, version 1.0: the oracles' own settings, and episodes in
which something leaves the workspace are replaced.
"""

from __future__ import annotations

import functools
import importlib
import math
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, TypeAlias

import numpy as np

from agents.common.data.arrays import Array
from zoo.datasets.files import Folder, dataset_files, generated_files
from zoo.datasets.formats.base import Arrays
from zoo.datasets.formats.npz import INTERVAL
from zoo.datasets.names import DatasetSpec, parse_name
from zoo.datasets.parallel import EpisodeWriter, make_dataset, to_arrays
from zoo.envs.make import env_spaces, make_raw_env
from zoo.envs.rendering import require_pictures
from zoo.envs.tasks import OCBENCH, import_ocbench
from zoo.terminal.errors import UsageError

Cell: TypeAlias = tuple[int, int]
EPISODES = 1000
"""Of a dataset of OCBench, as in its script."""
STACKING = {
    "cube-single": (0.0, 0.0),
    "cube-double": (0.0, 0.25),
    "cube-triple": (0.05, 0.35),
    "cube-quadruple": (0.1, 0.5),
    "cube-octuple": (0.0, 0.35),
}
"""Range of the probability, drawn for each episode, that a cube is put on another one; elsewhere it is 0.5."""


def generate_dataset(
    name: str,
    dataset_dir: Folder = None,
    *,
    num_episodes: int | None = None,
    dataset_size: int | None = None,
    episode_steps: int | None = None,
    seed: int = 0,
    num_workers: int | None = None,
    existing: str = "refuse",
) -> tuple[Path, Path]:
    """Generate a dataset's two files with its benchmark's scripted oracles and settings, and return their paths.

    Finished episodes are kept next to the file until it is complete, so a stopped generation continues where it was. A
    dataset of fewer episodes is the beginning of one of more.

    :param name: of a dataset of OGBench, or of a task of OCBench.
    :param num_episodes: training episodes; the validation file gets a tenth of them, at least one.
    :param dataset_size: training transitions in place of episodes, rounded up to whole episodes; None for both takes
        the benchmark's size.
    :param episode_steps: transitions of an episode; None takes OGBench's number.
    :param existing: what to do if the dataset exists: ``"refuse"``, ``"keep"`` or ``"replace"``.
    """
    # They name the folder of finished episodes: a generation with others does not continue this one.
    settings: dict[str, Any] = {"dataset": name, "seed": seed}
    build: functools.partial[Any]
    if name in OCBENCH:
        if dataset_size or episode_steps:
            raise UsageError(
                f"the episodes of {name} differ in length; give `--episodes` instead of `--dataset-size` or "
                "`--episode-steps`"
            )
        import_ocbench(name)
        files = generated_files(name, dataset_dir)
        episodes = num_episodes or EPISODES
        build = functools.partial(OracleWriter, name, seed)
    else:
        spec = parse_name(name).spec
        if not spec.is_generatable:
            raise UsageError(
                f"{spec.name} cannot be generated: only pointmaze, cube, scene and puzzle datasets of standard size "
                f"can; download it with `zoo dataset download {spec.name}`"
            )
        if spec.is_visual:
            require_pictures(spec.name)
        spec = replace(spec, steps=episode_steps or spec.steps)
        files = dataset_files(spec.name, dataset_dir)
        episodes = num_episodes or spec.episodes
        if dataset_size:
            episodes = math.ceil(dataset_size / spec.steps)
        writer = MazeWriter if spec.family.startswith("pointmaze") else ManipulationWriter
        build = functools.partial(writer, spec, seed)
        settings |= {"dataset": spec.name, "rows": spec.steps + 1, "oracle": oracle_settings(spec)}
    make_dataset(files, episodes, build, settings, num_workers, existing)
    return files


# -- oracles ----------------------------------------------------------------------------------------------------------


def oracle_settings(spec: DatasetSpec) -> dict[str, float]:
    """Return the noise settings with which OGBench collected a dataset."""
    if spec.family.startswith("pointmaze"):
        return {"action_noise": 0.5}
    if spec.kind == "play":
        return {"plan_noise": 0.1, "plan_noise_smoothing": 0.5}
    random_actions = 0.2 if spec.family.startswith("puzzle") else 0.1
    return {"max_action_noise": 0.1, "min_norm": 0.4, "random_action_probability": random_actions}


class MazeWriter(EpisodeWriter):
    """Collects episodes of a point mass that follows the shortest path, with noise."""

    def __init__(self, spec: DatasetSpec, seed: int) -> None:
        super().__init__(spec.name, seed)
        # Every episode has the same number of steps, whatever it reaches; one row more holds the last state.
        self.env = make_raw_env(
            spec.env_id, terminate_at_goal=False, max_episode_steps=spec.steps + 1
        )
        self.is_navigating = spec.kind == "navigate"
        self.noise = oracle_settings(spec)["action_noise"]
        self.cells, self.junctions = _maze_cells(self.env.unwrapped.maze_map)
        self.subgoals: dict[tuple[Any, Any], Array] = {}

    def play(self, reset_seed: int, action_seed: int) -> Arrays | None:
        """Return the arrays of one episode; None if it is to be replaced by another."""
        self.env.action_space.seed(action_seed)
        start = self.cells[np.random.randint(len(self.cells))]
        goal = self.sample_junction() if self.is_navigating else self.sample_nearby(start)
        task = {"task_info": {"init_ij": start, "goal_ij": goal}}
        observation, _ = self.env.reset(seed=reset_seed, options=task)
        rows = []
        done = False
        while not done:
            action = np.clip(self.direction() + np.random.normal(0.0, self.noise, 2), -1.0, 1.0)
            next_observation, _, terminated, truncated, info = self.env.step(action)
            done = terminated or truncated
            if info["success"] and self.is_navigating:
                self.env.unwrapped.set_goal(self.sample_junction())
            rows.append(_row(observation, action, done, info))
            observation = next_observation
        return to_arrays(rows)

    def sample_junction(self) -> Cell:
        """Return a random cell that is not in a straight corridor."""
        return self.junctions[np.random.randint(len(self.junctions))]

    def sample_nearby(self, start: Cell) -> Cell:
        """Return a random cell four steps from the start; the start when there is none."""
        maze = self.env.unwrapped
        xy = maze.ij_to_xy(start)
        _, distance = maze.get_oracle_subgoal(xy, xy)
        nearby = np.argwhere(distance == 4).tolist()
        if not nearby:
            return start
        i, j = nearby[np.random.randint(len(nearby))]
        return i, j

    def direction(self) -> Array:
        """Return the unit vector to the next cell on the shortest path to the goal, shape (2,)."""
        maze = self.env.unwrapped
        xy = maze.get_xy()
        # OGBench searches the whole maze at each step, but its answer depends on the two cells only.
        key = maze.xy_to_ij(xy), maze.xy_to_ij(maze.cur_goal_xy)
        if key not in self.subgoals:
            self.subgoals[key] = maze.get_oracle_subgoal(xy, maze.cur_goal_xy)[0]
        offset: Array = self.subgoals[key] - xy
        return offset / float(np.linalg.norm(offset) + 1e-6)


class ManipulationWriter(EpisodeWriter):
    """Collects episodes of a robot arm that follows one scripted oracle after the other."""

    def __init__(self, spec: DatasetSpec, seed: int) -> None:
        super().__init__(spec.name, seed)
        self.env = make_raw_env(
            spec.env_id,
            terminate_at_goal=False,
            mode="data_collection",
            max_episode_steps=spec.steps + 1,
        )
        self.spec = spec
        self.settings = oracle_settings(spec)
        _, self.action_space = env_spaces(self.env)
        self.oracles = _oracles(self.env, spec)

    def play(self, reset_seed: int, action_seed: int) -> Arrays | None:
        """Return the arrays of one episode; None if it is to be replaced by another."""
        self.action_space.seed(action_seed)
        observation, info = self.env.reset(seed=reset_seed)
        stacking = float(np.random.uniform(*STACKING.get(self.spec.family, (0.5, 0.5))))
        noise = np.random.uniform(0.0, self.settings.get("max_action_noise", 0.0))
        oracle = self.start_oracle(observation, info)
        rows = []
        done = False
        while not done:
            action = self.act(oracle, observation, info, noise)
            next_observation, _, terminated, truncated, info = self.env.step(action)
            done = terminated or truncated
            rows.append(_row(observation, action, done, info))
            if oracle.done:
                # The new target changes what the oracle looks for, not the state: `info` above stays the step's own.
                oracle = self.start_oracle(*self.env.unwrapped.set_new_target(p_stack=stacking))
            observation = next_observation
        arrays = to_arrays(rows)
        if self.spec.family.startswith("scene") and not is_healthy(arrays["qpos"]):
            return None
        return arrays

    def start_oracle(self, observation: Array, info: dict[str, Any]) -> Any:
        """Return the oracle of the current target, started."""
        oracle = self.oracles[info["privileged/target_task"]]
        oracle.reset(observation, info)
        return oracle

    def act(self, oracle: Any, observation: Array, info: dict[str, Any], noise: float) -> Array:
        """Return the next action, shape (5,)."""
        if np.random.uniform() < self.settings.get("random_action_probability", 0.0):
            return np.array(self.action_space.sample())
        action = np.array(oracle.select_action(observation, info), dtype=np.float64)
        if noise > 0.0:
            # Of the position, the yaw and the gripper, as in OGBench's script.
            action += np.random.normal(0.0, noise * np.array([1.0, 1.0, 1.0, 3.0, 10.0]))
        return action.clip(-1.0, 1.0)


class OracleWriter(EpisodeWriter):
    """Collects episodes of a task with OCBench's oracle."""

    packages = ("ocbench", *EpisodeWriter.packages[1:])
    constants: ClassVar = {INTERVAL: np.int32(1)}

    def __init__(self, name: str, seed: int) -> None:
        super().__init__(name, seed)
        oracles = import_ocbench(name, "ocbench.oracles")
        self._make_oracle = getattr(oracles, f"{name.partition('-')[0].capitalize()}Controller")
        self._env = make_raw_env(name)

    def play(self, reset_seed: int, action_seed: int) -> Arrays | None:
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
            if not info["healthy"]:
                return None
            is_over = terminated or truncated
            observations.append(observation)
            row = {"actions": action, "rewards": float(reward), "masks": 1.0 - terminated}
            # OCBench's files end an episode at its time limit too; only a mask says that the task ended it.
            rows.append(row | {"terminals": is_over})
        return {"observations": np.array(observations, np.float32), **to_arrays(rows)}


def _oracles(env: Any, spec: DatasetSpec) -> dict[str, Any]:
    """Return the oracles of an environment by target: open-loop ones that plan, or closed-loop ones."""
    settings = oracle_settings(spec)
    if spec.kind == "play":
        kind = "plan"
        options = {
            "noise": settings["plan_noise"],
            "noise_smoothing": settings["plan_noise_smoothing"],
        }
    else:
        kind = "markov"
        options = {"min_norm": settings["min_norm"]}
    options_of: dict[str, Any] = {"cube": {}, "button": {}, "drawer": {}, "window": {}}
    if spec.family.startswith("puzzle"):
        options_of = {"button": {"gripper_always_closed": True}}
    elif spec.family.startswith("cube"):
        options_of = {"cube": {}}
    elif kind == "markov":
        # As in OGBench's script, which limits the steps of this oracle in Scene only.
        options_of["cube"] = {"max_step": 100}
    oracles = {}
    for target, further in options_of.items():
        module = importlib.import_module(f"ogbench.manipspace.oracles.{kind}.{target}_{kind}")
        oracle = getattr(module, f"{target.title()}{kind.title()}Oracle")
        oracles[target] = oracle(env=env, **options, **further)
    return oracles


def _maze_cells(maze_map: Array) -> tuple[list[Cell], list[Cell]]:
    """Return the open cells of a maze, and those of them that are not inside a straight corridor."""
    is_open = (maze_map == 0).astype(int)
    # How many of the two neighbours in a direction are open; walls surround a maze, so nothing wraps around.
    vertical = np.roll(is_open, 1, axis=0) + np.roll(is_open, -1, axis=0)
    horizontal = np.roll(is_open, 1, axis=1) + np.roll(is_open, -1, axis=1)
    is_corridor = np.abs(vertical - horizontal) == 2
    cells = [(i, j) for i, j in np.argwhere(is_open).tolist()]
    return cells, [cell for cell in cells if not is_corridor[cell]]


def is_healthy(qpos: Array) -> bool:
    """Return whether Scene's cube stayed in sight or in the drawer, so that goal images are not ambiguous."""
    y, z = qpos[:, 15], qpos[:, 16]
    too_far_right = y >= 0.29
    too_far_left = (y <= -0.3) & ((z < 0.06) | (z > 0.08))  # the drawer is there, at that height
    return not (too_far_right | too_far_left).any()


def _row(observation: Array, action: Array, done: bool, info: dict[str, Any]) -> dict[str, Any]:
    """Return one row of the dataset: the state before the action, the action, and whether the episode ended."""
    row = {
        "observations": observation,
        "actions": action,
        "terminals": done,
        "qpos": info["prev_qpos"],
        "qvel": info["prev_qvel"],
    }
    if "prev_button_states" in info:
        row["button_states"] = info["prev_button_states"]
    return row
