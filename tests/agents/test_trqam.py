"""TRQAM: the identity with QAM, the path KL in closed form, the multiplier's dynamics and the frozen base."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import agents
from tests.agents.oracles import (
    random_batch,
    random_noise,
    small_model,
)
from tests.common.toys import tiny_model, toy_dataset

BOTH = ["trqam", "sqam"]


def step(model: Any, seed: int = 0) -> dict[str, Tensor]:
    """Take one update with a random batch."""
    return model.trainer.update_on(random_batch(model, seed=seed), random_noise(model, seed=100 + seed))


def weights(network: Any) -> Tensor:
    """Return a copy of all of a network's weights in one row."""
    return torch.cat([p.detach().flatten() for p in network.parameters()]).clone()


# -- multiplier -------------------------------------------------------------------------------------------------------


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


# -- the rest ---------------------------------------------------------------------------------------------------------


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
    with_average = averaged.trainer.losses(batch, noise)[1]["am_loss"]
    assert not torch.allclose(with_average, online.trainer.losses(batch, noise)[1]["am_loss"])
    online.policy.nets.load_state_dict(aligned)
    torch.testing.assert_close(with_average, online.trainer.losses(batch, noise)[1]["am_loss"])
