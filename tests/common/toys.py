"""Small models, datasets and batches for tests; ``TESTED_COMPILE=on`` compiles their updates."""

import math
import os

import numpy as np
import pytest
import torch
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import nn

import agents
from agents.common.data.shards import Shard, Shards
from agents.common.engine.trainer import CROP_NOISE
from agents.common.sb3.first_update import random_batch
from agents.models import model_class
from tests.envs import SpacesEnv

every_algorithm = pytest.mark.parametrize("id", agents.algorithm_ids())
SPACES = (SpacesEnv().observation_space, SpacesEnv().action_space)
TINY = {
    "net_arch": [16, 16],
    "ensemble_size": 3,
    "flow_steps": 3,
    "horizon_length": 3,
    "batch_size": 16,
    "buffer_size": 200,
    "learning_starts": 10,
    "seed": 0,
    "device": "cpu",
    "compile": os.environ.get("TESTED_COMPILE", "off"),
}

IMPALA = {
    "features_extractor_class": agents.ImpalaEncoder,
    "features_extractor_kwargs": {"features_dim": 8, "widths": [4, 4]},
}
"""Policy arguments of a small image encoder."""


class NormedFeatures(BaseFeaturesExtractor):
    """Six features from a dense layer, batch normalisation and dropout."""

    def __init__(self, observation_space):
        super().__init__(observation_space, features_dim=6)
        size = int(np.prod(observation_space.shape))
        self.norm = nn.BatchNorm1d(6)
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(size, 6), self.norm, nn.Dropout(0.2))

    def forward(self, observations):
        return self.layers(observations)


class Trap:
    """An object that fails the test if it is unpickled."""

    def __reduce__(self):
        return pytest.fail, ("code from a file was run",)


def tiny_model(id="qam", env=None, *, policy="MlpPolicy", **settings):
    """Return an algorithm (or a method's model) with tiny networks, 4 observations and 2 actions, without logs."""
    kind = agents.get(id).algorithm if isinstance(id, str) else model_class(id)
    values = {**TINY, **settings}
    if "seeds" in settings:
        del values["seed"]
    model = kind(policy, env or SpacesEnv(), **values)
    model.set_logger(Logger(None, []))
    return model


def toy_dataset(rows=60, observations=4, actions=2, seed=0, length=12):
    """Return random trajectories in OGBench's regular layout; a tenth of the masks are 0."""
    draw = np.random.default_rng(seed)
    trajectories = -(-rows // length)
    states = draw.standard_normal((trajectories, length + 1, observations)).astype(np.float32)
    return {
        "observations": states[:, :-1].reshape(-1, observations)[:rows],
        "next_observations": states[:, 1:].reshape(-1, observations)[:rows],
        "actions": draw.uniform(-1, 1, (rows, actions)).astype(np.float32),
        "rewards": draw.standard_normal(rows).astype(np.float32),
        "masks": (draw.random(rows) > 0.1).astype(np.float32),
        "terminals": (np.arange(rows) % length == length - 1).astype(np.float32),
    }


def toy_batch(model, seed=0):
    """Return a random batch with a model's sizes."""
    return random_batch(model.policy, 16, seeded(seed))


def toy_noise(model, seed=0):
    """Return all noise of one update."""
    table = model.method.update_noise() | CROP_NOISE
    return model.policy.draw_noise(table, 16, seeded(seed))


def refuses(text, error=ValueError):
    """Expect the block to raise an error of a type, with a message that matches a pattern."""
    return pytest.raises(error, match=text)


def warns(text):
    """Expect the block to warn, with a message that matches a pattern."""
    return pytest.warns(UserWarning, match=text)


def always_sample(monkeypatch, policy, chunk):
    """Let a policy sample the same chunk, (D,) scaled to [-1, 1], in every state."""
    monkeypatch.setattr(
        policy.method, "sample_actions", lambda obs, *_: chunk.expand(*obs.shape[:2], -1)
    )


def step(model, seed=0):
    """Take one update with a random batch, and return its information."""
    return model.trainer.update_on(toy_batch(model, seed=seed), toy_noise(model, seed=100 + seed))


def filled(network):
    """Give every parameter of every replica random values, biases and scales included."""
    generator = seeded()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(
                torch.randn(parameter.shape, generator=generator) / math.sqrt(parameter.shape[-1])
            )
    return network


def seeded(seed=0):
    """Return a seeded generator."""
    return torch.Generator().manual_seed(seed)


def normals(*shape, seed=0):
    """Return standard normal noise."""
    return torch.randn(*shape, generator=seeded(seed))


def act(model, observation):
    """Return the actions that a model or policy takes with the centre of its noise."""
    return model.predict(observation, deterministic=True)[0]


def reloaded(model, folder, env=None):
    """Save a model in a folder, and return the loaded model."""
    model.save(folder / "model")
    return agents.load(folder / "model", env, device="cpu")


def parameters_of(model):
    """Return copies of all parameters and buffers of the policy."""
    return {name: value.detach().clone() for name, value in model.policy.state_dict().items()}


def assert_same(first, second):
    """Check that two sets of tensors are bitwise equal."""
    assert first.keys() == second.keys()
    for name in first:
        assert torch.equal(first[name], second[name]), name


def assert_same_parameters(first, second):
    """Check that two policies have bitwise equal parameters and buffers."""
    assert_same(parameters_of(first), parameters_of(second))


def toy_shards(folder, *datasets, **settings):
    """Write datasets of whole trajectories, in the regular layout, as the files of one dataset, and return it."""
    parts = []
    for number, dataset in enumerate(datasets):
        ends = dataset["terminals"] > 0
        arrays = {name: dataset[name] for name in ("observations", "actions", "rewards")}
        arrays |= {
            "masks": dataset["masks"] > 0,
            "terminals": ends,
            "final_observations": dataset["next_observations"][ends],
        }
        files = {name: folder / f"{number}-{name}.npy" for name in arrays}
        for name, array in arrays.items():
            np.save(files[name], array)
        parts.append(Shard(files, len(ends), int(ends.sum())))
    return Shards(parts, **settings)
