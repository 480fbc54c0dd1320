"""`VecNormalize`: a model keeps its statistics, and what was trained is what is played."""

import numpy as np
import pytest
import torch
from gymnasium import spaces
from numpy.testing import assert_allclose, assert_array_equal
from stable_baselines3.common.noise import NormalActionNoise, OrnsteinUhlenbeckActionNoise
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

import agents
from agents.common.engine.checkpoint import load_checkpoint, save_checkpoint
from agents.common.normalization import named_action_noise, normalized_env, raw_observations
from agents.common.sb3.exporting import ExportedPolicy
from tests.common.toys import tiny_model
from tests.envs import SpacesEnv


class ShiftedEnv(SpacesEnv):
    """Returns observations around 7 with standard deviations of 1, 2, 3 and 4."""

    def __init__(self):
        super().__init__(4, 2)

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


def observations(rows=5):
    return 7 + 3 * np.random.default_rng(0).standard_normal((rows, 4)).astype(np.float32)


def expected(model):
    """Return what a model plays in its normalised environment."""
    return model.predict(
        model.get_vec_normalize_env().normalize_obs(observations()), deterministic=True
    )[0]


def test_a_loaded_model_normalises_an_environment_as_it_was_trained(trained, file):
    env = agents.load(file, vector()).get_vec_normalize_env()
    trained_env = trained.get_vec_normalize_env()
    assert_array_equal(env.normalize_obs(observations()), trained_env.normalize_obs(observations()))
    assert_array_equal(env.normalize_reward(np.ones(3)), trained_env.normalize_reward(np.ones(3)))
    assert env.training
    later = agents.load(file)
    later.set_env(ShiftedEnv())
    assert_array_equal(later.get_vec_normalize_env().obs_rms.mean, trained_env.obs_rms.mean)


def test_an_environment_that_is_normalised_keeps_its_own_statistics(file, trained):
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
    normalized = model.normalization.observations(observations())
    assert_array_equal(model.predict(normalized, deterministic=True)[0], expected(trained))
    assert tiny_model().normalization is None


def test_a_policy_for_acting_takes_raw_observations(trained, file, tmp_path):
    agents.load(file).save_policy(tmp_path / "policy.safetensors")
    policy = agents.load_policy(tmp_path / "policy.safetensors")
    assert_array_equal(policy.predict(observations(), deterministic=True)[0], expected(trained))
    noise = policy.draw_action_noise(5, torch.Generator())
    exported = ExportedPolicy(policy)(torch.as_tensor(observations()), *noise.values())
    planned = policy.plan(observations()[None], {name: draw[None] for name, draw in noise.items()})[
        0
    ]
    assert_allclose(exported.detach(), planned, atol=1e-6)


def test_a_policy_takes_raw_observations_inside_a_block_and_after_it_as_before(trained):
    played = expected(trained)
    with raw_observations(trained) as policy:
        assert_array_equal(policy.predict(observations(), deterministic=True)[0], played)
        assert_array_equal(policy.replica(0).predict(observations(), deterministic=True)[0], played)
    assert_array_equal(expected(trained), played)


def test_a_part_of_a_dict_that_is_not_normalised_stays(tmp_path):
    space = spaces.Dict(
        {"a": spaces.Box(-9, 9, (2,), np.float32), "b": spaces.Box(-9, 9, (1,), np.float32)}
    )

    class DictEnv(SpacesEnv):
        def __init__(self):
            super().__init__(1, 2)
            self.observation_space = space
            space.seed(0)

        def _observe(self):
            return space.sample()

    env = VecNormalize(DummyVecEnv([DictEnv]), norm_obs_keys=["a"])
    model = tiny_model(env=env, policy="MultiInputPolicy", learning_starts=50)
    model.learn(20)
    observation = {key: np.stack([value] * 2) for key, value in space.sample().items()}
    assert_array_equal(model.normalization.observations(observation)["b"], observation["b"])
    normalized = env.normalize_obs(observation)
    played, _ = model.predict(normalized, deterministic=True)
    with raw_observations(model) as policy:
        assert_array_equal(policy.predict(observation, deterministic=True)[0], played)


def test_a_checkpoint_has_the_statistics_even_without_the_state_of_environments(tmp_path):
    env = VecNormalize(vector())
    model = tiny_model(env=env, learning_starts=5).learn(30)
    saved = save_checkpoint(model, tmp_path)
    resumed = tiny_model(env=VecNormalize(vector()), learning_starts=5)
    with pytest.warns(UserWarning, match="new episodes begin"):
        load_checkpoint(resumed, saved)
    restored = resumed.get_vec_normalize_env().obs_rms
    assert restored.count == env.obs_rms.count + 1  # the first observation of the new episode


def test_normalized_environments_are_made_as_rl_zoo_says():
    assert normalized_env(env := vector(), False, gamma=0.9) is env
    normalized = normalized_env(vector(), {"norm_reward": False, "clip_obs": 5.0}, gamma=0.9)
    assert normalized.norm_obs
    assert not normalized.norm_reward
    assert (normalized.clip_obs, normalized.gamma) == (5.0, 0.9)
    with pytest.raises(TypeError, match="got `norm_rewards`; closest: norm_reward"):
        normalized_env(vector(), {"norm_rewards": True}, gamma=0.9)
    with pytest.raises(TypeError, match="`normalize` must be true or false"):
        normalized_env(vector(), "yes", gamma=0.9)


def test_action_noise_has_rl_zoos_names():
    box = spaces.Box(-1, 1, (2,), np.float32)
    assert isinstance(named_action_noise("normal", 0.1, box), NormalActionNoise)
    assert isinstance(
        noise := named_action_noise("ornstein-uhlenbeck", 0.1, box), OrnsteinUhlenbeckActionNoise
    )
    assert noise().shape == (2,)
    with pytest.raises(ValueError, match="`noise_type` must be one of normal, ornstein-uhlenbeck"):
        named_action_noise("uniform", 0.1, box)
    with pytest.raises(ValueError, match="`noise_std`"):
        named_action_noise("normal", 0.0, box)
