from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tests.agents.oracles import (
    Behaviour,
    Quadratic,
    assert_stacked_equals_single,
    random_batch,
    random_noise,
    routes,
    small_model,
)
from tests.agents.test_cgql import BASES, gaussian_end


def expected_q(behaviour: Behaviour, curvature: float) -> Quadratic:
    """Return Q(a) = a - p a^2 / 2 with, at noisy actions, its mean over the clean actions behind them."""

    def noisy(x: Tensor, t: float) -> Tensor:
        shares, means, variance = behaviour.posterior(x, t)
        q = (means - 0.5 * curvature * (means.square() + variance)).sum(-1)
        return (shares * q).sum(-1)

    return Quadratic(1.0, curvature, noisy)


@pytest.mark.parametrize(
    ("base", "weight", "x_term", "mean", "std"),
    [
        ("a", 0.1, True, 0.0254, 0.5846),
        ("a", 0.1, False, 0.0238, 0.4308),
        ("a", 1.0, True, 0.485, 5.282),
        ("a", 1.0, False, 0.238, 0.4308),
        ("b", 0.1, True, 0.2213, 0.2130),
        ("b", 0.1, False, 0.2118, 0.1542),
        ("c", 0.1, True, 0.0250, 0.5696),
        ("c", 0.1, False, 0.0234, 0.4195),
        ("c", 1.0, True, 0.411, 4.21),
        ("c", 1.0, False, 0.204, 0.329),
    ],
)
def test_guided_flow_has_the_closed_form_of_a_gaussian(
    base: str, weight: float, x_term: bool, mean: float, std: float
) -> None:
    behaviour, tau, curvature = BASES[base]
    settings = {"inverse_temperature": tau, "guidance_weight": weight, "x_term": x_term}
    got = gaussian_end("cgql_mse", behaviour, expected_q(behaviour, curvature), **settings)
    assert got[0] == pytest.approx(mean, abs=6e-5 if weight < 1 else 6e-4)
    assert got[1] == pytest.approx(std, abs=6e-5 if weight < 1 else 6e-3)


def test_with_many_steps_the_shift_stays_short_of_the_tilt() -> None:
    behaviour, tau, curvature = BASES["c"]
    settings = {"inverse_temperature": tau, "guidance_weight": 1.0, "x_term": False, "flow_steps": 1000}
    got = gaussian_end("cgql_mse", behaviour, expected_q(behaviour, curvature), **settings)
    assert got == pytest.approx((0.2121, 0.3887), abs=3e-4)


def test_noisy_loss_is_the_mean_square_to_the_target_critic_at_the_clean_action() -> None:
    model = small_model("cgql_mse")
    batch, noise, nets = random_batch(model), random_noise(model), model.policy.nets
    _, info = model.compute_losses(batch, noise)
    with torch.no_grad():
        t = noise["noisy_t"].unsqueeze(-1)
        q = nets.critic(batch.observations, t * batch.actions + (1 - t) * noise["noisy_x0"], t)
        clean = nets.critic_target(batch.observations, batch.actions, 1.0)
        by_row = (q - clean).square().mean(1)
    torch.testing.assert_close(info["noisy_loss"], (batch.valid * by_row).mean(1))


def test_noisy_loss_is_weighted() -> None:
    model = small_model("cgql_mse", noisy_weight=0.25)
    total, info = model.compute_losses(random_batch(model), random_noise(model))
    torch.testing.assert_close(total, info["td_loss"] + 0.25 * info["noisy_loss"] + info["bc_flow_loss"])


def test_each_loss_trains_its_own_network() -> None:
    assert routes(small_model("cgql_mse")) == {"td": {"critic"}, "noisy": {"critic"}, "bc_flow": {"behaviour"}}


def test_stacked_replicas_equal_single_runs() -> None:
    assert_stacked_equals_single("cgql_mse")


def test_noisy_weight_must_be_positive() -> None:
    with pytest.raises(ValueError, match="`noisy_weight` must be a finite number > 0, got 0"):
        small_model("cgql_mse", noisy_weight=0)
