"""Generate OGBench's datasets with its scripted oracles and settings.

Episodes are played in child processes, also by one alone, whose kernels are those that processors have in common: a
dataset has the same bytes whatever the number of processes, and a stopped generation continues.

Source of the settings: OGBench (Park et al., arXiv 2410.20092), `data_gen_scripts/commands.sh`, version 1.2.
"""

import contextlib
import functools
import importlib
import json
import math
import shutil
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, TypeAlias

import numpy as np
from tqdm import tqdm

from agents.common.data.arrays import Array
from agents.common.files import atomic_path, write_text
from agents.common.files.npz import read_npz, read_npz_headers
from agents.common.streams import Purpose, stream
from zoo.datasets.files import (
    Folder,
    dataset_file,
    dataset_files,
    keep_existing,
    locked_for_writing,
    progress_bar,
    provenance_file,
    settings_sha256,
)
from zoo.datasets.formats.base import Arrays
from zoo.datasets.kernels import common_kernels, describe_rounding
from zoo.datasets.names import DatasetSpec, parse_name
from zoo.envs.border import Info
from zoo.envs.make import env_spaces, global_numpy_seed, make_raw_env
from zoo.envs.rendering import require_pictures
from zoo.evaluation.workers import WorkerProcess, available_cores, wait_for_answers
from zoo.terminal.errors import UsageError
from zoo.terminal.messages import log

Cell: TypeAlias = tuple[int, int]
STACKING = {
    "cube-single": (0.0, 0.0),
    "cube-double": (0.0, 0.25),
    "cube-triple": (0.05, 0.35),
    "cube-quadruple": (0.1, 0.5),
    "cube-octuple": (0.0, 0.35),
}
"""Range of the probability, drawn for each episode, that a cube is put on another one; elsewhere it is 0.5."""

MAX_ATTEMPTS = 100  # far above need: few episodes are unhealthy

MAX_EPISODES = 1_000_000
"""Ten times those of OGBench's largest dataset; each is a file until the dataset is complete."""

PURPOSES = {"train": Purpose.TRAINING_DATA, "val": Purpose.VALIDATION_DATA}

Jobs = list[tuple[str, int, Path]]
"""Split, number and file of episodes."""


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
    """Generate a dataset's two files with OGBench's scripted oracles and settings, and return their paths.

    Finished episodes are kept next to the file until it is complete, so a stopped generation continues where it was. A
    dataset of fewer episodes is the beginning of one of more.

    :param name: of a dataset of OGBench.
    :param num_episodes: training episodes; the validation file gets a tenth of them, at least one.
    :param dataset_size: training transitions in place of episodes, rounded up to whole episodes; None for both takes
        OGBench's size.
    :param episode_steps: transitions of an episode; None takes OGBench's number.
    :param existing: what to do if the dataset exists: ``"refuse"``, ``"keep"`` or ``"replace"``.
    """
    # They name the folder of finished episodes: a generation with others does not continue this one.
    settings: dict[str, Any] = {"dataset": name, "seed": seed}
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
    _make_files(files, episodes, build, settings, num_workers, existing)
    return files


