"""Returns of `n_steps`: those of SB3's own buffer, and what a critic learns from them at the end of an episode."""

import numpy as np
import pytest
from stable_baselines3.common.buffers import NStepReplayBuffer
from torch.testing import assert_close

import agents
from tests.common.data.helpers import all_rows, empty_buffer
from tests.common.toys import TINY
from tests.envs import SpacesEnv

SIZE, GAMMA = 12, 0.9
SETTINGS = {name: value for name, value in TINY.items() if name != "horizon_length"}


def filled(seed, steps, n_steps):
    """Return our buffer and SB3's with the same transitions, some of which terminate or are cut off."""
    ours = empty_buffer(
        SIZE, horizon_length=n_steps, action_chunking=False, gamma=GAMMA, shorten_returns=True
    )
    sb3_buffer = NStepReplayBuffer(
        SIZE, ours.observation_space, ours.action_space, "cpu", n_steps=n_steps, gamma=GAMMA
    )
    random = np.random.default_rng(seed)
    for step in range(steps):
        observation, next_observation = (
            np.array([[value]], np.float32) for value in (10 * step, 10 * step + 10)
        )
        ending = random.choice(["goes on", "terminated", "truncated"], p=[0.7, 0.15, 0.15])
        infos = [{"TimeLimit.truncated": ending == "truncated"}]
        columns = (
            random.uniform(-1, 1, (1, 1)).astype(np.float32),
            random.normal(size=1),
            np.array([ending != "goes on"]),
        )
        for buffer in (ours, sb3_buffer):
            buffer.add(observation, next_observation, *columns, infos)
    return ours, sb3_buffer


@pytest.mark.parametrize("n_steps", [1, 3, 5, 20])
@pytest.mark.parametrize("steps", [1, 7, SIZE, 31], ids="{} added".format)
def test_returns_equal_those_of_sb3s_buffer(steps, n_steps):
    ours, sb3_buffer = filled(seed=n_steps, steps=steps, n_steps=n_steps)
    batch = ours.batch_of(all_rows(ours))
    expected = sb3_buffer._get_samples(
        (np.arange(sb3_buffer.size()) + (sb3_buffer.pos if sb3_buffer.full else 0)) % SIZE
    )
    assert_close(batch.observations[0], expected.observations)
    assert_close(batch.actions[0], expected.actions)
    assert_close(batch.rewards[0], expected.rewards[:, 0])
    assert_close(batch.discounts[0], (expected.discounts * (1 - expected.dones))[:, 0])
    assert_close(batch.next_observations[0], expected.next_observations)
    assert batch.valid.all()


def test_a_model_made_with_n_steps_draws_such_returns_and_stays_so_when_it_is_saved(tmp_path):
    model = agents.QAM("MlpPolicy", SpacesEnv(4, 2), n_steps=3, **SETTINGS)
    model.save(tmp_path / "model")
    for restored in (model, agents.QAM.load(tmp_path / "model", env=SpacesEnv(4, 2))):
        assert restored.n_steps == 3
        assert restored.horizon_length == 3
        assert restored.action_chunking is False
        assert restored.policy.chunk_length == 1
        assert restored.replay_buffer.shorten_returns
        assert isinstance(restored.replay_buffer, NStepReplayBuffer)
        assert restored.replay_buffer.n_steps == 3


def test_shortened_returns_of_chunks_are_refused():
    with pytest.raises(ValueError, match="`shorten_returns` is for single actions"):
        agents.QAM("MlpPolicy", SpacesEnv(4, 2), horizon_length=3, shorten_returns=True)
