"""BC: QAM's behaviour flow, trained alone."""

from __future__ import annotations

import pytest
import torch

from tests.agents.oracles import (
    FOUR_MODES,
    bandit_actions,
    learn_bandit,
    mode_masses,
    random_batch,
    random_noise,
    small_model,
)


def test_loss_and_actions_equal_those_of_the_behaviour_flow_of_qam() -> None:
    clone, qam = small_model("bc"), small_model("qam", inverse_temperature=0.0)
    clone.policy.nets.behaviour.load_state_dict(qam.policy.nets.behaviour.state_dict())
    batch, noise = random_batch(qam), random_noise(qam)
    _, expected = qam.trainer.losses(batch, noise)
    total, info = clone.trainer.losses(batch, noise)
    torch.testing.assert_close(info["bc_flow_loss"], expected["bc_flow_loss"], rtol=0, atol=0)
    torch.testing.assert_close(total, info["bc_flow_loss"], rtol=0, atol=0)
    action = {"action": noise["td_action"]}
    with torch.no_grad():
        ours = clone.act(batch.observations, action, clone.policy.nets)
        theirs = qam.act(batch.observations, action, qam.policy.nets)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=0)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_learnt_flow_reproduces_a_mixture() -> None:
    model = small_model("bc", observations=1, net_arch=[128] * 3, flow_steps=10, learning_rate=1e-3)
    learn_bandit(model, FOUR_MODES, steps=4000)
    actions = bandit_actions(model)
    expected = torch.tensor([0.103, 0.400, 0.306, 0.192])  # of the exact flow at ten steps
    assert float((mode_masses(actions) - expected).abs().max()) < 0.03
    torch.testing.assert_close(actions.mean(0), torch.tensor([-0.207, 0.001]), rtol=0, atol=0.03)
