"""The examples in docstrings print what they show."""

import doctest
import importlib
import pkgutil

import numpy as np
import pytest
import torch

import agents
from agents import registry

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
    names = {"agents": agents, "np": np, "torch": torch}
    assert doctest.testmod(module, extraglobs=names).failed == 0


