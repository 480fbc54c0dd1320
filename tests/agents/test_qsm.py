from __future__ import annotations

import pytest
import torch
from torch import Tensor

from agents.common.maths.denoising import NoiseSchedule
from agents.common.nets.heads import Time
from agents.common.sb3.model import FlowQLearning
from tests.agents.oracles import (
    FOUR_MODES,
    TILT,
    Behaviour,
    Field,
    Quadratic,
    assert_stacked_equals_single,
    bandit_actions,
    bandit_model,
    bare,
    learn_bandit,
    mode_masses,
    networks,
    random_batch,
    random_noise,
    routes,
    rows_of,
    small_model,
)

ROWS = 60_000
SCHEDULE = NoiseSchedule(1, 10, "vp")


def stationary(behaviour: Behaviour, weight: float, tau: float, slope: float | Tensor) -> Field:
    """Return the noise prediction at which QSM's losses balance, for Q(a) = slope.a."""

    def predict(x: Tensor, t: Time) -> Tensor:
        clean = behaviour.noise_prediction(x, SCHEDULE.alpha_bars[int(t)])
        return (weight * clean - tau * slope) / (1 + weight)

    return Field(predict)


def sampled(model: FlowQLearning, denoiser: Field, size: int = 1) -> Tensor:
    """Sample a model with an exact noise prediction, (ROWS, size)."""
    generator = torch.Generator().manual_seed(0)
    noise = {
        "action": torch.randn(1, ROWS, size, generator=generator),
        "denoise": torch.randn(1, 10, ROWS, size, generator=generator),
    }
    return model.act(torch.zeros(1, ROWS, 1), noise, networks(denoiser=denoiser, schedule=SCHEDULE))[0]


def balance(model: FlowQLearning, denoiser: Field, behaviour: Behaviour, critic: Quadratic, step: int) -> float:
    """Return the derivative of the weighted losses in a constant added to the noise prediction at one step."""
    offset = torch.zeros((), requires_grad=True)
    moved = Field(lambda x, t: denoiser(torch.empty(0), x, step) + offset)
    nets = networks(critic=critic, critic_target=critic, denoiser=moved, schedule=SCHEDULE)
    batch = rows_of(behaviour.sample(ROWS))
    eps = torch.randn(batch.actions.shape, generator=torch.Generator().manual_seed(3))
    noise = {"diffusion_t": torch.full((1, ROWS), float(step)), "diffusion_eps": eps}
    noise |= {"td_action": eps, "td_denoise": torch.zeros(1, 10, *eps.shape[1:])}
    with torch.no_grad():
        targets = model.targets(batch, noise, nets, {})
    losses = model.losses(batch, targets, noise, nets, {})
    (model.loss_weights()["bc"] * losses["bc"] + losses["actor"]).sum().backward()
    return float(offset.grad)


@pytest.mark.parametrize("step", [1, 5, 10])
def test_losses_balance_where_the_theory_says(step: int) -> None:
    behaviour, critic = Behaviour(0.2, [[0.0]]), Quadratic(0.7)
    model = bare("qsm", bc_weight=10.0, inverse_temperature=3.0, flow_steps=10)
    derivative = balance(model, stationary(behaviour, 10.0, 3.0, 0.7), behaviour, critic, step)
    assert derivative == pytest.approx(0, abs=0.2)  # 22 for an offset of 1; sampling error 0.08


@pytest.mark.parametrize(
    ("std", "weight", "tau", "mean", "spread"),
    [
        (0.2, 10.0, 1.0, 0.0532, 0.1829),
        (0.2, 10.0, 10.0, 0.5001, 0.1553),
        (0.2, 30.0, 10.0, 0.1692, 0.1640),
        (0.5, 10.0, 1.0, 0.1273, 0.3999),
    ],
)
def test_balanced_policy_samples_the_known_gaussian(
    std: float, weight: float, tau: float, mean: float, spread: float
) -> None:
    model = bare("qsm", flow_steps=10)
    actions = sampled(model, stationary(Behaviour(std, [[0.0]]), weight, tau, 1.0))
    assert float(actions.mean()) == pytest.approx(mean, abs=0.006)
    assert float(actions.std()) == pytest.approx(spread, abs=0.004)


