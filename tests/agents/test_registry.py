"""Finding algorithms, registering a custom algorithm in a file, and the documentation of both."""

import hashlib
import inspect
import re
from pathlib import Path
from types import SimpleNamespace

import pytest

import agents
from agents.models import model_class
from agents.qam import QAM
from agents.registry import origin_of
from docs import make_tables
from tests.agents.testing.mistakes import example
from tests.common.toys import refuses, tiny_model
from tests.envs import SpacesEnv
from zoo.settings.config import load_config
from zoo.settings.request import TrainRequest
from zoo.terminal.errors import UsageError


def test_the_tables_of_mini_benchmark_are_those_of_its_scores():
    text = make_tables.updated_mini()
    assert text == make_tables.MINI.read_text(encoding="utf-8"), "run `python docs/make_tables.py`"
    assert make_tables.mini_table() in text
    assert make_tables.MINI_RANK.search(text)


def test_type_checkers_know_every_public_name():
    assert make_tables.stub() == make_tables.STUB.read_text(), "run `python docs/make_tables.py`"
    for name in agents.__all__:
        assert re.search(rf"(import|class) {name}\b", make_tables.stub()), name


@pytest.mark.parametrize(
    ("id", "answer"),
    [("fqll", "closest: fql"), ("ppo", "choose from: bam, (?!.*bptt,)")],
)
def test_an_unknown_id_names_similar_ones_or_all(id, answer):
    with refuses(f"unknown algorithm `{id}`; {answer}", KeyError):
        agents.get(id)


def test_class_of_installed_package_is_known_by_its_distribution(write_agent, monkeypatch):
    own_module = write_agent(example())
    method = agents.get(own_module).method
    code = hashlib.sha256(Path(inspect.getfile(method)).read_bytes()).hexdigest()[:12]
    origin = {"class": own_module, "code": code}
    assert origin_of(method) == origin
    distribution = SimpleNamespace(name="my-agents", version="1.0")
    plugins = {"weighted_bc": SimpleNamespace(value=own_module, dist=distribution)}
    monkeypatch.setattr("agents.registry._plugins", lambda: plugins)
    assert origin_of(method) == {**origin, "package": "my-agents==1.0"}
    plugins["weighted_bc"].load = lambda: None
    plugins["other"] = plugins["weighted_bc"]
    with refuses("package my-agents must register `other`", ImportError):
        agents.get("other")


def test_a_class_that_is_not_registered_is_refused():
    with refuses("is not a registered algorithm of .*method.py", UsageError):
        load_config(TrainRequest(algo="agents.common.method:Method"))


@pytest.mark.parametrize(
    ("id", "owner"),
    [
        ("fql", "is taken by agents.FQL"),
        ("taken", "is taken by .*First"),
        ("sac", "belongs to an SB3 algorithm"),
    ],
)
def test_an_id_that_is_taken_is_refused_with_its_owner(id, owner, write_agent):
    agents.register("taken", paper="", published_name="")(type("First", (QAM,), {}))
    code = "import agents\nfrom agents.qam import QAM\n"
    code += f"@agents.register({id!r}, paper='', published_name='')\nclass Mine(QAM): pass\n"
    write_agent(code)
    with refuses(f"algorithm id `{id}` {owner}", UsageError):
        load_config(TrainRequest(algo="an_agent:Mine"))


@pytest.mark.parametrize("name", ["n_steps", "behaviour"])
def test_a_setting_that_a_model_would_overwrite_is_refused(name):
    attributes = {name: agents.setting(default=1), "__annotations__": {name: "int"}}
    method = type("Mine", (QAM,), {**attributes, "__module__": __name__})
    with refuses(f"setting `{name}` of Mine clashes with a constructor argument"):
        model_class(method)


@pytest.mark.parametrize("name", ["losses", "flow_steps"])
def test_what_belongs_into_a_method_is_refused_in_a_model(name):
    with refuses(rf"`{name}` of Mine must be .* subclass of `agents\.Method`", TypeError):
        type("Mine", (agents.QAM,), {name: 3})


def test_a_misspelt_argument_names_the_closest():
    with refuses("'distil_weight'; closest: distill_weight", TypeError):
        tiny_model("fql", distil_weight=1.0)
    method = tiny_model("fql").method
    with refuses("`distil_weight`; closest: distill_weight", AttributeError):
        method.distil_weight = 1.0


def test_a_setting_that_is_given_twice_is_refused():
    with refuses(r"`ensemble_size` and `policy_kwargs\.n_critics`"):
        tiny_model(policy_kwargs={"n_critics": 3})
    with refuses("`horizon_length` and `n_steps`"):
        tiny_model(n_steps=3)
    with refuses("`seed` and `seeds`"):
        agents.FQL("MlpPolicy", SpacesEnv(), seeds=[0], seed=5)
    with refuses("`seeds` must be a list of at least one seed, got 3"):
        tiny_model(seeds=3)
    with refuses("got both `env` and one of its spaces"):
        tiny_model(action_space=SpacesEnv().action_space)
