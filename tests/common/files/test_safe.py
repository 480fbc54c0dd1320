"""Values read from files equal the written values, and a file can call only listed functions."""

import io
import json
import sys
from collections import deque
from enum import Enum
from signal import SIGINT

import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3.common import noise
from stable_baselines3.common.type_aliases import TrainFreq, TrainFrequencyUnit
from torch import nn

from agents.common.files import safe
from tests.common.toys import Trap, refuses

VALUES = {
    "plain": {
        "a": (1, 2.5, float("-inf"), None, True, 2**200),
        "": {3: [2], 4: "b"},
        ":x:": {":": 1},
    },
    "bounded deque": deque([1, 2], 3),
    "class": nn.ReLU,
    "box": spaces.Box(np.array([-1.5, 0], np.float32), np.array([1, np.inf], np.float32)),
    "image": spaces.Box(0, 255, (2, 2, 3), np.uint8),
    "choices": spaces.MultiDiscrete([3, 4], np.int32, start=[1, 0]),
    "spaces": spaces.Dict(
        {"z": spaces.Discrete(3, start=2, dtype=np.int32), "a": spaces.MultiBinary(4)}
    ),
}


def written(value):
    """Return a value after writing it as text and reading it again."""
    return safe.from_json(json.loads(json.dumps(safe.to_json(value))))


@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
def test_a_value_comes_back_as_it_was(value):
    assert type(written(value)) is type(value)
    assert written(value) == value


def test_arrays_come_back():
    for array in (np.arange(4.0)[::2], np.array(["a", "bc"]), np.zeros((0, 3), np.uint8)):
        np.testing.assert_array_equal(written(array), array)
        assert written(array).dtype == array.dtype
    # SB3's algorithms convert this tuple to SB3's type again
    assert written(TrainFreq(2, TrainFrequencyUnit.EPISODE)) == (2, "episode")
    assert written(SIGINT) == SIGINT  # a member of an IntEnum


def test_noise_of_several_environments_goes_on():
    walk = noise.OrnsteinUhlenbeckActionNoise(np.zeros(2), np.ones(2), theta=0.3)
    noises = noise.VectorizedActionNoise(walk, 2)
    noises()
    restored = written(noises)
    drawn = []
    for either in (noises, restored):
        np.random.seed(0)
        drawn.append(either())
    np.testing.assert_array_equal(*drawn)


class Calls:
    """An object whose unpickling calls a class that files may name, but not call."""

    def __reduce__(self):
        return nn.Linear, (2, 3)


@pytest.mark.parametrize("value", [Trap(), lambda: 1, {1, 2}, Enum("Mode", "A").A])
def test_what_can_only_be_written_as_code_is_refused(value):
    with refuses("is neither a plain value nor an array", TypeError):
        safe.to_json(value)


@pytest.mark.parametrize("value", [Trap(), Calls()])
def test_a_file_calls_nothing_that_is_not_listed(value):
    file = io.BytesIO()
    torch.save(value, file)
    with refuses("unsupported objects"):
        safe.load(file.getvalue())


@pytest.mark.parametrize("path", ["antigravity:Policy", "subprocess:Popen", "os:system"])
def test_a_class_is_found_only_if_imported_and_asked_for(path):
    with refuses(f"class `{path}` is not imported"):
        safe.from_json({":class:": path})
    assert "antigravity" not in sys.modules
