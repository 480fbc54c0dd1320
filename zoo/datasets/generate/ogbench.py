"""Collect episodes with OGBench's scripted oracles: one seed, one episode, bit for bit.

Source of the settings: OGBench (Park et al., arXiv 2410.20092), `data_gen_scripts/commands.sh`, version 1.2.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from ogbench.manipspace.oracles.markov.button_markov import ButtonMarkovOracle
from ogbench.manipspace.oracles.markov.cube_markov import CubeMarkovOracle
from ogbench.manipspace.oracles.markov.drawer_markov import DrawerMarkovOracle
from ogbench.manipspace.oracles.markov.window_markov import WindowMarkovOracle
from ogbench.manipspace.oracles.plan.button_plan import ButtonPlanOracle
from ogbench.manipspace.oracles.plan.cube_plan import CubePlanOracle
from ogbench.manipspace.oracles.plan.drawer_plan import DrawerPlanOracle
from ogbench.manipspace.oracles.plan.window_plan import WindowPlanOracle

from agents.common.files import atomic_path
from zoo.datasets.environment import env_spaces, global_numpy_seed, make_raw_env
from zoo.datasets.files import SPLITS
from zoo.datasets.names import DATASETS, DatasetSpec
from zoo.envs.rendering import VISUAL

Episode = dict[str, np.ndarray]
_DTYPES = {"terminals": np.dtype(bool), "button_states": np.dtype(np.int64)}  # the others are float32
_MAX_ATTEMPTS = 100  # far above need: an unhealthy Scene episode is rare


def _family(spec: DatasetSpec) -> str:
    """Return the environment whose oracles and settings a dataset has: the same with images and without."""
    return spec.environment.removeprefix(VISUAL)


def oracle_settings(spec: DatasetSpec) -> dict[str, float]:
    """Return the noise settings with which OGBench collected a dataset."""
    if _family(spec).startswith("pointmaze"):
        return {"action_noise": 0.5}
    if spec.kind == "play":
        return {"plan_noise": 0.1, "plan_noise_smoothing": 0.5}
    random_actions = 0.2 if _family(spec).startswith("puzzle") else 0.1
    return {"max_action_noise": 0.1, "min_norm": 0.4, "random_action_probability": random_actions}


def make_collector(spec: DatasetSpec) -> Callable[[int, str, int], Episode]:
    """Return a function that collects one episode.

    :return: ``collect(seed, split, episode)``, giving arrays of ``spec.steps + 1`` rows in OGBench's format. The result
        depends on its arguments only, not on what was collected before; the global NumPy generator is left as it was.
    """
    collector = _MazeCollector(spec) if spec.environment.startswith("pointmaze") else _ManipulationCollector(spec)

    def collect(seed: int, split: str, episode: int) -> Episode:
        for attempt in range(_MAX_ATTEMPTS):
            key = (SPLITS.index(split), episode, attempt)
            words = np.random.SeedSequence(seed, spawn_key=key).generate_state(6)
            with global_numpy_seed(words[:4]):
                rows = collector.collect(int(words[4]), int(words[5]))
            arrays = _to_arrays(rows)
            if not _family(spec).startswith("scene") or _is_healthy(arrays["qpos"]):
                return arrays
        raise RuntimeError(f"{spec.name}: {_MAX_ATTEMPTS} episodes in a row were unhealthy")

    return collect


class _MazeCollector:
    """Point mass that follows the shortest path, with noise."""

    def __init__(self, spec: DatasetSpec) -> None:
        self.env = make_raw_env(spec.env_id, terminate_at_goal=False, max_episode_steps=spec.steps + 1)
        self.kind = spec.kind
        self.noise = oracle_settings(spec)["action_noise"]
        self.cells, self.junctions = _maze_cells(self.env.unwrapped.maze_map)
        self.subgoals: dict[tuple[Any, Any], np.ndarray] = {}

    def collect(self, reset_seed: int, action_seed: int) -> list[dict[str, Any]]:
        """Return the rows of one episode."""
        self.env.action_space.seed(action_seed)
        start = self.cells[np.random.randint(len(self.cells))]
        goal = self.sample_junction() if self.kind == "navigate" else self.sample_nearby(start)
        observation, _ = self.env.reset(seed=reset_seed, options={"task_info": {"init_ij": start, "goal_ij": goal}})
        rows, done = [], False
        while not done:
            direction = self.direction()
            action = np.clip(direction + np.random.normal(0.0, self.noise, direction.shape), -1.0, 1.0)
            next_observation, _, terminated, truncated, info = self.env.step(action)
            done = terminated or truncated
            if info["success"] and self.kind == "navigate":
                self.env.unwrapped.set_goal(self.sample_junction())
            rows.append(_row(observation, action, done, info))
            observation = next_observation
        return rows

    def sample_junction(self) -> tuple[int, int]:
        """Return a random cell that is not in a straight corridor."""
        return self.junctions[np.random.randint(len(self.junctions))]

    def sample_nearby(self, start: tuple[int, int]) -> tuple[int, int]:
        """Return a random cell four steps from the start; the start when there is none."""
        maze = self.env.unwrapped
        xy = maze.ij_to_xy(start)
        _, distance = maze.get_oracle_subgoal(xy, xy)
        nearby = np.argwhere(distance == 4)
        if len(nearby) == 0:
            return start
        i, j = nearby[np.random.randint(len(nearby))]
        return int(i), int(j)

    def direction(self) -> np.ndarray:
        """Return the unit vector to the next cell on the shortest path to the goal, shape (2,)."""
        maze = self.env.unwrapped
        xy = maze.get_xy()
        # OGBench searches the whole maze at each step, but its answer depends on the two cells only.
        key = maze.xy_to_ij(xy), maze.xy_to_ij(maze.cur_goal_xy)
        if key not in self.subgoals:
            self.subgoals[key] = maze.get_oracle_subgoal(xy, maze.cur_goal_xy)[0]
        offset: np.ndarray = self.subgoals[key] - xy
        return offset / float(np.linalg.norm(offset) + 1e-6)


class _ManipulationCollector:
    """Robot arm that follows one scripted oracle after the other."""

    def __init__(self, spec: DatasetSpec) -> None:
        self.env = make_raw_env(
            spec.env_id, terminate_at_goal=False, mode="data_collection", max_episode_steps=spec.steps + 1
        )
        self.spec = spec
        self.settings = oracle_settings(spec)
        _, self.action_space = env_spaces(self.env)
        self.oracles = _plan_oracles(self.env, spec) if spec.kind == "play" else _markov_oracles(self.env, spec)

    def collect(self, reset_seed: int, action_seed: int) -> list[dict[str, Any]]:
        """Return the rows of one episode."""
        self.action_space.seed(action_seed)
        observation, info = self.env.reset(seed=reset_seed)
        stacking = _stacking_probability(_family(self.spec))
        noise = np.random.uniform(0.0, self.settings.get("max_action_noise", 0.0))
        oracle = self.start_oracle(observation, info)
        rows, done = [], False
        while not done:
            action = self.act(oracle, observation, info, noise)
            next_observation, _, terminated, truncated, info = self.env.step(action)
            done = terminated or truncated
            rows.append(_row(observation, action, done, info))
            if oracle.done:
                # The new target changes what the oracle looks for, not the state: `info` above stays the step's own.
                oracle = self.start_oracle(*self.env.unwrapped.set_new_target(p_stack=stacking))
            observation = next_observation
        return rows

    def start_oracle(self, observation: np.ndarray, info: dict[str, Any]) -> Any:
        """Return the oracle of the current target, started."""
        oracle = self.oracles[info["privileged/target_task"]]
        oracle.reset(observation, info)
        return oracle

    def act(self, oracle: Any, observation: np.ndarray, info: dict[str, Any], noise: float) -> np.ndarray:
        """Return the next action, shape (5,)."""
        if np.random.uniform() < self.settings.get("random_action_probability", 0.0):
            return np.array(self.action_space.sample())
        action = np.array(oracle.select_action(observation, info), dtype=np.float64)
        if noise > 0.0:
            action += np.random.normal(0.0, noise * np.array([1.0, 1.0, 1.0, 3.0, 10.0]))
        return action.clip(-1.0, 1.0)


def _plan_oracles(env: Any, spec: DatasetSpec) -> dict[str, Any]:
    """Return the open-loop oracles of an environment by target."""
    settings = oracle_settings(spec)
    common = {"env": env, "noise": settings["plan_noise"], "noise_smoothing": settings["plan_noise_smoothing"]}
    if _family(spec).startswith("puzzle"):
        return {"button": ButtonPlanOracle(gripper_always_closed=True, **common)}
    if _family(spec).startswith("cube"):
        return {"cube": CubePlanOracle(**common)}
    classes = {"cube": CubePlanOracle, "button": ButtonPlanOracle, "drawer": DrawerPlanOracle}
    return {target: oracle(**common) for target, oracle in {**classes, "window": WindowPlanOracle}.items()}


def _markov_oracles(env: Any, spec: DatasetSpec) -> dict[str, Any]:
    """Return the closed-loop oracles of an environment by target."""
    common = {"env": env, "min_norm": oracle_settings(spec)["min_norm"]}
    if _family(spec).startswith("puzzle"):
        return {"button": ButtonMarkovOracle(gripper_always_closed=True, **common)}
    if _family(spec).startswith("cube"):
        return {"cube": CubeMarkovOracle(**common)}
    return {
        "cube": CubeMarkovOracle(max_step=100, **common),
        "button": ButtonMarkovOracle(**common),
        "drawer": DrawerMarkovOracle(**common),
        "window": WindowMarkovOracle(**common),
    }


def _stacking_probability(environment: str) -> float:
    """Draw the probability, for one episode, that a cube is put on another one."""
    ranges = {
        "cube-single": (0.0, 0.0),
        "cube-double": (0.0, 0.25),
        "cube-triple": (0.05, 0.35),
        "cube-quadruple": (0.1, 0.5),
        "cube-octuple": (0.0, 0.35),
    }
    return float(np.random.uniform(*ranges.get(environment, (0.5, 0.5))))


def _maze_cells(maze_map: np.ndarray) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """Return the open cells of a maze, and those of them that are not inside a straight corridor."""
    is_open = maze_map == 0
    cells = [(int(i), int(j)) for i, j in np.argwhere(is_open)]
    junctions = []
    for i, j in cells:
        vertical = is_open[i - 1, j], is_open[i + 1, j]
        horizontal = is_open[i, j - 1], is_open[i, j + 1]
        is_corridor = (all(vertical) and not any(horizontal)) or (all(horizontal) and not any(vertical))
        if not is_corridor:
            junctions.append((i, j))
    return cells, junctions


def _is_healthy(qpos: np.ndarray) -> bool:
    """Return whether Scene's cube stayed in sight or in the drawer, so that goal images are not ambiguous."""
    y, z = qpos[:, 15], qpos[:, 16]
    too_far_right = y >= 0.29
    too_far_left = (y <= -0.3) & ((z < 0.06) | (z > 0.08))  # the drawer is there, at that height
    return not (too_far_right | too_far_left).any()


