"""The examples in docstrings print the shown output."""

import doctest
import importlib
import pkgutil

import gymnasium
import numpy as np
import pytest
import torch

import agents
from agents import core, registry

MODULES = [
    module.name
    for module in pkgutil.walk_packages(agents.__path__, "agents.")
    if module.name != "agents.testing.plugin"
]


@pytest.fixture(autouse=True)
def in_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    # examples register algorithms, which no other test should find
    monkeypatch.setattr(registry, "_entries", dict(registry._entries))


@pytest.mark.parametrize("name", MODULES)
def test_examples_of_docstrings_run(name):
    module = importlib.import_module(name)
    names = {"agents": agents, "gymnasium": gymnasium, "np": np, "torch": torch}
    assert doctest.testmod(module, extraglobs=names).failed == 0


@pytest.mark.parametrize("package", [agents, core])
def test_public_names_have_examples(package):
    missing = []
    for name in package.__all__:
        value = getattr(package, name)
        is_ours = getattr(value, "__module__", "").startswith("agents")
        # an algorithm class shows an example on the site that is generated from its settings
        is_model = isinstance(value, type) and issubclass(value, agents.FlowAlgorithm)
        if not is_ours or is_model:
            continue
        described = [value.__doc__ or "", importlib.import_module(value.__module__).__doc__ or ""]
        if not any(">>>" in text for text in described):
            missing.append(name)
    assert missing == []
