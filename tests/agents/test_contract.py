"""The contract of every registered algorithm; a newly registered algorithm is tested without changes to this file."""

import functools
import itertools
import re

import numpy as np
import pytest
import torch
from gymnasium import spaces
from numpy.testing import assert_allclose, assert_array_equal
from stable_baselines3.common.callbacks import EvalCallback
from stable_baselines3.common.monitor import Monitor

import agents
from agents.common.sb3.environments import UnsupportedSpaceError
from agents.common.sb3.policy import FlowPolicy
from agents.common.streams import Purpose, seed_for
from tests.common.toys import (
    NormedFeatures,
    act,
    assert_same,
    assert_same_parameters,
    every_algorithm,
    normals,
    parameters_of,
    refuses,
    reloaded,
    tiny_model,
    toy_dataset,
    warns,
)
from tests.envs import SpacesEnv, space_env_of

OBSERVATIONS = spaces.Box(-np.inf, np.inf, (4,), np.float32)


# -- learning ---------------------------------------------------------------------------------------------------------

BOX = spaces.Box(np.float32([0, -4]), np.float32([10, 8]))
HALF = spaces.Box(-1, 1, (1,), np.float16)
CASES = {
    "candidates": {"best_of_n": 4},
    "linear": {"env": space_env_of(OBSERVATIONS, HALF), "horizon_length": 1, "net_arch": []},
    "axes": {"env": space_env_of(spaces.Box(-np.inf, np.inf, (2, 3), np.float64), BOX)},
    "features": {"policy_kwargs": {"features_extractor_class": NormedFeatures}},
}
"""Several candidates; one float16 action and no hidden layer; two-axis observations and scaled actions; extractor."""


@pytest.mark.few
@pytest.mark.parametrize("case", CASES)
@every_algorithm
def test_it_learns_in_both_phases_and_acts_within_bounds(id, case):
    if (id, case) == ("bc", "candidates"):
        pytest.skip("it has no critic to choose candidates with")
    model = tiny_model(id, **CASES[case])
    start = parameters_of(model)
    box, shape = model.action_space, model.observation_space.shape
    dataset = toy_dataset(60, int(np.prod(shape)), box.low.size)
    actions = dataset["actions"]
    dataset["actions"] = box.low + (actions + 1) / 2 * (box.high - box.low)
    for name in ("observations", "next_observations"):
        dataset[name] = dataset[name].reshape(-1, *shape)
    model.learn_offline(3, dataset=dataset)
    model.learn(16, reset_num_timesteps=False)
    assert model.replay_buffer.observations.dtype == torch.float32
    assert_allclose(model.replay_buffer.actions[:60], actions, rtol=1e-5, atol=1e-5)
    end = parameters_of(model)
    assert any(not torch.equal(end[name], start[name]) for name in end)
    assert all(value.isfinite().all() for value in end.values())
    observations = model.policy.layout.sample(6)
    for deterministic in (True, False):
        planned, _ = model.predict(observations, deterministic=deterministic)
        assert planned.shape == (6, *box.shape)
        assert all(box.contains(action) for action in planned)


# -- saving -----------------------------------------------------------------------------------------------------------


@pytest.mark.few
@every_algorithm
def test_observation_statistics_are_saved(id, tmp_path):
    model, fresh = (tiny_model(id, observation_scale=0.5) for _ in range(2))
    dataset = toy_dataset()
    for name in ("observations", "next_observations"):
        dataset[name] = dataset[name] * 3 + 1
    loaded = reloaded(model.learn_offline(1, dataset=dataset), tmp_path)
    data = dataset["observations"]
    scaled = loaded.policy.preprocess(torch.from_numpy(data))
    assert_allclose(scaled, (data - data.mean(0)) / data.std(0) * 0.5, rtol=1e-4, atol=1e-5)
    observations = normals(6, 4).numpy()
    assert_array_equal(act(loaded, observations), act(model, observations))
    fresh.set_parameters(model.get_parameters())
    for restored in (loaded, fresh):
        # the model keeps the statistics with which its networks scale observations
        restored.load_dataset(toy_dataset(seed=1))
        assert_same_parameters(restored, model)


def test_observations_are_scaled_by_a_loaded_buffers_dataset(tmp_path):
    source, model = tiny_model(), tiny_model(observation_scale=0.5)
    with refuses("`observation_scale`"):
        model.learn(12)
    source.load_dataset(toy_dataset())
    source.save_replay_buffer(tmp_path / "buffer")
    model.load_replay_buffer(tmp_path / "buffer")
    assert_allclose(model.policy.observation_mean, toy_dataset()["observations"].mean(0), rtol=1e-4)
    model.learn(12)  # the statistics are known now


# -- spaces -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("observations", "actions", "message"),
    [
        (spaces.Dict({"x": spaces.Dict({"y": OBSERVATIONS})}), None, "a Dict of these, got Dict("),
        (spaces.MultiDiscrete([[2, 3]]), None, "or a Dict of these, got MultiDiscrete("),
        (spaces.Box(-1, 1, (0,)), None, "or a Dict of these, got Box("),
        (OBSERVATIONS, spaces.Box(-1, 1, (0,)), "finite bounds low < high in float32, got Box("),
        (OBSERVATIONS, spaces.Box(-1, 1, (2,), int), "must be a non-empty Box of floats"),
        (OBSERVATIONS, spaces.Box(-np.inf, np.inf, (2,)), "got Box(-inf, inf"),
        (
            OBSERVATIONS,
            spaces.Box(np.float32([-1, 0.5]), np.float32([1, 0.5])),
            "low < high in float32",
        ),
    ],
)
def test_unsupported_space_is_refused_by_name(observations, actions, message):
    with refuses(re.escape(message), UnsupportedSpaceError):
        tiny_model(env=space_env_of(observations, actions))


