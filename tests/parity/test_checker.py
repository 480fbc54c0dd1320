"""Each deliberate mistake is told as what it is: a check that sees nothing would pass everything."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.parity.checker import compare
from tests.parity.fixture import Fixture, read_fixture
from tests.parity.reference import OWN_FIXTURES, Agent, Arrays, OurAgents


class OtherSetting(OurAgents):
    """Builds agents with one setting of the original, a multiple of what was recorded."""

    def __init__(self, name: str, factor: float) -> None:
        super().__init__()
        self.name, self.factor = name, factor

    def create(self, fixture: Fixture) -> Agent:
        config = {name: self.factor * value if name == self.name else value for name, value in fixture.config.items()}
        changed = {"max_grad_norm": self.factor} if self.name == "max_grad_norm" else {"config": config}
        return super().create(replace(fixture, meta={**fixture.meta, **changed}))


class WrongMultiplier(OurAgents):
    """Moves a trust region's multiplier in the wrong direction."""

    def state(self, agent: Agent) -> dict[str, Any]:
        found = super().state(agent)
        return {**found, "dual/lam": 2 * agent.fixture["dual_before/lam"] - found["dual/lam"].numpy()}


class WrongNoise(OurAgents):
    """Samples actions with half the noise."""

    def sample(self, agent: Agent, observations: Any, noise: Arrays) -> Any:
        return super().sample(agent, observations, {name: 0.5 * draw for name, draw in noise.items()})


class NotANumber(OurAgents):
    """Loses a loss."""

    def losses(self, agent: Agent, batch: Arrays, noise: Arrays) -> dict[str, Any]:
        return {name: 0 * loss / 0 for name, loss in super().losses(agent, batch, noise).items()}


@pytest.mark.parametrize(
    ("name", "ours", "quantities"),
    [
        ("qam", OtherSetting("max_grad_norm", 0.5), {"adam after 1 update"}),  # Adam's parameters hardly show it
        ("qam", OtherSetting("tau", 2), {"targets after 1 update"}),
        ("fql", OtherSetting("lr", 0.5), {"parameters after 1 update", "share off after 1 update"}),
        ("fql", OtherSetting("alpha", 1.1), {"loss total", "gradient of actor_onestep_flow"}),
        ("trqam", WrongMultiplier(), {"dual after 1 update"}),
        ("fql", WrongNoise(), {"sampled actions"}),
        ("fql", NotANumber(), {"loss td"}),
    ],
)
def test_a_mistake_is_told(name: str, ours: OurAgents, quantities: set[str]) -> None:
    rows = compare(read_fixture(OWN_FIXTURES / "open" / f"{name}.npz"), ours).rows
    assert quantities <= {row.quantity for row in rows if not row.holds}