@pytest.mark.parametrize(("tau", "masses"), [(1.0, [0.156, 0.376, 0.257, 0.211]), (10.0, [0.726, 0.013, 0.002, 0.259])])
def test_balanced_policy_moves_the_modes_of_a_mixture(tau: float, masses: list[float]) -> None:
    actions = sampled(bare("qsm", flow_steps=10), stationary(FOUR_MODES, 10.0, tau, TILT), size=2)
    torch.testing.assert_close(mode_masses(actions), torch.tensor(masses), atol=0.01, rtol=0)


def test_gradient_of_q_is_taken_at_the_noisy_action_from_the_target_critics() -> None:
    model = small_model("qsm")
    batch, noise, nets = random_batch(model), random_noise(model), model.policy.nets
    with torch.no_grad():
        targets = model.targets(batch, noise, nets, {})
    noisy = targets["noisy"].clone().requires_grad_()
    value = nets.critic_target(batch.observations, noisy).mean(1).sum()
    torch.testing.assert_close(targets["gradient"], torch.autograd.grad(value, noisy)[0])


def test_gradient_of_q_can_come_from_the_online_critics() -> None:
    model = small_model("qsm", target_gradient=False)
    batch, noise, nets = random_batch(model), random_noise(model), model.policy.nets
    with torch.no_grad():
        before = model.targets(batch, noise, nets, {})["gradient"]
        for parameter in nets.critic.parameters():
            parameter.mul_(1.5)
        assert not torch.equal(before, model.targets(batch, noise, nets, {})["gradient"])


def test_actions_stay_in_the_box() -> None:
    model = small_model("qsm", inverse_temperature=100.0)
    noise = random_noise(model)
    own = {name: noise[f"td_{name}"] for name in model.action_noise_table()}
    with torch.no_grad():
        actions = model.act(random_batch(model).observations, own, model.policy.nets)
    assert float(actions.abs().max()) <= 1


def test_rows_that_do_not_count_add_nothing() -> None:
    model = small_model("qsm")
    batch = random_batch(model)
    object.__setattr__(batch, "valid", torch.zeros_like(batch.valid))
    _, info = model.compute_losses(batch, random_noise(model))
    assert float(info["total_loss"]) == 0


def test_each_loss_trains_its_own_network() -> None:
    assert routes(small_model("qsm")) == {"td": {"critic"}, "bc": {"denoiser"}, "actor": {"denoiser"}}


def test_stacked_replicas_equal_single_runs() -> None:
    assert_stacked_equals_single("qsm", best_of_n=2, actor_layer_norm=True)


def test_schedule_travels_with_a_replica() -> None:
    single = small_model("qsm", seeds=[1, 2], seed=None, beta_schedule="cosine").replica(1)
    assert single.policy.nets.schedule.table.tolist() == [NoiseSchedule(1, 3, "cosine").alpha_bars]


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"sampler": "ddim"}, "`sampler` must be one of ddpm, ddpm_clipped, jump, got 'ddim'"),
        ({"beta_schedule": "sigmoid"}, "`beta_schedule` must be one of vp, cosine, linear, got 'sigmoid'"),
        ({"time_features": 7}, "`time_features` must be even, cosines and sines in pairs, got 7"),
        ({"time_features": 0}, "`time_features` must be an int >= 2, got 0"),
        ({"bc_weight": -1}, "`bc_weight` must be a finite number >= 0, got -1"),
        ({"inverse_temperature": -1}, "`inverse_temperature` must be a finite number >= 0, got -1"),
    ],
)
def test_bad_settings_are_refused(setting: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        small_model("qsm", **setting)


@pytest.mark.slow
def test_learnt_policy_samples_the_known_gaussian() -> None:
    model = bandit_model("qsm", 2, bc_weight=10.0, inverse_temperature=1.0)
    exact = Quadratic(torch.tensor([1.0, -0.5]))
    learn_bandit(model, Behaviour(0.2, [[0.0, 0.0]]), 1_500, critic=exact, critic_target=exact)
    actions = bandit_actions(model)
    torch.testing.assert_close(actions.mean(0), torch.tensor([0.0532, -0.0266]), atol=0.015, rtol=0)
    torch.testing.assert_close(actions.std(0), torch.tensor([0.183, 0.183]), atol=0.02, rtol=0)
