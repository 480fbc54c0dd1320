from __future__ import annotations

import pytest
import torch

from tests.agents.oracles import (
    Behaviour,
    Field,
    Quadratic,
    bandit_actions,
    bandit_model,
    bare,
    learn_bandit,
    networks,
)


@pytest.mark.parametrize(("pre_tanh", "expected"), [(50.0, 0.3), (-50.0, -0.3), (0.0, 0.0)])
def test_edit_moves_the_flow_by_at_most_its_scale(pre_tanh: float, expected: float) -> None:
    model = bare("fedit", edit_scale=0.3, flow_steps=10)
    nets = networks(
        behaviour=Field(lambda x, t: torch.zeros_like(x)),
        edit=lambda observations, actions: (torch.full_like(actions, pre_tanh), torch.full_like(actions, -20.0)),
    )
    noise = {"action": torch.zeros(1, 1, 1), "edit": torch.zeros(1, 1, 1)}
    assert float(model.act(torch.zeros(1, 1, 1), noise, nets)) == pytest.approx(expected, abs=1e-6)


@pytest.mark.slow
def test_learnt_edit_shifts_actions_by_the_known_amount() -> None:
    model, exact = bandit_model("fedit", 1, edit_scale=0.3), Quadratic(1.0)
    learn_bandit(model, Behaviour(0.2, [[0.0]]), 3_000, critic=exact, critic_target=exact)
    actions = bandit_actions(model)
    # the flow's 10-step spread and the edit's, independent of each other
    assert float(actions.mean()) == pytest.approx(0.3 * 0.770, abs=0.02)
    assert float(actions.std()) == pytest.approx((0.154**2 + (0.3 * 0.249) ** 2) ** 0.5, abs=0.02)
