"""Every algorithm compared with recorded numbers of its reference implementation, by one checker.

Fixtures are read from the folder named by the environment variable PARITY_FIXTURES (default: the copy next to this
file).
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


def check(fixture, ours, of=""):
    """Compare with a fixture; fail with all wrong quantities whose name contains a word."""
    rows = compare(fixture, ours, TOLERANCES.get(fixture.id))
    assert not [row for row in rows if of in row.quantity and not row.holds]


def test_numbers_equal_the_reference(fixture):
    check(fixture, OurAgents())


@pytest.mark.few
@pytest.mark.usefixtures("as_on_cuda")
def test_numbers_as_on_cuda_equal_the_reference(fixture):
    check(fixture, OurAgents())


@pytest.mark.gpu
def test_updates_on_cuda_equal_the_reference(fixture):
    check(fixture, OurAgents("cuda"), of="update")


@pytest.mark.slow
@pytest.mark.filterwarnings("error:updates are not compiled")
@every_algorithm
def test_compiled_updates_equal_the_reference(id):
    fixtures = [load(path) for path in fixture_paths() if load(path).id == id]
    if not fixtures:
        pytest.skip(f"`{id}` has no recorded numbers")
    torch._dynamo.reset()
    counters.clear()
    check(fixtures[0], OurAgents(compile="on"), of="update")
    assert counters["stats"]["unique_graphs"] > 0
    assert not counters["graph_break"]
