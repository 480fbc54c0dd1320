"""BC: QAM's behaviour flow, trained alone."""

from __future__ import annotations

import pytest
import torch

import agents
from tests.agents.oracles import (
    FOUR_MODES,
    Field,
    assert_stacked_equals_single,
    bandit_actions,
    bare,
    learn_bandit,
    mode_masses,
    networks,
    normal_quantiles,
    random_batch,
    random_noise,
    routes,
    small_model,
)
from tests.common.closed_forms import Gaussian


def test_only_flow_matching_trains_the_only_network() -> None:
    model = small_model("bc")
    assert routes(model) == {"bc_flow": {"behaviour"}}
    assert list(model.policy.nets) == ["behaviour"]


def test_loss_and_actions_equal_those_of_the_behaviour_flow_of_qam() -> None:
    clone, qam = small_model("bc"), small_model("qam", inverse_temperature=0.0)
    clone.policy.nets.behaviour.load_state_dict(qam.policy.nets.behaviour.state_dict())
    batch, noise = random_batch(qam), random_noise(qam)
    _, expected = qam.compute_losses(batch, noise)
    total, info = clone.compute_losses(batch, noise)
    torch.testing.assert_close(info["bc_flow_loss"], expected["bc_flow_loss"], rtol=0, atol=0)
    torch.testing.assert_close(total, info["bc_flow_loss"], rtol=0, atol=0)
    action = {"action": noise["td_action"]}
    with torch.no_grad():
        ours = clone.act(batch.observations, action, clone.policy.nets)
        theirs = qam.act(batch.observations, action, qam.policy.nets)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("s", "flow_steps", "std"), [(0.1, 10, 0.062), (0.2, 10, 0.154), (0.2, 5, 0.114), (0.2, 20, 0.176)]
)
def test_exact_flow_is_sampled_with_the_known_discretisation_error(s: float, flow_steps: int, std: float) -> None:
    z = normal_quantiles().view(1, -1, 1)
    nets = networks(behaviour=Field(Gaussian(0.3, s)))
    actions = bare("bc", flow_steps=flow_steps).act(torch.zeros(1, z.shape[1], 1), {"action": z}, nets)
    assert abs(float(actions.mean()) - 0.3) < 1e-3
    assert abs(float(actions.std()) - std) < 1e-3


def test_rewards_change_nothing() -> None:
    model = small_model("bc")
    batch, noise = random_batch(model), random_noise(model)
    first, _ = model.compute_losses(batch, noise)
    second, _ = model.compute_losses(type(batch)(**{**vars(batch), "rewards": batch.rewards + 1}), noise)
    assert torch.equal(first, second)


def test_best_of_n_is_refused_for_want_of_a_critic() -> None:
    with pytest.raises(
        ValueError, match="`best_of_n` must be 1, got 4: BC has no critic to choose with; leave it at 1"
    ):
        small_model("bc", best_of_n=4)


def test_stacked_replicas_equal_single_runs() -> None:
    assert_stacked_equals_single("bc")


def test_published_name_is_bc() -> None:
    assert agents.get("bc").published_name == "BC"


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_learnt_flow_reproduces_a_mixture() -> None:
    model = small_model("bc", observations=1, net_arch=[128] * 3, flow_steps=10, learning_rate=1e-3)
    learn_bandit(model, FOUR_MODES, steps=4000)
    actions = bandit_actions(model)
    expected = torch.tensor([0.103, 0.400, 0.306, 0.192])  # of the exact flow at ten steps
    assert float((mode_masses(actions) - expected).abs().max()) < 0.03
    torch.testing.assert_close(actions.mean(0), torch.tensor([-0.207, 0.001]), rtol=0, atol=0.03)
