"""Values as JSON and back, without a pickle: reading such a text builds values and runs nothing.

JSON has no tuples, arrays or generators. A value that it lacks becomes a mapping with one key of the form ``":kind:"``.
Objects are written as their class and attributes. Which classes may be read back is the reader's choice, and none of
their code runs: an instance is made without its constructor, and its attributes are set.
"""

from __future__ import annotations

import base64
import enum
import math
import random
import sys
from collections import deque
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

_PICKLING = ("__reduce_ex__", "__reduce__", "__getstate__")
NUMBERS = "biufc"  # kinds of NumPy's dtypes whose bytes are the values
TEXTS = "US"
SHARED = (np.ndarray, np.random.Generator, np.random.RandomState, random.Random, torch.Tensor)
"""Values with a form of their own that can be changed in place."""


class NotPlainError(TypeError):
    """A value is neither plain nor an object that may be written."""


class NotReadableError(ValueError):
    """A text is not what :func:`encode` wrote, or asks for a class that the reader does not allow."""


def path_of(kind: type) -> str:
    """Return the name by which a class is written.

    :param kind: the class.
    :return: ``"package.module:Class"``.
    """
    return f"{kind.__module__}:{kind.__qualname__}"


def encode(value: Any, may_write: Callable[[Any], bool] = lambda _: False, name: str = "value") -> Any:
    """Return a value as what ``json.dumps`` takes.

    A list, dict, array, generator or object that occurs more than once is written once; the copies are one object
    again when they are read.

    :param value: plain values, NumPy's and PyTorch's, and objects, nested in each other.
    :param may_write: says of an object that is none of these whether its attributes may be written.
    :param name: what to call the value in messages.
    :return: the encoded value.
    :raises NotPlainError: if something is none of these; the message says where.
    """
    return _finished(_Writer(may_write).encode(value, name))


def decode(encoded: Any, find_class: Callable[[str], type | None] = lambda _: None) -> Any:
    """Return the value that :func:`encode` was given.

    :param encoded: what ``json.loads`` returned.
    :param find_class: returns the class of a name as :func:`path_of` gives it, or None if it may not be used.
    :return: the value.
    :raises NotReadableError: if it is not an encoded value, or needs a class that may not be used.
    """
    return _Reader(find_class).decode(encoded)


def is_simple(value: Any) -> bool:
    """Return whether an object is nothing but its attributes, so that they say everything about it.

    :param value: the object.
    :return: False for objects with slots or content in C, and for those that are pickled in a way of their own.
    """
    kind = type(value)
    has_own_way = any(getattr(kind, name) is not getattr(object, name) for name in _PICKLING)
    if has_own_way or not hasattr(value, "__dict__"):
        return False
    if any(vars(base).get("__slots__") for base in kind.__mro__):
        return False
    try:
        object.__new__(kind)
    except TypeError:
        return False
    return True


class _Node:
    """An encoded value that may occur again; then it gets a number."""

    def __init__(self, value: Any, encoded: Any) -> None:
        self.value, self.encoded = value, encoded  # the value is kept alive, so that no id is used twice
        self.number: int | None = None


