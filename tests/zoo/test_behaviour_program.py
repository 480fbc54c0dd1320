"""Flows of one's own through the programs: training, playing, resuming, refusals."""

import json

import numpy as np
import pytest

from zoo import evaluate
from zoo.terminal.errors import BAD_INPUT
from zoo.train import main

FLOW = """
import torch
from torch import nn

import agents


class Flow(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(3, 3)

    def forward(self, observations, x, times):
        return 0.01 * self.layer(observations) - x / (1.05 - times[:, None])


def make_flow():
    return agents.PretrainedFlow(Flow())


def make_number():
    return 3


def fail():
    raise OSError("no weights here")
"""
WORDS = [
    "--algo", "qam", "--env", "Pendulum-v1", "--dataset", "data.npz", "--offline-steps", "4", "--eval-freq", "4",
    "--eval-episodes", "2", "--n-eval-envs", "1", "--seed", "0", "--device", "cpu",
    "-params", "net_arch=[8]", "batch_size=8", "horizon_length=3",
]  # fmt: skip


@pytest.fixture
def folder(tmp_path, monkeypatch, own_agents):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_flows.py").write_text(FLOW)
    generator = np.random.default_rng(0)
    states = generator.normal(size=(65, 3))
    np.savez(
        "data.npz",
        observations=states[:-1],
        next_observations=states[1:],
        actions=0.4 * generator.normal(size=(64, 1)).clip(-2, 2),
        rewards=generator.normal(size=64),
        terminals=(np.arange(64) % 16 == 15).astype(float),
        masks=np.ones(64),
    )
    return tmp_path


def last_line(capsys):
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def test_a_run_on_a_flow_of_ones_own_is_played_as_it_was_scored(folder, capsys):
    flow = ["--behaviour", "my_flows.py:make_flow"]
    assert main([*WORDS, *flow]) == 0
    run = last_line(capsys)
    assert evaluate.main([run["run"], "--device", "cpu"]) == BAD_INPUT
    assert "give --behaviour my_flows.py:make_flow" in capsys.readouterr().err
    assert evaluate.main([run["run"], "--device", "cpu", *flow]) == 0
    assert last_line(capsys)["return"] == run["return"]
    assert main([*WORDS, *flow, "--resume"]) == 0
    assert last_line(capsys)["run"] == run["run"]


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (
            ["--behaviour", "my_flows.py:make_number"],
            "must return an `agents.PretrainedFlow`, got int",
        ),
        (["--behaviour", "my_flows.py:fail"], "failed: OSError: no weights here"),
        (["--behaviour", "my_flows.py:nothing"], "has no attribute 'nothing'"),
        (["--behaviour", "other.py:make_flow"], "no file"),
        (["--behaviour", "my_flows"], "must be FILE.py:FUNCTION or MODULE:FUNCTION"),
        (["--behaviour", "my_flows.py:make_flow", "--algo", "rebrac"], "has no behaviour flow"),
        (
            ["--behaviour", "my_flows.py:make_flow", "--algo", "sac", "--offline-steps", "0"],
            "has no behaviour flow",
        ),
        (
            ["--behaviour", "my_flows.py:make_flow", "-params", "observation_scale=1.0"],
            "as the environment returns",
        ),
    ],
)
def test_a_flow_that_cannot_be_taken_ends_before_a_folder_is_made(words, text, folder, capsys):
    settings = WORDS[:-1] if "sac" in words else WORDS  # it plans single actions
    assert main([*settings, *words]) == BAD_INPUT
    assert text in capsys.readouterr().err
    assert not (folder / "logs").exists()
