"""What is special about one algorithm alone, and is in no recorded number of `tests/parity`."""

import dataclasses

import pytest
import torch
from torch.testing import assert_close

from agents.common.maths.critic import action_gradient
from agents.common.maths.denoising import NoiseSchedule
from agents.common.maths.flow import integrate_flow
from agents.common.nets.networks import Sizes, TanhActor
from tests.agents.oracles import Field, Quadratic, bare, networks, rows_of, small_model, weights
from tests.common.toys import step, toy_batch, toy_noise

# -- flow policies ----------------------------------------------------------------------------------------------------


def test_bc_has_loss_and_actions_of_the_behaviour_flow_of_qam():
    clone, qam = small_model("bc"), small_model("qam", inverse_temperature=0.0)
    clone.policy.nets.behaviour.load_state_dict(qam.policy.nets.behaviour.state_dict())
    batch, noise = toy_batch(qam), toy_noise(qam)
    _, expected = qam.trainer.losses(batch, noise)
    total, info = clone.trainer.losses(batch, noise)
    assert torch.equal(info["bc_flow_loss"], expected["bc_flow_loss"])
    assert torch.equal(total, info["bc_flow_loss"])
    with torch.no_grad():
        acted = [
            m.act(batch.observations, {"action": noise["td_action"]}, m.policy.nets)
            for m in (clone, qam)
        ]
    assert torch.equal(*acted)


def test_fbracs_clipped_actions_send_no_gradient():
    model = bare("fbrac", flow_steps=4)
    bias = torch.tensor(9.0, requires_grad=True)
    nets = networks(
        critic=Quadratic(1.0), critic_target=Quadratic(1.0), flow=Field(lambda x, t: 0 * x + bias)
    )
    zeros = torch.zeros(1, 4, 1)
    draws = {"bc_x0": zeros, "bc_t": torch.zeros(1, 4), "q_z": zeros}
    losses = model.losses(rows_of(torch.zeros(4, 1)), {"td": torch.zeros(1, 4)}, draws, nets, {})
    assert float(torch.autograd.grad(losses["q"].sum(), bias)[0]) == 0


def test_fawacs_weights_are_capped():
    model, critic = bare("fawac", inverse_temperature=6.4, flow_steps=1), Quadratic(1.0)
    value, flow = lambda observations: observations[..., 0], Field(lambda x, t: x)
    nets = networks(critic=critic, critic_target=critic, value=value, flow=flow)
    batch = rows_of(torch.tensor([[10.0], [0.0]]))
    assert model.targets(batch, {"td_action": batch.actions}, nets, {})["weight"].tolist() == [
        [100.0, 1.0]
    ]


def test_fqls_teacher_is_clipped_and_its_student_is_not():
    model = bare("fql", flow_steps=1)
    far = networks(
        critic=Quadratic(0.0),
        critic_target=Quadratic(0.0),
        behaviour=Field(lambda x, t: torch.full_like(x, 5.0) - x),
        one_step=lambda observations, z: torch.full_like(z, 2.5),
    )
    batch, zeros = rows_of(torch.zeros(4, 1)), torch.zeros(1, 4, 1)
    draws = {"distill_z": zeros, "td_action": zeros, "bc_x0": zeros, "bc_t": torch.zeros(1, 4)}
    targets = model.targets(batch, draws, far, {})
    assert float(model.losses(batch, targets, draws, far, {})["distill"]) == pytest.approx(
        (2.5 - 1.0) ** 2
    )
    assert float(targets["next_actions"].max()) == 1.0


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(
    ("id", "setting", "loss"),
    [("ifql", "mask_value", "value_loss"), ("qgf", "mask_cloning", "bc_flow_loss")],
)
def test_a_loss_counts_crossing_sequences_as_the_authors_do_unless_masked(
    id, setting, loss, masked
):
    model = small_model(id, **{setting: masked})
    batch = toy_batch(model)
    batch = dataclasses.replace(batch, valid=torch.zeros_like(batch.valid))
    _, info = model.trainer.losses(batch, toy_noise(model))
    counted = {name for name in ("td_loss", "bc_flow_loss", "value_loss") if float(info[name]) > 0}
    assert counted == (set() if masked else {loss})


def test_mean_flows_targets_are_bounded():
    full_ones = torch.ones(1, 4, 1)
    assert bare("meanflowql").mean_flow_target(
        full_ones, full_ones, full_ones, 100 * full_ones
    ).unique().tolist() == [-5]


def test_rqls_moving_average_acts_and_follows_at_its_own_pace():
    model = small_model("rql", policy_tau=1.0, tau=0.0)
    nets = model.policy.nets
    step(model)
    old_weights = weights(nets.flow)
    step(model, seed=1)
    assert torch.equal(weights(nets.flow_target), old_weights)
    state, noise = toy_batch(model).observations, {"action": toy_noise(model)["bc_x0"]}
    with torch.no_grad():
        expected = integrate_flow(
            nets.flow_target.at(state), noise["action"], model.flow_steps
        ).clamp(-1, 1)
        assert torch.equal(model.act(state, noise, nets), expected)


# -- Value Flows ------------------------------------------------------------------------------------------------------

MEAN, STD = -3.0, 0.5


def gaussian(returns, t):
    """Return the velocity of the flow from standard noise to N(MEAN, STD^2)."""
    variance = t**2 * STD**2 + (1 - t) ** 2
    slope = (t * STD**2 - (1 - t)) / variance
    return MEAN + slope.unsqueeze(1) * (returns - t.unsqueeze(1) * MEAN)


