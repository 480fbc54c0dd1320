"""One update: targets, optimiser, joint clip, and which loss trains which network."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

import agents
from agents.common.engine.trainer import Trainer, joint_norm
from agents.common.nets.specs import critic, velocity_field
from agents.common.sb3.model import FlowQLearning
from tests.common.toys import tiny_model, toy_batch, toy_noise

LEARNING_RATE = 3e-4
FOLLOWED = ("critic", "behaviour")


def updated(model: FlowQLearning, seed: int = 0) -> dict[str, Tensor]:
    """Take one update, and return its information."""
    return model.trainer.update_on(toy_batch(model, seed=seed), toy_noise(model, seed=seed))


def networks_of(model: FlowQLearning) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in model.policy.nets.named_parameters()}


# -- target networks --------------------------------------------------------------------------------------------------


def test_targets_start_as_copies_and_follow_the_weights_from_before_the_step() -> None:
    model = tiny_model()
    start = networks_of(model)
    updated(model, seed=1)
    first = networks_of(model)
    updated(model, seed=2)
    second = networks_of(model)
    names = [name for name in start if name.split(".")[0] in FOLLOWED]
    assert len(names) == 2 * 6 + 4  # three layers in either network, and two norms in the critic
    for name in names:
        target = name.replace(".", "_target.", 1)
        # after one step the target equals the initial weights; after two it has seen the first step
        torch.testing.assert_close(first[target], start[name], rtol=2e-7, atol=0)
        torch.testing.assert_close(second[target], 0.005 * first[name] + 0.995 * first[target], rtol=1e-6, atol=1e-9)
        assert not torch.equal(second[target], first[target])


@pytest.mark.parametrize("name", ["fixed", "behaviour_target", "only_target"])
def test_a_network_that_no_loss_trains_stays_as_it_is(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    method: Any = agents.get("fql").method
    networks = method.networks
    monkeypatch.setattr(method, "networks", lambda self: {**networks(self), name: velocity_field()})
    model = tiny_model("fql", learning_rate=0.1, policy_kwargs={"optimizer_class": torch.optim.AdamW})
    before = networks_of(model)
    updated(model)
    changed = {key.split(".")[0] for key, value in networks_of(model).items() if not torch.equal(value, before[key])}
    assert changed == {"critic", "behaviour", "one_step"}


def test_a_network_with_the_name_of_a_moving_average_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    networks = {"critic": critic(), "critic_target": critic()}
    monkeypatch.setattr(agents.get("bc").method, "networks", lambda method: networks)
    with pytest.raises(ValueError, match="`critic_target` is the moving average of network `critic`, got another"):
        tiny_model("bc")


# -- optimiser --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("max_grad_norm", [1.0, None])
def test_first_step_moves_every_entry_with_gradient_by_the_learning_rate(max_grad_norm: float | None) -> None:
    model = tiny_model(max_grad_norm=max_grad_norm)
    total, _ = model.trainer.losses(toy_batch(model), toy_noise(model))
    trained = [parameter for parameter in model.policy.nets.parameters() if parameter.requires_grad]
    grads = dict(zip(trained, torch.autograd.grad(total.sum(), trained, allow_unused=True), strict=True))
    before = networks_of(model)
    norm = float(updated(model)["grad_norm"])
    assert norm > 1  # so that the bound acts
    moved = 0
    for name, parameter in model.policy.nets.named_parameters():
        step = parameter.detach() - before[name]
        grad = grads.get(parameter)
        if grad is None:
            assert not step.any(), name
            continue
        clear = grad.abs() > 1e-4 * norm  # Adam's epsilon shortens the step of smaller ones
        torch.testing.assert_close(step[clear], -LEARNING_RATE * grad[clear].sign(), rtol=2e-3, atol=1e-7)
        assert not step[grad == 0].any(), name
        moved += int(clear.sum())
    assert moved > 1000


# -- clipping ---------------------------------------------------------------------------------------------------------


def test_joint_norm_runs_over_all_tensors_of_each_replica_and_those_without_an_axis_of_replicas() -> None:
    grads = [torch.tensor([[[3.0, 0.0]], [[0.0, 1.0]]]), torch.tensor([[4.0], [2.0]]), torch.tensor([12.0, 2.0])]
    assert joint_norm(grads, 2).tolist() == [13.0, 3.0]
    assert joint_norm([torch.tensor([[3.0], [4.0]]), torch.tensor([0.0]), torch.tensor(12.0)], 1).tolist() == [13.0]


def test_gradients_that_share_memory_are_not_scaled_twice() -> None:
    model = tiny_model(max_grad_norm=1e-3)
    parameters, one = model.trainer.parameters, torch.ones(1)
    of_shape = {parameter.shape: torch.ones_like(parameter) for parameter in parameters}
    factor = 1e-3 / math.sqrt(sum(parameter.numel() for parameter in parameters))
    for given in ([one.expand_as(p) for p in parameters], [of_shape[p.shape] for p in parameters]):
        model.trainer.apply(given, {})
        for parameter in parameters:
            torch.testing.assert_close(parameter.grad, torch.full_like(parameter, factor))
    assert one.item() == 1


@pytest.mark.parametrize(
    ("bound", "norms", "expected"),
    [(1.0, [5.0, 0.25, 1.0], [1.0, 0.25, 1.0]), (None, [5.0, 0.25], [5.0, 0.25]), (1.0, [0.0], [0.0])],
)
def test_gradient_is_clipped_jointly_and_separately_for_each_replica(
    bound: float | None, norms: list[float], expected: list[float]
) -> None:
    model = tiny_model(seeds=list(range(len(norms))), max_grad_norm=bound)
    update, info = Trainer(model, 0), {}
    grads = [torch.ones_like(parameter) for parameter in update.parameters]
    factors = torch.tensor(norms) / joint_norm(grads, len(norms))
    update.apply([grad * factors.view(-1, *[1] * (grad.ndim - 1)) for grad in grads], info)
    torch.testing.assert_close(info["grad_norm"], torch.tensor(norms))
    seen = [parameter.grad for parameter in update.parameters]
    torch.testing.assert_close(joint_norm(seen, len(norms)), torch.tensor(expected))


# -- losses -----------------------------------------------------------------------------------------------------------


def test_an_unknown_network_to_skip_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agents.get("bc").method, "skipped_networks", lambda method, updates: ["behavior"])
    with pytest.raises(ValueError, match="`skipped_networks` names an unknown network `behavior`; closest: behaviour"):
        tiny_model("bc")


def test_parameters_that_an_update_skips_and_their_moments_stay() -> None:
    model = tiny_model()
    updated(model)
    update, before = model.trainer, networks_of(model)
    moments = {id(p): state["exp_avg"].clone() for p, state in model.policy.optimizer.state.items()}
    update.select(frozenset({"behaviour", "critic_target"}))
    grads = [torch.ones_like(parameter) for parameter in update.parameters]
    update.apply(grads, {})
    after = networks_of(model)
    for name in before:
        still = name.split(".")[0] in ("behaviour", "critic_target")
        assert torch.equal(before[name], after[name]) == still, name
    for parameter in model.policy.nets.behaviour.parameters():
        assert torch.equal(model.policy.optimizer.state[parameter]["exp_avg"], moments[id(parameter)])
