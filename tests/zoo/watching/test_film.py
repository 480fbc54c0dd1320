"""A film shows every episode, from its first moment to its end."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.zoo.models.conftest import ENV, STEPS, maze_model
from zoo.baselines import SAC
from zoo.envs.make import make_env
from zoo.envs.rendering import prepare_drawing
from zoo.errors import UsageError
from zoo.models.agent import Agent
from zoo.watching import film
from zoo.watching.film import Film, find_maze
from zoo.watching.pictures import AGENT, CAPTION, GOAL, draw_caption


def agent_of(id: str = "qam", episodes: int = 2, **more: Any) -> Agent:
    policy = maze_model(id, seed=3).policy
    return replace(Agent(id, policy, Path("here"), ENV, STEPS, episodes), **more)


def shot(shown: Film, every: int = 1) -> list[tuple[np.ndarray, bool]]:
    found = [(np.asarray(picture), is_last) for picture, is_last in shown.pictures(every)]
    shown.close()
    return found


def has(image: np.ndarray, colour: tuple[int, int, int]) -> bool:
    return bool((image == colour).all(-1).any())


def test_without_a_camera_a_maze_is_a_map_with_agent_and_goal() -> None:
    frames = shot(Film(agent_of(), has_camera=False))
    assert [is_last for _, is_last in frames] == ([False] * 12 + [True]) * 2
    assert all(frame.shape == (480 + 2 * CAPTION, 480, 3) for frame, _ in frames)
    assert all(has(frame, AGENT) and has(frame, GOAL) for frame, _ in frames)
    assert (frames[0][0] != frames[12][0]).any()


def test_a_grid_shows_as_many_episodes_and_leaves_places_empty() -> None:
    frames = shot(Film(agent_of(episodes=3), grid=(1, 2), has_camera=False), every=12)
    assert len({frame.shape for frame, _ in frames}) == 1
    both, alone = frames[0][0], frames[-1][0]
    assert both.shape == (256 + 2 * CAPTION, 2 * 256 + 4, 3)
    assert has(both[:, 260:], AGENT)
    assert has(alone[:, :256], AGENT)
    assert (alone[:-CAPTION, 260:] == 255).all()


def test_the_episodes_that_have_succeeded_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    captions = []
    monkeypatch.setattr(film, "draw_caption", lambda *words: captions.append(words[1:3]) or draw_caption(*words))
    shot(Film(agent_of(episodes=3), grid=(1, 2), has_camera=False), every=12)
    told = [tally for text, tally in captions if text == "qam in pointmaze-medium-navigate task1"]
    assert told == ["", "0 of 2 succeeded", "0 of 2 succeeded", "0 of 3 succeeded"]


@pytest.mark.parametrize("id", ["qam", "bc", "rebrac"])
def test_thoughts_are_shown_beside_the_map(id: str) -> None:
    frames = shot(Film(agent_of(id, episodes=1), explain=True, has_camera=False), every=6)
    assert {frame.shape for frame, _ in frames} == {(512 + 2 * CAPTION, 512 + 448, 3)}
    assert all((frame[:512, 512:] != 255).any() for frame, _ in frames)


def test_thoughts_of_others_than_flow_policies_are_refused() -> None:
    env = make_env("pointmaze-medium-singletask-task1-v0", **STEPS)
    policy = SAC("MlpPolicy", env, buffer_size=10).policy
    with pytest.raises(UsageError, match="`--explain` shows how flow policies think, got sac"):
        Film(Agent("sac", policy, Path("here"), ENV, STEPS, 1), explain=True)


def test_a_maze_is_shown_whole_with_its_teleports() -> None:
    env = make_env("pointmaze-teleport-singletask-task1-v0")
    maze = find_maze(env)
    assert maze is not None
    assert [len(places) for places in maze.gates] == [2, 3]
    raw = env.env.unwrapped
    prepare_drawing(raw)
    metres = 2 * math.tan(math.radians(45) / 2) * (raw.custom_camera.distance - 2)  # at the height of the walls
    assert 48 < metres < 50  # 12 cells of 4 metres
    assert raw.model.mat("wall").rgba.max() == 1 > raw.model.mat("wall").rgba[:3].max()
    env.close()
