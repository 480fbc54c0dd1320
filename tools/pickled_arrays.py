"""Read pickled arrays of numbers without running what a pickle asks for."""

from __future__ import annotations

import io
import pickle
from typing import Any

import numpy as np

_NUMBER_KINDS = "fiub"  # numpy's codes: floats, signed and unsigned integers, booleans
_MODULES = ("numpy", "numpy.core.multiarray", "numpy._core.multiarray")
_NAMES = {"ndarray": np.ndarray, "dtype": np.dtype, "_reconstruct": np.empty(0).__reduce__()[0]}


def read_pickle_of_arrays(data: bytes) -> dict[tuple[str, ...], np.ndarray]:
    """Read a pickled dict from tuples of strings to arrays of numbers, and nothing else.

    A pickle is a program. This reader lets it use three names, of which arrays are made. Any other name is refused
    before it is looked up, and so is anything that is not such a dict in the end.

    :raises ValueError: if the pickle holds, or asks for, anything else.
    """
    try:
        content = _Reader(io.BytesIO(data)).load()
        if not isinstance(content, dict):
            raise ValueError(f"it holds a {type(content).__name__}")
        for key, array in content.items():
            if not (isinstance(key, tuple) and all(isinstance(word, str) for word in key)):
                raise ValueError(f"it has the key {key!r}")
            if not isinstance(array, np.ndarray):
                raise ValueError(f"`{', '.join(key)}` is a {type(array).__name__}")
            if array.dtype.kind not in _NUMBER_KINDS:
                raise ValueError("it holds an array of something other than numbers")
        return content
    except Exception as error:  # a damaged pickle may raise anything
        raise ValueError(
            f"expected a pickle of arrays under tuples of strings and nothing else, refused this one: {error}"
        ) from error


class _Reader(pickle.Unpickler):
    """Refuses all names but those of which numpy makes arrays."""

    def find_class(self, module: str, name: str) -> Any:
        """Return what one of these names stands for."""
        if module in _MODULES and name in _NAMES:
            return _NAMES[name]
        raise ValueError(f"it asks for `{module}.{name}`")
