"""Frames stored once and stacked when they are sampled, against what an environment that stacks them returns."""

import pickle

import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal
from stable_baselines3.common.vec_env import VecTransposeImage

import agents
from agents.common.data.buffer import SequenceReplayBuffer
from agents.common.frames import FrameStack
from tests.common.data.helpers import compacted
from tests.common.toys import TINY
from tests.envs import PicturesEnv

SIDE, K, LENGTH = 16, 3, 8
SPACE = VecTransposeImage.transpose_space(FrameStack(PicturesEnv(SIDE), K).observation_space)
ACTIONS = PicturesEnv(SIDE).action_space


def play(seed, frames=K):
    """Return an episode in an environment that stacks frames, channels first; its actions are numbered."""
    env = FrameStack(PicturesEnv(SIDE, LENGTH), frames)
    observations, actions, rewards = [env.reset(seed=seed)[0]], [], []
    for step in range(LENGTH):
        actions.append(np.array([seed / 100, step / 100], np.float32))
        observation, reward, *_ = env.step(actions[-1])
        observations.append(observation)
        rewards.append(reward)
    observations = np.moveaxis(np.stack(observations), -1, 1)
    return {
        "observations": observations,
        "actions": np.array(actions),
        "rewards": np.array(rewards, np.float32),
    }


def dataset_of(count, layout="compact"):
    """Return the first episodes in single frames, channels last, as a dataset."""
    episodes = [play(seed, frames=1) for seed in range(count)]
    frames = [np.moveaxis(episode["observations"], 1, -1) for episode in episodes]
    dataset = {
        name: np.concatenate([episode[name] for episode in episodes])
        for name in ("actions", "rewards")
    }
    dataset |= {
        "masks": np.ones(len(dataset["rewards"])),
        "observations": np.concatenate([frame_rows[:-1] for frame_rows in frames]),
    }
    dataset["next_observations"] = np.concatenate([frame_rows[1:] for frame_rows in frames])
    dataset["terminals"] = np.concatenate(
        [np.arange(1, len(frame_rows)) == len(frame_rows) - 1 for frame_rows in frames]
    )
    if layout == "compact":
        dataset = compacted(dataset)
        dataset["observations"] = dataset["observations"].astype(np.uint8)
    return dataset


def buffer_of(size=50, **settings):
    return SequenceReplayBuffer(
        size, SPACE, ACTIONS, **{"device": "cpu", "frame_stack": K, **settings}
    )


def add(buffer, episode, steps=None):
    """Add an episode of the only environment, which a time limit ends."""
    observations, length = episode["observations"], len(episode["actions"])
    for step in range(length if steps is None else steps):
        ends = step == length - 1
        infos = [{"TimeLimit.truncated": ends}]
        transition = (
            observations[step],
            observations[step + 1],
            episode["actions"][step],
            episode["rewards"][step],
            ends,
        )
        buffer.add(*(np.asarray(value)[None] for value in transition), infos)


def require_as_seen(buffer, episodes, horizon, draws=200):
    """Compare sampled observations with those of the episodes, found by their numbered actions; return the starts."""
    batch = buffer.sample(draws, generator=torch.Generator().manual_seed(0))
    starts = set()
    for row in range(draws):
        seed, step = (round(float(value) * 100) for value in batch.actions[0, row, :2])
        observations = episodes[seed]["observations"]
        last_step = min(step + horizon, len(observations) - 1)
        assert_array_equal(batch.observations[0, row], observations[step].ravel())
        assert_array_equal(batch.next_observations[0, row], observations[last_step].ravel())
        starts.add((seed, step))
    return starts


@pytest.mark.parametrize("storage", ["device", "host"])
@pytest.mark.parametrize("layout", ["compact", "regular"])
@pytest.mark.parametrize("horizon", [1, 4])
def test_a_dataset_of_single_frames_gives_what_the_environment_returned(horizon, layout, storage):
    stacked = {seed: play(seed) for seed in range(3)}
    buffer = buffer_of(horizon_length=horizon, storage=storage)
    buffer.load_dataset(dataset_of(3, layout))
    starts = require_as_seen(buffer, stacked, horizon)
    assert len(starts) == 3 * LENGTH - horizon + 1, "each row that a chunk fits after begins one"
    require_as_seen(buffer, stacked, horizon)  # on a host prepared while the first one was used


