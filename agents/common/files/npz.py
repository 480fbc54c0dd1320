"""Arrays of ``.npz`` files, read as data: nothing is unpickled, and each array is compared with its checksum."""

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

# the size of the length's field by format; NumPy writes version 3.0 for names of fields alone
_HEADER_READERS = {
    (1, 0): (2, np.lib.format.read_array_header_1_0),
    (2, 0): (4, np.lib.format.read_array_header_2_0),
}


def read_npz(file: Source, names: Collection[str] | None = None) -> dict[str, NDArray[Any]]:
    """Return arrays of an ``.npz`` file.

    :param file: its path, or an open binary file, which stays open.
    :param names: the arrays to read, of which some may be missing; None for all.
    :return: writable arrays by name.
    :raises DamagedFileError: if it is damaged or holds Python objects.
    :raises OSError: if there is no such file, or it may not be read.
    """
    with raising_damaged_file(_name_of(file)), np.load(file, allow_pickle=False) as arrays:
        selected = [name for name in arrays if names is None or name in names]
        for member in arrays.zip.infolist():
            if member.filename.removesuffix(".npy") in selected:
                _require_size(arrays.zip, member)  # before NumPy takes memory for the array
        return {name: arrays[name] for name in selected}


def read_npz_headers(file: Source) -> dict[str, tuple[tuple[int, ...], np.dtype[Any]]]:
    """Return shape and dtype of every array of an ``.npz`` file without reading the arrays.

    :param file: its path, or an open binary file, which stays open.
    :return: shape and dtype by name.
    :raises DamagedFileError: if the file or a header is damaged.
    :raises OSError: if there is no such file, or it may not be read.
    """
    with raising_damaged_file(_name_of(file)), zipfile.ZipFile(file) as archive:
        headers = {}
        for member in archive.infolist():
            shape, dtype, _ = _read_header(archive, member)
            headers[member.filename.removesuffix(".npy")] = shape, dtype
        return headers


def _name_of(file: Source) -> str:
    if isinstance(file, str | os.PathLike):
        return str(file)
    return str(getattr(file, "name", "the file"))


def _read_header(
    archive: zipfile.ZipFile, member: zipfile.ZipInfo
) -> tuple[tuple[int, ...], np.dtype[Any], int]:
    """Return shape and dtype of an array, and where its data begin in its member."""
    with archive.open(member) as content:
        version = np.lib.format.read_magic(content)
        length = content.read(_HEADER_READERS[version][0])
        header = length + content.read(int.from_bytes(length, "little"))
        return *_parse_header(version, header), content.tell()


@lru_cache  # thousands of small files have the same few headers, whose parsing takes most of the time
def _parse_header(version: tuple[int, int], header: bytes) -> tuple[tuple[int, ...], np.dtype[Any]]:
    shape, _, dtype = _HEADER_READERS[version][1](io.BytesIO(header))
    return shape, dtype


def _require_size(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> None:
    """Refuse a member that has another size than its header says."""
    shape, dtype, begin = _read_header(archive, member)
    size = member.file_size - begin
    # NumPy refuses Python objects by itself
    if size != math.prod(shape) * dtype.itemsize and not dtype.hasobject:
        raise ValueError(
            f"`{member.filename}` has {size} bytes, and its header says {dtype} of shape {shape}"
        )
