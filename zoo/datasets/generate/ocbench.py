"""Generate data of OCBench's tasks with its scripted oracles, in OCBench's format.

Source of the procedure: OCBench (Park and Levine, 2026), ``data_gen_scripts/generate_ocbench.py``, version 1.0: the
oracles' own settings, and episodes in which something leaves the workspace are replaced.
"""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np

from zoo.datasets.environment import make_raw_env
from zoo.datasets.formats.ocbench import INTERVAL
from zoo.datasets.generate.parallel import Episode, EpisodeWriter, make_dataset
from zoo.envs.ocbench import TASKS, OcbenchTask, import_ocbench
from zoo.processes.serving import available_cores

EPISODES = 1000  # as in OCBench's script
_DTYPES = {"terminals": np.dtype(bool)}  # the others are float32


def generate_ocbench(
    task: OcbenchTask,
    files: tuple[Path, Path],
    *,
    num_episodes: int | None = None,
    seed: int = 0,
    num_workers: int | None = None,
    existing: str = "refuse",
) -> None:
    """Generate a task's training and validation file; see :func:`zoo.datasets.generate.generate_dataset`.

    :param files: their paths.
    :param num_episodes: training episodes; None takes `EPISODES`. The validation file gets a tenth of them.
    """
    episodes = EPISODES if num_episodes is None else num_episodes
    workers = available_cores() if num_workers is None else num_workers
    import_ocbench(task.name)
    make_dataset(
        task.name,
        files,
        episodes,
        functools.partial(OracleWriter, task.name, seed),
        {"dataset": task.name, "seed": seed},
        num_workers=workers,
        existing=existing,
        constants={INTERVAL: np.int32(1)},
    )


class OracleWriter(EpisodeWriter):
    """Collects episodes of a task with OCBench's oracle."""

    packages = ("ocbench", *EpisodeWriter.packages[1:])

    def __init__(self, name: str, seed: int) -> None:
        super().__init__(name, seed)
        oracles = import_ocbench(name, "ocbench.oracles")
        self._make_oracle = getattr(oracles, f"{TASKS[name].family.capitalize()}Controller")
        self._env = make_raw_env(name)

    def close(self) -> None:
        """Close the environment."""
        self._env.close()

    def play(self, reset_seed: int, action_seed: int) -> Episode | None:
        """Return the arrays of one episode; None if something left the workspace in it."""
        observation, info = self._env.reset(seed=reset_seed)
        oracle = self._make_oracle(env=self._env)
        oracle.reset(observation, info)
        observations = [observation]
        rows: dict[str, list[object]] = {"actions": [], "rewards": [], "masks": [], "terminals": []}
        is_over = False
        while not is_over:
            action = np.clip(oracle.select_action(observation, info), -1.0, 1.0).astype(np.float32)
            observation, reward, terminated, truncated, info = self._env.step(action)
            is_over = terminated or truncated
            observations.append(observation)
            for name, value in zip(rows, (action, reward, 1.0 - terminated, is_over), strict=True):
                rows[name].append(value)
            if not info["healthy"]:
                return None
        found = {"observations": observations, **rows}
        return {name: np.array(values, _DTYPES.get(name, np.float32)) for name, values in found.items()}
