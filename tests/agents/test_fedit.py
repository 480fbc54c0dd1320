from __future__ import annotations

import pytest
import torch

from tests.agents.oracles import (
    Behaviour,
    Field,
    Quadratic,
    assert_stacked_equals_single,
    bandit_actions,
    bandit_model,
    bare,
    learn_bandit,
    networks,
    normal_quantiles,
    routes,
    rows_of,
    small_model,
)


def test_edit_balances_where_the_theory_says() -> None:
    slope, scale = 0.8, 0.3
    gain = scale * slope
    mean, log_std = torch.tensor([1.29], requires_grad=True), torch.tensor([-0.454], requires_grad=True)
    alpha = torch.tensor([0.2242 * gain], requires_grad=True)
    rows = normal_quantiles()
    expand = lambda p: p.expand(1, len(rows), 1)  # noqa: E731
    critic = Quadratic(slope)
    nets = networks(
        critic=critic,
        critic_target=critic,
        behaviour=Field(lambda x, t: -x),
        edit=lambda observations, actions: (expand(mean), expand(log_std)),
        temperature=lambda: alpha,
    )
    model = bare("fedit", edit_scale=scale, flow_steps=10)
    batch, eps, zeros = rows_of(rows.unsqueeze(-1)), rows.view(1, -1, 1), torch.zeros(1, len(rows), 1)
    noise = {"td_action": zeros, "td_edit": eps, "edit_z": zeros, "edit_eps": eps, "bc_x0": eps, "bc_t": zeros[..., 0]}
    with torch.no_grad():
        targets = model.targets(batch, noise, nets, {})
    losses = model.losses(batch, targets, noise, nets, {})
    climb = (losses["q"] + losses["entropy"]).sum()
    at_mean, at_log_std = torch.autograd.grad(climb, [mean, log_std], retain_graph=True)
    at_alpha = torch.autograd.grad(losses["temperature"].sum(), alpha)[0]
    assert float(at_mean) / gain == pytest.approx(0, abs=2e-3)
    assert float(at_log_std) / gain == pytest.approx(0, abs=2e-3)
    assert float(at_alpha) == pytest.approx(0, abs=5e-3)


@pytest.mark.parametrize(("pre_tanh", "expected"), [(50.0, 0.3), (-50.0, -0.3), (0.0, 0.0)])
def test_edit_moves_the_flow_by_at_most_its_scale(pre_tanh: float, expected: float) -> None:
    model = bare("fedit", edit_scale=0.3, flow_steps=10)
    nets = networks(
        behaviour=Field(lambda x, t: torch.zeros_like(x)),
        edit=lambda observations, actions: (torch.full_like(actions, pre_tanh), torch.full_like(actions, -20.0)),
    )
    noise = {"action": torch.zeros(1, 1, 1), "edit": torch.zeros(1, 1, 1)}
    assert float(model.act(torch.zeros(1, 1, 1), noise, nets)) == pytest.approx(expected, abs=1e-6)


def test_each_loss_trains_its_own_network() -> None:
    assert routes(small_model("fedit")) == {
        "td": {"critic"},
        "bc_flow": {"behaviour"},
        "q": {"edit"},
        "entropy": {"edit"},
        "temperature": {"temperature"},
    }


def test_stacked_replicas_equal_single_runs() -> None:
    assert_stacked_equals_single("fedit", best_of_n=2)


def test_edit_scale_must_be_positive() -> None:
    with pytest.raises(ValueError, match="`edit_scale` must be a finite number > 0, got 0"):
        small_model("fedit", edit_scale=0)


def test_target_entropy_must_be_finite() -> None:
    with pytest.raises(ValueError, match="`target_entropy` must be a finite number, got inf"):
        small_model("fedit", target_entropy=float("inf"))


@pytest.mark.slow
def test_learnt_edit_shifts_actions_by_the_known_amount() -> None:
    model, exact = bandit_model("fedit", 1, edit_scale=0.3), Quadratic(1.0)
    learn_bandit(model, Behaviour(0.2, [[0.0]]), 3_000, critic=exact, critic_target=exact)
    actions = bandit_actions(model)
    # the flow's 10-step spread and the edit's, independent of each other
    assert float(actions.mean()) == pytest.approx(0.3 * 0.770, abs=0.02)
    assert float(actions.std()) == pytest.approx((0.154**2 + (0.3 * 0.249) ** 2) ** 0.5, abs=0.02)
