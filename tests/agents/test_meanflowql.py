"""MeanFlowQL: a network whose slope along the way makes it a mean flow, and which climbs the critics."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

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

STD, MEAN = 0.4, 0.3


def exact(x: Tensor, t: Time) -> Tensor:
    """Return g = x - u of a Gaussian, with the exact mean velocity u from time t back to the data at time 0."""
    t = torch.as_tensor(t)
    scale = ((1 - t) ** 2 * STD**2 + t**2).sqrt() / STD
    data = MEAN + (x - (1 - t) * MEAN) / scale
    return x - (x - data) / t


def test_the_exact_mean_flow_solves_its_identity_on_average() -> None:
    """The target is random, since the way is: given x and t, its mean is g."""
    rows = 400_000
    generator = torch.Generator().manual_seed(0)
    actions = MEAN + STD * torch.randn(1, rows, 1, generator=generator)
    e, t = torch.randn(1, rows, 1, generator=generator), torch.full((1, rows, 1), 0.6)
    x = (1 - t) * actions + t * e
    _, slope = torch.func.jvp(exact, (x, t), (e - actions, torch.ones_like(t)))
    target = bare("meanflowql").mean_flow_target(x, t, e - actions, slope)
    error = (target - exact(x, t)).flatten()
    for weight in (torch.ones(rows), x.flatten(), x.flatten().square()):
        assert float((weight * error).mean()) == pytest.approx(0, abs=0.01)


def test_the_exact_network_maps_noise_to_data() -> None:
    model = bare("meanflowql", best_of_n=1)
    noise = normal_quantiles().view(1, -1, 1)
    actions = model.act(torch.zeros(1, 4001, 1), {"action": noise}, networks(policy=Field(exact)))
    expected = (MEAN + STD * noise).clamp(-1, 1)
    torch.testing.assert_close(actions, expected)


def test_targets_are_bounded() -> None:
    ones = torch.ones(1, 4, 1)
    assert bare("meanflowql").mean_flow_target(ones, ones, ones, 100 * ones).unique().tolist() == [-5]


def errors_weighed(power: float) -> float:
    """Return the mean flow's loss of a network that is off by 3 for every action, at data actions of 0."""
    model = bare("meanflowql", adaptive_power=power)
    batch = rows_of(torch.zeros(8, 1))
    nets = networks(policy=Field(lambda x, t: 3 + 0 * x), critic=Quadratic(0.0))
    draws = {"flow_e": torch.zeros(1, 8, 1), "flow_t": torch.full((1, 8), 0.5), "q_z": torch.zeros(1, 8, 1)}
    targets = {"td": torch.zeros(1, 8), "flow": torch.zeros(1, 8, 1)}
    return float(model.losses(batch, targets, draws, nets, {})["flow"])


@pytest.mark.parametrize(("power", "expected"), [(1.0, 9.0), (0.5, 3.0), (0.0, 1.0)])
def test_large_errors_are_weighed_down(power: float, expected: float) -> None:
    assert errors_weighed(power) == pytest.approx(expected, rel=1e-4)


def test_times_can_be_those_of_a_grid_that_ends_at_noise() -> None:
    draws = {"flow_t": torch.arange(8).view(1, 8) / 8, "flow_e": torch.zeros(1, 8, 1)}
    _, t = bare("meanflowql", time_steps=4).on_the_way(torch.zeros(1, 8, 1), draws)
    assert t.flatten().tolist() == [0.25, 0.25, 0.5, 0.5, 0.75, 0.75, 1, 1]
    _, t = bare("meanflowql").on_the_way(torch.zeros(1, 8, 1), draws)
    assert torch.equal(t.flatten(), draws["flow_t"].flatten())


def test_actions_outside_the_box_cost_their_distance_to_it() -> None:
    model = bare("meanflowql")
    actions = torch.tensor([[[2.0, 0.5], [-1.5, 1.0]]])
    draws = {"flow_e": actions, "flow_t": torch.ones(1, 2), "q_z": actions}
    nets = networks(policy=Field(lambda x, t: x), critic=Quadratic(1.0))
    targets = {"td": torch.zeros(1, 2), "flow": actions}
    losses = model.losses(rows_of(torch.zeros(2, 2)), targets, draws, nets, {})
    assert float(losses["bound"]) == pytest.approx((1.0 + 0 + 0.5 + 0) / 4)
    assert float(losses["q"]) == pytest.approx(-((1 + 0.5) + (-1 + 1)) / 2)


def test_best_of_n_scores_candidates_by_the_mean_target_critic() -> None:
    model = small_model("meanflowql")
    assert model.best_of_n == 5
    batch, nets = random_batch(model), model.policy.nets
    with torch.no_grad():
        expected = nets.critic_target(batch.observations, batch.actions).mean(1)
        assert torch.equal(model.score(batch.observations, batch.actions, nets), expected)


def test_each_loss_trains_its_own_network() -> None:
    model = small_model("meanflowql")
    with torch.no_grad():
        model.policy.nets.policy.mlp.biases[-1].fill_(1.2)  # so that actions leave the box
    reached = routes(model)
    assert reached.pop("q") <= {"policy"}
    assert reached == {"td": {"critic"}, "flow": {"policy"}, "bound": {"policy"}}


def test_stacked_replicas_equal_single_runs() -> None:
    assert_stacked_equals_single("meanflowql", best_of_n=2)


def test_updates_do_not_depend_on_which_library_multiplies(request: pytest.FixtureRequest) -> None:
    def losses() -> dict[str, Tensor]:
        model = small_model("meanflowql", net_arch=[64, 64])
        return model.update(random_batch(model), random_noise(model))

    plain = losses()
    request.getfixturevalue("onednn")
    torch.testing.assert_close(losses(), plain, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_a_bandits_actions_are_cloned_and_move_up_with_less_hold() -> None:
    def moments(weight: float) -> tuple[float, float]:
        model = bandit_model("meanflowql", 1, flow_weight=weight, best_of_n=1)
        learn_bandit(model, Behaviour(0.2, [[0.1]]), 600, critic_target=Quadratic(1.0), critic=Quadratic(1.0))
        actions = bandit_actions(model, 2_000)
        return float(actions.mean()), float(actions.std())

    (held, spread), (free, _) = moments(1_000.0), moments(3.0)
    assert held == pytest.approx(0.1, abs=0.05)
    assert spread == pytest.approx(0.2, abs=0.07)
    assert free > held + 0.1
