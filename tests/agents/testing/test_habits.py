"""Bad habits of hooks: what is found, and what is sound and is not."""

from dataclasses import replace
from functools import cached_property

import pytest
import torch

import agents
from agents.bc import BC
from agents.fql import FQL
from agents.testing.habits import find_habits
from tests.common.toys import SPACES


def findings(base=BC, losses=None, **attributes):
    """Return the bad habits of an algorithm whose losses are changed by a function of them and the batch."""

    def changed(self, batch, targets, noise, nets, info):
        found = base.losses(self, batch, targets, noise, nets, info)
        return found if losses is None else losses(found, batch, nets)

    return find_habits(
        type("Mine", (base,), {"losses": changed, **attributes})(flow_steps=2), *SPACES
    )


@pytest.mark.parametrize(
    "wait",
    [
        lambda batch: batch.valid.sum().item(),
        lambda batch: batch.valid.tolist(),
        lambda batch: batch.valid.cpu(),
        lambda batch: batch.rewards[batch.valid > 0],
        lambda batch: batch.valid.nonzero(),
        lambda batch: bool(batch.valid.any()),
    ],
    ids=["item", "tolist", "cpu", "mask", "nonzero", "bool"],
)
def test_whatever_waits_for_the_device_is_found(wait):
    def losses(losses_of_base, batch, nets):
        wait(batch)
        return losses_of_base

    assert [finding.kind for finding in findings(losses=losses)] == ["device"]


def test_a_tensor_that_an_update_makes_itself_is_no_parameter_and_may_be_changed_in_place():
    def penalised(losses_of_base, batch, nets):
        actions, rewards = (
            batch.actions.clone().mul_(2).detach().requires_grad_(),
            batch.rewards.requires_grad_(),
        )
        q = nets.critic(batch.observations, actions)
        (slope,) = torch.autograd.grad(q.sum(), actions, create_graph=True)
        return {
            **losses_of_base,
            "penalty": (slope.square().sum(-1) * batch.valid).mean(1)
            + 0 * rewards.detach().mean(1),
        }

    assert findings(FQL, penalised) == []


def climb(losses, batch, nets):
    actions = nets.one_step(batch.observations, torch.zeros_like(batch.actions))
    return {**losses, "q": -nets.critic(batch.observations, actions).mean((1, 2))}


def test_a_loss_may_train_several_networks_if_that_is_declared():
    (finding,) = findings(FQL, climb)
    assert "loss `q` trains `critic`, `one_step` at once" in finding.text
    assert findings(FQL, climb, trains={"q": frozenset({"critic", "one_step"})}) == []


@pytest.mark.parametrize("name", ["loss_weight", "after_updates", "train"])
def test_a_name_that_is_nearly_a_hooks_is_found(name):
    assert (
        f"nothing reads `{name}`, which is nearly `" in findings(**{name: lambda self: {}})[0].text
    )


def test_a_loss_that_is_meant_to_count_all_rows_is_not_found():
    def losses(self, batch, *arguments):
        return BC.losses(self, replace(batch, valid=torch.ones_like(batch.valid)), *arguments)

    unmasked = {"losses": losses}
    (finding,) = find_habits(type("Mine", (BC,), unmasked)(), *SPACES)
    assert finding.kind == "masks"
    meant = type("Meant", (BC,), unmasked | {"unmasked_losses": frozenset({"bc_flow"})})
    assert find_habits(meant(), *SPACES) == []


def test_what_is_derived_from_settings_when_it_is_first_needed_is_no_lost_state():
    class Derived(BC):
        @cached_property
        def horizon(self):
            return 1 / (1 - self.gamma)

        def after_update(self, nets, info):
            assert self.horizon

    assert find_habits(Derived(), *SPACES) == []


def scale_of(method):
    return float(method.scale) if method.uses_scale else 1.0


def test_a_setting_that_a_function_beside_the_class_reads_in_another_case_is_read():
    class Scaled(BC):
        scale: float = agents.setting(default=2.0)
        uses_scale: bool = agents.setting(default=False)

        def loss_weights(self):
            return {"bc_flow": scale_of(self)}

    assert find_habits(Scaled(), *SPACES) == []
