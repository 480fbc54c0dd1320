"""Films and what they show: every episode as an evaluation plays it, and what a policy thinks."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_equal

from tests.zoo.models.conftest import ENV, STEPS, maze_model
from tests.zoo.outcomes import refuses
from zoo.algorithms.baselines import SAC
from zoo.datasets.names import gym_id
from zoo.envs.make import make_env
from zoo.envs.rendering import prepare_drawing
from zoo.models.agent import Agent, agent_of_run, find_run, play
from zoo.watching.film import AGENT, ENTRANCE, EXIT, GOAL, HEAD, Film, find_maze
from zoo.watching.stage import MIN_SAMPLES, PolicyInspector, RolloutSimulator, Stage

TELEPORTS = "pointmaze-teleport-navigate-singletask-task1-v0"


def agent_of(id, episodes=2, **settings):
    """Return an untrained agent that plays a maze for some episodes."""
    policy = maze_model(id, seed=3, **settings).policy
    return Agent(id, policy, Path("here"), ENV, STEPS, episodes)


def plans_of(agent):
    """Return what the agent plans in its first state, and the episode."""
    stage = Stage(agent)
    (episode,) = next(stage.play())
    return PolicyInspector(agent.policy).sample(episode), episode


def frames_of(film, interval=1):
    """Return (picture, whether it is the last of an episode) of every so many steps."""
    frames = list(film.pictures(interval))
    film.close()
    return frames


def has_colour(image, colour):
    return bool((image == list(bytes.fromhex(colour[1:]))).all(-1).any())


def test_without_a_camera_a_maze_is_a_map_with_agent_and_goal():
    frames = frames_of(Film(agent_of("qam"), has_camera=False), interval=4)
    assert [is_last for _, is_last in frames] == ([False] * 3 + [True]) * 2
    for frame, _ in frames:
        assert frame.shape == (480 + HEAD, 480, 3)
        assert has_colour(frame, AGENT)
        assert has_colour(frame, GOAL)
    assert (frames[0][0] != frames[3][0]).any()


def test_a_grid_shows_as_many_episodes_and_leaves_places_empty():
    frames = frames_of(Film(agent_of("qam", 3), grid=(1, 2), has_camera=False), interval=12)
    pair, *_, single = (frame for frame, _ in frames)
    assert pair.shape == single.shape == (256 + HEAD, 2 * 256, 3)
    assert has_colour(pair[:, 260:], AGENT)
    assert has_colour(single[:, :256], AGENT)
    assert (single[HEAD:, 260:] == 255).all()


@pytest.mark.parametrize("id", ["qam", "bc"])
def test_thoughts_are_shown_beside_the_map(id):
    frames = frames_of(Film(agent_of(id, 1), explain=True, has_camera=False), interval=6)
    for frame, _ in frames:
        assert frame.shape == (560 + HEAD, 2 * 560, 3)
        assert (frame[HEAD:, 560:] != 255).any()


def test_thoughts_of_others_than_flow_policies_are_refused():
    env = make_env("pointmaze-medium-singletask-task1-v0", **STEPS)
    policy = SAC("MlpPolicy", env, buffer_size=10).policy
    with refuses("`--explain` shows the plans of a flow policy, got sac"):
        Film(Agent("sac", policy, Path("here"), ENV, STEPS, 1), explain=True)


def test_a_maze_is_shown_whole_with_its_teleports():
    env = make_env(gym_id(TELEPORTS))
    maze = find_maze(env)
    assert maze is env.env.unwrapped
    frames = frames_of(
        Film(replace(agent_of("qam", 1), env=TELEPORTS), has_camera=False), interval=99
    )
    for frame, _ in frames:
        assert has_colour(frame, ENTRANCE)
        assert has_colour(frame, EXIT)
    prepare_drawing(maze)
    height = maze.custom_camera.distance - 2  # above the walls
    assert 48 < 2 * math.tan(math.radians(45) / 2) * height < 50  # 12 cells of 4 metres
    wall = maze.model.mat("wall").rgba
    assert wall.max() == 1 > wall[:3].max()
    env.close()


@pytest.mark.parametrize("episodes", [3, 9])
def test_step_by_step_has_the_results_of_an_evaluation(logs, episodes):
    agent = agent_of_run(find_run(logs, "qam", ENV))
    stage = Stage(agent, episodes)
    assert len(stage.envs) == min(episodes, 4)
    moments = [(shown[0].totals.length, shown[0].has_new_chunk) for shown in stage.play()]
    assert [length for length, _ in moments[:13]] == list(range(13))
    assert [length for length, is_new in moments[:13] if is_new] == [0, 3, 6, 9]
    expected, _ = play(agent, n_envs=1)
    assert_equal(vars(stage.results()), vars(expected))
    stage.close()


@pytest.mark.parametrize(
    ("id", "settings", "stages"),
    [
        ("qam", {"flow_steps": 3}, 4),
        ("qgf", {"flow_steps": 3}, 4),
        ("bc", {"flow_steps": 3}, 4),
        ("fql", {}, 2),
        ("rebrac", {}, 1),
        ("ifql", {"flow_steps": 3, "best_of_n": 20}, 4),  # all candidates are shown
    ],
)
def test_the_played_chunk_is_among_the_thoughts(id, settings, stages):
    plans, episode = plans_of(agent_of(id, **settings))
    samples = max(MIN_SAMPLES, settings.get("best_of_n", 0))
    assert_allclose(plans.chunks[plans.played], episode.chunk, atol=1e-5)
    assert plans.chunks.shape == (samples, 3, 2)
    assert [stage.shape for stage in plans.stages] == [(samples, 2)] * stages
    assert (plans.values is None) == (id == "bc")
    if id == "ifql":
        assert plans.played == plans.values.argmax()


def test_thinking_changes_no_episode():
    agent = agent_of("qam")
    returns = []
    for thinks in (True, False):
        stage = Stage(agent)
        inspector = PolicyInspector(agent.policy)
        simulator = RolloutSimulator(agent)
        for episodes in stage.play():
            if thinks and not episodes[0].is_over:
                simulator.paths(episodes[0].env, inspector.sample(episodes[0]).chunks)
        returns.append((stage.results().returns, episodes[0].observation))
        simulator.close()
    assert_equal(*returns)


def test_the_imagined_path_of_the_played_chunk_is_the_one_that_is_taken():
    agent = agent_of("qam", 1)
    simulator = RolloutSimulator(agent)
    places = []
    for (episode,) in Stage(agent).play():
        if episode.has_new_chunk and not places:
            (path,) = simulator.paths(episode.env, episode.chunk[None])
        places.append(np.array(episode.env.env.unwrapped.get_xy()))
    assert_allclose(path, places[: len(path)], atol=1e-9)
    assert np.abs(path - path[0]).max() > 0.01
