"""Specific properties of QAM's relatives: BAM's control problem, trust regions, and averaged networks."""

import pytest
import torch
from torch.testing import assert_close

from tests.agents.oracles import (
    Quadratic,
    bare,
    field,
    networks,
    rows_of,
    small_model,
    weights,
    zero_noise,
)
from tests.common.closed_forms import Gaussian
from tests.common.toys import step, tiny_model, toy_batch, toy_dataset, toy_noise

# -- BAM --------------------------------------------------------------------------------------------------------------


def optimal_shifts(s, flow_steps, tau):
    """Return b_i = tau sigma_i^2 D_i g / 4, where D_i is the effect of b_i on the rollout's end; 0 at the last step."""
    behaviour, h = Gaussian(0.0, s), 1 / flow_steps
    times = [i * h for i in range(flow_steps)]
    factors = [1 + h * (2 * behaviour.slope(t) - 1 / (t + h)) for t in times]
    shifts = [0.0] * flow_steps
    effect = 2 * h * (1 + h * behaviour.slope(times[-1]))
    for i in reversed(range(flow_steps - 1)):
        shifts[i] = tau * 2 * (1 - times[i] + h) / (times[i] + h) * effect / 4
        effect *= factors[i]
    return torch.tensor(shifts)


def loss_of(shifts, s, **settings):
    """Return BAM's loss for a linear value of slope 1, with shifts added to the behaviour at every grid time."""
    model, behaviour = bare("bam", flow_steps=len(shifts), **settings), Gaussian(0.0, s)

    def shifted(x, t):
        return behaviour(x, t) + shifts[round(float(t) * len(shifts))]

    nets = networks(
        critic=Quadratic(),
        behaviour=field(behaviour),
        behaviour_target=field(behaviour),
        fine_tuned=field(shifted),
    )
    batch = rows_of(torch.zeros(2, 1))
    noise = zero_noise(model, 2)
    noise["am_eps"] += torch.tensor([[1.0], [-1.0]])  # the two signs cancel, so the mean is exact
    return model.losses(batch, {"td": batch.rewards}, noise, nets, {})["bam"]


@pytest.mark.parametrize(
    ("s", "flow_steps", "settings"),
    [
        (0.5, 3, {"inverse_temperature": 10.0}),
        (0.2, 10, {"inverse_temperature": 10.0}),
        # the settings for temperature 10 h = 1, with the path KL as cost
        (0.5, 10, {"inverse_temperature": 1.0, "kl_scale": 0.1}),
    ],
)
def test_predicted_shifts_are_stationary(s, flow_steps, settings):
    shifts = optimal_shifts(s, flow_steps, tau=10.0).requires_grad_()
    (gradient,) = torch.autograd.grad(loss_of(shifts, s, **settings).sum(), shifts)
    assert_close(gradient, torch.zeros(flow_steps), rtol=0, atol=1e-5)


# -- trust regions ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("path_kl", "bound"), [(0.0, 0.9), (1e9, 1.1)])
def test_multiplier_stays_inside_its_bounds(path_kl, bound):
    bounds = {"multiplier_min": 0.9, "multiplier_max": 1.1}
    model = small_model("trqam", multiplier_learning_rate=5.0, **bounds)
    nets = model.policy.nets
    for _ in range(30):
        model.after_update(nets, {"path_kl": torch.tensor([path_kl])})
    assert float(nets.multiplier.value) == pytest.approx(bound)


def test_online_phase_brings_its_own_budget():
    model = tiny_model("trqam", kl_budget=1.0, kl_budget_online=0.2)
    multiplier = model.policy.nets.multiplier
    model.learn_offline(1, dataset=toy_dataset())
    assert float(multiplier.budget) == 1.0
    old_average = float(multiplier.kl_average)
    model.learn(1, reset_num_timesteps=False)
    assert float(multiplier.kl_average) == old_average
    assert float(multiplier.budget) == pytest.approx(0.2)


@pytest.mark.parametrize("id", ["trqam", "sqam"])
def test_a_frozen_base_stays_as_pretraining_left_it(id):
    model = small_model(id, freeze_base=True, pretraining_steps=1)
    nets = model.policy.nets
    start = weights(nets.behaviour)
    step(model)
    assert not torch.equal(weights(nets.behaviour), start)
    # without freezing, a target that differs from its network would move towards the network
    nets.behaviour_target.mlp.biases[0].fill_(0.1)
    old_weights = {name: weights(net) for name, net in nets.items() if name != "multiplier"}
    step(model, seed=1)
    step(model, seed=2)
    for name, old in old_weights.items():
        has_moved = not torch.equal(weights(nets[name]), old)
        assert has_moved == (name in ("critic", "critic_target", "fine_tuned")), name


# -- averages ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("averaged", [True, False])
@pytest.mark.parametrize(
    ("setting", "source", "target"),
    [
        ("target_behaviour", "behaviour", "prior_velocities"),
        ("target_gradient", "critic", "adjoints"),
    ],
)
def test_online_networks_stand_in_for_their_averages_on_demand(setting, source, target, averaged):
    model = small_model("trqam", **{setting: averaged})
    nets = model.policy.nets
    inputs = toy_batch(model), toy_noise(model), nets, {}
    dependencies = []
    with torch.no_grad():
        for name in (source, f"{source}_target"):
            old_value = model.targets(*inputs)[target]
            nets[name].mlp.biases[0].add_(0.3)
            if not torch.equal(model.targets(*inputs)[target], old_value):
                dependencies.append(name)
    assert dependencies == [f"{source}_target" if averaged else source]
