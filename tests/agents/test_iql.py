"""IQL's policy: what it plays, and how it weighs the data."""

import math

import numpy as np
import pytest
import torch

from agents.common.batch import Batch
from agents.iql import IQL
from tests.agents.oracles import networks
from tests.parity.fixture import read_fixture
from tests.parity.reference import OWN_FIXTURES, OurAgents


def small_batch():
    """Two valid rows of zeros."""
    zeros = torch.zeros(1, 2)
    vectors = torch.zeros(1, 2, 1)
    return Batch(vectors, vectors, zeros, zeros, vectors, zeros + 1, vectors + 1)


def test_the_mean_of_iql_is_the_action_that_its_authors_evaluate():
    fixture = read_fixture(OWN_FIXTURES / "fql_code" / "iql.npz")
    agent = OurAgents().create(fixture)
    agent.model.method.sample_std = 0.0
    observations = fixture["sample/obs"]
    actions = OurAgents().sample(
        agent, observations, {"action": np.zeros_like(fixture["sample/noise/action"])}
    )
    np.testing.assert_allclose(actions, fixture["sample/mode_actions"], atol=2e-5)


def test_the_weight_of_an_advantage_is_bounded():
    method = IQL(actor_weight=10.0)
    nets = networks(
        critic=lambda s, a: torch.zeros(1, 2, 2),
        value=lambda s: torch.zeros(1, 2),
        actor=torch.zeros_like,
    )
    batch = small_batch()
    losses = {}
    for advantage in (1.0, 100.0):
        targets = {
            "advantage": torch.full((1, 2), advantage),
            "value": torch.zeros(1, 2),
            "td": torch.zeros(1, 2),
        }
        losses[advantage] = method.losses(batch, targets, {}, nets, {})["actor"].item()
    assert losses[1.0] == losses[100.0] == pytest.approx(100 * 0.5 * math.log(2 * math.pi))
