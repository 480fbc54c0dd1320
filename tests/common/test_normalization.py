"""`VecNormalize`: a model keeps its statistics, so that it acts as it was trained."""

import numpy as np
import pytest
import torch
from gymnasium import spaces
from numpy.testing import assert_allclose, assert_array_equal
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

import agents
from agents.common.normalization import normalized_env, raw_observations
from tests.common.toys import act, normals, reloaded, tiny_model, toy_dataset
from tests.envs import SpacesEnv, space_env_of

OBSERVATIONS = 7 + 3 * normals(5, 4).numpy()


class ShiftedEnv(SpacesEnv):
    """Returns observations around 7 with standard deviations of 1, 2, 3 and 4."""

    def _observe(self):
        return 7 + np.arange(1, 5, dtype=np.float32) * super()._observe()


def vector():
    return DummyVecEnv([ShiftedEnv])


@pytest.fixture(scope="module")
def trained():
    model = tiny_model(
        env=VecNormalize(vector(), clip_obs=2.0), horizon_length=1, learning_starts=5
    )
    return model.learn(40)


@pytest.fixture(scope="module")
def file(trained, tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "model.zip"
    trained.save(path)
    return path


def expected(model):
    """Return a model's action in its normalised environment."""
    return act(model, model.get_vec_normalize_env().normalize_obs(OBSERVATIONS))


def test_a_loaded_model_normalises_environment_as_it_was_trained(trained, file):
    later = agents.load(file)
    later.set_env(ShiftedEnv())
    trained_env = trained.get_vec_normalize_env()
    for model in (agents.load(file, vector()), later):
        env = model.get_vec_normalize_env()
        assert env.training
        normalized = trained_env.normalize_obs(OBSERVATIONS)
        assert_array_equal(env.normalize_obs(OBSERVATIONS), normalized)
        assert env.normalize_reward(np.ones(1)) == trained_env.normalize_reward(np.ones(1))


def test_frozen_statistics_stay_frozen_and_serve_data_alone(trained, file, tmp_path, monkeypatch):
    monkeypatch.setattr(trained.get_vec_normalize_env(), "training", False)
    loaded = reloaded(trained, tmp_path, vector())
    assert not loaded.get_vec_normalize_env().training
    agents.load(file).learn_offline(2, dataset=toy_dataset())


def test_environment_that_is_normalised_keeps_its_own_statistics(file, trained):
    fresh = VecNormalize(vector(), training=False)
    assert agents.load(file, fresh).get_env() is fresh
    assert_array_equal(fresh.obs_rms.mean, trained.get_vec_normalize_env().obs_rms.mean)
    gathered = VecNormalize(vector())
    gathered.reset()
    gathered.step(np.zeros((1, 2)))
    mean = gathered.obs_rms.mean.copy()
    agents.load(file, gathered)
    assert_array_equal(gathered.obs_rms.mean, mean)


def test_without_an_environment_the_statistics_are_at_hand(trained, file):
    model = agents.load(file)
    normalized = model.normalization.observations(OBSERVATIONS)
    assert_array_equal(act(model, normalized), expected(trained))
    assert tiny_model().normalization is None


def test_a_policy_for_acting_takes_raw_observations(trained, file, tmp_path):
    agents.load(file).save_policy(tmp_path / "policy.safetensors")
    policy = agents.load_policy(tmp_path / "policy.safetensors")
    assert_array_equal(act(policy, OBSERVATIONS), expected(trained))


def test_a_policy_takes_raw_observations_inside_a_block_alone(trained):
    played = expected(trained)
    with raw_observations(trained) as policy:
        for acting in (policy, policy.replica(0)):
            assert_array_equal(act(acting, OBSERVATIONS), played)
    assert_array_equal(expected(trained), played)


def test_of_a_dict_only_the_normalised_parts_are_normalised():
    space = spaces.Dict({"a": spaces.Box(-9, 9, (2,)), "b": spaces.Box(-9, 9, (1,))})
    env = VecNormalize(
        DummyVecEnv([lambda: space_env_of(space)]), norm_obs_keys=["a"], clip_obs=np.inf
    )
    model = tiny_model(
        env=env, policy="MultiInputPolicy", horizon_length=1, learning_starts=50
    ).learn(20)
    buffer, rows = model.replay_buffer, torch.arange(5).view(1, 5, 1)
    stored, batch = buffer._get_samples(rows), buffer._get_samples(rows, env)
    assert_allclose(batch.rewards, env.normalize_reward(stored.rewards.numpy()), rtol=1e-5)
    for name in ("observations", "next_observations"):
        parts = buffer.layout.observations(getattr(stored, name)[0].numpy())
        expected = np.hstack([*env.normalize_obs(parts).values()])
        assert_allclose(getattr(batch, name)[0], expected, rtol=1e-5, atol=1e-6)
    observation = {key: value[None] for key, value in space.sample().items()}
    normalized = env.normalize_obs(observation)
    for key, part in model.normalization.observations(observation).items():
        assert_array_equal(part, normalized[key])
    played = act(model, normalized)
    with raw_observations(model) as policy:
        assert_array_equal(act(policy, observation), played)


def test_normalized_environments_are_made_as_rl_zoo_says():
    env = vector()
    assert normalized_env(env, False, gamma=0.9) is env
    normalized = normalized_env(env, {"norm_reward": False, "clip_obs": 5.0}, gamma=0.9)
    options = normalized.norm_obs, normalized.norm_reward, normalized.clip_obs, normalized.gamma
    assert options == (True, False, 5.0, 0.9)
