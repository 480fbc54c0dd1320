"""Collect episodes of OGBench's datasets with OGBench's scripted oracles.

Source of the settings: OGBench (Park et al., arXiv 2410.20092), `data_gen_scripts/commands.sh`, version 1.2.
"""

import importlib
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from agents.common.data.arrays import Array
from agents.common.streams import Purpose, stream
from zoo.datasets.formats.base import Arrays
from zoo.datasets.names import DatasetSpec
from zoo.envs.checks import Info, global_numpy_seed
from zoo.envs.make import make_raw_env, no_startup_noise

Cell: TypeAlias = tuple[int, int]
PURPOSES = {"train": Purpose.TRAINING_DATA, "val": Purpose.VALIDATION_DATA}
STACKING = {
    "cube-single": (0.0, 0.0),
    "cube-double": (0.0, 0.25),
    "cube-triple": (0.05, 0.35),
    "cube-quadruple": (0.1, 0.5),
    "cube-octuple": (0.0, 0.35),
}
"""Range from which each episode's probability of stacking cubes is sampled; 0.5 for other families."""

ACTION_NOISE = 0.5
"""Standard deviation of the action noise of a point mass."""

MAX_ATTEMPTS = 100  # far more than needed, because few episodes must be replaced


class EpisodeCollector:
    """Collects the episodes of a dataset; an episode depends only on seed, split and episode number."""

    def __init__(self, spec: DatasetSpec, seed: int) -> None:
        self.spec = spec
        self.seed = seed

    def collect(self, split: str, episode: int) -> Arrays:
        """Return an episode's arrays.

        Oracles use NumPy's global generator, whose state is restored afterwards.

        :param split: ``"train"`` or ``"val"``.
        """
        for attempt in range(MAX_ATTEMPTS):
            words = stream(PURPOSES[split], self.seed, episode, attempt).generate_state(6)
            with global_numpy_seed(words[:4]):
                arrays = self.run_episode(int(words[4]), int(words[5]))
            if arrays is not None:
                return arrays
        raise RuntimeError(f"{self.spec.name}: {MAX_ATTEMPTS} episodes in a row were unusable")

    def run_episode(self, reset_seed: int, action_seed: int) -> Arrays | None:
        """Return the arrays of one episode, or None if the episode must be replaced."""
        raise NotImplementedError


class MazeCollector(EpisodeCollector):
    """Collects episodes of a point mass that takes the shortest path, with action noise."""

    def __init__(self, spec: DatasetSpec, seed: int) -> None:
        super().__init__(spec, seed)
        # Every episode has the same number of steps, whether it succeeds or not, and one more row for the last state.
        self.env = make_raw_env(
            spec.env_id, terminate_at_goal=False, max_episode_steps=spec.steps + 1
        )
        self.is_navigating = spec.kind == "navigate"
        is_open = (self.env.unwrapped.maze_map == 0).astype(int)
        # Number of open neighbours along each axis, at most 2; as walls surround the maze, `roll` wraps only walls.
        vertical = np.roll(is_open, 1, axis=0) + np.roll(is_open, -1, axis=0)
        horizontal = np.roll(is_open, 1, axis=1) + np.roll(is_open, -1, axis=1)
        is_corridor = np.abs(vertical - horizontal) == 2  # open on two opposite sides
        self.cells: list[Cell] = [(i, j) for i, j in np.argwhere(is_open).tolist()]
        self.junctions = [cell for cell in self.cells if not is_corridor[cell]]
        self.subgoals: dict[tuple[Any, Any], Array] = {}

    def run_episode(self, reset_seed: int, action_seed: int) -> Arrays | None:
        """Return the arrays of one episode."""
        self.env.action_space.seed(action_seed)
        start = self.cells[np.random.randint(len(self.cells))]
        goal = self.sample_junction() if self.is_navigating else self.sample_nearby(start)
        task = {"task_info": {"init_ij": start, "goal_ij": goal}}
        observation, _ = self.env.reset(seed=reset_seed, options=task)
        rows = []
        done = False
        while not done:
            action = np.clip(self.direction() + np.random.normal(0.0, ACTION_NOISE, 2), -1.0, 1.0)
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
        """Return a random cell at a distance of four cells from the start, or the start if none exists."""
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
        # OGBench searches the whole maze at each step, but the result depends only on the current cell and the goal's.
        key = maze.xy_to_ij(xy), maze.xy_to_ij(maze.cur_goal_xy)
        if key not in self.subgoals:
            self.subgoals[key] = maze.get_oracle_subgoal(xy, maze.cur_goal_xy)[0]
        offset: Array = self.subgoals[key] - xy
        return offset / float(np.linalg.norm(offset) + 1e-6)


