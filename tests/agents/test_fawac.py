from __future__ import annotations

import pytest
import torch
from torch import Tensor

from agents.common.maths.flow import flow_matching_loss
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
    random_batch,
    random_noise,
    routes,
    rows_of,
    small_model,
)


def weights_of(actions: Tensor, inverse_temperature: float) -> Tensor:
    """Return the weights of data actions (B, 1) where Q(a) = a and V = 0."""
    model = bare("fawac", inverse_temperature=inverse_temperature, flow_steps=1)
    critic = Quadratic(1.0)
    nets = networks(
        critic=critic,
        critic_target=critic,
        value=lambda observations: observations[..., 0],
        flow=Field(lambda x, t: x),
    )
    batch = rows_of(actions)
    return model.targets(batch, {"td_action": batch.actions.unsqueeze(0)[0]}, nets, {})["weight"][0]


@pytest.mark.parametrize(
    ("std", "inverse_temperature", "mean_expected", "std_expected"),
    [(0.5, 1.0, 0.25, 0.5), (0.2, 6.4, 0.2542, 0.1976), (0.5, 6.4, 0.7455, 0.2841), (0.5, 10.0, 0.6343, 0.2634)],
)
def test_weights_turn_the_behaviour_into_the_capped_tilt(
    std: float, inverse_temperature: float, mean_expected: float, std_expected: float
) -> None:
    grid = torch.linspace(-6 * std, 6 * std, 20_001).unsqueeze(-1)
    weights = weights_of(grid, inverse_temperature)
    density = (-0.5 * (grid[:, 0] / std).square()).exp() * weights
    mean = (density * grid[:, 0]).sum() / density.sum()
    variance = (density * (grid[:, 0] - mean).square()).sum() / density.sum()
    assert float(mean) == pytest.approx(mean_expected, abs=6e-5)
    assert float(variance.sqrt()) == pytest.approx(std_expected, abs=6e-5)


def test_weights_are_capped() -> None:
    assert weights_of(torch.tensor([[10.0], [0.0]]), 6.4).tolist() == [100.0, 1.0]


def test_without_weight_on_the_advantage_the_flow_is_cloned() -> None:
    model = small_model("fawac", inverse_temperature=0.0)
    batch, noise = random_batch(model), random_noise(model)
    _, info = model.compute_losses(batch, noise)
    velocity = model.policy.nets.flow.at(batch.observations)
    cloned = flow_matching_loss(velocity, noise["bc_x0"], batch.actions, noise["bc_t"], batch.valid)
    assert torch.equal(info["actor_loss"], cloned.detach())


def test_each_loss_trains_its_own_network() -> None:
    assert routes(small_model("fawac")) == {"td": {"critic"}, "value": {"value"}, "actor": {"flow"}}


def test_stacked_replicas_equal_single_runs() -> None:
    assert_stacked_equals_single("fawac")


def test_negative_inverse_temperature_is_refused() -> None:
    with pytest.raises(ValueError, match="`inverse_temperature` must be a finite number >= 0, got -1"):
        small_model("fawac", inverse_temperature=-1)


def test_max_weight_must_be_positive() -> None:
    with pytest.raises(ValueError, match="`max_weight` must be a finite number > 0, got 0"):
        small_model("fawac", max_weight=0)


@pytest.mark.slow
def test_learnt_flow_samples_the_tilt() -> None:
    model = bandit_model("fawac", 2, inverse_temperature=6.4)
    exact = Quadratic(torch.tensor([1.0, 0.5]))
    learn_bandit(model, Behaviour(0.2, [[0.0, 0.0]]), 1_500, critic=exact, critic_target=exact)
    actions = bandit_actions(model)
    # the tilt's mean tau s^2 g, and the 10-step sampler's spread of a Gaussian with standard deviation 0.2
    torch.testing.assert_close(actions.mean(0), torch.tensor([0.256, 0.128]), atol=0.02, rtol=0)
    torch.testing.assert_close(actions.std(0), torch.tensor([0.154, 0.154]), atol=0.02, rtol=0)