def test_following_a_gaussians_flow_scales_and_shifts_the_noise():
    model, end = bare("value_flows", flow_steps=1000), torch.ones(1, 5)
    z = torch.linspace(-2, 2, 5).view(1, 1, 5)
    slope = action_gradient(lambda x: model.follow(gaussian, x, end), z)
    assert_close(model.follow(gaussian, z, end), MEAN + STD * z, rtol=0, atol=0.01)
    assert_close(slope, torch.full_like(slope, STD), rtol=0, atol=0.01)


@pytest.mark.parametrize(
    ("bounds", "lowest"), [({}, -12.0), ({"reward_min": -1.0, "reward_max": 0.0}, -2.0)]
)
def test_bounds_hold_returns_but_not_their_derivative(bounds, lowest):
    model, z, end = (
        bare("value_flows", gamma=0.5, **bounds),
        torch.tensor([[[-2.0, 2.0]]]),
        torch.ones(1, 2),
    )
    assert float(model.follow(lambda x, t: 0 * x - 10, z, end).min()) == pytest.approx(
        lowest, abs=1e-5
    )
    slope = action_gradient(lambda at: model.follow(lambda x, t: 0.3 * x - 10, at, end), z)
    assert_close(slope, torch.full_like(slope, (1 + 0.03) ** 10))


# -- diffusion policies -----------------------------------------------------------------------------------------------


def test_the_gradient_of_q_can_come_from_the_online_critics():
    model = small_model("qsm", target_gradient=False)
    batch, noise, nets = toy_batch(model), toy_noise(model), model.policy.nets
    with torch.no_grad():
        old_gradient = model.targets(batch, noise, nets, {})["gradient"]
        for parameter in nets.critic.parameters():
            parameter.mul_(1.5)
        assert not torch.equal(old_gradient, model.targets(batch, noise, nets, {})["gradient"])


def test_the_schedule_travels_with_a_replica():
    single = small_model("qsm", seeds=[1, 2], beta_schedule="cosine").replica(1)
    assert single.policy.nets.schedule.table.tolist() == [NoiseSchedule(1, 3, "cosine").alpha_bars]


# -- Gaussian and deterministic actors --------------------------------------------------------------------------------


@pytest.mark.parametrize("id", ["dsrl", "fedit", "qam_e", "rlpd"])
def test_target_entropy_enters_the_temperature_loss(id):
    models = small_model(id), small_model(id, target_entropy=0.0)
    loss = [
        float(m.trainer.losses(toy_batch(m), toy_noise(m))[1]["temperature_loss"]) for m in models
    ]
    assert loss[0] - loss[1] == pytest.approx(1.0, abs=1e-5)  # the default is -D/2 = -1


@pytest.mark.parametrize("border", [-1.0, 1.0])
def test_rlpd_clones_actions_on_the_border_of_the_box(border):
    model = small_model("rlpd", bc_weight=1.0)
    batch = toy_batch(model)
    batch = dataclasses.replace(batch, actions=torch.full_like(batch.actions, border))
    info = model.trainer.update_on(batch, toy_noise(model))
    assert info["bc_loss"].isfinite().all()
    assert info["grad_norm"].isfinite().all()


def test_rebracs_true_delay_holds_the_actor_still_in_spite_of_momentum():
    model = small_model("rebrac", true_delay=True, policy_delay=3)
    nets = model.policy.nets
    for update in range(1, 8):
        old_weights, critic = weights(nets.actor), weights(nets.critic)
        step(model, seed=update)
        assert torch.equal(weights(nets.actor), old_weights) == (update % 3 != 0)
        assert not torch.equal(weights(nets.critic), critic)
    parameter = next(nets.actor.parameters())
    assert int(model.policy.optimizer.state[parameter]["step"]) == 2


def test_rebracs_phase_of_the_delay_is_saved(tmp_path):
    model = small_model("rebrac", tau=0.5)
    step(model)
    model.save(tmp_path / "model.zip")
    loaded = type(model).load(tmp_path / "model.zip", device="cpu")
    target = weights(loaded.policy.nets.critic_target)
    step(loaded, seed=1)
    assert not torch.equal(weights(loaded.policy.nets.critic_target), target)


def test_rebrac_chooses_among_the_target_actors_noisy_actions():
    model = small_model("rebrac", actor_noise=0.3, best_of_n=6)
    nets, batch, noise = model.policy.nets, toy_batch(model), toy_noise(model)
    nets.actor_target.mean.biases[0].add_(0.4)
    with torch.no_grad():
        next_actions = model.next_actions(batch, noise, nets)
        shift = (0.3 * noise["td_smooth"]).clamp(-0.5, 0.5)
        candidates = (nets.actor_target(batch.next_observations).unsqueeze(2) + shift).clamp(
            -1, 1
        )  # (S, B, N, D)
        scores = [
            nets.critic(batch.next_observations, candidates[:, :, n]).mean(1) for n in range(6)
        ]
        best = nets.critic(batch.next_observations, next_actions).mean(1)
    assert_close(best, torch.stack(scores).amax(0))


def test_rebracs_last_layer_starts_small():
    actor = TanhActor(Sizes(1, 5, 3, 1, 1, [64], [], False, False), head_scale=0.01)
    actor.initialise(0, torch.Generator().manual_seed(0))
    bound = (3 * 0.01 / ((64 + 3) / 2)) ** 0.5
    assert 0.9 * bound < float(actor.mean.weights[0].detach().abs().max()) <= bound
