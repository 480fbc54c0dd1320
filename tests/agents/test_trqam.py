"""TRQAM: the identity with QAM, the path KL in closed form, the multiplier's dynamics and the frozen base."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import agents
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
from tests.common.closed_forms import FixedPoint, Gaussian
from tests.common.closed_forms import Quadratic as Value
from tests.common.toys import TINY, tiny_model, toy_dataset

BOTH = ["trqam", "sqam"]


def step(model: Any, seed: int = 0) -> dict[str, Tensor]:
    """Take one update with a random batch."""
    return model.update(random_batch(model, seed=seed), random_noise(model, seed=100 + seed))


def weights(network: Any) -> Tensor:
    """Return a copy of all of a network's weights in one row."""
    return torch.cat([p.detach().flatten() for p in network.parameters()]).clone()


# -- loss and path KL -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("multiplier", [0.02, 1 / 3, 2.5])
def test_loss_is_the_multiplier_times_that_of_qam_at_its_inverse_temperature(multiplier: float) -> None:
    ours = small_model("trqam", gamma=0.99)
    qam = small_model("qam", inverse_temperature=1 / (3 * multiplier))
    state = {k: v for k, v in ours.policy.nets.state_dict().items() if not k.startswith("multiplier")}
    qam.policy.nets.load_state_dict(state)
    ours.policy.nets.multiplier.value.fill_(multiplier)
    batch, noise = random_batch(ours), random_noise(ours)
    _, got = ours.compute_losses(batch, noise)
    _, expected = qam.compute_losses(batch, noise)
    torch.testing.assert_close(got["am_loss"], 3 * multiplier * expected["am_loss"], rtol=2e-5, atol=0)
    torch.testing.assert_close(got["td_loss"], expected["td_loss"])


def fixed_point(s: float, flow_steps: int, multiplier: float) -> tuple[Field, Field]:
    """Return base and fine-tuned flow where TRQAM ends for a linear value of slope 1 and an effective multiplier."""
    base = Gaussian(0.0, s)
    gains = torch.tensor(FixedPoint(base, Value(1.0), flow_steps).kappa.copy()).float() / multiplier

    def velocity(x: Tensor, t: Time) -> Tensor:
        index = (torch.as_tensor(t) * flow_steps).round().long()
        return base(x, t) + gains[index]

    return Field(base), Field(velocity)


