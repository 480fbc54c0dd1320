"""Custom behaviour flows in the programs: training, evaluation, resuming, and rejected flows."""

import numpy as np
import pytest

from tests.common.toys import toy_dataset
from zoo.evaluate import main as evaluate
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


def call(flow, observations, x, times):
    return flow(observations, x[..., 0], times)[..., None]


def make_flow():
    return agents.PretrainedFlow(Flow(), call, action_shape=(3, 1))


def make_untrained():
    return agents.PretrainedFlow(Flow(), call, action_shape=(3, 1), train=True)


def make_reversed():
    return agents.PretrainedFlow(Flow(), noise_at=1.0)


def make_reversed_untrained():
    return agents.PretrainedFlow(Flow(), noise_at=1.0, train=True)


def make_number():
    return 3


def make_layer():
    return agents.PretrainedFlow(nn.Linear(3, 3))


def fail():
    raise OSError("no weights here")
"""
COMMAND = (
    "--algo qam --env Pendulum-v1 --dataset data.npz --offline-steps 4 --eval-freq 4 --eval-episodes 2 "
    "--n-eval-envs 1 --seed 0 --device cpu -params net_arch=[8] batch_size=8 horizon_length=3"
)
WORDS = COMMAND.split()
BEHAVIOUR = ["--behaviour", "my_flows.py:make_flow"]


@pytest.fixture
def folder(tmp_path, monkeypatch, own_agents):
    """Change to a folder with a dataset and the file of the flows; return the folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "flows").mkdir()
    (tmp_path / "flows" / "by_neighbour.py").write_text("from neighbour import make_number")
    for name in ("my_flows.py", "test.v2.py", "flows/neighbour.py"):
        (tmp_path / name).write_text(FLOW)
    (tmp_path / "broken.py").write_text("{}['weights']")
    np.savez("data.npz", **toy_dataset(60, 3, 1))
    return tmp_path


def test_a_run_on_a_flow_of_ones_own_is_played_as_it_was_scored(folder, call, refusal):
    run, _ = call(main, *WORDS, *BEHAVIOUR)
    words = [f"{run['run']}/Pendulum-v1.zip", "--device", "cpu"]
    assert "pass --behaviour my_flows.py:make_flow" in refusal(evaluate, *words)
    assert call(evaluate, *words, *BEHAVIOUR)[0]["return"] == run["return"]
    reversed_flow = ["--behaviour", "my_flows.py:make_reversed"]
    assert "which has `noise_at` = 0.0, got 1.0" in refusal(evaluate, *words, *reversed_flow)
    assert "lacks `behaviour` (--behaviour)" in refusal(main, *WORDS, "-i", run["run"])
    assert call(main, *WORDS, *BEHAVIOUR, "--resume")[0]["run"] == run["run"]


@pytest.mark.usefixtures("folder")
def test_a_run_on_untrained_network_goes_on_online_and_in_others(call, refusal):
    behaviour = ["--behaviour", "test.v2.py:make_untrained"]
    clone = ["--algo", "bc", "--pretraining-steps", "2"]
    run, _ = call(main, *WORDS, *behaviour, *clone)
    phases = "--offline-steps 0 --online-steps 4 --offline-data preload"
    online = ["--algo", "bc", "-i", run["run"], *phases.split()]
    for words in (online, ["--pretrained-actor", run["run"]]):
        call(main, *WORDS, *behaviour, *words)
        other_flow = ["--behaviour", "my_flows.py:make_reversed_untrained"]
        assert "`noise_at` = 0.0, got 1.0" in refusal(main, *WORDS, *words, *other_flow)
    # the cloned flow may be used without further training
    call(main, *WORDS, *BEHAVIOUR, "--pretrained-actor", run["run"])


@pytest.mark.parametrize(
    ("words", "text"),
    {
        "flows/by_neighbour.py:make_number": "must be an `agents.PretrainedFlow`, got int",
        "my_flows.py:make_layer": "`behaviour` must map x of shape (64, 3)",
        "my_flows.py:fail": "MODULE:FUNCTION, got 'my_flows.py:fail': OSError: no weights here",
        "other.py:make_flow": "No such file",
        "my_flows.py": "got 'my_flows.py': ImportError:  failed",
        "broken.py:make_flow": "got 'broken.py:make_flow': KeyError: 'weights'",
        "my_flows.py:make_flow --algo sac --offline-steps 0": "has no behaviour flow",
    }.items(),
)
@pytest.mark.usefixtures("folder")
def test_a_flow_that_cannot_be_taken_ends_before_folder_is_made(words, text, refusal):
    settings = WORDS[:-1] if "sac" in words else WORDS  # takes single actions
    assert text in refusal(main, *settings, "--behaviour", *words.split())
