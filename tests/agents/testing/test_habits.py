"""Bad habits of hooks are reported, and correct code is not."""

from dataclasses import replace
from functools import cached_property

import torch

from agents.bc import BC
from agents.fql import FQL
from agents.qam import QAM
from agents.testing.habits import find_habits
from tests.common.toys import SPACES


def findings(base=BC, change=None, **attributes):
    """Return kind and text of an algorithm's bad habits.

    :param change: function of the losses, batch and networks that returns changed losses.
    """

    def losses(self, batch, targets, noise, nets, info):
        return change(base.losses(self, batch, targets, noise, nets, info), batch, nets)

    if change:
        attributes["losses"] = losses
    habits = find_habits(type("Mine", (base,), attributes)(flow_steps=2), *SPACES)
    return [(kind, text) for kind, texts in habits.items() for text in texts]


def test_a_tensor_of_the_update_may_be_changed_in_place():
    def penalised(losses, batch, nets):
        actions = batch.actions.clone().mul_(2).detach().requires_grad_()
        q = nets.critic(batch.observations, actions)
        (slope,) = torch.autograd.grad(q.sum(), actions, create_graph=True)
        rewards = batch.rewards.requires_grad_().detach()
        penalty = slope.square().sum(-1) * batch.valid + 0 * rewards
        return {**losses, "penalty": penalty.mean(1)}

    assert findings(FQL, penalised) == []


def test_a_loss_may_train_several_networks_if_that_is_declared():
    def climb(losses, batch, nets):
        actions = nets.one_step(batch.observations, torch.zeros_like(batch.actions))
        return {**losses, "q": -nets.critic(batch.observations, actions).mean((1, 2))}

    assert [kind for kind, _ in findings(FQL, climb)] == ["gradients"]
    assert findings(FQL, climb, trains={"q": frozenset({"critic", "one_step"})}) == []


def test_a_loss_without_gradient_and_a_network_without_loss_are_found():
    def cut(losses, batch, nets):
        # a loss may have the name of a hook
        return {**losses, "act": losses["bc_flow"].detach()}

    def dropped(losses, batch, nets):
        return {name: loss for name, loss in losses.items() if name != "bc_flow"}

    ((_, text),) = findings(FQL, cut)
    assert "loss `act` trains no network; remove it, or call" in text
    texts = [text for _, text in findings(FQL, dropped)]
    assert any("no loss trains `behaviour`; remove it" in text for text in texts)


def test_a_loss_that_is_meant_to_count_all_rows_is_not_found():
    def losses(self, batch, *arguments):
        return BC.losses(self, replace(batch, valid=torch.ones_like(batch.valid)), *arguments)

    ((kind, _),) = findings(losses=losses)
    assert kind == "masks"
    assert findings(losses=losses, unmasked_losses=frozenset({"bc_flow"})) == []


def test_a_misspelt_hook_of_an_algorithm_or_its_base_is_told_with_the_closest():
    misspelt = {"scores": QAM.score, "terminal_adjoints": QAM.terminal_adjoint}
    text = str(findings(QAM, **misspelt))
    assert "`scores` is never used; closest: score" in text
    assert "`terminal_adjoints` is never used; closest: terminal_adjoint" in text


def test_what_is_derived_from_settings_is_no_lost_state():
    class Derived(BC):
        @cached_property
        def horizon(self):
            return 1 / (1 - self.gamma)

        def after_update(self, nets, info):
            assert self.horizon

    assert findings(Derived) == []
