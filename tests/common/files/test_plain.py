"""Values survive JSON unchanged, and reading them runs nothing."""

from __future__ import annotations

import enum
import json
import random
from collections import OrderedDict, deque, namedtuple
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from agents.common.files import plain

Pair = namedtuple("Pair", "left right")  # as in SB3


class Colour(enum.Enum):
    RED = 1


class Thing:
    def __init__(self, **attributes: Any) -> None:
        vars(self).update(attributes)


class Slotted:
    __slots__ = ("a",)


CLASSES = {plain.path_of(kind): kind for kind in (Pair, Colour, Thing)}


def through_json(value: Any, may_write: Callable[[Any], bool] = lambda _: True) -> Any:
    return plain.decode(json.loads(json.dumps(plain.encode(value, may_write), allow_nan=False)), CLASSES.get)


@pytest.mark.parametrize(
    "value",
    [
        None, True, 3, -2**80, "text", 0.1, float("inf"), -float("inf"), b"\x00\xff", (1, (2, [3])), {1, 2}, Colour.RED,
        frozenset({"a"}), deque([1, 2], maxlen=5), {"a": {2: "b", (3, 4): None}}, {":array:": "no array"}, Path("a/b"),
        np.float32(0.1), np.int64(7), np.bool_(True), np.dtype("<f4"), np.float32, torch.float32, torch.device("cpu"),
        Pair(1, [2]), np.str_("x"),
    ],
    ids=lambda value: f"{type(value).__name__} {value!r}"[:30],
)  # fmt: skip
def test_values_come_back_with_their_types(value: Any) -> None:
    found = through_json(value)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize("dtype", ["f4", "f8", "i1", "u2", "bool", "U3", "c8", ">i4"])
@pytest.mark.parametrize("shape", [(), (0, 2), (3, 2)])
def test_arrays_come_back_and_can_be_written(dtype: str, shape: tuple[int, ...]) -> None:
    array = np.zeros(shape, dtype)
    found = through_json(array)
    assert (found.dtype, found.shape) == (array.dtype, shape)
    found[...] = found
    strided = np.array([*range(11), np.nan]).reshape(3, 4)[:, ::2].T
    np.testing.assert_array_equal(through_json(strided), strided)


@pytest.mark.parametrize("bits", ["PCG64", "MT19937", "Philox", "SFC64"])
def test_generators_draw_on(bits: str) -> None:
    generator, old, own = np.random.Generator(getattr(np.random, bits)(3)), np.random.RandomState(3), random.Random(3)
    for each in (generator.normal, lambda: old.normal(), own.random):
        each()
    first, second, third = through_json((generator, old, own))
    assert first.normal() == generator.normal()
    assert second.normal() == old.normal()
    assert third.random() == own.random()


def test_an_object_comes_back_without_its_constructor() -> None:
    found = through_json(Thing(a=1, part=Thing(b=np.ones(2))))
    assert type(found) is Thing
    assert found.a == 1
    np.testing.assert_array_equal(found.part.b, np.ones(2))


@pytest.mark.parametrize(
    "shared",
    [np.ones(2), [1], {"a": 1}, Thing(a=1), {1}, np.random.default_rng(0)],
    ids=lambda shared: type(shared).__name__,
)
def test_what_two_places_share_is_still_shared(shared: Any) -> None:
    found = through_json({"first": [shared], "second": (shared, [shared])})
    assert found["first"][0] is found["second"][0] is found["second"][1][0]


@pytest.mark.parametrize(
    ("value", "where"),
    [
        (lambda: 0, "value"),
        ({"a": [0, print]}, r"value\['a'\]\[1\]"),
        (Thing(a=Thing(b=len)), r"value\.a\.b"),
        (np.array([{}], object), "value"),
        (OrderedDict(a=1), "value"),
        (Slotted(), "value"),
        ((n for n in range(3)), "value"),
    ],
)
def test_what_is_no_data_is_refused_by_name(value: Any, where: str) -> None:
    with pytest.raises(plain.NotPlainError, match=f"`{where}` is a"):
        plain.encode(value, lambda _: True)


def test_objects_are_written_on_demand_only() -> None:
    with pytest.raises(plain.NotPlainError, match=r"is a tests\.common\.files\.test_plain:Thing"):
        plain.encode(Thing())


def test_a_value_that_contains_itself_is_refused() -> None:
    ring: list[Any] = []
    ring.append(ring)
    with pytest.raises(plain.NotPlainError, match="contains itself"):
        plain.encode(ring)


@pytest.mark.parametrize(
    "encoded",
    [
        {":object:": "subprocess:Popen", "attributes": {"args": "ls"}},
        {":class:": "os:system"},
        {":enum:": "signal:Signals", "name": "SIGKILL"},
        {":serialized:": "gASVAAAA"},
        {":array:": "AAAA", "dtype": "O", "shape": [1]},
        {":array:": "AAAA", "dtype": "<f4", "shape": [10**12]},
        {":generator:": {"bit_generator": "__import__"}},
        {":tuple:": 3},
        {":object:": plain.path_of(Thing)},
    ],
    ids=str,
)
def test_what_was_not_written_here_is_refused(encoded: Any) -> None:
    with pytest.raises(plain.NotReadableError):
        plain.decode(encoded, CLASSES.get)


def test_a_deeply_nested_value_is_refused() -> None:
    value: Any = []
    for _ in range(100_000):
        value = [value]
    with pytest.raises(plain.NotReadableError, match="RecursionError"):
        plain.decode(value)


def test_classes_are_found_without_an_import() -> None:
    assert plain.imported_class(plain.path_of(Thing), (Thing,)) is Thing
    assert plain.imported_class("antigravity:fly", (object,)) is None
    assert plain.imported_class("os:system", (object,)) is None
    assert plain.imported_class("subprocess:Popen", (Thing,)) is None
    assert plain.imported_class("", (object,)) is None
