"""Saved models: found, loaded as their algorithm, and rejected by another algorithm."""

import sys
from io import BytesIO
from pathlib import Path

import pytest

import agents
from agents.common.model_file import find_model
from agents.common.sb3.policy import CnnFlowPolicy
from tests.common.toys import (
    assert_same_parameters,
    refuses,
    reloaded,
    tiny_model,
    toy_dataset,
    warns,
)


def test_a_run_folder_offers_its_final_model_or_the_newest(tmp_path, monkeypatch):
    folder = tmp_path / "maze-task1-v0_3"
    folder.mkdir()
    # the second file is being written
    for name in ("best_model.zip", ".best_model.1f.zip"):
        (folder / name).touch()
    with refuses("no saved model at", FileNotFoundError):
        find_model(folder)
    files = [
        "checkpoint/step_000000010.0/model.zip",
        "checkpoint/step_000000020.0/model.zip",
        "maze-task1-v0.zip",
    ]
    for name in files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
        assert find_model(folder) == folder / name
    assert find_model(folder / files[0]) == folder / files[0]
    renamed = folder.rename(tmp_path / "sent")
    assert find_model(renamed) == renamed / name
    renamed.rename(folder)
    (tmp_path / "latest").symlink_to(folder)
    assert find_model(tmp_path / "latest").samefile(folder / name)
    monkeypatch.chdir(folder)
    assert find_model(".") == Path(name)
    Path("copy.zip").touch()
    with refuses("contains several models", FileNotFoundError):
        find_model(folder)
    with refuses("expected the path of a saved model, or an open file, got", TypeError):
        agents.load(None)


@pytest.fixture
def fql(tmp_path):
    folder = tmp_path / "toy-v0_1"
    folder.mkdir()
    tiny_model("fql").save(folder / "toy-v0.zip")
    return folder


def test_a_saved_model_is_loaded_without_naming_its_class(fql):
    for path in (fql, str(fql / "toy-v0")):
        model = agents.load(path, device="cpu")
        assert type(model) is agents.FQL
        assert_same_parameters(model, tiny_model("fql"))
    with refuses("is a model of fql, not of QAM"):
        agents.QAM.load(fql / "toy-v0.zip")


class Logged(agents.FQL):
    """A custom model class."""


def test_model_of_class_of_ones_own_is_loaded_as_that_or_told_of(tmp_path, monkeypatch):
    tiny_model("fql").save(tmp_path / "model")
    Logged.load(tmp_path / "model").save(tmp_path / "model")
    assert type(agents.load(tmp_path / "model")) is Logged
    monkeypatch.delitem(sys.modules, __name__)
    with warns(":Logged, which is not imported; loading it as fql"):
        assert type(agents.load(tmp_path / "model")) is agents.FQL


def test_unknown_attributes_are_refused_and_missing_settings_named(fql):
    with refuses("unknown attribute 'gama'; closest: gamma", TypeError):
        agents.load(fql, gama=1)
    assert agents.load(fql, gamma=0.5).replay_buffer.gamma == 0.5
    with refuses("does not fit: expected `nets"):
        agents.load(fql, net_arch=[16])
    tiny_model("fql").save(fql / "toy-v0.zip", exclude=["rho"])
    with warns("no value of the setting `rho`"):
        agents.load(fql)


def test_arguments_of_the_constructor_are_given_to_load_again():
    kwargs = {"policy_kwargs": {"activation_fn": "ReLU"}}
    tiny_model("fql", seeds=[1], **kwargs).save(file := BytesIO())
    model = agents.load(file, seed=7, **kwargs)
    assert (model.seed, model.policy.seeds) == (7, [7])
    with refuses("`policy_kwargs.activation_fn` of a saved model cannot be changed"):
        agents.load(file, policy_kwargs={"activation_fn": "Tanh"})


def test_an_agent_of_ones_own_is_loaded_by_its_module(write_agent, tmp_path):
    code = """
import agents
from agents.common.sb3.policy import FlowPolicy
from agents.fql import FQL

class OwnPolicy(FlowPolicy):
    pass

@agents.register("saved_mine", paper="", published_name="Mine")
class WeightedBC(FQL):
    def __init__(self, **values):
        super().__init__(**values)
        self.levels = [*range(self.flow_steps)]
"""
    agents.get(write_agent(code))
    model = tiny_model("saved_mine", policy=sys.modules["an_agent"].OwnPolicy)
    model.learn_offline(1, dataset=toy_dataset())
    loaded = reloaded(model, tmp_path)
    assert type(loaded) is type(model)
    assert loaded.levels == [0, 1, 2]  # from the saved setting, not from the default
    model.save_policy(tmp_path / "policy")
    assert type(CnnFlowPolicy.load(tmp_path / "policy")) is CnnFlowPolicy
    del agents.registry._entries["saved_mine"], sys.modules["an_agent"]
    policy = agents.load_policy(tmp_path / "policy", trust=True)
    assert type(policy).__name__ == "OwnPolicy"