class _Writer:
    """Encodes one value, with nodes where the same object may occur more than once."""

    def __init__(self, may_write: Callable[[Any], bool]) -> None:
        self.may_write = may_write
        self.nodes: dict[int, _Node] = {}
        self.open: set[int] = set()
        self.repeated = 0

    def encode(self, value: Any, name: str) -> Any:
        """Encode a value that has a name; refuse what cannot be written."""
        # whether two places hold the same object matters of the others
        if not isinstance(value, SHARED) and (isinstance(value, tuple | frozenset) or _is_leaf(value)):
            return self._encode(value, name)
        if id(value) in self.open:
            raise NotPlainError(f"`{name}` contains itself")
        if id(value) not in self.nodes:
            self.open.add(id(value))
            node = self.nodes[id(value)] = _Node(value, self._encode(value, name))
            self.open.discard(id(value))
            return node
        node = self.nodes[id(value)]
        if node.number is None:
            node.number, self.repeated = self.repeated, self.repeated + 1
        return {":same:": node.number}

    def _encode(self, value: Any, name: str) -> Any:
        kind = type(value)
        if kind is float:
            return value if math.isfinite(value) else {":float:": repr(value)}
        if kind is dict:
            return self._encode_dict(value, name)
        if kind in (list, tuple, set, frozenset, deque):
            items = [self.encode(item, f"{name}[{index}]") for index, item in enumerate(value)]
            more = {"maxlen": value.maxlen} if kind is deque else {}
            return items if kind is list else {f":{kind.__name__}:": items, **more}
        if _is_leaf(value):
            return next((write(value) for kind, write in _WRITERS if isinstance(value, kind)), value)
        if isinstance(value, tuple) and hasattr(value, "_fields") and self.may_write(value):
            fields = zip(value._fields, value, strict=True)
            return {":named tuple:": path_of(kind), "items": [self.encode(item, f"{name}.{f}") for f, item in fields]}
        if self.may_write(value) and is_simple(value):
            attributes = {key: self.encode(item, f"{name}.{key}") for key, item in vars(value).items()}
            return {":object:": path_of(kind), "attributes": attributes}
        raise NotPlainError(f"`{name}` is a {path_of(kind)}, which is neither a plain value nor an array")

    def _encode_dict(self, value: dict[Any, Any], name: str) -> Any:
        items = [(self.encode(key, name), self.encode(item, f"{name}[{key!r}]")) for key, item in value.items()]
        if all(type(key) is str and not key.startswith(":") for key in value):
            return dict(items)
        return {":dict:": [list(pair) for pair in items]}


def _finished(encoded: Any) -> Any:
    """Return what a writer made as what ``json.dumps`` takes."""
    if isinstance(encoded, _Node):
        found = _finished(encoded.encoded)
        return found if encoded.number is None else {":shared:": encoded.number, "value": found}
    if isinstance(encoded, list):
        return [_finished(item) for item in encoded]
    if isinstance(encoded, dict):
        return {key: _finished(item) for key, item in encoded.items()}
    return encoded


def _is_leaf(value: Any) -> bool:
    """Return whether a value has a form of its own."""
    if value is None or type(value) in (bool, int, float, str):
        return True
    if isinstance(value, np.ndarray | np.generic | np.dtype):
        return (value if isinstance(value, np.dtype) else value.dtype).kind in NUMBERS + TEXTS
    return any(isinstance(value, kind) for kind, _ in _WRITERS)


def _encode_array(value: np.ndarray) -> Any:
    return {":array:": _text(np.ascontiguousarray(value).tobytes()), "dtype": value.dtype.str, "shape": value.shape}


def _encode_class(value: type) -> Any:
    if issubclass(value, np.generic):
        return {":dtype:": value.__name__, "is_type": True}
    return {":class:": path_of(value)}


_WRITERS: tuple[tuple[type, Callable[[Any], Any]], ...] = (
    (bytes, lambda value: {":bytes:": _text(value)}),
    (np.ndarray, _encode_array),
    (np.generic, lambda value: {":scalar:": _text(value.tobytes()), "dtype": value.dtype.str}),
    (np.dtype, lambda value: {":dtype:": value.str}),
    (torch.Tensor, lambda value: {":tensor:": _encode_array(value.detach().cpu().numpy())}),
    (torch.dtype, lambda value: {":torch.dtype:": str(value).removeprefix("torch.")}),
    (torch.device, lambda value: {":torch.device:": str(value)}),
    (np.random.Generator, lambda value: {":generator:": encode(value.bit_generator.state)}),
    (np.random.RandomState, lambda value: {":random state:": encode(value.get_state(legacy=False))}),
    (random.Random, lambda value: {":python random:": encode(value.getstate())}),
    (enum.Enum, lambda value: {":enum:": path_of(type(value)), "name": value.name}),
    (Path, lambda value: {":path:": str(value)}),
    (type, _encode_class),
)


