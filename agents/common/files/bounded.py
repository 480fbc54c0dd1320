"""Read archives, arrays and texts as data: nothing is unpickled, and what is damaged comes out as `DamagedFile`."""

from __future__ import annotations

import contextlib
import errno
import os
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import IO, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from agents.common.files import DamagedFile, TooLarge, open_file
from agents.common.files.memory import available_memory

ZipSource: TypeAlias = str | os.PathLike[str] | IO[bytes]
Header: TypeAlias = tuple[tuple[int, ...], np.dtype[Any]]

_NEVER_TOO_LARGE = 1 << 20
_END_BYTES, _COUNT_IS_ELSEWHERE = 22, 0xFFFF  # of the record at the end of a zip file; in a larger record (zip64)
_HEADER_READERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}

FAULTS = (
    zipfile.BadZipFile, zlib.error, EOFError, struct.error, NotImplementedError, LookupError, ValueError, TypeError,
    SyntaxError, tokenize.TokenError, RecursionError, OverflowError, RuntimeError,
)  # fmt: skip
"""What `zipfile`, `zlib` and NumPy raise for damaged files."""


@contextlib.contextmanager
def open_zip(file: ZipSource) -> Iterator[zipfile.ZipFile]:
    """Open a zip file.

    :param file: its path, or an open binary file, which stays open.
    :yields: the archive; read its members with :func:`read_member`.
    :raises DamagedFile: if it is not a zip file.
    :raises OSError: if there is no such file, or it may not be read.
    """
    with contextlib.ExitStack() as stack:
        raw = stack.enter_context(open_file(Path(file))) if isinstance(file, str | os.PathLike) else file
        with _faults_named(_name_of(file)):
            archive = stack.enter_context(zipfile.ZipFile(raw))
            _require_all_entries(archive, raw)
        yield archive


def read_member(archive: zipfile.ZipFile, member: str) -> bytes:
    """Return the content of a member of an archive, compared with its checksum.

    :param archive: an archive of :func:`open_zip`.
    :param member: its name.
    :return: all of its bytes.
    :raises DamagedFile: if there is no such member, or it is damaged.
    """
    with _faults_named(archive.filename or "the file", member):
        return archive.read(member)


def read_npz(
    file: ZipSource, names: Collection[str] | None = None, most_bytes: int | None = None
) -> dict[str, NDArray[Any]]:
    """Return arrays of an ``.npz`` file, each compared with its checksum.

    :param file: its path, or an open binary file.
    :param names: the arrays to read, of which some may be missing; None for all.
    :param most_bytes: the most that all of them may take in memory, where that is known; None for what this process
        can take.
    :return: writable arrays by name.
    :raises DamagedFile: if it is damaged, holds Python objects, or claims more than this process can take.
    :raises OSError: if there is no such file, or it may not be read.
    """
    with open_zip(file) as archive:
        members = {member.removesuffix(".npy"): member for member in archive.namelist()}
        wanted = {name: member for name, member in members.items() if names is None or name in names}
        claimed = sum(archive.getinfo(member).file_size for member in wanted.values())
        if most_bytes is not None and claimed > most_bytes:
            problem = f"its arrays take {size_text(claimed)}, expected at most {size_text(most_bytes)}"
            raise DamagedFile(_name_of(file), problem)
        require_memory(_name_of(file), claimed)
        return {name: _read_array(archive, member) for name, member in wanted.items()}


def read_npz_headers(file: ZipSource) -> dict[str, Header]:
    """Return shape and dtype of every array of an ``.npz`` file without reading the arrays.

    :param file: its path, or an open binary file.
    :return: shape and dtype by name.
    :raises DamagedFile: if the file or a header is damaged.
    :raises OSError: if there is no such file, or it may not be read.
    """
    headers = {}
    with open_zip(file) as archive:
        for member in archive.namelist():
            with _faults_named(archive.filename or "the file", member), archive.open(member) as content:
                shape, _, dtype = _HEADER_READERS[np.lib.format.read_magic(content)](content)
            headers[member.removesuffix(".npy")] = shape, dtype
    return headers


def read_text(path: Path, most_bytes: int) -> str:
    """Return the text of a file that is known to be small.

    :param path: of the file.
    :param most_bytes: the most that it may have.
    :return: its text, which is UTF-8.
    :raises DamagedFile: if it is larger, is not text, or is a folder, pipe or device.
    :raises OSError: if there is no such file, or it may not be read.
    """
    with open_file(path) as file:
        content = file.read(most_bytes + 1)
        if len(content) > most_bytes:
            size = size_text(os.fstat(file.fileno()).st_size)
            raise DamagedFile(str(path), f"it has {size}, expected at most {size_text(most_bytes)}")
    with _faults_named(str(path)):
        return content.decode()


def require_memory(name: str, needed: int) -> None:
    """Refuse to read what this process has no memory for.

    :param name: of the file, for the message.
    :param needed: bytes.
    :raises TooLarge: if it needs more than this process can take.
    """
    available = available_memory() if needed > _NEVER_TOO_LARGE else needed
    if needed > available:
        raise TooLarge(
            name,
            f"it claims {size_text(needed)} of content, expected at most the {size_text(available)} of memory that "
            "this process can take",
            "use a machine with more memory, or another file if it should be smaller",
        )


def size_text(count: int) -> str:
    """Return a number of bytes in words.

    :param count: bytes.
    :return: e.g. ``"1.5 GB"``.
    """
    size, units = float(count), ["bytes", "kB", "MB", "GB", "TB"]
    while size >= 1000 and len(units) > 1:
        size, units = size / 1000, units[1:]
    return f"{count} bytes" if count < 1000 else f"{size:,.1f} {units[0]}"


def _name_of(file: ZipSource) -> str:
    """Return what to call a file in a message."""
    return os.fspath(file) if isinstance(file, str | os.PathLike) else str(getattr(file, "name", "the file"))


def _require_all_entries(archive: zipfile.ZipFile, raw: IO[bytes]) -> None:
    """Refuse a directory with another number of entries than its end says, which `zipfile` does not compare."""
    raw.seek(-_END_BYTES - len(archive.comment), os.SEEK_END)
    (count,) = struct.unpack_from("<H", raw.read(_END_BYTES), 10)
    found = len(archive.infolist())
    if count != _COUNT_IS_ELSEWHERE and count != found:
        raise zipfile.BadZipFile(f"its directory has {found} members, expected {count}")


@contextlib.contextmanager
def _faults_named(name: str, member: str = "") -> Iterator[None]:
    """Turn whatever a damaged file raises into `DamagedFile`."""
    try:
        yield
    except DamagedFile:
        raise
    except (*FAULTS, OSError) as error:
        if isinstance(error, OSError) and error.errno != errno.EINVAL:  # which is a position before the beginning
            raise
        text = " ".join(str(error).split()) or type(error).__name__
        raise DamagedFile(name, f"`{member}` is damaged ({text})" if member else text) from error


def _read_array(archive: zipfile.ZipFile, member: str) -> NDArray[Any]:
    """Return an array whose bytes are all read, and so compared with their checksum."""
    with _faults_named(archive.filename or "the file", member), archive.open(member) as file:
        array: NDArray[Any] = np.lib.format.read_array(file, allow_pickle=False)
        if file.read(1):  # this reads the end, where the checksum is compared
            raise ValueError("it has more bytes than its header says")
        return array
