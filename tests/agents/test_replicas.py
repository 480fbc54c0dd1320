"""Replicas that train together: each makes the steps and updates that it would make alone, and can be taken out."""

import pytest
import torch
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import DummyVecEnv

from tests.common.toys import assert_same, parameters_of, step, tiny_model, toy_dataset
from tests.envs import SpacesEnv


class Steps(BaseCallback):
    """Notes the model's time after every step."""

    def __init__(self):
        super().__init__()
        self.seen: list[int] = []

    def _on_step(self):
        self.seen.append(self.model.num_timesteps)
        return True


def trained(seeds, envs_each, gradient_steps):
    """Train for 5 updates offline and 20 steps of each replica online; the first 6 of them are followed by none."""
    env = DummyVecEnv([lambda: SpacesEnv(4, 2)] * (len(seeds) * envs_each))
    model = tiny_model(env=env, seeds=seeds, learning_starts=6, gradient_steps=gradient_steps)
    model.learn_offline(5, dataset=toy_dataset())
    steps = Steps()
    model.learn(20, steps, reset_num_timesteps=False)
    return model, steps


@pytest.mark.parametrize(("envs_each", "gradient_steps"), [(1, 1), (2, 1), (2, -1)])
def test_replicas_together_count_and_update_like_one_alone(envs_each, gradient_steps):
    alone, steps_alone = trained([0], envs_each, gradient_steps)
    together, steps = trained([0, 1, 2], envs_each, gradient_steps)
    assert steps.seen == steps_alone.seen
    assert together.num_timesteps == alone.num_timesteps
    assert together._n_updates == alone._n_updates
    assert alone.num_timesteps == 25
    assert together.replay_buffer.size() == alone.replay_buffer.size()


def test_a_replica_that_is_taken_out_learns_by_itself_and_is_saved(tmp_path):
    trained_model, untouched = tiny_model(seeds=[11, 22, 33]), tiny_model(seeds=[11, 22, 33])
    for number in range(4):
        for model in (trained_model, untouched):
            step(model, number)
        if number == 1:
            single, generator = (
                trained_model.replica(2),
                trained_model.trainer.generator.get_state(),
            )
            single.replay_buffer = tiny_model().replay_buffer
            single.learn_offline(2, dataset=toy_dataset())
    assert_same(parameters_of(trained_model), parameters_of(untouched))
    assert torch.equal(trained_model.trainer.generator.get_state(), generator)
    single.save(tmp_path / "replica")
    loaded = type(single).load(tmp_path / "replica", device="cpu")
    assert_same(parameters_of(loaded), parameters_of(single))
    assert loaded.policy.seeds == [33]
