"""Shared test set-up."""

import os
import resource
import sys
from collections import Counter

import pytest
import torch

from agents import registry
from agents.common.nets import mlp

FEW = {"qam", "fql", "rebrac", "dsrl"}
"""Algorithms with which a plain run makes the tests that are marked `few`."""

# Tests compare CPU numbers, so a GPU is out of sight, also in the programs that they start; those marked `gpu` see it.
FINDS_CUDA = torch.cuda.is_available
DEVICES = "CUDA_VISIBLE_DEVICES"
# workers of pytest-xdist load this file too, where the variable is already empty
SEEN_BY_GPU_TESTS = os.environ.setdefault("DEVICES_OF_GPU_TESTS", os.environ.get(DEVICES, "all"))


def show_devices(patch):
    """Put the environment variable back to what it was before the tests."""
    if SEEN_BY_GPU_TESTS == "all":
        patch.delenv(DEVICES, raising=False)
    else:
        patch.setenv(DEVICES, SEEN_BY_GPU_TESTS)


with pytest.MonkeyPatch.context() as shown:
    show_devices(shown)
    HAS_CUDA = FINDS_CUDA()
    if HAS_CUDA:
        torch.cuda.init()  # reads the environment, which is about to change
for name in ("DISPLAY", "WAYLAND_DISPLAY"):
    os.environ.pop(name, None)  # no test opens a window on the screen of whoever runs it
torch.cuda.is_available = lambda: False
os.environ[DEVICES] = ""
# every maze of OGBench leaves a file open, and so does every run until its process ends: here that is all the tests
MOST_FILES = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (MOST_FILES, MOST_FILES))
# small tensors: a second thread costs more than it gives, above all beside other processes
torch.set_num_threads(1)


@pytest.hookimpl(tryfirst=True)  # before tests are chosen by their marks
def pytest_collection_modifyitems(items):
    """Skip what needs a GPU where there is none; say what is no part of a plain run."""
    cases = Counter()
    for item in items:
        if few := item.get_closest_marker("few"):
            test, _, case = item.nodeid.partition("[")
            cases[test] += 1
            if cases[test] > few.args[0] if few.args else not FEW & {*case.rstrip("]").split("-")}:
                item.add_marker(pytest.mark.slow)
        if item.path.parent.name == "benchmarks":  # programs for developers
            item.add_marker(pytest.mark.slow)
        # `keywords` has the names of folders too
        if item.get_closest_marker("gpu") and not HAS_CUDA:
            item.add_marker(pytest.mark.skip(reason="needs CUDA"))


@pytest.fixture(autouse=True)
def _show_the_gpu(request, monkeypatch):
    """Let tests that are marked `gpu` see the GPU."""
    if request.node.get_closest_marker("gpu"):
        monkeypatch.setattr(torch.cuda, "is_available", FINDS_CUDA)
        show_devices(monkeypatch)


@pytest.fixture
def as_on_cuda(monkeypatch):
    """Evaluate networks on the CPU as on CUDA."""
    monkeypatch.setattr(mlp, "FUSES_BIAS", {"cpu"})


@pytest.fixture
def own_agents(monkeypatch):
    """Forget after a test which algorithms it has imported from files of its own."""
    # a module that is first imported in the test would register its algorithm only there
    for id in registry.BUILT_IN:
        registry.find(id)
    monkeypatch.setattr(registry, "_entries", dict(registry._entries))
    monkeypatch.setattr(sys, "path", list(sys.path))  # the current folder may be added
    ids = set(registry._entries)
    yield
    for id in set(registry._entries) - ids:
        module = registry._entries[id].method.__module__
        package = module if module.startswith("tests.") else module.partition(".")[0]
        for name in [
            name for name in sys.modules if name == package or name.startswith(f"{package}.")
        ]:
            del sys.modules[name]


@pytest.fixture
def write_agent(own_agents, tmp_path, monkeypatch):
    """Return what writes an agent's code into the current folder and returns its name; all is forgotten afterwards."""

    def write(code, module="an_agent"):
        (tmp_path / f"{module}.py").write_text(code)
        return f"{module}:WeightedBC"

    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    return write
