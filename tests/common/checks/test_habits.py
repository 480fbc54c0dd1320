"""Bad habits of hooks: which are found, and which look like one and are none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from agents.bc import BC
from agents.common.checks.first_update import examine
from agents.common.checks.habits import Finding
from agents.fql import FQL
from tests.envs import SpacesEnv

SPACES = (SpacesEnv(4, 2).observation_space, SpacesEnv(4, 2).action_space)


def findings(base: type = BC, losses: Callable[..., Any] | None = None, **attributes: Any) -> list[Finding]:
    """Return the bad habits of an algorithm whose losses are changed by a function of them and the batch."""

    def changed(self: Any, batch: Any, targets: Any, noise: Any, nets: Any, info: Any) -> Any:
        found = base.losses(self, batch, targets, noise, nets, info)
        return found if losses is None else losses(found, batch, nets)

    return examine(type("Mine", (base,), {"losses": changed, **attributes})(flow_steps=2), *SPACES)


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
def test_whatever_waits_for_the_device_is_found(wait: Callable[[Any], Any]) -> None:
    def losses(found: Any, batch: Any, nets: Any) -> Any:
        wait(batch)
        return found

    assert [finding.kind for finding in findings(losses=losses)] == ["device"]


def test_a_tensor_that_an_update_makes_itself_is_no_parameter_and_may_be_changed_in_place() -> None:
    def penalised(found: Any, batch: Any, nets: Any) -> Any:
        actions, kept = batch.actions.clone().mul_(2).detach().requires_grad_(), batch.rewards.requires_grad_()
        q = nets.critic(batch.observations, actions)
        (slope,) = torch.autograd.grad(q.sum(), actions, create_graph=True)
        return {**found, "penalty": (slope.square().sum(-1) * batch.valid).mean(1) + 0 * kept.detach().mean(1)}

    assert findings(FQL, penalised) == []


def climb(found: Any, batch: Any, nets: Any) -> Any:
    actions = nets.one_step(batch.observations, torch.zeros_like(batch.actions))
    return {**found, "q": -nets.critic(batch.observations, actions).mean((1, 2))}


def test_a_loss_may_train_several_networks_if_that_is_declared() -> None:
    (found,) = findings(FQL, climb)
    assert "loss `q` trains `critic`, `one_step` at once" in found.text
    assert findings(FQL, climb, trains={"q": frozenset({"critic", "one_step"})}) == []
