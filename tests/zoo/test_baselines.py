"""Algorithms of SB3 and sb3-contrib in the training program."""

import numpy as np
import pytest
import torch
from stable_baselines3.common.logger import Logger

from tests.common.toys import parameters_of, toy_dataset, toy_shards
from tests.envs import SpacesEnv
from tests.zoo.helpers import ENV, EVALUATIONS
from tests.zoo.outcomes import config_of, status_of
from zoo.algorithms import baselines
from zoo.algorithms.catalogue import SB3, find_algorithm
from zoo.train import main


def small(id):
    """Return a small model without logs."""
    settings = {"net_arch": [16, 16], "buffer_size": 50, "learning_starts": 5, "batch_size": 8}
    settings["balanced_sampling"] = True
    settings["policy_kwargs"] = {
        "activation_fn": None
    }  # as in `-params policy_kwargs.activation_fn=null`
    algorithm = find_algorithm(id).algorithm
    model = algorithm("MlpPolicy", SpacesEnv(4, 2), seed=0, device="cpu", **settings)
    model.set_logger(Logger(None, []))
    return model


@pytest.mark.parametrize("id", SB3)
def test_a_baseline_learns_with_a_dataset_in_its_buffer(id, tmp_path):
    first, second = toy_dataset(seed=1), toy_dataset(seed=2)
    model = small(id)
    model.load_dataset(toy_shards(tmp_path, first, second, replace_interval=4))
    batch = model.replay_buffer.sample(1000)
    terminal_rewards = first["rewards"][first["masks"] == 0]
    assert {*batch.rewards[batch.dones != 0].tolist()} == {*terminal_rewards.tolist()}
    initial_weights = parameters_of(model)
    model.learn(9)
    assert model.replay_buffer.dataset_size == 60
    assert model._n_updates == 4
    weights = parameters_of(model)
    assert any(not torch.equal(weights[name], initial_weights[name]) for name in weights)
    np.testing.assert_array_equal(model.replay_buffer.rewards[:60], first["rewards"])
    assert model.replay_buffer.balanced
    model.learn(1, reset_num_timesteps=False)
    np.testing.assert_array_equal(model.replay_buffer.rewards[:60], second["rewards"])
    assert not model.find_divergence()
    [*model.policy.parameters()][-1].data.fill_(torch.nan)
    assert model.find_divergence().keys() == {0}


def test_actions_of_a_dataset_are_scaled_as_online_ones():
    model, data = small("sac"), toy_dataset()
    model.action_space.high[:] = 3.0
    model.load_dataset(data)
    np.testing.assert_allclose(model.replay_buffer.actions[:60], (data["actions"] - 1) / 2, 1e-5)


def test_a_run_with_tqc_is_evaluated_and_saved_as_any_other(data, tmp_path):
    words = (
        f"--algo tqc --env {ENV} --dataset-dir {data} -f {tmp_path} --seed 3 --online-steps 30 "
        "--env-kwargs max_episode_steps=12 --device cpu "
        "-params eval_at_start=true net_arch=[16,16] learning_starts=5 batch_size=8 buffer_size=100"
    )
    assert main([*words.split(), *EVALUATIONS]) == 0
    folder = tmp_path / "tqc" / f"{ENV}_1"
    with np.load(folder / "evaluations.npz") as history:
        assert history["timesteps"].tolist() == [0, 10, 20, 30]
        assert history["phase"].tolist() == [1] * 4
    config = config_of(folder)
    assert config["offline_data"] == "preload"
    assert config["dataset"]["size"] == 2000
    assert status_of(folder)["online_step"] == 30
    assert baselines.TQC.load(folder / f"{ENV}.zip", device="cpu").num_timesteps == 30
