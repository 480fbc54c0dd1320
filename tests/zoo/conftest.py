"""Fixtures for the tests of programs."""

import contextlib
import json
import multiprocessing
import multiprocessing.forkserver
import os
from pathlib import Path

import pytest

from tests import ROOT
from tests.zoo.hub.stand_in import Hub
from zoo.datasets.generate import generate_dataset

IMPORTED = [
    *("pytest", "ogbench", "zoo.evaluation.preload", "zoo.train", "zoo.training.start"),
    *("matplotlib.pyplot", "torch.utils.tensorboard", "tests.zoo.envs.toys"),
]
"""Modules that most of the tests' processes import, which takes seconds in each process."""


@pytest.fixture(scope="session", autouse=True)
def _server_of_processes():
    """Start the server that forks processes with all of these modules imported, before the first test needs it."""
    multiprocessing.set_forkserver_preload(IMPORTED)
    with contextlib.chdir(ROOT):  # the folder from which the server imports
        multiprocessing.forkserver.ensure_running()
    with pytest.MonkeyPatch.context() as patch:  # ignore later requests to import other modules
        patch.setattr(multiprocessing.forkserver, "set_forkserver_preload", lambda modules: None)
        yield


def pytest_itemcollected(item):
    """Ignore warnings about datasets that never reach the goal: the two episodes of `data` may miss it."""
    item.add_marker(pytest.mark.filterwarnings("ignore:no state in:UserWarning"))


def pretend_cores(monkeypatch, cores):
    """Make this process appear to have a given number of processor cores."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)), raising=False)


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    """Return a folder with a small generated maze dataset."""
    folder = tmp_path_factory.mktemp("data")
    with pytest.MonkeyPatch.context() as patch:
        pretend_cores(patch, 1)  # each process takes a second to start
        generate_dataset("pointmaze-medium-navigate-v0", folder, dataset_size=2_000)
    return folder


@pytest.fixture(scope="session")
def runs(data, tmp_path_factory):
    """Return the logs of a run with two seeds, 3 and 4, trained together; tests must not change them."""
    from tests.zoo.helpers import OF_RUNS, arguments
    from zoo.train import main

    logs = tmp_path_factory.mktemp("runs")
    assert main(arguments(data, logs, *OF_RUNS, seeds=("--seeds", "3", "4"))) == 0
    return logs


@pytest.fixture
def call(capsys):
    """Return a function that runs a program, checks its exit code, and returns its last result and its messages."""

    def call(program, *words, code=0):
        exit_code = program([str(word) for word in words])
        output = capsys.readouterr()
        assert exit_code == code, output.err
        last = output.out.strip().rpartition("\n")[2]
        return json.loads(last) if last.startswith("{") else {}, output.err

    return call


@pytest.fixture
def refusal(call):
    """Return a function that runs a program with arguments that it rejects, and returns the error message.

    Nothing is trained, and no file or folder is created.
    """

    def refusal(program, *words):
        logs = Path(words[words.index("-f") + 1] if "-f" in words else "logs")
        entries = logs.exists(), sorted(logs.rglob("*"))
        _, errors = call(program, *words, code=2)
        assert (logs.exists(), sorted(logs.rglob("*"))) == entries
        return errors

    return refusal


@pytest.fixture
def with_figures():
    """Draw the figures of reports, in modules that use `figures_on_demand`."""


@pytest.fixture
def figures_on_demand(request, monkeypatch):
    """Leave figures out of reports, because drawing takes most of the time; tests with `with_figures` draw them."""
    if "with_figures" not in request.fixturenames:
        monkeypatch.setattr("zoo.report.page.all_figures", lambda *about: {})


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """Replace the Hugging Face hub by a stand-in, with an empty cache and a token."""
    library = pytest.importorskip("huggingface_hub")
    stand_in = Hub(tmp_path / "cache")
    monkeypatch.setattr(library, "HfApi", lambda: stand_in)
    monkeypatch.setattr(library, "get_token", lambda: stand_in.token)
    return stand_in
