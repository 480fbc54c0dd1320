"""Bad habits of hooks: which are found, and which look like one and are none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from agents.bc import BC
from agents.common.check import examine
from agents.common.habits import Finding
from agents.common.nets.specs import velocity_field
from agents.common.settings import setting
from agents.fql import FQL
from tests.envs import SpacesEnv

SPACES = (SpacesEnv(4, 2).observation_space, SpacesEnv(4, 2).action_space)
ELSEWHERE = torch.nn.Parameter(torch.ones(3))


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
        lambda batch: float(batch.valid.sum()),
        lambda batch: batch.valid.tolist(),
        lambda batch: batch.valid.numpy(),
        lambda batch: batch.valid.cpu(),
        lambda batch: batch.rewards[batch.valid > 0],
        lambda batch: batch.valid.nonzero(),
        lambda batch: torch.equal(batch.valid, batch.rewards),
        lambda batch: bool(batch.valid.any()),
    ],
    ids=["item", "float", "tolist", "numpy", "cpu", "mask", "nonzero", "equal", "bool"],
)
def test_whatever_waits_for_the_device_is_found(wait: Callable[[Any], Any]) -> None:
    def losses(found: Any, batch: Any, nets: Any) -> Any:
        wait(batch)
        return found

    assert [finding.kind for finding in findings(losses=losses)] == ["device"]


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (lambda batch, nets: batch.rewards.add_(1), "batch.rewards"),
        (lambda batch, nets: batch.actions[..., :1].zero_(), "batch.actions"),
        (lambda batch, nets: torch.add(batch.rewards, 1, out=batch.discounts), "batch.discounts"),
        (lambda batch, nets: nets.behaviour.mlp.weights[0].detach().mul_(2), "nets.behaviour.mlp.weights.0"),
        (lambda batch, nets: torch._foreach_mul_([batch.valid], 2.0), "batch.valid"),
    ],
    ids=["method", "view", "out", "parameter", "foreach"],
)
def test_an_input_that_is_changed_in_place_is_named(change: Callable[[Any, Any], Any], name: str) -> None:
    def losses(found: Any, batch: Any, nets: Any) -> Any:
        change(batch, nets)
        return found

    (found,) = findings(losses=losses)
    assert found.kind == "pure"
    assert f"changes `{name}` in place" in found.text


def test_a_new_tensor_may_be_changed_in_place() -> None:
    assert (
        findings(
            losses=lambda found, batch, nets: {k: v + batch.rewards.clone().zero_().mean(1) for k, v in found.items()}
        )
        == []
    )


def test_a_parameter_that_no_network_holds_is_found() -> None:
    (found,) = findings(losses=lambda found, batch, nets: {k: v * ELSEWHERE.sum() for k, v in found.items()})
    assert found.kind == "networks"
    assert "depend on a parameter of shape (3,) of no network in `networks`" in found.text


def test_a_tensor_that_an_update_makes_itself_is_no_parameter() -> None:
    def penalised(found: Any, batch: Any, nets: Any) -> Any:
        actions, kept = batch.actions.detach().requires_grad_(), batch.rewards.requires_grad_()
        q = nets.critic(batch.observations, actions)
        (slope,) = torch.autograd.grad(q.sum(), actions, create_graph=True)
        return {**found, "penalty": (slope.square().sum(-1) * batch.valid).mean(1) + 0 * kept.detach().mean(1)}

    assert findings(FQL, penalised) == []


class Settled(BC):
    """Reads its settings in a hook, in a function outside, in a property, by name, and one not at all."""

    here: float = setting(default=1.0)
    outside: float = setting(default=1.0)
    derived: float = setting(default=1.0)
    never: float = setting(default=1.0)
    later: float = setting(default=1.0)

    @property
    def twice(self) -> float:
        return 2 * self.derived

    def after_update(self, nets: Any, info: Any) -> None:
        if self.here < 0:
            info["later"] = (lambda: self.later)()


def test_a_setting_that_nothing_reads_is_found() -> None:
    def losses(self: Any, *given: Any) -> Any:
        return {name: loss * read(self) * self.here for name, loss in BC.losses(self, *given).items()}

    def read(method: Any) -> Any:
        return method.outside

    (found,) = examine(type("Mine", (Settled,), {"losses": losses})(flow_steps=2), *SPACES)
    assert found.kind == "settings"
    assert "`never`" in found.text


def climb(found: Any, batch: Any, nets: Any) -> Any:
    actions = nets.one_step(batch.observations, torch.zeros_like(batch.actions))
    return {**found, "q": -nets.critic(batch.observations, actions).mean((1, 2))}


def test_a_loss_may_train_several_networks_if_that_is_declared() -> None:
    (found,) = findings(FQL, climb)
    assert "loss `q` trains `critic`, `one_step` at once" in found.text
    assert findings(FQL, climb, trains={"q": frozenset({"critic", "one_step"})}) == []


def test_a_loss_that_trains_other_networks_than_declared_is_found() -> None:
    (found,) = findings(FQL, trains={"distill": frozenset({"one_step", "behaviour"})})
    assert found == Finding(
        "gradients", "`losses`: loss `distill` trains `one_step`, but `trains` declares `behaviour`, `one_step`"
    )


def test_a_module_outside_networks_is_found_even_if_no_loss_sees_it() -> None:
    class Teacher(BC):
        def networks(self) -> Any:
            self.teacher = torch.nn.Linear(2, 2)
            return {"behaviour": velocity_field(role="behaviour")}

    (found,) = examine(Teacher(), *SPACES)
    assert "`self.teacher` is a Linear that is not in `networks`" in found.text
