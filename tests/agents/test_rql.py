"""RQL: flows backwards, the value of what they pass through, and a flow that climbs it step by step."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor

from agents.common.maths.flow import integrate_flow
from agents.common.nets.heads import Time
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
    random_batch,
    random_noise,
    routes,
    rows_of,
    small_model,
)

# -- reversal ---------------------------------------------------------------------------------------------------------


def test_reversal_goes_back_to_the_noise_that_the_flow_came_from() -> None:
    noise = normal_quantiles(64).view(1, -1, 1).expand(1, -1, 2)
    actions = integrate_flow(pulled, noise, 1000)
    all_of_the_way = torch.full((1, 64), 1 - 2**-24)  # on the grid: in the second half of the rows
    start, time = bare("rql", flow_steps=1000).reverse(pulled, actions, all_of_the_way)
    torch.testing.assert_close(start[:, 32:], noise[:, 32:], rtol=0, atol=0.01)
    torch.testing.assert_close(time[:, 32:], torch.zeros(1, 32, 1), rtol=0, atol=1e-4)


def pulled(x: Tensor, t: Time) -> Tensor:
    """Return the velocity of a flow towards 0.5."""
    return 0.5 - x


def test_reversal_follows_the_velocity_at_the_time_that_each_row_has_reached() -> None:
    actions, draws = torch.zeros(1, 4, 1), torch.tensor([[0.3, 0.9, 0.1, 0.5]])
    partial, time = bare("rql", flow_steps=2).reverse(lambda x, t: t, actions, draws)
    # two steps of d/2 back from t = 1: x = -(d/2) (1 + 1 - d/2); the second half is on the grid 0, 1/2, 1
    distance = torch.tensor([0.3, 0.9, 0.0, 0.5]).view(1, 4, 1)
    torch.testing.assert_close(time, 1 - distance)
    torch.testing.assert_close(partial, -(distance / 2) * (2 - distance / 2))


# -- losses -----------------------------------------------------------------------------------------------------------


def losses_of(bias: Tensor, weight: float, flow_steps: int, times: Tensor) -> dict[str, Tensor]:
    """Return the losses, weighted, of a flow that is off by a constant, with noise that cancels in pairs."""
    rows, size = len(times), len(bias)
    model = bare("rql", bc_weight=weight, flow_steps=flow_steps)
    noise = normal_quantiles(rows).view(1, -1, 1).expand(1, -1, size)
    nets = networks(critic=Quadratic(1.0), flow=Field(lambda x, t: bias + 0 * x))
    targets = {"td": torch.zeros(1, rows), "partial": noise, "time": torch.ones(1, rows, 1)}
    draws = {"bc_x0": noise, "bc_t": times.unsqueeze(0)}
    losses = model.losses(rows_of(torch.zeros(rows, size)), targets, draws, nets, {})
    return {name: model.loss_weights().get(name, 1.0) * loss for name, loss in losses.items()}


@pytest.mark.parametrize(("weight", "size", "flow_steps"), [(1.0, 1, 1), (3.0, 2, 5), (0.3, 3, 10)])
def test_constant_shift_of_the_flow_is_optimal_where_a_step_s_gain_is_what_cloning_costs(
    weight: float, size: int, flow_steps: int
) -> None:
    step = 1 / flow_steps - 1 / (2 * flow_steps**2)  # mean of min(1/K, 1 - t) over t
    bias = torch.full((size,), size * step / (2 * weight), requires_grad=True)  # least of w b^2 - step sum(b)
    times = (torch.arange(4000) + 0.5) / 4000
    losses = losses_of(bias, weight, flow_steps, times)
    gradient = torch.autograd.grad(losses["bc_flow"].sum() + losses["q"].sum(), bias)[0]
    torch.testing.assert_close(gradient, torch.zeros(size), rtol=0, atol=2e-5)


def test_the_climb_ends_at_complete_actions() -> None:
    reached: list[Tensor] = []

    def value(actions: Tensor, t: Time) -> Tensor:
        reached.append(torch.as_tensor(t))
        return actions.sum(-1)

    model, times = bare("rql", flow_steps=4), torch.tensor([[0.0, 0.3, 0.75, 0.9]])
    nets = networks(
        critic=lambda observations, x, t: value(x, t).unsqueeze(1),
        flow=Field(lambda x, t: 0 * x),
    )
    targets = {"td": torch.zeros(1, 4), "partial": torch.zeros(1, 4, 1), "time": torch.ones(1, 4, 1)}
    model.losses(rows_of(torch.zeros(4, 1)), targets, {"bc_x0": torch.zeros(1, 4, 1), "bc_t": times}, nets, {})
    torch.testing.assert_close(reached[-1].flatten(), torch.tensor([0.25, 0.55, 1.0, 1.0]))


def test_the_value_learns_from_a_flow_that_has_not_started_at_the_next_state() -> None:
    model = small_model("rql", rho=0.5)
    batch, noise, nets = random_batch(model), random_noise(model), model.policy.nets
    with torch.no_grad():
        next_q = nets.critic_target(batch.next_observations, noise["next_x0"], 0.0)
        expected = batch.rewards + batch.discounts * (next_q.mean(1) - 0.5 * next_q.std(1, correction=0))
        torch.testing.assert_close(model.targets(batch, noise, nets, {})["td"], expected)


def test_cloning_counts_the_actions_before_a_trajectorys_end() -> None:
    model = small_model("rql", horizon_length=2)
    batch, noise = random_batch(model), random_noise(model)
    valid = torch.zeros_like(batch.valid)

    def losses(inside: Tensor) -> dict[str, float]:
        changed = dataclasses.replace(batch, valid=valid, steps_valid=inside.expand(*valid.shape, 2))
        return {name: float(value) for name, value in model.compute_losses(changed, noise)[1].items()}

    first, both = (losses(torch.tensor(steps)) for steps in ([1.0, 0], [1.0, 1]))
    assert first["td_loss"] == first["q_loss"] == 0
    assert 0 < first["bc_flow_loss"] < both["bc_flow_loss"]


def test_each_loss_trains_its_own_network() -> None:
    assert routes(small_model("rql")) == {"td": {"critic"}, "bc_flow": {"flow"}, "q": {"flow"}}


def test_an_update_draws_no_next_action() -> None:
    assert set(small_model("rql").update_noise()) == {"bc_x0", "bc_t", "reversal", "next_x0"}


# -- acting -----------------------------------------------------------------------------------------------------------


def test_the_moving_average_acts_and_follows_at_its_own_pace() -> None:
    model = small_model("rql", policy_tau=1.0, tau=0.0)
    nets = model.policy.nets
    model.update(random_batch(model), random_noise(model))
    before = [p.detach().clone() for p in nets.flow.parameters()]
    model.update(random_batch(model), random_noise(model))
    assert all(torch.equal(p, q) for p, q in zip(nets.flow_target.parameters(), before, strict=True))
    state, noise = random_batch(model).observations, {"action": random_noise(model)["bc_x0"]}
    with torch.no_grad():
        expected = integrate_flow(nets.flow_target.at(state), noise["action"], model.flow_steps).clamp(-1, 1)
        assert torch.equal(model.act(state, noise, nets), expected)


def test_best_of_n_scores_complete_actions_by_the_mean_critic() -> None:
    model = small_model("rql", best_of_n=4)
    batch, nets = random_batch(model), model.policy.nets
    with torch.no_grad():
        expected = nets.critic(batch.observations, batch.actions, 1.0).mean(1)
        assert torch.equal(model.score(batch.observations, batch.actions, nets), expected)


def test_stacked_replicas_equal_single_runs() -> None:
    assert_stacked_equals_single("rql", best_of_n=2)


def test_the_average_rate_cannot_be_changed_later() -> None:
    model = small_model("rql")
    with pytest.raises(ValueError, match="`policy_tau` of a finished model cannot be changed"):
        model.policy_tau = 0.1


@pytest.mark.slow
def test_a_weaker_hold_to_the_data_moves_a_bandits_actions_further_up() -> None:
    def mean_action(weight: float) -> float:
        model = bandit_model("rql", 1, rho=0.0, bc_weight=weight, policy_tau=0.02)
        learn_bandit(model, Behaviour(0.2, [[0.1]]), 600, critic_target=Quadratic(1.0))
        return float(bandit_actions(model, 2_000).mean())

    free, held = mean_action(0.1), mean_action(1_000.0)
    assert held == pytest.approx(0.1, abs=0.05)
    assert free > held + 0.06
