"""Arrays of ``.npz`` files, read as data: nothing is unpickled, and each array is compared with its checksum."""

from __future__ import annotations

import contextlib
import math
import os
import zipfile
from collections.abc import Collection, Iterator
from typing import IO, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from agents.common.files import raising_damaged_file

Source: TypeAlias = str | os.PathLike[str] | IO[bytes]
Header: TypeAlias = tuple[tuple[int, ...], np.dtype[Any]]

# NumPy writes version 3.0 for names of fields alone, and reads no header of it by itself
_HEADER_READERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


def read_npz(file: Source, names: Collection[str] | None = None) -> dict[str, NDArray[Any]]:
    """Return arrays of an ``.npz`` file.

    :param file: its path, or an open binary file, which stays open.
    :param names: the arrays to read, of which some may be missing; None for all.
    :return: writable arrays by name.
    :raises DamagedFileError: if it is damaged or holds Python objects.
    :raises OSError: if there is no such file, or it may not be read.
    """
    arrays = {}
    with _members(file) as (archive, members):
        for name, member in members.items():
            if names is not None and name not in names:
                continue
            with archive.open(member) as content:
                shape, dtype = _read_header(content)
                size = archive.getinfo(member).file_size - content.tell()
                # before memory is taken for it; objects are refused by `read_array`
                if not dtype.hasobject and size != math.prod(shape) * dtype.itemsize:
                    raise ValueError(
                        f"`{member}` has {size} bytes, and its header says {dtype} of shape {shape}"
                    )
                content.seek(0)
                arrays[name] = np.lib.format.read_array(content, allow_pickle=False)
                content.read(1)  # `zipfile` compares the checksum at the end
    return arrays


def read_npz_headers(file: Source) -> dict[str, Header]:
    """Return shape and dtype of every array of an ``.npz`` file without reading the arrays.

    :param file: its path, or an open binary file, which stays open.
    :return: shape and dtype by name.
    :raises DamagedFileError: if the file or a header is damaged.
    :raises OSError: if there is no such file, or it may not be read.
    """
    headers = {}
    with _members(file) as (archive, members):
        for name, member in members.items():
            with archive.open(member) as content:
                headers[name] = _read_header(content)
    return headers


def _read_header(content: IO[bytes]) -> Header:
    shape, _, dtype = _HEADER_READERS[np.lib.format.read_magic(content)](content)
    return shape, dtype


@contextlib.contextmanager
def _members(file: Source) -> Iterator[tuple[zipfile.ZipFile, dict[str, str]]]:
    """Open an archive and yield it with its members by the names of their arrays."""
    is_path = isinstance(file, str | os.PathLike)
    name = str(file if is_path else getattr(file, "name", "the file"))
    with raising_damaged_file(name), zipfile.ZipFile(file) as archive:
        yield archive, {member.removesuffix(".npy"): member for member in archive.namelist()}
