"""Read ``.npz`` files without pickle; zip verifies the checksum of each array."""

from __future__ import annotations

import io
import math
import os
import zipfile
from collections.abc import Collection
from functools import lru_cache
from typing import IO, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from agents.common.files import raising_damaged_file

Source: TypeAlias = str | os.PathLike[str] | IO[bytes]

# format version -> bytes in the length field, and the header's reader; NumPy uses 3.0 only for structured dtypes
_HEADER_READERS = {
    (1, 0): (2, np.lib.format.read_array_header_1_0),
    (2, 0): (4, np.lib.format.read_array_header_2_0),
}


def read_npz(file: Source, names: Collection[str] | None = None) -> dict[str, NDArray[Any]]:
    """Return arrays of an ``.npz`` file.

    :param file: its path, or an open binary file, which stays open.
    :param names: arrays to read, some of which may be missing; None for all.
    :return: writable arrays by name.
    :raises DamagedFileError: if the file is damaged or a selected array contains Python objects.
    :raises OSError: if the file is missing or unreadable.
    """
    arrays = {}
    with raising_damaged_file(name_of(file)), zipfile.ZipFile(file) as archive:
        for member in archive.infolist():
            name = member.filename.removesuffix(".npy")
            if names is None or name in names:
                _require_size(archive, member)  # before NumPy allocates the array
                with archive.open(member) as content:
                    arrays[name] = np.lib.format.read_array(content, allow_pickle=False)
    return arrays


def read_npz_headers(file: Source) -> dict[str, tuple[tuple[int, ...], np.dtype[Any]]]:
    """Return shape and dtype of every array of an ``.npz`` file without reading the arrays.

    :param file: its path, or an open binary file, which stays open.
    :return: shape and dtype by name.
    :raises DamagedFileError: if the file or a header is damaged.
    :raises OSError: if the file is missing or unreadable.
    """
    with raising_damaged_file(name_of(file)), zipfile.ZipFile(file) as archive:
        headers = {}
        for member in archive.infolist():
            shape, dtype, _ = _read_header(archive, member)
            headers[member.filename.removesuffix(".npy")] = shape, dtype
        return headers


def name_of(file: Source) -> str:
    """Return the name of a file for messages: its path, or the name of an open file."""
    if isinstance(file, str | os.PathLike):
        return str(file)
    return str(getattr(file, "name", "the file"))


def _read_header(
    archive: zipfile.ZipFile, member: zipfile.ZipInfo
) -> tuple[tuple[int, ...], np.dtype[Any], int]:
    """Return shape and dtype of an array, and the offset of the array's data in the archive member."""
    with archive.open(member) as content:
        version = np.lib.format.read_magic(content)
        length = content.read(_HEADER_READERS[version][0])
        header = length + content.read(int.from_bytes(length, "little"))
        return *_parse_header(version, header), content.tell()


@lru_cache  # many small files share a few headers; parsing each again would take most of the time
def _parse_header(version: tuple[int, int], header: bytes) -> tuple[tuple[int, ...], np.dtype[Any]]:
    shape, _, dtype = _HEADER_READERS[version][1](io.BytesIO(header))
    return shape, dtype


def _require_size(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> None:
    """Raise if the size of a member differs from the size that its header implies."""
    shape, dtype, offset = _read_header(archive, member)
    size = member.file_size - offset
    if dtype.hasobject:
        raise ValueError(
            f"`{member.filename}` must hold numbers, got Python objects, e.g. lists of different lengths"
        )
    if size != math.prod(shape) * dtype.itemsize:
        raise ValueError(
            f"`{member.filename}` has {size} bytes, which does not match {dtype} of shape {shape}"
        )