def test_a_space_that_replaces_a_saved_one_is_checked(tmp_path):
    tiny_model().save(tmp_path / "model.zip")
    with refuses("finite bounds", UnsupportedSpaceError):
        agents.load(tmp_path / "model.zip", action_space=spaces.Discrete(3))


# -- settings ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("id", "settings"),
    [
        ("qam", {"net_arch": {"pi": [8]}}),
        ("qam", {"seeds": [1, 2.5]}),
        ("qam", {"train_freq": ("1", "episode")}),
        ("qam", {"train_freq": 0}),
        ("qam", {"shorten_returns": True}),  # of chunks
        ("qam", {"random_crop": 0.5}),  # of vectors
        ("qam", {"observation_scale": "rang"}),
        ("qam", {"device": "cuda"}),  # which is not there
        ("qam", {"device": "meta"}),
        ("qam", {"encoder": "impala_small", "policy_kwargs": CASES["features"]["policy_kwargs"]}),
        ("qam", {"replay_buffer_class": NormedFeatures}),
        ("bam", {"flow_steps": 1}),  # a single step would not train the policy
        ("bc", {"best_of_n": 4}),  # without a critic, candidates cannot be ranked
        ("trqam", {"multiplier_max": 1e-9}),  # below `multiplier_min`
        ("value_flows", {"reward_max": -1.0, "reward_min": 1.0}),
        ("idql", {"policy_learning_rate": "lin"}),
    ],
)
def test_a_bad_setting_is_refused_by_name(id, settings):
    with refuses(f"`{next(iter(settings))}`", (TypeError, ValueError)):
        tiny_model(id, **settings)


# -- the shared loop, tested with one algorithm -----------------------------------------------------------------------


def test_offline_training_from_zero_leaves_online_training_alone():
    model = tiny_model()
    model.learn_offline(3, dataset=toy_dataset())
    model.learn_offline(3, reset_num_timesteps=True)
    model.learn(16, reset_num_timesteps=False)
    assert model._n_updates == 6 + 6  # ten environment steps come before the first online update


def test_offline_training_without_a_dataset_is_refused():
    with refuses("offline training needs a dataset"):
        tiny_model().learn_offline(3)


def test_a_buffer_without_sequences_is_refused_before_training():
    model = tiny_model(buffer_size=2)  # small, but enough for training on a dataset alone
    with refuses("`buffer_size` must be at least 3 "):
        model.learn_offline(1, dataset=toy_dataset()).learn(20, reset_num_timesteps=False)


def test_online_only_training_plays_uniform_actions_first():
    model = tiny_model(learning_starts=50, buffer_size=60)
    model.learn(50)
    expected = SpacesEnv().action_space
    expected.seed(seed_for(Purpose.WARM_UP, 0))
    drawn = [expected.sample() for _ in range(50)]
    assert_allclose(model.replay_buffer.actions[:50], drawn, atol=1e-6)


def test_episodes_that_are_shorter_than_a_chunk_are_told():
    with warns("`horizon_length` = 3 .* longest has 2"):
        model = tiny_model(env=SpacesEnv(episode_length=2)).learn_offline(1, dataset=toy_dataset())
        model.learn(12, reset_num_timesteps=False)


@pytest.mark.parametrize(
    ("execution_horizon", "expected"),
    [(None, [1, 1, 1, 2, 3, 3, 3, 4]), (2, [1, 1, 2, 2, 3, 3, 4, 4])],
)
def test_collection_after_offline_training_samples_again_after_the_execution_horizon(
    execution_horizon, expected, monkeypatch
):
    numbers = itertools.count(1)

    def sample_chunks(policy, rows, noise):
        """Set all actions of the n-th chunk to n/100."""
        return np.full((*rows.shape[:2], 3, 2), next(numbers) / 100, np.float32)

    monkeypatch.setattr(FlowPolicy, "sample_chunks", sample_chunks)
    env = SpacesEnv(episode_length=4)
    model = tiny_model(env=env, learning_starts=50, execution_horizon=execution_horizon)
    model.learn_offline(1, dataset=toy_dataset())
    model.learn(8, reset_num_timesteps=False)
    played = model.replay_buffer.actions[60:68, 0] * 100
    assert played.round().tolist() == expected


# -- callbacks that predict -------------------------------------------------------------------------------------------


def trained(horizon_length, callback=None):
    # an evaluation disables batch statistics and dropout, whose noise comes from the global generator
    extractor = {"features_extractor_class": NormedFeatures}
    model = tiny_model(horizon_length=horizon_length, best_of_n=2, policy_kwargs=extractor)
    model.learn_offline(3, callback, toy_dataset())
    return parameters_of(model.learn(16, callback, reset_num_timesteps=False))


undisturbed = functools.cache(trained)


@pytest.mark.parametrize("horizon_length", [1, 3])
@pytest.mark.parametrize("deterministic", [True, False])
def test_a_callback_that_predicts_changes_no_parameter(deterministic, horizon_length):
    callback = EvalCallback(
        Monitor(SpacesEnv(episode_length=5)),
        n_eval_episodes=1,
        eval_freq=2,  # in both phases
        deterministic=deterministic,
        verbose=0,
    )
    assert_same(trained(horizon_length, callback), undisturbed(horizon_length))
