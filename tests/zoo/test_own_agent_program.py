"""Custom agents, in a file in the current folder, in the programs."""

import importlib
import sys

import pytest

import agents
from tests.agents.testing.mistakes import example
from tests.zoo.helpers import ENV
from tests.zoo.programs import run_program


@pytest.mark.usefixtures("own_agents")
def test_it_trains_from_the_current_folder(data, tmp_path, monkeypatch):
    (tmp_path / "my_agents.py").write_text(example())
    words = (
        f"--algo my_agents:WeightedBC --env {ENV} --dataset-dir {data} --quick --offline-steps 4 --eval-freq 4 "
        "--eval-episodes 1 --n-eval-envs 1 --seed 0 --device cpu --env-kwargs max_episode_steps=10 "
        "-params net_arch=[8] batch_size=8"
    )
    ran = run_program("train", words.split(), folder=tmp_path)
    assert ran.code == 0, ran.err
    assert "settings differ from protocol `qam`:" in ran.err
    monkeypatch.syspath_prepend(tmp_path)
    # another test may have imported another file with that name
    monkeypatch.delitem(sys.modules, "my_agents", raising=False)
    module = importlib.import_module("my_agents")
    model = agents.load(tmp_path / ran.result["run"], device="cpu")
    assert type(model.policy.method) is module.WeightedBC
