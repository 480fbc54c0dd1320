"""Training has the same bits with and without callbacks that predict."""

import functools

import numpy as np
import pytest
from stable_baselines3.common.callbacks import EvalCallback
from stable_baselines3.common.monitor import Monitor

from tests.common.toys import NormedFeatures, assert_same, parameters_of, tiny_model, toy_dataset
from tests.envs import SpacesEnv


def predicting(deterministic):
    """Return a callback that asks the model for an action at every step."""
    return lambda local, _: local["self"].predict(np.zeros(4), deterministic=deterministic)


def evaluating(deterministic):
    env = Monitor(SpacesEnv(episode_length=5))
    return EvalCallback(env, n_eval_episodes=1, eval_freq=7, deterministic=deterministic, verbose=0)


def trained(horizon_length, callback=None):
    # an evaluation switches batch statistics and dropout off, which draws from the global generator
    extractor = {"features_extractor_class": NormedFeatures}
    model = tiny_model(horizon_length=horizon_length, best_of_n=2, policy_kwargs=extractor)
    model.learn_offline(3, callback, toy_dataset())
    return parameters_of(model.learn(30, callback, reset_num_timesteps=False))


undisturbed = functools.cache(trained)


@pytest.mark.few(4)
@pytest.mark.parametrize("horizon_length", [1, 3])
@pytest.mark.parametrize("deterministic", [True, False])
@pytest.mark.parametrize("callback", [predicting, evaluating])
def test_a_callback_that_predicts_changes_no_parameter(callback, deterministic, horizon_length):
    observed = trained(horizon_length, callback(deterministic))
    assert_same(observed, undisturbed(horizon_length))
