"""An adapter beside recorded numbers: the page's passes, and each deliberate mistake is told as what it is."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from agents.parity import TOLERANCES, Comparison, ParityError, Row, compare, read_fixture
from agents.parity.adapter import load_adapter
from tests.parity.reference import OWN_FIXTURES, OurAgents

Break = Callable[[str, str], str]


def compared(recorded: Path, adapter: str = "my_port") -> Comparison:
    return compare(read_fixture(recorded), load_adapter(adapter))


def failing(found: Comparison) -> dict[str, Row]:
    return {row.quantity: row for row in found.rows if not row.holds}


def test_a_port_holds(recorded: Path) -> None:
    found = compared(recorded)
    assert found.holds
    assert not found.not_compared
    assert {"loss td", "gradient of critic", "targets after 3 updates", "sampled actions"} <= {
        row.quantity for row in found.rows
    }
    assert all(row.error > 0 for row in found.rows if row.quantity.startswith("loss"))  # two implementations


# where the page's adapter is changed -> the first quantity that fails, and what is said of it
MISTAKES = {
    "sign of a loss": ("actor = -evaluate", "actor = evaluate", "loss actor", r"\(-1 times\)", "its sign"),
    "sum in place of a mean": (".square().mean()", ".square().sum()", "loss td", r"\(16 times\)", "weight and mean"),
    "target from the online critic": (
        '["target_critic/w"], obs', '["critic/w"], obs', "td_target", r"at \(\d+,\) is", "discount and masks"
    ),
    "weight of a loss in the total": ('"total": td + actor', '"total": td + 2 * actor', "loss total", "is", "weights"),
    "gradient into the target": (
        "noise).detach()).square", "noise)).square", "gradient of actor", r"`actor/k` at \(\d, \d\) is", "detached"
    ),
    "gradient of what is not trained": (
        "return dict(zip(trained", 'return {"target_critic/w": torch.ones(5)} | dict(zip(trained',
        "gradient of target_critic", "`target_critic/w` at .* recorded is 0", "detached",
    ),
    "twice the tau": (
        'agent["tau"])', '2 * agent["tau"])', "targets after 1 update", r"`target_critic/w` .*\(2 times\)", "tau"
    ),
    "learning rate": (
        '-= agent["lr"]', '-= 0.5 * agent["lr"]', "parameters after 1 update", r"\(0\.5 times\)", "learning rate"
    ),
    "noise of the actions": ('noise["action"])', '0 * noise["action"])', "sampled actions", "at", "number and times"),
    "not a number": ('"total": td + actor', '"total": (td - td) / 0', "loss total", "is not finite", "weights"),
    "wrong shape": ('noise["actor"])).mean()', 'noise["actor"]))', "losses", r"`actor` has shape \(16,\)", "adapter"),
    "another name": ('"actor": actor', '"policy": actor', "losses", "does not return `actor`; closest", "adapter"),
    "an error": (
        'return act(agent, torch.tensor(observations), noise["action"])', "return observations.no",
        "actions", r"`sample` raised AttributeError: .*broken\.py:\d+\)", "adapter",
    ),
    "an update that returns too little": (
        "return agent, total, parameters", "return parameters", "updates", "must return the agent after it", "adapter"
    ),
    "text in place of numbers": ('"td": td,', '"td": "low",', "losses", "`td`: .* 'low'", "adapter"),
}  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_told(mistake: str, recorded: Path, broken: Break) -> None:
    old, new, quantity, found, look = MISTAKES[mistake]
    first = next(iter(failing(compared(recorded, broken(old, new))).values()))
    assert first.quantity == quantity
    assert re.search(found, first.found)
    assert look in first.look


def test_a_mistake_that_begins_with_the_second_update_is_told(recorded: Path, broken: Break) -> None:
    rows = failing(compared(recorded, broken('agent["tau"])', 'agent.pop("tau", 0.05))')))
    assert next(iter(rows)) == "total at update 3"
    assert "`target_critic/w`" in rows["targets after 3 updates"].found
    assert "targets after 1 update" not in rows


def test_optional_functions_may_be_missing(recorded: Path, broken: Break) -> None:
    found = compared(recorded, broken("def intermediates(", "def _intermediates("))
    assert found.holds
    assert found.not_compared == ["td_target"]


def test_only_create_may_decline(recorded: Path, broken: Break) -> None:
    name = broken('    return act(agent, torch.tensor(observations), noise["action"])', "    raise NotImplementedError")
    rows = failing(compared(recorded, name))
    assert list(rows) == ["actions"]


def test_an_adapter_that_writes_into_what_it_is_given_changes_no_recorded_number(recorded: Path, broken: Break) -> None:
    name = broken("torch.tensor(array, requires_grad=True)", "torch.from_numpy(array).requires_grad_()")
    assert compared(recorded, name).holds
    fixture = read_fixture(recorded)
    fixture.batch["rewards"][:] = 0
    assert fixture.batch["rewards"].all()


def test_tolerances_come_from_the_user_then_the_fixture_then_the_table(recorded: Path) -> None:
    fixture, adapter = read_fixture(recorded), load_adapter("my_port")
    limits = {row.quantity: row.tolerance for row in compare(fixture, adapter).rows}
    assert limits["loss td"] == TOLERANCES["loss"]
    fixture.meta["tolerances"] = {"loss": 1e-3, "gradient": 1e-2}  # type: ignore[index]
    limits = {row.quantity: row.tolerance for row in compare(fixture, adapter, {"gradient": 1e-1}).rows}
    assert (limits["loss td"], limits["gradient of actor"]) == (1e-3, 1e-1)
    with pytest.raises(ParityError, match="unknown tolerance `los`; closest: loss"):
        compare(fixture, adapter, {"los": 1.0})


class WrongClipping(OurAgents):
    """Clips by half the norm, which Adam's parameters hardly show."""

    def create(self, fixture):
        agent = super().create(fixture)
        agent.model.max_grad_norm = fixture.meta["max_grad_norm"] / 2
        return agent


class WrongMultiplier(OurAgents):
    """Moves a trust region's multiplier in the wrong direction."""

    def state(self, agent):
        found = super().state(agent)
        return {**found, "dual/lam": 2 * agent.fixture["dual_before/lam"] - found["dual/lam"].numpy()}


@pytest.mark.parametrize(
    ("name", "adapter", "quantity", "told"),
    [
        ("qam", WrongClipping(), "optimiser after 1 update", "clipping"),
        ("trqam", WrongMultiplier(), "multiplier after 1 update", "`dual/lam` is"),
    ],
)
def test_a_mistake_that_parameters_hardly_show_is_told(name: str, adapter: OurAgents, quantity: str, told: str) -> None:
    rows = failing(compare(read_fixture(OWN_FIXTURES / "open" / f"{name}.npz"), adapter))
    assert next(iter(rows)) == quantity
    assert told in rows[quantity].found + rows[quantity].look