@pytest.mark.parametrize("horizon", [1, 3])
def test_online_frames_follow_those_of_a_dataset(horizon):
    buffer = buffer_of(horizon_length=horizon)
    buffer.load_dataset(dataset_of(1))
    episodes = {seed: play(seed) for seed in range(4)}
    for seed in (1, 2):
        add(buffer, episodes[seed])
    add(buffer, episodes[3], steps=5)  # goes on
    starts = require_as_seen(
        buffer, episodes | {3: {"observations": episodes[3]["observations"][:6]}}, horizon
    )
    assert {seed for seed, _ in starts} == {0, 1, 2, 3}


@pytest.mark.parametrize("size", [11, 16, 21])
def test_a_full_ring_has_all_frames_of_what_it_gives(size):
    buffer = buffer_of(size)
    episodes = {seed: play(seed) for seed in range(5)}
    for episode in episodes.values():
        add(buffer, episode)
    assert buffer.full
    starts = require_as_seen(buffer, episodes, 1, draws=400)
    assert len(starts) == size - (K - 1), "the oldest rows may lack frames"
    assert buffer.count_starts() == len(starts)


def test_several_environments_and_seeds_keep_their_frames_apart():
    buffer = buffer_of(60, n_envs=4, replicas=2, horizon_length=2)
    episodes = {seed: play(seed) for seed in range(4)}
    for step in range(LENGTH):
        played = [episodes[seed] for seed in range(4)]
        both_observations = (
            [episode["observations"][step + offset] for episode in played] for offset in (0, 1)
        )
        actions = np.array([episode["actions"][step] for episode in played])
        ends = np.full(4, step == LENGTH - 1)
        buffer.add(
            *map(np.array, both_observations),
            actions,
            np.zeros(4),
            ends,
            [{"TimeLimit.truncated": True}] * 4,
        )
    batch = buffer.sample(60, generator=torch.Generator().manual_seed(0))
    for replica, row in np.ndindex(2, 60):
        seed, step = (round(float(value) * 100) for value in batch.actions[replica, row, :2])
        assert seed // 2 == replica
        assert_array_equal(
            batch.observations[replica, row], episodes[seed]["observations"][step].ravel()
        )


def test_single_frames_are_stored_as_uint8():
    buffer = buffer_of(10)
    buffer.load_dataset(dataset_of(2))
    rows = (
        2 * LENGTH + 10 + 2 + 10
    )  # the dataset, the ring, a last one for each trajectory, what follows each online
    assert buffer.observations.dtype == torch.uint8
    assert buffer.observations.nbytes == rows * 3 * SIDE * SIDE


def test_a_buffer_and_its_online_state_are_taken_back():
    episodes = {seed: play(seed) for seed in range(3)}
    buffers = [buffer_of(20), buffer_of(20)]
    for buffer in buffers:
        buffer.load_dataset(dataset_of(1))
    add(buffers[0], episodes[1])
    add(buffers[0], episodes[2], steps=4)
    buffers[1].restore_online_state(buffers[0].online_state())
    for buffer in (*buffers, pickle.loads(pickle.dumps(buffers[0]))):
        add_rest = {name: value[4:] for name, value in episodes[2].items()}
        add(buffer, add_rest)  # the episode goes on
        assert {2} <= {seed for seed, _ in require_as_seen(buffer, episodes, 1)}


def test_an_episode_that_begins_with_different_frames_is_refused():
    middle = {name: value[3:] for name, value in play(0).items()}
    with pytest.raises(ValueError, match=r"`agents.FrameStack\(env, 3\)`"):
        add(buffer_of(), middle)


# -- models -----------------------------------------------------------------------------------------------------------


def test_an_environment_that_does_not_stack_is_refused():
    with pytest.raises(ValueError, match=r"`agents.FrameStack\(env, 2\)`"):
        agents.QAM("CnnPolicy", PicturesEnv(SIDE), **{**TINY, "frame_stack": 2})
