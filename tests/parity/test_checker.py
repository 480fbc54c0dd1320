"""Each deliberate mistake is told as what it is: a check that sees nothing would pass everything."""

import copy
from dataclasses import replace

import pytest

from tests.parity.checker import compare
from tests.parity.fixture import read_fixture
from tests.parity.reference import OWN_FIXTURES, Agent, OurAgents


class OtherSetting(OurAgents):
    """Builds agents with one setting of the original, a multiple of what was recorded."""

    def __init__(self, name, factor):
        super().__init__()
        self.name, self.factor = name, factor

    def create(self, fixture):
        meta = copy.deepcopy(fixture.meta)
        settings = meta if self.name in meta else meta["config"]
        settings[self.name] *= self.factor
        return super().create(replace(fixture, meta=meta))


class AgentWithoutNumbers(Agent):
    """Has losses that are not numbers."""

    def losses(self):
        return {name: 0 * loss / 0 for name, loss in super().losses().items()}


class AgentsWithoutNumbers(OurAgents):
    agent_class = AgentWithoutNumbers


@pytest.mark.parametrize(
    ("name", "ours", "quantities"),
    [
        # Adam's parameters hardly show it
        ("qam", OtherSetting("max_grad_norm", 0.5), ["adam after update 1"]),
        ("qam", OtherSetting("tau", 2), ["targets after update 1"]),
        ("fql", OtherSetting("lr", 0.5), ["parameters after update 1", "share off after update 1"]),
        ("fql", OtherSetting("alpha", 1.1), ["loss total", "gradient of actor_onestep_flow"]),
        ("fql", AgentsWithoutNumbers(), ["loss td"]),
    ],
)
def test_a_mistake_is_told(name, ours, quantities):
    rows = compare(read_fixture(OWN_FIXTURES / "open" / f"{name}.npz"), ours)
    mistakes = " ".join(row.quantity for row in rows if not row.holds)
    assert all(quantity in mistakes for quantity in quantities)
