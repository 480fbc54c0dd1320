"""Values in PyTorch's files come back as they were, and a file calls nothing that is not listed."""

import io
import random
import sys
from collections import deque
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import nn

from agents.common.files import safe
from tests.common.toys import refuses

ran = []
VALUES = {
    "plain": {
        "a": (1, 2.5, float("-inf"), None, True, 2**200),
        3: {1, 2},
        "f": frozenset([3]),
        "b": b"\x00\xff",
    },
    "bounded deque": deque([1, 2], 3),
    "array": np.arange(4.0)[::2],
    "texts": np.array(["a", "bc"]),
    "scalar": np.float32(3),
    "dtype": np.dtype("f4"),
    "class": nn.ReLU,
    "type of numbers": np.float32,
    "dtype of tensors": torch.float32,
    "space": spaces.Dict({"box": spaces.Box(-1, 1, (2,)), "choice": spaces.Discrete(3)}),
    "path": Path("/a/b"),
}


@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
def test_a_value_comes_back_as_it_was(value):
    loaded = safe.load(safe.dumps(value))
    assert type(loaded) is type(value)
    assert np.array_equal(loaded, value) if isinstance(value, np.ndarray) else loaded == value


@pytest.mark.parametrize("make", [np.random.default_rng, np.random.RandomState, random.Random])
def test_a_generator_goes_on_where_it_was(make):
    generator = make(3)
    generator.random()
    assert safe.load(safe.dumps(generator)).random() == generator.random()


def test_one_object_in_two_places_stays_one():
    array = np.zeros(2)
    first, second = safe.load(safe.dumps([array, array]))
    assert first is second


class Trap:
    def __reduce__(self):
        return ran.append, ("ran",)


class Calls:
    """Calls a class that a file may name."""

    def __reduce__(self):
        return nn.Linear, (2, 3)


@pytest.mark.parametrize("value", [Trap(), Calls(), lambda: 1, object(), np.array([{}], object)])
def test_what_can_only_be_written_as_code_is_refused(value):
    with refuses("which is neither a plain value nor an array", TypeError):
        safe.dumps(value)


@pytest.mark.parametrize("value", [Trap(), Calls()])
def test_a_file_calls_nothing_that_is_not_listed(value):
    file = io.BytesIO()
    torch.save(value, file)
    with refuses("more than it may use"):
        safe.load(file.getvalue())
    assert ran == []


@pytest.mark.parametrize(
    "path", ["antigravity:Policy", "subprocess:Popen", "torch.jit._script:RecursiveScriptModule"]
)
def test_a_class_is_found_only_if_it_is_imported_and_what_its_place_asks_for(path, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(safe, "path_of", lambda _: path)
        file = io.BytesIO()
        safe.save(nn.ReLU, file)
    with refuses(f"needs the class `{path}`"):
        safe.load(file.getvalue())
    assert "antigravity" not in sys.modules


def test_too_little_memory_says_nothing_against_a_file(monkeypatch):
    content = safe.dumps(1)
    monkeypatch.setattr(torch, "load", Mock(side_effect=RuntimeError("can't allocate memory")))
    with refuses("allocate", RuntimeError):
        safe.load(content)
