"""Custom agents, in a file in the current folder, in the programs."""

import importlib
import sys

import pytest

import agents
from tests.agents.testing.mistakes import example
from tests.zoo.helpers import ENV
from tests.zoo.programs import run_program

FEW = (
    f"--env {ENV} --offline-steps 4 --eval-freq 4 --eval-episodes 1 --n-eval-envs 1 --seed 0 --device cpu "
    "--env-kwargs max_episode_steps=10 -params net_arch=[8] batch_size=8"
).split()


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "my_agents.py").write_text(example())
    return tmp_path


@pytest.fixture
def train(folder, data):
    """Return a function that runs the training program from the folder of the agent's file."""

    def run(*words):
        words = ["--algo", "my_agents:WeightedBC", "--dataset-dir", data, *words, *FEW]
        return run_program("train", words, folder=folder)

    return run


@pytest.mark.usefixtures("own_agents")
def test_it_trains_from_the_current_folder(train, folder, monkeypatch):
    ran = train("--quick")
    assert ran.code == 0, ran.err
    assert "settings differ from protocol `qam`:" in ran.err
    monkeypatch.syspath_prepend(folder)
    # another test may have imported another file with that name
    monkeypatch.delitem(sys.modules, "my_agents", raising=False)
    module = importlib.import_module("my_agents")
    model = agents.load(folder / ran.result["run"], device="cpu")
    assert type(model.policy.method) is module.WeightedBC
