"""Makes files as a stranger would: whole in form, with sums that fit, and with something else inside."""

from __future__ import annotations

import base64
import io
import json
import os
import pickle
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from agents.common.engine.checkpoint import FORMAT
from agents.common.files.manifest import NAME as MANIFEST
from agents.common.files.manifest import write_manifest


class Trap:
    """An object whose pickle makes a folder when it is loaded."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return os.mkdir, (str(self._path),)


def trap_pickle(path: Path) -> bytes:
    """Return a pickle that makes a folder when it is loaded."""
    return pickle.dumps(Trap(path))


def trap_attribute(path: Path) -> dict[str, str]:
    """Return an attribute as SB3 writes what JSON lacks: a pickle in base64."""
    return {":type:": "<class 'dict'>", ":serialized:": base64.b64encode(trap_pickle(path)).decode()}


def trap_array(path: Path) -> np.ndarray:
    """Return an array of one object that makes a folder when the array is unpickled."""
    array = np.empty(1, dtype=object)
    array[0] = Trap(path)
    return array


def change_zip(path: Path, members: Mapping[str, bytes]) -> None:
    """Write members of a zip archive again, or add them."""
    with zipfile.ZipFile(path) as archive:
        content = {name: archive.read(name) for name in archive.namelist()} | dict(members)
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in content.items():
            archive.writestr(name, data)


def change_attributes(path: Path, attributes: Mapping[str, Any]) -> None:
    """Set attributes in the JSON of a saved model."""
    with zipfile.ZipFile(path) as archive:
        found = json.loads(archive.read("data"))
    change_zip(path, {"data": json.dumps({**found, **attributes}).encode()})


def change_arrays(path: Path, arrays: Mapping[str, Any]) -> None:
    """Set arrays of an ``.npz`` file, pickled where they hold objects; make the file if there is none."""
    content = {}
    if path.exists():
        with np.load(path) as found:
            content = {name: found[name] for name in found.files}
    content |= arrays
    with path.open("wb") as file:
        np.savez(file, **content)


def sign(checkpoint: Path) -> None:
    """Write the manifest of a checkpoint so that it fits its files."""
    (checkpoint / MANIFEST).unlink()
    write_manifest(checkpoint, format=FORMAT)


def npy(shape: tuple[int, ...], dtype: str = "<f8", content: bytes = b"") -> bytes:
    """Return an ``.npy`` file whose header says what it likes."""
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": dtype, "fortran_order": False, "shape": shape})
    return file.getvalue() + content


def zip_bomb(member: str, size: int) -> bytes:
    """Return a zip archive of a few MB at most with a member of zeros."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive, archive.open(member, "w") as out:
        piece = bytes(1 << 24)
        for _ in range(size >> 24):
            out.write(piece)
    return file.getvalue()