def _text(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")


class _Reader:
    """Decodes one value."""

    def __init__(self, find_class: Callable[[str], type | None]) -> None:
        self.find_class = find_class
        self.shared: dict[int, Any] = {}

    def decode(self, encoded: Any) -> Any:
        """Return the value."""
        try:
            return self._decode(encoded)
        except NotReadableError:
            raise
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError, RecursionError, RuntimeError) as error:
            raise NotReadableError(f"expected values in plain form, got others: {error!r}") from error

    def _decode(self, encoded: Any) -> Any:
        if isinstance(encoded, list):
            return [self._decode(item) for item in encoded]
        if not isinstance(encoded, dict):
            return encoded
        kind = next((key for key in encoded if key.startswith(":")), None)
        if kind is None:
            return {key: self._decode(item) for key, item in encoded.items()}
        content = encoded[kind]
        if kind == ":same:":
            return self.shared[content]
        if kind == ":shared:":
            self.shared[content] = value = self._decode(encoded["value"])
            return value
        if kind in COLLECTIONS:
            return COLLECTIONS[kind]([self._decode(item) for item in content], encoded)
        if kind in LEAVES:
            return LEAVES[kind](content, encoded)
        if kind == ":tensor:":
            return torch.from_numpy(self._decode(content))
        if kind in (":object:", ":named tuple:", ":class:", ":enum:"):
            return self._of_class(kind, content, encoded)
        raise NotReadableError(f"expected values in plain form, got one of kind `{kind}`, which is not known here")

    def _of_class(self, kind: str, path: str, encoded: Mapping[str, Any]) -> Any:
        """Return a class that is allowed, or an instance made without its constructor."""
        cls: Any = self.find_class(path)
        if cls is None:
            raise NotReadableError(f"it needs the class `{path}`, which is not among those that may be used here")
        if kind == ":class:":
            return cls
        if kind == ":enum:":
            return cls.__members__[encoded["name"]]
        if kind == ":named tuple:":
            return tuple.__new__(cls, [self._decode(item) for item in encoded["items"]])
        instance = object.__new__(cls)
        vars(instance).update({name: self._decode(item) for name, item in encoded["attributes"].items()})
        return instance


def _array(content: str, encoded: Mapping[str, Any]) -> np.ndarray:
    """Return an array that can be written to."""
    kind = _dtype(encoded["dtype"], {})
    return np.frombuffer(bytearray(base64.b64decode(content)), kind).reshape(encoded["shape"])


def _dtype(content: str, encoded: Mapping[str, Any]) -> Any:
    """Return a dtype, or the type of its scalars."""
    kind = np.dtype(content)
    if kind.kind not in NUMBERS + TEXTS:
        raise NotReadableError(f"expected an array of numbers or texts, got one of `{content}`")
    return kind.type if encoded.get("is_type") else kind


def _generator(state: Any, _: Mapping[str, Any]) -> np.random.Generator:
    """Return a generator of NumPy in a state."""
    state = decode(state)
    kinds = {kind.__name__: kind for kind in np.random.BitGenerator.__subclasses__()}
    bits: Any = kinds[state["bit_generator"]]()
    bits.state = state
    return np.random.Generator(bits)


def _with_state(generator: Any, state: Any) -> Any:
    """Return one of the older generators of NumPy or Python in a state."""
    getattr(generator, "setstate" if isinstance(generator, random.Random) else "set_state")(decode(state))
    return generator


Build = Callable[[Any, Mapping[str, Any]], Any]
COLLECTIONS: dict[str, Build] = {
    ":tuple:": lambda items, _: tuple(items),
    ":set:": lambda items, _: set(items),
    ":frozenset:": lambda items, _: frozenset(items),
    ":deque:": lambda items, encoded: deque(items, encoded["maxlen"]),
    ":dict:": lambda items, _: dict(items),
}
LEAVES: dict[str, Build] = {
    ":float:": lambda text, _: {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}[text],
    ":bytes:": lambda text, _: base64.b64decode(text),
    ":array:": _array,
    ":scalar:": lambda text, encoded: _array(text, {**encoded, "shape": ()})[()],
    ":dtype:": _dtype,
    ":torch.dtype:": lambda name, _: {str(kind): kind for kind in vars(torch).values() if type(kind) is torch.dtype}[
        f"torch.{name}"
    ],
    ":torch.device:": lambda name, _: torch.device(name),
    ":generator:": _generator,
    ":random state:": lambda state, _: _with_state(np.random.RandomState(), state),
    ":python random:": lambda state, _: _with_state(random.Random(), state),
    ":path:": lambda text, _: Path(text),
}


def imported_class(path: str, bases: Collection[type]) -> type | None:
    """Return a class that a text names, if its module is imported already and it derives from one of some classes.

    :param path: ``"package.module:Class"``.
    :param bases: the classes.
    :return: the class; None if there is no such class in the modules of this process.
    """
    module, _, name = path.partition(":")
    found: Any = sys.modules.get(module)
    for part in name.split("."):
        found = vars(found).get(part) if hasattr(found, "__dict__") else None
    return found if isinstance(found, type) and issubclass(found, tuple(bases)) else None
