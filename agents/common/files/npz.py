"""Arrays of ``.npz`` files, read as data: nothing is unpickled, and each array is compared with its checksum."""

from __future__ import annotations

import io
import math
import os
import struct
import zipfile
from collections.abc import Callable, Collection
from functools import lru_cache
from typing import IO, Any, Literal, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from agents.common.files import raising_damaged_file

Source: TypeAlias = str | os.PathLike[str] | IO[bytes]
T = TypeVar("T")

# NumPy writes version 3.0 for names of fields alone, and reads no header of it by itself
_HEADER_READERS = {
    (1, 0): ("<H", np.lib.format.read_array_header_1_0),
    (2, 0): ("<I", np.lib.format.read_array_header_2_0),
}
_PIECE = 1 << 18  # bytes: a dataset must not be in memory twice


def read_npz(file: Source, names: Collection[str] | None = None) -> dict[str, NDArray[Any]]:
    """Return arrays of an ``.npz`` file.

    :param file: its path, or an open binary file, which stays open.
    :param names: the arrays to read, of which some may be missing; None for all.
    :return: writable arrays by name.
    :raises DamagedFileError: if it is damaged or holds Python objects.
    :raises OSError: if there is no such file, or it may not be read.
    """
    return _read_members(file, names, _read_array)


def read_npz_headers(file: Source) -> dict[str, tuple[tuple[int, ...], np.dtype[Any]]]:
    """Return shape and dtype of every array of an ``.npz`` file without reading the arrays.

    :param file: its path, or an open binary file, which stays open.
    :return: shape and dtype by name.
    :raises DamagedFileError: if the file or a header is damaged.
    :raises OSError: if there is no such file, or it may not be read.
    """
    return _read_members(file, None, lambda content, size: _read_header(content)[::2])


def _read_array(content: IO[bytes], size: int) -> NDArray[Any]:
    """Return the array in a member of so many bytes."""
    shape, is_fortran, dtype = _read_header(content)
    if dtype.hasobject:
        raise ValueError("Object arrays cannot be loaded, since they may run code")
    size -= content.tell()
    if size != math.prod(shape) * dtype.itemsize:  # before memory is taken for it
        raise ValueError(
            f"`{content.name}` has {size} bytes, and its header says {dtype} of shape {shape}"
        )
    memory = np.empty(size, np.uint8)
    position = 0
    # to the end of the member, where `zipfile` compares the checksum
    while piece := content.read(_PIECE):
        memory[position : position + len(piece)] = np.frombuffer(piece, np.uint8)
        position += len(piece)
    order: Literal["C", "F"] = "F" if is_fortran else "C"
    return np.ndarray(shape, dtype, memory, order=order)


def _read_header(content: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Return shape, whether the order is Fortran's, and dtype."""
    version = np.lib.format.read_magic(content)
    length_format, _ = _HEADER_READERS[version]
    length = content.read(struct.calcsize(length_format))
    return _parse_header(version, length + content.read(*struct.unpack(length_format, length)))


@lru_cache  # thousands of small files have the same few headers, whose parsing takes most of the time
def _parse_header(
    version: tuple[int, int], header: bytes
) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    _, read = _HEADER_READERS[version]
    return read(io.BytesIO(header))


def _read_members(
    file: Source, names: Collection[str] | None, read: Callable[[IO[bytes], int], T]
) -> dict[str, T]:
    """Return what a function reads of the members of an archive.

    :param file: the archive.
    :param names: of the arrays; None: all.
    :param read: gets a member, opened, and its size in bytes.
    :return: name of the array -> what was read.
    """
    is_path = isinstance(file, str | os.PathLike)
    results = {}
    with (
        raising_damaged_file(str(file if is_path else getattr(file, "name", "the file"))),
        zipfile.ZipFile(file) as archive,
    ):
        for member in archive.infolist():
            name = member.filename.removesuffix(".npy")
            if names is None or name in names:
                with archive.open(member) as content:
                    results[name] = read(content, member.file_size)
    return results
