"""Replicas that train together: each is trained as it would be alone, can be extracted, and has its own values."""

import pytest
import torch
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.vec_env import DummyVecEnv

from tests.common.toys import (
    assert_same_parameters,
    refuses,
    reloaded,
    step,
    tiny_model,
    toy_dataset,
)
from tests.envs import SpacesEnv


def counts(seeds, envs_each, gradient_steps):
    """Return steps, updates and transitions after each online step; the first 6 of 20 steps have no updates."""
    env = DummyVecEnv([SpacesEnv] * (len(seeds) * envs_each))
    model = tiny_model(env=env, seeds=seeds, learning_starts=6, gradient_steps=gradient_steps)
    model.learn_offline(5, dataset=toy_dataset())
    counts = []

    def note(*_):
        counts.append((model.num_timesteps, model._n_updates, model.replay_buffer.size()))
        return True  # otherwise training would end

    model.learn(20, note, reset_num_timesteps=False)
    note()
    return counts


@pytest.mark.parametrize(("envs_each", "gradient_steps"), [(1, 1), (2, 1), (2, -1)])
def test_replicas_together_count_and_update_like_one_alone(envs_each, gradient_steps):
    alone = counts([0], envs_each, gradient_steps)
    assert counts([0, 1, 2], envs_each, gradient_steps) == alone
    assert alone[-1][0] == 25


def test_replica_that_is_taken_out_learns_by_itself_and_is_saved(tmp_path):
    about = {"env": DummyVecEnv([SpacesEnv] * 3), "seeds": [11, 22, 33]}
    model, untouched = tiny_model(**about), tiny_model(**about)
    step(model)
    step(untouched)
    next(iter(model.policy.optimizer.state.values()))["own count"] = 1  # no tensor
    single, generator = model.replica(2), model.trainer.generator.get_state()
    tiny_model().save_replay_buffer(tmp_path / "buffer")
    single.load_replay_buffer(tmp_path / "buffer")
    single.learn_offline(2, dataset=toy_dataset())
    step(model, 1)
    step(untouched, 1)
    assert_same_parameters(model, untouched)
    assert torch.equal(model.trainer.generator.get_state(), generator)
    loaded = reloaded(single, tmp_path)
    assert_same_parameters(loaded, single)
    assert (loaded.n_envs, loaded.policy.seeds) == (1, [33])


def test_a_replica_without_a_buffer_is_refused_before_a_step():
    single = tiny_model(seeds=[11, 22]).replica(0)
    for train in (single.learn, single.learn_offline):
        with refuses(r"has no replay buffer and cannot be trained; save it"):
            train(3)
    assert single.num_timesteps == 0
    with refuses("`index` must be an int >= 0 and <= 0, got -1"):
        single.replica(-1)


# -- values of replicas, and divergence -------------------------------------------------------------------------------


def test_a_logger_of_sb3_gets_means_of_replicas():
    model = tiny_model(seeds=[1, 2, 3])
    logger = Logger(None, [])
    model.set_logger(logger)
    model.learn_offline(1, dataset=toy_dataset(), log_interval=None)
    model._record_info()
    values = model.replica_values()["train/total_loss"]
    assert values.shape == (3,)
    assert logger.name_to_value["train/total_loss"] == values.mean()


@pytest.mark.parametrize("id", ["qam", "trqam", "rlpd", "dac"])
def test_replicas_that_are_not_finite_have_diverged(id):
    model = tiny_model(id, seeds=[1, 2, 3])
    model.learn_offline(1, dataset=toy_dataset())
    model._last_info["q_mean"] = torch.tensor([1.0, torch.nan, 1.0])  # a diagnostic may be NaN
    assert model.find_divergence() == {}
    model._last_info["total_loss"] = torch.tensor([torch.inf, 1.0, 1.0])
    with torch.no_grad():
        next(model.policy.nets.critic.parameters())[2].view(-1)[0] = torch.nan
    reasons = {0: "total_loss is not finite", 2: "parameters of critic are not finite"}
    assert model.find_divergence() == reasons
