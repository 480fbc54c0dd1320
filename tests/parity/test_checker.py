"""Each deliberate mistake is told as what it is: a check that sees nothing would pass everything."""

from dataclasses import replace

import pytest

from tests.parity.checker import compare
from tests.parity.fixture import read_fixture
from tests.parity.reference import OWN_FIXTURES, OurAgents


class OtherSetting(OurAgents):
    """Builds agents with one setting of the original, a multiple of what was recorded."""

    def __init__(self, name, factor):
        super().__init__()
        self.name, self.factor = name, factor

    def create(self, fixture):
        config = {
            name: self.factor * value if name == self.name else value
            for name, value in fixture.config.items()
        }
        changed = (
            {"max_grad_norm": self.factor} if self.name == "max_grad_norm" else {"config": config}
        )
        return super().create(replace(fixture, meta={**fixture.meta, **changed}))


class NotANumber(OurAgents):
    """Loses a loss."""

    def losses(self, agent, batch, noise):
        return {name: 0 * loss / 0 for name, loss in super().losses(agent, batch, noise).items()}


@pytest.mark.parametrize(
    ("name", "ours", "quantities"),
    [
        (
            "qam",
            OtherSetting("max_grad_norm", 0.5),
            {"adam after 1 update"},
        ),  # Adam's parameters hardly show it
        ("qam", OtherSetting("tau", 2), {"targets after 1 update"}),
        ("fql", OtherSetting("lr", 0.5), {"parameters after 1 update", "share off after 1 update"}),
        ("fql", OtherSetting("alpha", 1.1), {"loss total", "gradient of actor_onestep_flow"}),
        ("fql", NotANumber(), {"loss td"}),
    ],
)
def test_a_mistake_is_told(name, ours, quantities):
    rows = compare(read_fixture(OWN_FIXTURES / "open" / f"{name}.npz"), ours).rows
    assert quantities <= {row.quantity for row in rows if not row.holds}
