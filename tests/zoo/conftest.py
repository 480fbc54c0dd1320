"""What the tests of the programs share."""

import contextlib
import functools
import multiprocessing
import multiprocessing.forkserver
import os

import pytest

from tests import ROOT
from tests.zoo import outcomes
from tests.zoo.hub.stand_in import Hub
from zoo.datasets.generate import generate_dataset

IMPORTED = [
    *("pytest", "ogbench", "zoo.evaluation.preload", "zoo.train", "zoo.training.start"),
    *("matplotlib.pyplot", "torch.utils.tensorboard", "tests.zoo.envs.toys"),
]
"""What most processes import that the tests start; seconds for each of them."""


@pytest.fixture(scope="session", autouse=True)
def _server_of_processes():
    """Start the server that processes are forked from with all that they import, whichever test needs it first."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        yield
        return
    multiprocessing.set_forkserver_preload(IMPORTED)
    with contextlib.chdir(ROOT):  # from where the server imports
        multiprocessing.forkserver.ensure_running()
    with pytest.MonkeyPatch.context() as patch:  # it imports nothing more
        patch.setattr(multiprocessing.forkserver, "set_forkserver_preload", lambda modules: None)
        yield


def pytest_itemcollected(item):
    """Leave out the warning about datasets without the goal: the two episodes of `data` need not reach it."""
    item.add_marker(pytest.mark.filterwarnings("ignore:no state in:UserWarning"))


def pretend_cores(monkeypatch, cores):
    """Let this process have some number of processor cores, as far as it can tell."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)), raising=False)


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    """Return a folder with a small generated maze dataset."""
    folder = tmp_path_factory.mktemp("data")
    generate_dataset("pointmaze-medium-navigate-v0", folder, num_episodes=2, num_workers=1)
    return folder


@pytest.fixture(scope="session")
def runs(data, tmp_path_factory):
    """Return the logs of a run of two seeds, 3 and 4, trained at once; nobody may change them."""
    from tests.zoo.helpers import OF_RUNS, arguments
    from zoo.train import main

    logs = tmp_path_factory.mktemp("runs")
    assert main(arguments(data, logs, *OF_RUNS, seeds=("--seeds", "3", "4"))) == 0
    return logs


@pytest.fixture(scope="session")
def shards(tmp_path_factory):
    """Return a folder with a dataset of three files of a few trajectories, not all of one size."""
    from tests.zoo.datasets.conftest import write_shard

    folder = tmp_path_factory.mktemp("shards")
    for number, episodes in enumerate((4, 3, 4)):
        write_shard(folder, number, episodes)
    return folder


@pytest.fixture
def call(capsys):
    """Return what runs a program, checks its exit code, and returns its result and what it said."""
    return functools.partial(outcomes.call, capsys)


@pytest.fixture
def refusal(call):
    """Return what runs a program with a command line that it refuses, and returns why."""
    return functools.partial(outcomes.refused, call)


@pytest.fixture
def with_figures():
    """Have the figures of reports drawn, in modules that use `figures_on_demand`."""


@pytest.fixture
def figures_on_demand(request, monkeypatch):
    """Leave the figures out of reports, except for tests that use `with_figures`: drawing is most of the work."""
    if "with_figures" not in request.fixturenames:
        monkeypatch.setattr("zoo.report.page.all_figures", lambda *about: {})


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """Stand in for the Hugging Face hub, with an empty cache and a token."""
    library = pytest.importorskip("huggingface_hub")
    stand_in = Hub(tmp_path / "cache")
    monkeypatch.setattr(library, "HfApi", lambda: stand_in)
    monkeypatch.setattr(library, "get_token", lambda: stand_in.token)
    return stand_in