class ManipulationCollector(EpisodeCollector):
    """Collects episodes of a robot arm that scripted oracles control in turn."""

    def __init__(self, spec: DatasetSpec, seed: int) -> None:
        super().__init__(spec, seed)
        self.env = make_raw_env(
            spec.env_id,
            terminate_at_goal=False,
            mode="data_collection",
            max_episode_steps=spec.steps + 1,
        )
        with no_startup_noise():  # OGBench creates a new action space at each access
            self.action_space = self.env.action_space
        if spec.kind == "play":  # open-loop oracles, which plan ahead
            kind = "plan"
            options = {"noise": 0.1, "noise_smoothing": 0.5}
            self.max_noise = self.random_share = 0.0
        else:  # closed-loop oracles
            kind = "markov"
            options = {"min_norm": 0.4}
            self.max_noise = 0.1
            self.random_share = 0.2 if spec.family.startswith("puzzle") else 0.1
        options_of: dict[str, Any] = dict.fromkeys(("cube", "button", "drawer", "window"), options)
        if spec.family.startswith("puzzle"):
            options_of["button"] = {**options, "gripper_always_closed": True}
        self.oracles = {}
        for target, arguments in options_of.items():
            module = importlib.import_module(f"ogbench.manipspace.oracles.{kind}.{target}_{kind}")
            oracle = getattr(module, f"{target.title()}{kind.title()}Oracle")
            self.oracles[target] = oracle(env=self.env, **arguments)

    def run_episode(self, reset_seed: int, action_seed: int) -> Arrays | None:
        """Return the arrays of one episode, or None if the episode must be replaced."""
        self.action_space.seed(action_seed)
        observation, info = self.env.reset(seed=reset_seed)
        stacking = float(np.random.uniform(*STACKING.get(self.spec.family, (0.5, 0.5))))
        noise = np.random.uniform(0.0, self.max_noise)
        oracle = self.start_oracle(observation, info)
        rows = []
        done = False
        while not done:
            action = self.act(oracle, observation, info, noise)
            next_observation, _, terminated, truncated, info = self.env.step(action)
            done = terminated or truncated
            rows.append(_row(observation, action, done, info))
            if oracle.done:
                # The new target changes the oracle's goal, but not the state, so the last step's `info` is still valid.
                oracle = self.start_oracle(*self.env.unwrapped.set_new_target(p_stack=stacking))
            observation = next_observation
        arrays = to_arrays(rows)
        if self.spec.family.startswith("scene"):
            # The cube must remain visible or in the drawer, so that goal images are unambiguous.
            y, z = arrays["qpos"][:, 15], arrays["qpos"][:, 16]
            too_far_right = y >= 0.29
            # this far left, only a cube at the drawer's height is accepted
            too_far_left = (y <= -0.3) & ((z < 0.06) | (z > 0.08))
            if (too_far_right | too_far_left).any():
                return None
        return arrays

    def start_oracle(self, observation: Array, info: Info) -> Any:
        """Reset and return the oracle for the current target."""
        oracle = self.oracles[info["privileged/target_task"]]
        oracle.reset(observation, info)
        return oracle

    def act(self, oracle: Any, observation: Array, info: Info, noise: float) -> Array:
        """Return the next action, shape (5,)."""
        if np.random.uniform() < self.random_share:
            return np.array(self.action_space.sample())
        action = np.array(oracle.select_action(observation, info), dtype=np.float64)
        if noise > 0.0:
            # noise for position, yaw and gripper, as in OGBench's script
            action += np.random.normal(0.0, noise * np.array([1.0, 1.0, 1.0, 3.0, 10.0]))
        return action.clip(-1.0, 1.0)


def to_arrays(rows: Sequence[Mapping[str, Any]]) -> Arrays:
    """Stack rows into arrays as in OGBench's files: floating-point numbers as float32, other dtypes unchanged."""
    arrays = {key: np.array([row[key] for row in rows]) for key in rows[0]}
    for key, array in arrays.items():
        if array.dtype.kind == "f":
            arrays[key] = array.astype(np.float32)
    return arrays


def _row(observation: Array, action: Array, done: bool, info: Info) -> dict[str, Any]:
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
