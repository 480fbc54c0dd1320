"""Pictures of the states in OGBench's datasets, drawn by its simulator."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from zoo.datasets.environment import global_numpy_seed, make_raw_env
from zoo.datasets.files import dataset_files
from zoo.datasets.names import parse_env_name
from zoo.envs.make import without_startup_noise


def draw_states(env_name: str, rows: Iterable[int], dataset_dir: str | Path | None = None) -> dict[int, np.ndarray]:
    """Draw states of a dataset.

    :param env_name: a single-task environment of OGBench without images; its dataset must be there and sound.
    :param rows: where the states are in it.
    :param dataset_dir: where the dataset is.
    :return: row -> picture, (H, W, 3) of uint8.
    """
    name = parse_env_name(env_name)
    with np.load(dataset_files(name.dataset, dataset_dir)[0]) as file:
        state = [file[key] for key in ("qpos", "qvel", "button_states") if key in file]
    env = make_raw_env(name.env_id, render_mode="rgb_array")
    with contextlib.closing(env), without_startup_noise(), global_numpy_seed(0):  # mazes draw a start from it
        env.reset(seed=0)
        return {row: _draw(env, [array[row] for array in state]) for row in rows}


def _draw(env: Any, state: list[np.ndarray]) -> np.ndarray:
    env.unwrapped.set_state(*state)
    picture: np.ndarray = env.render()
    return picture
