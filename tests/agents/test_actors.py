"""Specific properties of algorithms with a Gaussian or deterministic actor: IQL, RLPD, ReBRAC, and edited actions."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.agents.oracles import small_model
from tests.common.toys import toy_batch, toy_noise
from tests.parity.fixture import read_fixture
from tests.parity.reference import OWN_FIXTURES, OurAgents


def test_the_mean_of_iql_is_the_action_that_its_authors_evaluate():
    fixture = read_fixture(OWN_FIXTURES / "fql_code" / "iql.npz")
    agent = OurAgents().create(fixture)
    agent.model.method.sample_std = 0.0
    noise = {"action": np.zeros_like(fixture["sample/noise/action"])}
    actions = agent.sample(fixture["sample/obs"], noise)
    np.testing.assert_allclose(actions, fixture["sample/mode_actions"], atol=2e-5)


@pytest.mark.parametrize("border", [-1.0, 1.0])
def test_rlpd_clones_actions_on_the_border_of_the_box(border):
    model = small_model("rlpd", bc_weight=1.0)
    batch = toy_batch(model)
    batch = replace(batch, actions=torch.full_like(batch.actions, border))
    info = model.trainer.update_on(batch, toy_noise(model))
    assert info["bc_loss"].isfinite().all()
    assert info["grad_norm"].isfinite().all()


@pytest.mark.parametrize(("true_delay", "train_every"), [(True, 3), (False, 1)])
def test_rebracs_true_delay_trains_as_often_as_targets_move(true_delay, train_every):
    specs = small_model("rebrac", true_delay=true_delay, policy_delay=3).method.specs()
    assert specs["actor"].training.train_every == train_every
    assert [specs[name].training.target_every for name in ("actor", "critic")] == [3, 3]


def test_rebracs_last_layer_starts_small():
    policy = small_model("rebrac", net_arch=[64]).policy
    bound = (3 * 0.01 / ((64 + policy.chunk_size) / 2)) ** 0.5
    assert 0.9 * bound < float(policy.nets.actor.mean.weights[0].detach().abs().max()) <= bound
