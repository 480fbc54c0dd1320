from __future__ import annotations

import pytest
import torch

from tests.agents.oracles import (
    Behaviour,
    Quadratic,
    bandit_actions,
    bandit_model,
    learn_bandit,
)


@pytest.mark.slow
def test_learnt_policy_samples_the_known_gaussian() -> None:
    model = bandit_model("dac", 2, bc_weight=1.0)
    exact = Quadratic(torch.tensor([1.0, -0.5]))
    learn_bandit(model, Behaviour(0.2, [[0.0, 0.0]]), 1_500, critic=exact, critic_target=exact)
    actions = bandit_actions(model)
    torch.testing.assert_close(actions.mean(0), torch.tensor([0.1216, -0.0608]), atol=0.02, rtol=0)
    torch.testing.assert_close(actions.std(0), torch.tensor([0.182, 0.182]), atol=0.02, rtol=0)
