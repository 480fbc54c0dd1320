"""SQAM: bridge, closed-form adjoints, and the critic's penalty."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from agents.common.maths.adjoint import bridge_sigmas, bridge_times
from agents.common.nets.heads import Multiplier, Time
from tests.agents.oracles import (
    Field,
    Quadratic,
    assert_stacked_equals_single,
    bare,
    networks,
    random_batch,
    random_noise,
    routes,
    rows_of,
    small_model,
)
from tests.common.closed_forms import Gaussian

SLOPE = torch.tensor([0.8, -0.5])


def at_bridge(count: int, multiplier: float, control: float) -> tuple[Tensor, dict[str, Tensor], dict[str, Tensor]]:
    """Return adjoint-matching loss, targets and diagnostics for v_f = v + control * sigma^2 tau g / 2, linear value."""
    model = bare("sqam", bridge_states=count, flow_steps=7, horizon_length=1)
    base = Gaussian(0.0, 0.2)

    def fine_tuned(x: Tensor, t: Time) -> Tensor:
        if not isinstance(t, Tensor):
            return base(x, t)  # the end point stays inside the box
        return base(x, t) + control * bridge_sigmas(t).square() * t * SLOPE / 2

    nets = networks(
        critic=Quadratic(SLOPE),
        critic_target=Quadratic(SLOPE),
        behaviour=Field(base),
        behaviour_target=Field(base),
        fine_tuned=Field(fine_tuned),
        multiplier=Multiplier(1, multiplier, 0.5),
    )
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(1, 6, 2, generator=generator)
    eps = torch.randn(1, count, 6, 2, generator=generator)
    draws = {"td_action": z, "bc_x0": z, "bc_t": torch.zeros(1, 6), "endpoint_z": z, "bridge_eps": eps}
    batch, info = rows_of(torch.zeros(6, 2)), {}
    targets = model.targets(batch, draws, nets, info)
    return model.losses(batch, targets, draws, nets, info)["am"], targets, info


@pytest.mark.parametrize(("count", "multiplier"), [(10, 1.0), (4, 0.2)])
def test_loss_of_the_behaviour_for_a_linear_value_is_the_known_sum(count: int, multiplier: float) -> None:
    h = 1 / count
    sigma_squared = [2 * (1 - k * h + h) / (k * h + h) for k in range(1, count + 1)]
    expected = sum(v / (3 * multiplier) * (k * h) ** 2 for k, v in enumerate(sigma_squared, 1)) * float(SLOPE @ SLOPE)
    loss, _, info = at_bridge(count, multiplier, control=0.0)
    assert float(loss) == pytest.approx(expected, rel=1e-5)
    assert float(info["path_kl"]) == 0


def test_loss_vanishes_where_the_policy_has_moved_by_half_sigma_squared_times_the_adjoint() -> None:
    loss, _, info = at_bridge(10, 1 / 3, control=1.0)
    assert float(loss) < 1e-9
    kl = sum(2 * 0.1 / 4 * (2 * (1.1 - k / 10) / (k / 10 + 0.1)) * (k / 10) ** 2 for k in range(1, 11))
    assert float(info["path_kl"]) == pytest.approx(kl * float(SLOPE @ SLOPE), rel=1e-4)


def test_adjoints_are_the_gradient_at_the_end_scaled_by_time() -> None:
    _, targets, _ = at_bridge(5, 1.0, control=0.0)
    for k in range(5):
        expected = -(k + 1) / 5 * SLOPE
        torch.testing.assert_close(targets["adjoints"][0, k], expected.expand(6, 2))


def test_bridge_ends_in_the_policys_end_point() -> None:
    _, targets, _ = at_bridge(5, 1.0, control=0.0)
    torch.testing.assert_close(targets["states"][:, -1].clamp(-1, 1), targets["endpoint"])


def test_bridge_noise_scales() -> None:
    times = bridge_times(10, torch.zeros(1))
    torch.testing.assert_close(times.flatten(), torch.arange(1, 11) / 10)
    assert bridge_sigmas(times).square().flatten()[[0, 4, 9]].tolist() == pytest.approx([10.0, 2.0, 2 / 11])


def test_each_loss_trains_its_own_network() -> None:
    assert routes(small_model("sqam")) == {
        "td": {"critic"},
        "gap": {"critic"},
        "bc_flow": {"behaviour"},
        "am": {"fine_tuned"},
    }


def test_penalty_is_the_critics_gap_between_policy_and_data() -> None:
    model = small_model("sqam", gap_penalty=0.7)
    batch, noise = random_batch(model), random_noise(model)
    nets = model.policy.nets
    with torch.no_grad():
        total, info = model.compute_losses(batch, noise)
        policy = model.act(batch.observations, {"action": noise["endpoint_z"]}, nets)
        gap = nets.critic(batch.observations, policy).mean() - nets.critic(batch.observations, batch.actions).mean()
    torch.testing.assert_close(info["gap_loss"][0], gap)
    rest = info["td_loss"] + info["bc_flow_loss"] + info["am_loss"]
    torch.testing.assert_close(total - rest, 0.7 * info["gap_loss"], rtol=1e-4, atol=1e-5)


def test_bridge_has_as_many_noises_as_states() -> None:
    assert random_noise(small_model("sqam", bridge_states=4, flow_steps=6))["bridge_eps"].shape == (1, 4, 8, 2)


def test_stacked_replicas_equal_single_runs() -> None:
    assert_stacked_equals_single("sqam", multiplier_learning_rate=0.5)


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"gap_penalty": -0.1}, "`gap_penalty` must be a finite number >= 0, got -0.1"),
        ({"bridge_states": 0}, "`bridge_states` must be an int >= 1, got 0"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, float], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        small_model("sqam", **settings)
