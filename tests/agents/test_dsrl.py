from __future__ import annotations

import pytest
import torch

from tests.agents.oracles import (
    Behaviour,
    Field,
    Quadratic,
    acting_depends_on,
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

FLOW = Field(Behaviour(0.5, [[0.0]]).velocity)
LENGTH = 0.43078  # slope of that flow's end in its start, for 10 steps


def test_latent_policy_balances_where_the_theory_says() -> None:
    slope, scale = 0.8, 0.6
    gain = scale * LENGTH * slope
    mean, log_std = torch.tensor([1.29], requires_grad=True), torch.tensor([-0.454], requires_grad=True)
    alpha = torch.tensor([0.2242 * gain], requires_grad=True)
    rows = normal_quantiles()
    expand = lambda p: p.expand(1, len(rows), 1)  # noqa: E731
    nets = networks(
        critic=Quadratic(slope),
        critic_target=Quadratic(slope),
        latent_critic=Quadratic(slope * LENGTH),
        behaviour=Field(lambda x, t: x),
        behaviour_target=FLOW,
        latent_policy=lambda observations: (expand(mean), expand(log_std)),
        temperature=lambda: alpha,
    )
    model = bare("dsrl", noise_scale=scale, flow_steps=10)
    batch, eps = rows_of(rows.unsqueeze(-1)), rows.view(1, -1, 1)
    noise = {"td_policy": eps, "latent_z": eps, "policy_eps": eps, "bc_x0": eps, "bc_t": torch.zeros(1, len(rows))}
    with torch.no_grad():
        targets = model.targets(batch, noise, nets, {})
    losses = model.losses(batch, targets, noise, nets, {})
    at_mean, at_log_std = torch.autograd.grad(losses["actor"].sum(), [mean, log_std], retain_graph=True)
    at_alpha = torch.autograd.grad(losses["temperature"].sum(), alpha)[0]
    assert float(at_mean) / gain == pytest.approx(0, abs=2e-3)
    assert float(at_log_std) / gain == pytest.approx(0, abs=2e-3)
    assert float(at_alpha) == pytest.approx(0, abs=5e-3)


def test_latent_critic_regresses_to_the_critics_along_the_flow() -> None:
    z = torch.tensor([[[-2.0], [0.0], [1.5], [9.0]]])
    nets = networks(
        critic=Quadratic(2.0),
        critic_target=Quadratic(0.0),
        behaviour_target=FLOW,
        latent_policy=lambda observations: (torch.zeros(1, 4, 1), torch.zeros(1, 4, 1)),
    )
    model = bare("dsrl", flow_steps=10)
    targets = model.targets(rows_of(torch.zeros(4, 1)), {"td_policy": z, "latent_z": z}, nets, {})
    expected = 2 * torch.tensor([-2 * LENGTH, 0.0, 1.5 * LENGTH, 1.0])  # the last action is clipped
    torch.testing.assert_close(targets["latent_q"][0, 0], expected, atol=1e-4, rtol=0)


def test_flow_starts_inside_the_noise_scale() -> None:
    model = bare("dsrl", noise_scale=1.4, flow_steps=10)
    nets = networks(
        behaviour_target=FLOW, latent_policy=lambda observations: (torch.full((1, 1, 1), 50.0), torch.zeros(1, 1, 1))
    )
    action = model.act(torch.zeros(1, 1, 1), {"policy": torch.zeros(1, 1, 1)}, nets)
    assert float(action) == pytest.approx(1.4 * LENGTH, abs=1e-4)


def acts_with(network: str, **settings: object) -> bool:
    """Return whether acting depends on a network."""
    model = small_model("dsrl", **settings)
    return acting_depends_on(network, model, {"policy": random_noise(model)["td_policy"]})


def test_acting_follows_the_moving_average_of_the_behaviour() -> None:
    assert acts_with("behaviour_target")
    assert not acts_with("behaviour")


def test_acting_can_follow_the_behaviour_itself() -> None:
    assert acts_with("behaviour", target_behaviour=False)
    assert not acts_with("behaviour_target", target_behaviour=False)


def test_each_loss_trains_its_own_network() -> None:
    assert routes(small_model("dsrl")) == {
        "td": {"critic"},
        "latent": {"latent_critic"},
        "bc_flow": {"behaviour"},
        "actor": {"latent_policy"},
        "temperature": {"temperature"},
    }


def test_stacked_replicas_equal_single_runs() -> None:
    assert_stacked_equals_single("dsrl", best_of_n=2)


def test_target_entropy_enters_the_temperature_loss() -> None:
    batch_and_noise = lambda model: (random_batch(model), random_noise(model))  # noqa: E731
    default, higher = small_model("dsrl"), small_model("dsrl", target_entropy=0.0)
    loss = [float(m.compute_losses(*batch_and_noise(m))[1]["temperature_loss"]) for m in (default, higher)]
    assert loss[0] - loss[1] == pytest.approx(1.0, abs=1e-5)  # the default is -D/2 = -1


def test_noise_scale_must_be_positive() -> None:
    with pytest.raises(ValueError, match="`noise_scale` must be a finite number > 0, got 0"):
        small_model("dsrl", noise_scale=0)


def test_target_entropy_must_be_a_number() -> None:
    with pytest.raises(TypeError, match="`target_entropy` must be a number, got 'auto' of type str"):
        small_model("dsrl", target_entropy="auto")


@pytest.mark.slow
def test_learnt_policy_shifts_actions_by_the_known_amount() -> None:
    model, exact = bandit_model("dsrl", 1), Quadratic(1.0)
    learn_bandit(model, Behaviour(0.5, [[0.0]]), 3_000, critic=exact, critic_target=exact)
    actions = bandit_actions(model)
    assert float(actions.mean()) == pytest.approx(LENGTH * 0.770, abs=0.025)
    assert float(actions.std()) == pytest.approx(LENGTH * 0.249, abs=0.025)
