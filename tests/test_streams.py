"""Random streams: none is used twice, and a replica's random numbers depend only on its own seed."""

import itertools

import gymnasium
import numpy as np
import pytest
import torch
from stable_baselines3.common.vec_env import DummyVecEnv

import agents
from agents.common.streams import Purpose, seed_for, seeds_of_replicas, torch_generator
from zoo.algorithms.baselines import SAC
from zoo.evaluation.evaluator import seeds_of_starts

TINY = {"learning_starts": 8, "net_arch": [8], "buffer_size": 100, "gradient_steps": 0}


def test_no_two_purposes_seeds_or_indices_share_a_stream():
    indices = [(), (0,), (1,), (4,), (0, 0), (0, 1), (1, 0)]
    seeds = [*range(100), (0, 0), (0, 1), (1, 0), (4, 0), (0, 4), (0, 0, 0), (3, 7)]
    keys = [(purpose, seed, *k) for purpose, seed, k in itertools.product(Purpose, seeds, indices)]
    assert len({seed_for(*key) for key in keys}) == len(keys)
    assert len({torch_generator(*key).initial_seed() for key in keys}) == len(keys)


@pytest.mark.parametrize("key", [(-1,), ([3, 2**32],), (0, 2**32)])
def test_what_could_make_two_streams_the_same_is_refused(key):
    with pytest.raises(ValueError, match="`seed` must be an int >= 0"):
        seed_for(Purpose.UPDATES, *key)


def test_a_single_replica_keeps_its_seed_and_several_get_others():
    assert seeds_of_replicas(7, 1) == [7]
    assert len({7, *seeds_of_replicas(7, 3), *seeds_of_replicas(8, 3)}) == 7


# -- training ---------------------------------------------------------------------------------------------------------


class Witness(gymnasium.Wrapper):
    """Records an environment's observations, and the actions that it receives."""

    def __init__(self):
        super().__init__(gymnasium.make("Pendulum-v1", max_episode_steps=5))
        self.record = []

    def reset(self, **options):
        """Record the first observation."""
        observation, info = self.env.reset(**options)
        self.record.append(observation.tolist())
        return observation, info

    def step(self, action):
        """Record the action."""
        self.record.append(np.round(action, 5).tolist())
        return self.env.step(action)


def witnesses(seeds, envs_per_seed):
    """Train online without updates, uniform actions first, and return the records of all environments."""
    envs = [Witness() for _ in range(envs_per_seed * len(seeds))]
    vec_env = DummyVecEnv([lambda env=env: env for env in envs])
    agents.FQL("MlpPolicy", vec_env, seeds=seeds, device="cpu", **TINY).learn(16 * envs_per_seed)
    return [env.record for env in envs]


@pytest.mark.parametrize("envs_per_seed", [1, 2, 3])
def test_a_replica_starts_and_acts_as_a_run_of_its_seed_alone(envs_per_seed):
    together = witnesses([3, 7], envs_per_seed)
    assert together[envs_per_seed:] == witnesses([7], envs_per_seed)
    records = [record[place] for record in together for place in (0, 1, -1)]
    assert len(set(map(str, records))) == len(records)


def test_neighbouring_seeds_share_no_environments():
    starts = []
    for seed in (3, 4):
        model = SAC("MlpPolicy", DummyVecEnv([Witness] * 3), seed=seed, device="cpu")
        starts += model.env.reset().tolist()
    assert len(set(map(str, starts))) == 6


def test_batches_and_noise_follow_from_all_seeds():
    def drawn(seeds):
        model = agents.FQL("MlpPolicy", Witness(), seeds=seeds, device="cpu", **TINY)
        return torch.rand((), generator=model.trainer.generator).item()

    assert drawn([3, 7]) == drawn([3, 7])
    assert len({drawn([3]), drawn([3, 7]), drawn([3, 8]), drawn([7, 3])}) == 4


def test_seeding_again_begins_everything_again():
    env = DummyVecEnv([Witness] * 2)
    model = agents.FQL("MlpPolicy", env, seeds=[3, 7], device="cpu", **TINY)
    draws = []
    for seed in (5, 5, 6):
        model.set_random_seed(seed)
        observations = model.env.reset()
        warm = [space.sample() for space in model.action_spaces]
        values = [*observations, *warm, *model.predict(observations)[0], np.random.uniform()]
        draws.append(list(map(str, values)))
    first, repeated, changed = draws
    assert first == repeated
    assert not set(first) & set(changed)
    assert first[0] != first[1]


# -- evaluation ----------------------------------------------------------------------------------------------


def test_how_an_episode_starts_follows_from_its_number_alone():
    np.testing.assert_array_equal(seeds_of_starts(5, 3), seeds_of_starts(5, 9)[:3])
    assert not set(seeds_of_starts(5, 50)) & set(seeds_of_starts(6, 50))