def _row(observation: np.ndarray, action: np.ndarray, done: bool, info: dict[str, Any]) -> dict[str, Any]:
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


def _to_arrays(rows: list[dict[str, Any]]) -> Episode:
    """Stack rows into arrays of OGBench's dtypes."""
    return {key: np.array([row[key] for row in rows], dtype=_dtype(key, first)) for key, first in rows[0].items()}


def _dtype(key: str, value: Any) -> np.dtype[Any]:
    """Return OGBench's dtype of an array."""
    is_image = key == "observations" and value.dtype == np.uint8
    return np.dtype(np.uint8) if is_image else _DTYPES.get(key, np.dtype(np.float32))


class EpisodeWriter:
    """Collects episodes of a dataset, each into a file.

    :param steps: transitions of an episode.
    """

    def __init__(self, dataset: str, seed: int, steps: int) -> None:
        spec = DATASETS[dataset]
        self._collect = make_collector(replace(spec, steps=steps))
        self._seed = seed
        # images are most of a file, and shrink to a fifth
        self._save = np.savez_compressed if spec.is_visual else np.savez

    def write(self, split: str, episode: int, file: Path) -> Path:
        """Collect an episode and return its file, which appears when it is complete."""
        arrays = self._collect(self._seed, split, episode)
        with atomic_path(file) as temporary:
            self._save(temporary, **arrays)  # type: ignore[arg-type]
        return file

    def close(self) -> None:
        """Do nothing: the process ends, and the environment with it."""
