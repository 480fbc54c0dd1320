"""One update: targets, optimiser, joint clip, and which loss trains which network."""

import math

import pytest
import torch
from torch.testing import assert_close

import agents
from agents.common.nets.specs import critic, velocity_field
from tests.common.toys import parameters_of, refuses, step, tiny_model

# -- networks and their targets ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["fixed", "behaviour_target", "only_target"])
def test_a_network_that_no_loss_trains_stays_as_it_is(name, monkeypatch):
    method = agents.get("fql").method
    networks = method.networks
    monkeypatch.setattr(method, "networks", lambda self: {**networks(self), name: velocity_field()})
    model = tiny_model(
        "fql", learning_rate=0.1, policy_kwargs={"optimizer_class": torch.optim.AdamW}
    )
    start = parameters_of(model)
    step(model)
    weights = parameters_of(model).items()
    changed = {key.split(".")[1] for key, value in weights if (value != start[key]).any()}
    # targets follow the weights from before the step, as whose copies they began
    assert changed == {"critic", "behaviour", "one_step"}


def test_a_network_with_the_name_of_a_moving_average_is_refused(monkeypatch):
    networks = {"critic": critic(), "critic_target": critic()}
    monkeypatch.setattr(agents.get("bc").method, "networks", lambda method: networks)
    with refuses("`critic_target`"):
        tiny_model("bc")


# -- clipping ---------------------------------------------------------------------------------------------------------


def test_gradients_that_share_memory_are_not_scaled_twice():
    model = tiny_model(max_grad_norm=1e-3)
    parameters = model.trainer.plan.parameters
    number = torch.ones(1)
    of_shape = {parameter.shape: torch.ones_like(parameter) for parameter in parameters}
    factor = 1e-3 / math.sqrt(sum(parameter.numel() for parameter in parameters))
    for gradients in (map(number.expand_as, parameters), (of_shape[p.shape] for p in parameters)):
        model.trainer.apply_gradients(list(gradients), {})
        for parameter in parameters:
            assert_close(parameter.grad, torch.full_like(parameter, factor))
    assert number.item() == 1


def test_an_unknown_network_to_skip_is_refused(monkeypatch):
    method = agents.get("bc").method
    monkeypatch.setattr(method, "skipped_networks", lambda self, updates: ["behavior"])
    with refuses("`behavior`; closest: behaviour"):
        tiny_model("bc")