def _make_files(
    files: tuple[Path, Path],
    episodes: int,
    build: functools.partial[Any],
    settings: Mapping[str, Any],
    num_workers: int | None,
    existing: str,
) -> None:
    """Make a dataset's training file and its validation file, which has a tenth of the episodes, at least one.

    :param files: their paths.
    :param build: makes what collects its episodes, in each process.
    :param settings: everything that decides what an episode holds, besides its split and number; ``dataset`` is its
        name.
    :param num_workers: processes; None takes one for each core.
    :param existing: what to do if the dataset exists: ``"refuse"``, ``"keep"`` or ``"replace"``.
    """
    name = settings["dataset"]
    if episodes > MAX_EPISODES:
        raise UsageError(
            f"a dataset may have {MAX_EPISODES:,} episodes, got {episodes:,} of {name}; make fewer"
        )
    with locked_for_writing(files[0]):
        if keep_existing(files[0], existing):
            return
        counts = (episodes, max(1, episodes // 10))  # for training, for validation
        num_workers = min(num_workers or available_cores(), sum(counts))
        with _worker_processes(name, build, num_workers) as workers:
            rounding, *_ = [worker.receive() for worker in workers]
            if not rounding["has_common_kernels"]:
                log.warning(
                    "%s: no kernels that other processors share; data made elsewhere may round differently",
                    name,
                )
            origin = {**settings, **rounding}
            jobs: Jobs = []
            for split, file, count in zip(PURPOSES, files, counts, strict=True):
                # Finished episodes of another origin, which a stopped generation has left, must not mix in.
                folder = file.with_name(f"{file.name}.parts") / settings_sha256(origin)[:16]
                folder.mkdir(parents=True, exist_ok=True)
                jobs += [(split, k, folder / f"{k:06d}.npz") for k in range(count)]
            missing = [job for job in jobs if not job[2].exists()]
            num_done = len(jobs) - len(missing)
            log.info("generating %s: %d episodes, %d of them are there", name, len(jobs), num_done)
            with progress_bar(name, unit=" episodes", total=len(jobs), initial=num_done) as bar:
                _write(workers, missing, bar)
        parts = [path for _, _, path in jobs]
        writer: Any = build.func
        # The training file comes last: where it is, the dataset is complete.
        _join(parts[episodes:], files[1], writer.constants, origin)
        _join(parts[:episodes], files[0], writer.constants, origin)
        for file in files:
            shutil.rmtree(f"{file}.parts")


@contextlib.contextmanager
def _worker_processes(
    name: str, build: functools.partial[Any], count: int
) -> Iterator[list[WorkerProcess]]:
    """Start the processes that write episodes; the first answer of each is its rounding."""
    kernels = common_kernels()
    workers: list[WorkerProcess] = []
    with contextlib.ExitStack() as stack:
        for _ in range(count):
            worker = WorkerProcess(
                build,
                "write",
                noun="episode collector",
                name=name,
                preload=[__name__],
                imports_main=False,
                first="rounding",
                variables=kernels,
            )
            workers.append(worker)
            stack.callback(worker.close)
            # First, perhaps in the middle of an episode, of which no file exists then.
            stack.callback(worker.kill)
        yield workers


def _write(workers: Sequence[WorkerProcess], jobs: Jobs, bar: tqdm) -> None:
    """Write the episodes."""
    waiting = deque(jobs)
    busy = list(workers[: len(jobs)])
    for worker in busy:
        worker.send(*waiting.popleft())
    while busy:
        for worker in wait_for_answers(busy, 0.0):
            worker.receive()
            bar.update()
            if waiting:
                worker.send(*waiting.popleft())
            else:
                busy.remove(worker)


def _join(
    parts: Sequence[Path], file: Path, constants: Mapping[str, np.generic], origin: dict[str, Any]
) -> None:
    """Write the episodes as one npz, and their provenance; equal data become equal bytes."""
    log.info("writing %s", file)
    arrays = {}
    for key in read_npz_headers(parts[0]):
        # One array after the other, so that parts need no second copy of all.
        arrays[key] = np.concatenate([read_npz(part, [key])[key] for part in parts])
    with dataset_file(file) as temporary:
        np.savez_compressed(temporary, allow_pickle=False, **arrays, **constants)
    provenance = json.dumps({**origin, "episodes": len(parts)}, indent=2)
    write_text(provenance_file(file), provenance + "\n")


# -- episodes ----------------------------------------------------------------------------------------------------------


def to_arrays(rows: Sequence[Mapping[str, Any]]) -> Arrays:
    """Stack rows into arrays as in OGBench's files: floating-point numbers become float32, the others stay."""
    arrays = {key: np.array([row[key] for row in rows]) for key in rows[0]}
    for key, array in arrays.items():
        if array.dtype.kind == "f":
            arrays[key] = array.astype(np.float32)
    return arrays


class EpisodeWriter:
    """Collects episodes of a dataset, each into a file: one seed, one episode, bit for bit."""

    packages: tuple[str, ...] = ("ogbench", "mujoco", "gymnasium")
    """Whose versions decide what an episode holds."""
    constants: ClassVar[Mapping[str, np.generic]] = {}
    """Numbers that the files hold besides the arrays of the episodes."""

    def __init__(self, name: str, seed: int) -> None:
        self.name = name
        self.seed = seed

    @property
    def rounding(self) -> dict[str, Any]:
        """What decides the rounding of episodes."""
        return describe_rounding(self.packages)

    def collect(self, split: str, episode: int) -> Arrays:
        """Return an episode's arrays, which depend on the seed, the split and its number only.

        The global NumPy generator, from which oracles draw, is left as it was.
        """
        for attempt in range(MAX_ATTEMPTS):
            words = stream(PURPOSES[split], self.seed, episode, attempt).generate_state(6)
            with global_numpy_seed(words[:4]):
                arrays = self.play(int(words[4]), int(words[5]))
            if arrays is not None:
                return arrays
        raise RuntimeError(f"{self.name}: {MAX_ATTEMPTS} episodes in a row were unhealthy")

    def play(self, reset_seed: int, action_seed: int) -> Arrays | None:
        """Return the arrays of one episode; None if it is to be replaced by another."""
        raise NotImplementedError

    def write(self, split: str, episode: int, file: Path) -> None:
        """Collect an episode into a file, which appears when it is complete."""
        arrays = self.collect(split, episode)
        with atomic_path(file) as temporary:
            np.savez_compressed(temporary, **arrays)  # type: ignore[arg-type]

    def close(self) -> None:
        """Do nothing: the process ends, and the environment with it."""


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
        is_open = (self.env.unwrapped.maze_map == 0).astype(int)
        # How many of the two neighbours in a direction are open; walls surround a maze, so nothing wraps around.
        vertical = np.roll(is_open, 1, axis=0) + np.roll(is_open, -1, axis=0)
        horizontal = np.roll(is_open, 1, axis=1) + np.roll(is_open, -1, axis=1)
        is_corridor = np.abs(vertical - horizontal) == 2  # a straight one
        self.cells: list[Cell] = [(i, j) for i, j in np.argwhere(is_open).tolist()]
        self.junctions = [cell for cell in self.cells if not is_corridor[cell]]
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
        # Open-loop oracles that plan, or closed-loop ones.
        if spec.kind == "play":
            kind = "plan"
            options = {
                "noise": self.settings["plan_noise"],
                "noise_smoothing": self.settings["plan_noise_smoothing"],
            }
        else:
            kind = "markov"
            options = {"min_norm": self.settings["min_norm"]}
        options_of: dict[str, Any] = {"cube": {}, "button": {}, "drawer": {}, "window": {}}
        if spec.family.startswith("puzzle"):
            options_of = {"button": {"gripper_always_closed": True}}
        elif spec.family.startswith("cube"):
            options_of = {"cube": {}}
        elif kind == "markov":
            # As in OGBench's script, which limits the steps of this oracle in Scene only.
            options_of["cube"] = {"max_step": 100}
        self.oracles = {}
        for target, further in options_of.items():
            module = importlib.import_module(f"ogbench.manipspace.oracles.{kind}.{target}_{kind}")
            oracle = getattr(module, f"{target.title()}{kind.title()}Oracle")
            self.oracles[target] = oracle(env=self.env, **options, **further)

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
        if self.spec.family.startswith("scene"):
            # The cube must stay in sight or in the drawer, so that goal images are not ambiguous.
            y, z = arrays["qpos"][:, 15], arrays["qpos"][:, 16]
            too_far_right = y >= 0.29
            too_far_left = (y <= -0.3) & ((z < 0.06) | (z > 0.08))  # the drawer's place and height
            if (too_far_right | too_far_left).any():
                return None
        return arrays

    def start_oracle(self, observation: Array, info: Info) -> Any:
        """Return the oracle of the current target, started."""
        oracle = self.oracles[info["privileged/target_task"]]
        oracle.reset(observation, info)
        return oracle

    def act(self, oracle: Any, observation: Array, info: Info, noise: float) -> Array:
        """Return the next action, shape (5,)."""
        if np.random.uniform() < self.settings.get("random_action_probability", 0.0):
            return np.array(self.action_space.sample())
        action = np.array(oracle.select_action(observation, info), dtype=np.float64)
        if noise > 0.0:
            # Of the position, the yaw and the gripper, as in OGBench's script.
            action += np.random.normal(0.0, noise * np.array([1.0, 1.0, 1.0, 3.0, 10.0]))
        return action.clip(-1.0, 1.0)


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
