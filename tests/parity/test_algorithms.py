"""Every algorithm against recorded numbers of its reference implementation, by one checker.

Fixtures are found in the folder named by the environment variable PARITY_FIXTURES (default: the copy beside this file).
"""

from functools import cache

import pytest
import torch
from torch._dynamo.utils import counters

import agents
from tests.common.toys import every_algorithm
from tests.parity.checker import compare
from tests.parity.fixture import read_fixture
from tests.parity.reference import TOLERANCES, OurAgents, fixture_paths

load = cache(read_fixture)


@pytest.fixture(params=fixture_paths(), ids=lambda path: f"{path.parent.name}-{path.stem}")
def fixture(request):
    recorded = load(request.param)
    if recorded.id not in agents.algorithm_ids():
        pytest.skip(f"algorithm `{recorded.id}` is not built yet")
    return recorded


def check(fixture, adapter, of=""):
    """Compare, and fail with every quantity that does not hold, of those with a word in their name."""
    comparison = compare(fixture, adapter, TOLERANCES.get(fixture.id))
    assert not [row for row in comparison.rows if of in row.quantity and not row.holds]
    return comparison


def test_numbers_equal_the_reference(fixture):
    comparison = check(fixture, OurAgents())
    assert "td_target" not in comparison.not_compared
    assert not [name for name in comparison.not_compared if name.startswith(("adam/", "dual/"))]


@pytest.mark.few
def test_numbers_by_onednn_equal_the_reference(fixture, onednn):
    check(fixture, OurAgents())


@pytest.mark.few
def test_numbers_in_the_way_of_cuda_equal_the_reference(fixture, as_on_cuda):
    check(fixture, OurAgents())


@pytest.mark.gpu
def test_updates_on_cuda_equal_the_reference(fixture):
    check(fixture, OurAgents("cuda"), of="update")


class Remembering(OurAgents):
    """Keeps the agent that was updated last."""

    def update(self, agent, batch, noise):
        self.updated = agent
        return super().update(agent, batch, noise)


@pytest.mark.slow
@every_algorithm
def test_compiled_updates_equal_the_reference(id):
    fixtures = [load(path) for path in fixture_paths() if load(path).id == id]
    if not fixtures:
        pytest.skip(f"`{id}` has no recorded numbers")
    adapter = Remembering(compile="on")
    torch._dynamo.reset()
    counters.clear()
    check(fixtures[0], adapter, of="update")
    # a compiler that is switched off, or has failed, raises nothing
    assert counters["stats"]["unique_graphs"] > 0
    assert not counters["graph_break"]
    assert adapter.updated.model.trainer.mode.compiled