def losses_at(
    s: float, flow_steps: int, multiplier: float, **settings: Any
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return losses and diagnostics of TRQAM at its fixed point, in one dimension."""
    model = bare("trqam", flow_steps=flow_steps, clip_adjoint=False, **settings)
    base, fine_tuned = fixed_point(s, flow_steps, 3 * multiplier)
    nets = networks(
        critic=Quadratic(1.0),
        critic_target=Quadratic(1.0),
        behaviour=base,
        behaviour_target=base,
        fine_tuned=fine_tuned,
        multiplier=Multiplier(1, multiplier, 1.0),
    )
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(1, 4, 1, generator=generator)
    eps = torch.randn(1, flow_steps, 4, 1, generator=generator)
    draws = {"td_action": z, "bc_x0": z, "bc_t": torch.zeros(1, 4), "am_x0": z, "am_eps": eps}
    batch, info = rows_of(torch.zeros(4, 1)), {}
    with torch.no_grad():
        targets = model.targets(batch, draws, nets, info)
    return model.losses(batch, targets, draws, nets, info), info


@pytest.mark.parametrize(
    ("s", "flow_steps", "constant"),
    [
        (0.2, 10, 0.08301),
        (0.5, 10, 0.36497),
        (1.0, 10, 1.23595),
        (0.5, 20, 0.30590),
        (1.0, 20, 1.11137),
        (0.5, 100, 0.26096),
        (0.2, 100, 0.04382),
    ],
)
def test_path_kl_at_the_fixed_point_falls_with_the_squared_multiplier(
    s: float, flow_steps: int, constant: float
) -> None:
    for multiplier in (0.2, 1.0):
        losses, info = losses_at(s, flow_steps, multiplier, horizon_length=1)
        assert float(info["path_kl"]) == pytest.approx(constant / (2 * (3 * multiplier) ** 2), rel=2e-4)
        assert float(losses["am"]) < 1e-8


def test_path_kl_is_counted_per_action_of_the_chunk() -> None:
    whole = losses_at(0.5, 10, 1.0, horizon_length=5, action_chunking=False)[1]["path_kl"]
    chunked = losses_at(0.5, 10, 1.0, horizon_length=5)[1]["path_kl"]
    torch.testing.assert_close(5 * chunked, whole)


# -- multiplier -------------------------------------------------------------------------------------------------------


def test_one_dual_step_by_hand() -> None:
    model = small_model("trqam")
    info = {"path_kl": torch.tensor([1.2967])}
    model.after_update(model.policy.nets, info)
    assert float(info["kl_average"]) == pytest.approx(0.12967, abs=1e-6)
    assert float(model.policy.nets.multiplier.value) == pytest.approx(0.991297, abs=1e-6)
    assert float(info["multiplier"]) == pytest.approx(3 * 0.991297, abs=3e-6)


def multiplier_after(budget: float, updates: int) -> float:
    """Return lambda when the policy is at its fixed point for it all along (s = .5, K = 10, H = 1)."""
    model = small_model("trqam", kl_budget=budget)
    state = model.policy.nets.multiplier
    for _ in range(updates):
        model.after_update(model.policy.nets, {"path_kl": 0.36497 / (2 * (3 * state.value) ** 2)})
    return float(state.value)


@pytest.mark.parametrize(("updates", "expected"), [(101, 0.96874), (1001, 0.76829)])
def test_multiplier_approaches_its_equilibrium_as_known(updates: int, expected: float) -> None:
    assert multiplier_after(0.05, updates) == pytest.approx(expected, abs=2e-5)


@pytest.mark.slow
@pytest.mark.parametrize(("budget", "expected"), [(0.05, 0.63681), (0.01, 1.42394), (0.5, 0.20138)])
def test_multiplier_settles_at_its_equilibrium(budget: float, expected: float) -> None:
    # in float32 the multiplier stops where its steps fall below its resolution: 1.42290 for the budget 0.01
    assert multiplier_after(budget, 40_001) == pytest.approx(expected, rel=1e-3)


def test_one_large_divergence_counts_as_two_budgets() -> None:
    large, capped = small_model("trqam"), small_model("trqam")
    large.after_update(large.policy.nets, {"path_kl": torch.tensor([1e6])})
    capped.after_update(capped.policy.nets, {"path_kl": torch.tensor([2.0])})
    assert torch.equal(large.policy.nets.multiplier.value, capped.policy.nets.multiplier.value)


def test_multiplier_stays_inside_its_bounds() -> None:
    model = small_model("trqam", multiplier_min=0.9, multiplier_max=1.1, multiplier_learning_rate=5.0)
    for kl, bound in ((0.0, 0.9), (1e9, 1.1)):
        for _ in range(30):
            model.after_update(model.policy.nets, {"path_kl": torch.tensor([kl])})
        assert float(model.policy.nets.multiplier.value) == pytest.approx(bound)


def test_each_replica_has_its_own_multiplier() -> None:
    model = small_model("trqam", seeds=[1, 2], seed=None)
    model.after_update(model.policy.nets, {"path_kl": torch.tensor([0.0, 2.0])})
    first, second = (model.replica(k).policy.nets.multiplier for k in (0, 1))
    assert float(first.kl_average) == 0.0
    assert float(second.kl_average) == pytest.approx(0.2)
    assert first.value.shape == (1,)
    assert float(second.value) > float(first.value)


@pytest.mark.parametrize("id", BOTH)
def test_multiplier_is_saved_and_loaded(id: str, tmp_path: Path) -> None:
    model = tiny_model(id)
    step(model)
    model.save(tmp_path / "model.zip")
    loaded = agents.get(id).algorithm.load(tmp_path / "model.zip", device="cpu")
    for name, value in model.policy.nets.multiplier.state_dict().items():
        assert torch.equal(loaded.policy.nets.multiplier.state_dict()[name], value)
    assert float(loaded.policy.nets.multiplier.value) != 1.0


def test_online_phase_brings_its_own_budget() -> None:
    model = tiny_model("trqam", kl_budget=1.0, kl_budget_online=0.2)
    model.learn_offline(1, dataset=toy_dataset())
    assert float(model.policy.nets.multiplier.budget) == 1.0
    average = model.policy.nets.multiplier.kl_average.clone()
    model.learn(1, reset_num_timesteps=False)
    assert float(model.policy.nets.multiplier.budget) == pytest.approx(0.2)
    assert torch.equal(model.policy.nets.multiplier.kl_average, average)


# -- frozen base ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("id", BOTH)
def test_frozen_base_stays_while_the_rest_learns(id: str) -> None:
    model = small_model(id, freeze_base=True)
    nets = model.policy.nets
    nets.behaviour_target.mlp.biases[0].fill_(0.1)  # a target apart from its network would move towards it
    before = {name: weights(net) for name, net in nets.items() if name != "multiplier"}
    step(model)
    step(model, seed=1)
    moved = {name for name in before if not torch.equal(weights(nets[name]), before[name])}
    assert moved == {"critic", "critic_target", "fine_tuned"}


@pytest.mark.parametrize("id", BOTH)
def test_frozen_base_stays_as_pretraining_left_it(id: str) -> None:
    model = small_model(id, freeze_base=True, pretraining_steps=1)
    before = weights(model.policy.nets.behaviour)
    step(model)
    pretrained = weights(model.policy.nets.behaviour)
    assert not torch.equal(pretrained, before)
    for update in (1, 2):
        step(model, seed=update)
    for name in ("behaviour", "behaviour_target"):
        assert torch.equal(weights(model.policy.nets[name]), pretrained), name


def test_frozen_base_takes_no_part_in_the_gradient_norm() -> None:
    frozen, whole = small_model("trqam", freeze_base=True), small_model("trqam")
    batch, noise = random_batch(whole), random_noise(whole)
    total, _ = whole.compute_losses(batch, noise)
    nets = whole.policy.nets
    rest = torch.autograd.grad(total.sum(), [*nets.critic.parameters(), *nets.fine_tuned.parameters()])
    expected = torch.cat([g.flatten() for g in rest]).norm()
    torch.testing.assert_close(frozen.update(batch, noise)["grad_norm"][0], expected)


# -- the rest ---------------------------------------------------------------------------------------------------------


def test_each_loss_trains_its_own_network() -> None:
    assert routes(small_model("trqam")) == {"td": {"critic"}, "bc_flow": {"behaviour"}, "am": {"fine_tuned"}}


@pytest.mark.parametrize(
    ("setting", "source"), [("target_behaviour", "behaviour"), ("target_gradient", "critic")], ids=lambda x: x
)
def test_online_networks_stand_in_for_their_averages_on_demand(setting: str, source: str) -> None:
    averaged, online = small_model("trqam"), small_model("trqam", **{setting: False})
    for model in (averaged, online):
        model.policy.nets[f"{source}_target"].mlp.biases[0].add_(0.3)
    aligned = copy.deepcopy(averaged.policy.nets.state_dict())
    for name in list(aligned):
        if name.startswith(f"{source}."):
            aligned[name] = aligned[name.replace(source, f"{source}_target", 1)].clone()
    batch, noise = random_batch(averaged), random_noise(averaged)
    with_average = averaged.compute_losses(batch, noise)[1]["am_loss"]
    assert not torch.allclose(with_average, online.compute_losses(batch, noise)[1]["am_loss"])
    online.policy.nets.load_state_dict(aligned)
    torch.testing.assert_close(with_average, online.compute_losses(batch, noise)[1]["am_loss"])


def test_stacked_replicas_equal_single_runs() -> None:
    assert_stacked_equals_single("trqam", multiplier_learning_rate=0.5)


def test_discount_is_that_of_the_authors() -> None:
    assert TINY.get("gamma") is None
    assert tiny_model("trqam").gamma == 0.995
    assert tiny_model("trqam", gamma=0.9).gamma == 0.9


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"kl_budget": 0.0}, "`kl_budget` must be a finite number > 0, got 0"),
        ({"kl_budget_online": -1.0}, "`kl_budget_online` must be a finite number > 0, got -1"),
        ({"multiplier_scale": 0}, "`multiplier_scale` must be a finite number > 0, got 0"),
        ({"multiplier_min": 2, "multiplier_max": 1}, "`multiplier_max` must be at least `multiplier_min` = 2, got 1"),
        ({"kl_average_rate": 1.5}, "`kl_average_rate` must be a finite number > 0 and <= 1, got 1.5"),
        ({"kl_clip": 0}, "`kl_clip` must be a finite number > 0, got 0"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        small_model("trqam", **settings)


def test_freeze_base_must_be_a_switch() -> None:
    with pytest.raises(TypeError, match="`freeze_base` must be true or false, got 1 of type int"):
        small_model("trqam", freeze_base=1)
