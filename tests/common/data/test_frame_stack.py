"""Frames stored once and stacked at sampling, compared with an environment that stacks frames."""

import pickle

import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.wrappers import TransformObservation
from numpy.testing import assert_array_equal
from stable_baselines3.common.vec_env import VecTransposeImage

import agents
from agents.common.data.buffer import SequenceReplayBuffer
from agents.common.frames import FrameStack
from tests.common.data.helpers import compacted
from tests.common.toys import TINY, refuses, seeded
from tests.envs import PicturesEnv, SpacesEnv, space_env_of

SIDE, K, LENGTH = 16, 3, 8


def play(seed):
    """Return an episode's stacked observations, channels first, and its actions, which encode episode and step."""
    env = FrameStack(PicturesEnv(SIDE, LENGTH), K)
    observations = [env.reset(seed=seed)[0]]
    actions = np.array([[seed, step] for step in range(LENGTH)], np.float32) / 100
    for action in actions:
        observations.append(env.step(action)[0])
    return np.moveaxis(np.stack(observations), -1, 1), actions


EPISODES = [play(seed) for seed in range(5)]


def dataset_of(count, layout="compact"):
    """Return the first episodes as a dataset of single frames, channels last."""
    frames = np.stack([observations[:, -3:] for observations, _ in EPISODES[:count]])
    frames = np.moveaxis(frames, 2, -1)
    rows = count * LENGTH
    dataset = {
        "observations": frames[:, :-1].reshape(rows, SIDE, SIDE, 3),
        "next_observations": frames[:, 1:].reshape(rows, SIDE, SIDE, 3),
        "actions": np.concatenate([actions for _, actions in EPISODES[:count]]),
        "rewards": np.zeros(rows),
        "masks": np.ones(rows),
        "terminals": np.arange(rows) % LENGTH == LENGTH - 1,
    }
    if layout == "compact":
        dataset = compacted(dataset)
        dataset["observations"] = dataset["observations"].astype(np.uint8)
    return dataset


def buffer_of(size=50, **settings):
    env = PicturesEnv(SIDE)
    space = VecTransposeImage.transpose_space(FrameStack(env, K).observation_space)
    return SequenceReplayBuffer(size, space, env.action_space, "cpu", frame_stack=K, **settings)


def add(buffer, *seeds, steps=range(LENGTH)):
    """Add steps of one episode in each environment; a time limit truncates the episodes."""
    for step in steps:
        observations = [EPISODES[seed][0][step : step + 2] for seed in seeds]
        actions = np.array([EPISODES[seed][1][step] for seed in seeds])
        ends = np.full(len(seeds), step == LENGTH - 1)
        infos = [{"TimeLimit.truncated": True}] * len(seeds)
        buffer.add(*np.stack(observations, 1), actions, np.zeros(len(seeds)), ends, infos)


def sampled_starts(buffer, draws=200):
    """Compare sampled observations with the episodes' observations; return replica, seed and step of each start."""
    batch = buffer.draw(draws, generator=seeded())
    starts = set()
    for index in np.ndindex(*batch.rewards.shape):
        seed, step = (100 * batch.actions[index][:2]).round().int().tolist()
        observations, _ = EPISODES[seed]
        next_step = min(step + buffer.horizon_length, LENGTH)
        assert_array_equal(batch.observations[index], observations[step].ravel())
        assert_array_equal(batch.next_observations[index], observations[next_step].ravel())
        starts.add((index[0], seed, step))
    return starts


@pytest.mark.parametrize("layout", ["compact", "regular"])
@pytest.mark.parametrize("horizon", [1, 4])
def test_single_frames_give_what_the_environment_returned(horizon, layout):
    buffer = buffer_of(10, horizon_length=horizon)
    buffer.load_dataset(dataset_of(3, layout))
    starts = sampled_starts(buffer)
    assert len(starts) == 3 * LENGTH - horizon + 1, "each row that a chunk fits after begins one"


@pytest.mark.parametrize("size", [11, 16, 21])
def test_a_full_ring_has_all_frames_of_what_it_gives(size):
    buffer = buffer_of(size)
    for seed in range(5):
        add(buffer, seed)
    assert buffer.full
    starts = sampled_starts(buffer, draws=400)
    assert len(starts) == size - (K - 1), "the oldest rows may lack frames"
    assert buffer.count_starts() == len(starts)
    with refuses(f"`buffer_size` must be at least {K} "):
        buffer_of(K - 1).require_capacity()


def test_several_environments_and_seeds_keep_their_frames_apart():
    buffer = buffer_of(60, n_envs=4, replicas=2, horizon_length=2)
    add(buffer, 0, 1, 2, 3)
    steps = range(LENGTH - 1)
    assert sampled_starts(buffer) == {
        (seed // 2, seed, step) for seed in range(4) for step in steps
    }


def test_single_frames_are_stored_as_uint8():
    buffer = buffer_of(10)
    buffer.load_dataset(dataset_of(2))
    # the dataset with its final observations, and the ring buffer with the frames before and after its transitions
    rows = 2 * LENGTH + 2 + 10 + 10
    assert buffer.observations.dtype == torch.uint8
    assert buffer.observations.nbytes == rows * 3 * SIDE * SIDE


def test_a_buffer_and_its_online_state_are_taken_back():
    source, restored = buffer_of(20), buffer_of(20)
    for buffer in (source, restored):
        buffer.load_dataset(dataset_of(1))
    add(source, 1)
    add(source, 2, steps=range(4))
    restored.restore_online_state(source.online_state())
    for buffer in (source, restored, pickle.loads(pickle.dumps(source))):
        add(buffer, 2, steps=range(4, LENGTH))  # the episode continues
        assert {(0, 2, step) for step in range(LENGTH)} <= sampled_starts(buffer)


def test_an_episode_that_begins_with_different_frames_is_refused():
    with refuses(r"`agents.FrameStack\(env, 3\)`"):
        add(buffer_of(), 0, steps=[3])


def test_an_environment_that_does_not_stack_is_refused():
    for env in (PicturesEnv(SIDE), SpacesEnv()):
        with refuses(r"`agents.FrameStack\(env, 2\)`"):
            agents.QAM("MlpPolicy", env, **{**TINY, "frame_stack": 2})


# -- the environment that stacks frames -------------------------------------------------------------------------------


def played(env, steps):
    """Return the observations of an episode."""
    observations = [env.reset(seed=0)[0]]
    for _ in range(steps):
        observations.append(env.step(env.action_space.low)[0])
    return observations


@pytest.mark.parametrize("is_first", [True, False])
def test_observation_is_newest_frames_and_first_one_is_repeated(is_first):
    env = PicturesEnv(channels_first=is_first)
    frames = played(env, 4)
    picture = frames[0].copy()
    # as an environment that draws every frame into the same array
    drawn = TransformObservation(env, lambda new: np.copyto(picture, new) or picture, None)
    stacked = played(FrameStack(drawn, 3), 4)
    axis = 0 if is_first else -1
    for step, observation in enumerate(stacked):
        expected = [frames[max(step - back, 0)] for back in (2, 1, 0)]
        assert_array_equal(observation, np.concatenate(expected, axis))


@pytest.mark.parametrize(
    ("space", "message"),
    [
        (spaces.Box(0, 1, (16, 16, 3), np.float32), "uint8 from 0 to 255"),
        (spaces.Box(0, 255, (8, 8, 3), np.uint8), "the 9 channels of 3 frames"),
    ],
)
def test_other_observations_are_refused(space, message):
    with refuses(message):
        FrameStack(space_env_of(space), 3)
