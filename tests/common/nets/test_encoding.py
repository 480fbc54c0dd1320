"""Equal observations are encoded only once, with unchanged results."""

import pytest
import torch
from gymnasium import spaces
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import nn
from torch.testing import assert_close

from agents.common.maths.critic import action_gradient
from agents.common.nets.networks import Networks
from tests.common.toys import (
    NormedFeatures,
    every_algorithm,
    normals,
    seeded,
    tiny_model,
    toy_batch,
    toy_noise,
)
from tests.envs import space_env_of

CANDIDATES, ROWS = 4, 16


class Features(BaseFeaturesExtractor):
    """Two dense features."""

    def __init__(self, observation_space):
        super().__init__(observation_space, 2)
        self.dense = nn.Linear(observation_space.shape[0], 2)

    def forward(self, observations):
        return self.dense(observations).tanh()


def extracting_model(id, extractor=Features, **settings):
    kwargs = {"features_extractor_class": extractor}
    return tiny_model(id, space_env_of(spaces.Box(-1, 1, (4,))), policy_kwargs=kwargs, **settings)


@pytest.mark.few
@every_algorithm
def test_what_is_remembered_changes_neither_losses_nor_gradients(id, monkeypatch):
    model = extracting_model(id)
    batch, noise = toy_batch(model), toy_noise(model)
    parameters = [p for p in model.policy.nets.parameters() if p.requires_grad]

    def differentiated():
        total, info = model.trainer.losses(batch, noise)
        return (*info.values(), *torch.autograd.grad(total.sum(), parameters, allow_unused=True))

    values = differentiated()
    monkeypatch.setattr(model.trainer, "has_extractors", False)
    for value, expected in zip(values, differentiated(), strict=True):
        assert_close(value, expected, rtol=1e-5, atol=1e-6)


def test_a_stateful_extractor_is_called_every_time():
    nets = extracting_model("qam", NormedFeatures).policy.nets
    observations, actions = normals(1, 3, 4), normals(1, 3, 6, seed=1)
    with nets.caching_features():
        first, second = (nets.critic(observations, actions) for _ in range(2))
        assert not torch.equal(first, second)
        nets.eval()
        first, second = (nets.critic(observations, actions) for _ in range(2))
        assert torch.equal(first, second)


@pytest.mark.parametrize("id", ["cgql", "qam_e"])  # Q's gradient in the sampler; an edited flow
def test_actions_are_those_of_repeated_observations(id, monkeypatch):
    model = extracting_model(id, best_of_n=CANDIDATES)
    noise = model.policy.draw_action_noise(ROWS, seeded(1))
    rows = normals(1, ROWS, 4).numpy()
    placed = {name: draw[None] for name, draw in noise.items()}
    values = model.policy.sample_chunks(rows, placed)
    monkeypatch.setattr(Networks, "with_extractor", lambda self: [])
    assert_close(values, model.policy.sample_chunks(rows, placed), rtol=1e-5, atol=1e-6)


def test_frozen_features_bear_no_gradient_of_the_extractor():
    nets = extracting_model("qam").policy.nets
    actions = normals(1, 6, 6, seed=1).requires_grad_()
    with nets.repeating(normals(1, 3, 4), 2) as repeated:
        nets.frozen.critic(repeated, actions).sum().backward()
    assert actions.grad is not None
    assert all(parameter.grad is None for parameter in nets.critic.parameters())


@pytest.mark.parametrize("is_compiling", [False, True])
def test_features_first_used_by_an_action_gradient_train_the_extractor(is_compiling, monkeypatch):
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: is_compiling)
    nets = extracting_model("qam").policy.nets
    observations, actions = normals(1, 3, 4), normals(1, 3, 6, seed=1)

    def value(x):
        return nets.critic(observations, x).mean(1)

    with nets.caching_features():
        with torch.no_grad():  # as in `targets`
            action_gradient(value, actions)
        value(actions).sum().backward()
    assert nets.critic.features_extractor.dense.weight.grad is not None
    assert not action_gradient(value, actions).requires_grad
