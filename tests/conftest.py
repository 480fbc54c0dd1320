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
"""Algorithms for which a plain run includes the tests marked `few`."""

# Tests compare CPU results, so GPUs are hidden, also from programs that tests start; tests marked `gpu` see them.
FINDS_CUDA = torch.cuda.is_available
DEVICES = "CUDA_VISIBLE_DEVICES"
# pytest-xdist's workers load this file again, when the variable is already empty
SEEN_BY_GPU_TESTS = os.environ.setdefault("DEVICES_OF_GPU_TESTS", os.environ.get(DEVICES, "all"))


def show_devices(patch):
    """Restore the environment variable's value from before the tests."""
    if SEEN_BY_GPU_TESTS == "all":
        patch.delenv(DEVICES, raising=False)
    else:
        patch.setenv(DEVICES, SEEN_BY_GPU_TESTS)


with pytest.MonkeyPatch.context() as shown:
    show_devices(shown)
    HAS_CUDA = FINDS_CUDA()
    if HAS_CUDA:
        torch.cuda.init()  # reads the environment variable before it changes
for name in ("DISPLAY", "WAYLAND_DISPLAY"):
    os.environ.pop(name, None)  # a test must not open a window on the user's screen
torch.cuda.is_available = lambda: False
os.environ[DEVICES] = ""
# every maze of OGBench keeps a file open until its process ends, and one process runs all tests; macOS accepts at most
# 10,240 files, although its hard limit is infinite
MOST_FILES = min(resource.getrlimit(resource.RLIMIT_NOFILE)[1], 10_240)
resource.setrlimit(resource.RLIMIT_NOFILE, (MOST_FILES, MOST_FILES))
# with small tensors, a second thread costs more than it saves, especially beside other processes
torch.set_num_threads(1)


@pytest.hookimpl(tryfirst=True)  # before pytest selects tests by their marks
def pytest_collection_modifyitems(items):
    """Skip tests that need a GPU if there is none, and mark tests that a plain run leaves out."""
    cases = Counter()
    for item in items:
        if few := item.get_closest_marker("few"):
            test, _, case = item.nodeid.partition("[")
            cases[test] += 1
            if cases[test] > few.args[0] if few.args else not FEW & {*case.rstrip("]").split("-")}:
                item.add_marker(pytest.mark.slow)
        if item.path.parent.name == "benchmarks":  # programs for developers
            item.add_marker(pytest.mark.slow)
        # `keywords` also contains the names of folders
        if item.get_closest_marker("gpu") and not HAS_CUDA:
            item.add_marker(pytest.mark.skip(reason="needs CUDA"))


@pytest.fixture(autouse=True)
def _show_the_gpu(request, monkeypatch):
    """Make the GPU visible to tests marked `gpu`."""
    if request.node.get_closest_marker("gpu"):
        monkeypatch.setattr(torch.cuda, "is_available", FINDS_CUDA)
        show_devices(monkeypatch)


@pytest.fixture
def as_on_cuda(monkeypatch):
    """Evaluate networks on the CPU as they are evaluated on CUDA."""
    monkeypatch.setattr(mlp, "FUSES_BIAS", {"cpu"})


@pytest.fixture
def own_agents(monkeypatch):
    """Unregister the algorithms that a test has imported from its files, after the test."""
    # import the built-in modules first: a module first imported in the test would register its algorithm only there
    for id in registry.BUILT_IN:
        registry.find(id)
    monkeypatch.setattr(registry, "_entries", dict(registry._entries))
    monkeypatch.setattr(sys, "path", list(sys.path))  # the test may add the current folder
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
    """Return a function that writes an agent's code into the test's folder and returns its name; later forgotten."""

    def write(code, module="an_agent"):
        (tmp_path / f"{module}.py").write_text(code)
        return f"{module}:WeightedBC"

    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    return write
