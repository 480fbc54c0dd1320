"""Returns of `n_steps`: those of SB3's own buffer, and a model that draws them."""

import numpy as np
import pytest
from stable_baselines3.common.buffers import NStepReplayBuffer
from torch.testing import assert_close

import agents
from tests.common.data.helpers import Recorder, all_sequences, empty_buffer
from tests.common.toys import TINY, refuses, reloaded
from tests.envs import SpacesEnv

SIZE, GAMMA = 12, 0.9


@pytest.mark.parametrize("n_steps", [1, 3, 5, 20])
@pytest.mark.parametrize("steps", [1, 7, SIZE, 31], ids="{} added".format)
def test_returns_equal_those_of_sb3s_buffer(steps, n_steps):
    ours = empty_buffer(
        SIZE, horizon_length=n_steps, action_chunking=False, gamma=GAMMA, shorten_returns=True
    )
    spaces = ours.observation_space, ours.action_space
    sb3_buffer = NStepReplayBuffer(SIZE, *spaces, "cpu", n_steps=n_steps, gamma=GAMMA)
    recorders = Recorder(ours), Recorder(sb3_buffer)
    random = np.random.default_rng(n_steps)
    for _ in range(steps):
        ending = random.choice([None, "terminated", "truncated"], p=[0.7, 0.15, 0.15])
        reward = random.normal()
        for recorder in recorders:
            recorder.add({0: ending}, reward)
    batch = all_sequences(ours)
    oldest = sb3_buffer.pos if sb3_buffer.full else 0
    expected = sb3_buffer._get_samples((np.arange(sb3_buffer.size()) + oldest) % SIZE)
    for name in ("observations", "actions", "next_observations"):
        assert_close(getattr(batch, name)[0], getattr(expected, name))
    assert_close(batch.rewards[0], expected.rewards[:, 0])
    assert_close(batch.discounts[0], (expected.discounts * (1 - expected.dones))[:, 0])
    assert batch.valid.all()


def test_a_model_made_with_n_steps_draws_such_returns_and_stays_so_when_it_is_saved(tmp_path):
    settings = {name: value for name, value in TINY.items() if name != "horizon_length"}
    model = agents.QAM("MlpPolicy", SpacesEnv(), n_steps=3, **settings)
    for restored in (model, reloaded(model, tmp_path, SpacesEnv())):
        assert restored.n_steps == restored.horizon_length == 3
        assert restored.action_chunking is False
        assert restored.policy.chunk_length == 1
        assert restored.replay_buffer.shorten_returns
        assert restored.replay_buffer.horizon_length == 3


def test_shortened_returns_of_chunks_are_refused():
    with refuses("`shorten_returns` is for single actions"):
        agents.QAM("MlpPolicy", SpacesEnv(), horizon_length=3, shorten_returns=True)
