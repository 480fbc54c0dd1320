"""The page on flows that were trained elsewhere, and its example."""

import copy
import importlib.util

import gymnasium
import numpy as np
import pytest
import torch

import agents
from tests import ROOT, code_blocks


def load_example():
    spec = importlib.util.spec_from_file_location(
        "fine_tune", ROOT / "docs" / "examples" / "fine_tune.py"
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_runs_as_it_stands(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    definition = code_blocks("docs/pretrained.md", "py")[0]
    usage = code_blocks("docs/pretrained.md", "python")[0].replace("100_000", "2")
    generator = np.random.default_rng(0)
    rows = 64
    states = generator.normal(size=(rows + 1, 3)).astype(np.float32)
    np.savez(
        "my_data.npz",
        observations=states[:-1],
        next_observations=states[1:],
        actions=(0.4 * generator.normal(size=(rows, 1))).clip(-2, 2),
        rewards=generator.normal(size=rows),
        terminals=(np.arange(rows) % 16 == 15).astype(float),
        masks=np.ones(rows),
    )
    small = "horizon_length=4, net_arch=[8], batch_size=8, buffer_size=8"
    env = gymnasium.make("Pendulum-v1")
    names = {"env": env}
    exec(definition + usage.replace("horizon_length=4", small), names)
    assert isinstance(names["model"], agents.TRQAM)


def test_the_example_begins_as_it_was_cloned_and_leaves_the_network_alone():
    example = load_example()
    data = example.record(40)
    network = example.clone(data, updates=5)
    weights = copy.deepcopy(network.state_dict())
    flow = agents.PretrainedFlow(network, noise_at=1.0, action_shape=(example.H, example.A))
    small = {"net_arch": [8], "batch_size": 8, "flow_steps": 3, "seed": 0}
    model = agents.QAM(
        "MlpPolicy", example.Reach(), behaviour=flow, horizon_length=example.H, **small
    )
    behaviour, tuned = model.policy.nets.behaviour, model.policy.nets.fine_tuned
    for name, value in behaviour.state_dict().items():
        assert torch.equal(value, tuned.state_dict()[name])
    model.learn_offline(2, dataset=data)
    assert all(torch.equal(value, network.state_dict()[name]) for name, value in weights.items())


@pytest.mark.slow
def test_fine_tuning_improves_a_cloned_transformer():
    cloned, tuned = load_example().main()
    assert tuned > cloned + 0.3
