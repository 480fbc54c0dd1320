"""Read pickled arrays of numbers without running what a pickle asks for."""

from __future__ import annotations

import io
import pickle
from typing import Any

import numpy as np

_NUMBER_KINDS = "fiub"  # numpy's codes: floats, signed and unsigned integers, booleans


def read_pickle_of_arrays(data: bytes) -> dict[tuple[str, ...], np.ndarray]:
    """Read a pickled dict from tuples of strings to arrays of numbers, and nothing else.

    A pickle is a program. This reader knows three names, all stand-ins that only collect the parts of an array. Any
    other name, and anything that is not such a dict in the end, is refused before it is looked up or called.

    :raises ValueError: if the pickle holds, or asks for, anything else.
    """
    try:
        content = _Reader(io.BytesIO(data)).load()
        if not isinstance(content, dict):
            raise ValueError(f"it holds a {type(content).__name__}")
        result = {}
        for key, parts in content.items():
            if not (isinstance(key, tuple) and all(isinstance(word, str) for word in key)):
                raise ValueError(f"it has the key {key!r}")
            if not isinstance(parts, _ArrayParts):
                raise ValueError(f"`{', '.join(key)}` is a {type(parts).__name__}")
            result[key] = parts.array
    except Exception as error:  # a damaged pickle may raise anything
        raise ValueError(
            f"expected a pickle of arrays under tuples of strings and nothing else, refused this one: {error}"
        ) from error
    return result


class _DtypeParts:
    """Stands in for ``numpy.dtype`` while a pickle is read."""

    __slots__ = ("code",)

    def __init__(self, code: str, align: bool = False, copy: bool = False) -> None:
        self.code = code

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        """Take the byte order: (version, byte order, fields, ...)."""
        self.code = state[1].replace("|", "") + self.code


class _ArrayParts:
    """Stands in for an array while a pickle is read."""

    __slots__ = ("array",)

    def __init__(self, kind: str, shape: tuple[int, ...], code: bytes) -> None:
        if kind != "ndarray":
            raise ValueError("it builds something that is not an array")

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        """Build the array: (version, shape, dtype, is Fortran order, bytes)."""
        _, shape, parts, is_fortran, data = state
        dtype = np.dtype(parts.code if isinstance(parts, _DtypeParts) else None)
        if dtype.kind not in _NUMBER_KINDS or not isinstance(data, bytes):
            raise ValueError("it holds an array of something other than numbers")
        self.array = np.frombuffer(data, dtype).reshape(shape, order="F" if is_fortran else "C")


class _Reader(pickle.Unpickler):
    """Unpickles with stand-ins in place of numpy's names, and refuses all other names."""

    def find_class(self, module: str, name: str) -> Any:
        """Return the stand-in for one of numpy's names."""
        known = {"ndarray": "ndarray", "_reconstruct": _ArrayParts, "dtype": _DtypeParts}
        if module in ("numpy", "numpy.core.multiarray", "numpy._core.multiarray") and name in known:
            return known[name]
        raise ValueError(f"it asks for `{module}.{name}`")
