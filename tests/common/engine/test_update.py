"""One update: targets, optimiser, joint clip, and which loss trains which network."""

import math

import pytest
import torch
from torch.testing import assert_close

import agents
from agents.common.engine.trainer import Trainer
from agents.common.nets.specs import critic, velocity_field
from tests.common.engine.helpers import norms_of
from tests.common.toys import step, tiny_model

FOLLOWED = ("critic", "behaviour")


def networks_of(model):
    return {name: value.detach().clone() for name, value in model.policy.nets.named_parameters()}


# -- target networks --------------------------------------------------------------------------------------------------


def test_targets_start_as_copies():
    start = networks_of(tiny_model())
    names = [name for name in start if name.split(".")[0] in FOLLOWED]
    assert len(names) == 2 * 6 + 4  # three layers in either network, and two norms in the critic
    for name in names:
        assert torch.equal(start[name.replace(".", "_target.", 1)], start[name])


@pytest.mark.parametrize("name", ["fixed", "behaviour_target", "only_target"])
def test_a_network_that_no_loss_trains_stays_as_it_is(name, monkeypatch):
    method = agents.get("fql").method
    networks = method.networks
    monkeypatch.setattr(method, "networks", lambda self: {**networks(self), name: velocity_field()})
    model = tiny_model(
        "fql", learning_rate=0.1, policy_kwargs={"optimizer_class": torch.optim.AdamW}
    )
    start = networks_of(model)
    step(model)
    changed = {
        key.split(".")[0]
        for key, value in networks_of(model).items()
        if not torch.equal(value, start[key])
    }
    assert changed == {"critic", "behaviour", "one_step"}


def test_a_network_with_the_name_of_a_moving_average_is_refused(monkeypatch):
    networks = {"critic": critic(), "critic_target": critic()}
    monkeypatch.setattr(agents.get("bc").method, "networks", lambda method: networks)
    with pytest.raises(ValueError, match="`critic_target`"):
        tiny_model("bc")


# -- clipping ---------------------------------------------------------------------------------------------------------


def test_joint_norm_runs_over_all_tensors_of_each_replica_and_those_without_an_axis_of_replicas():
    grads = [
        torch.tensor([[[3.0, 0.0]], [[0.0, 1.0]]]),
        torch.tensor([[4.0], [2.0]]),
        torch.tensor([12.0, 2.0]),
    ]
    assert norms_of(grads, 2).tolist() == [13.0, 3.0]
    assert norms_of(
        [torch.tensor([[3.0], [4.0]]), torch.tensor([0.0]), torch.tensor(12.0)], 1
    ).tolist() == [13.0]


def test_gradients_that_share_memory_are_not_scaled_twice():
    model = tiny_model(max_grad_norm=1e-3)
    parameters, one = model.trainer.plan.parameters, torch.ones(1)
    of_shape = {parameter.shape: torch.ones_like(parameter) for parameter in parameters}
    factor = 1e-3 / math.sqrt(sum(parameter.numel() for parameter in parameters))
    for gradients in (
        [one.expand_as(p) for p in parameters],
        [of_shape[p.shape] for p in parameters],
    ):
        model.trainer.apply_gradients(gradients, {})
        for parameter in parameters:
            assert_close(parameter.grad, torch.full_like(parameter, factor))
    assert one.item() == 1


@pytest.mark.parametrize(
    ("bound", "norms", "expected"),
    [
        (1.0, [5.0, 0.25, 1.0], [1.0, 0.25, 1.0]),
        (None, [5.0, 0.25], [5.0, 0.25]),
        (1.0, [0.0], [0.0]),
    ],
)
def test_gradient_is_clipped_jointly_and_separately_for_each_replica(bound, norms, expected):
    model = tiny_model(seeds=list(range(len(norms))), max_grad_norm=bound)
    update, info = Trainer(model, 0), {}
    grads = [torch.ones_like(parameter) for parameter in update.plan.parameters]
    factors = torch.tensor(norms) / norms_of(grads, len(norms))
    update.apply_gradients(
        [grad * factors.view(-1, *[1] * (grad.ndim - 1)) for grad in grads], info
    )
    assert_close(info["grad_norm"], torch.tensor(norms))
    clipped = [parameter.grad for parameter in update.plan.parameters]
    assert_close(norms_of(clipped, len(norms)), torch.tensor(expected))


# -- losses -----------------------------------------------------------------------------------------------------------


def test_an_unknown_network_to_skip_is_refused(monkeypatch):
    monkeypatch.setattr(
        agents.get("bc").method, "skipped_networks", lambda method, updates: ["behavior"]
    )
    with pytest.raises(ValueError, match="`behavior`; closest: behaviour"):
        tiny_model("bc")
