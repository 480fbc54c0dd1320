"""Read zip and npz files of unknown origin without trusting what they say about themselves.

What a file claims is compared with what its bytes can hold and with the memory of this machine before anything is
unpacked. Every member is read as a whole, so that its checksum is compared, and nothing is ever unpickled. Whatever is
wrong with a file comes out as `DamagedFile`.

`zipfile.ZipFile.read` and ``open(...).read()`` without a size unpack up to 2 GB whatever a member claims: use
`read_member`.
"""

from __future__ import annotations

import contextlib
import errno
import io
import math
import os
import re
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

_MOST_FROM_A_BYTE = {zipfile.ZIP_STORED: 1, zipfile.ZIP_DEFLATED: 1032}  # deflate: 258 bytes from each 2 bits
_ENCRYPTED = 0x1
_END_BYTES, _COUNT_IS_ELSEWHERE = 22, 0xFFFF  # of the record at the end of a zip file; in a larger record (zip64)
_DRIVE = re.compile("[A-Za-z]:")
_CHUNK_BYTES = 1 << 20
_LONGEST_HEADER = 12 + 10_000  # NumPy parses no longer one, but would read up to 4 GB before it says so
_HEADER_READERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}

FAULTS = (
    zipfile.BadZipFile, zlib.error, EOFError, struct.error, NotImplementedError, LookupError, ValueError, TypeError,
    SyntaxError, tokenize.TokenError, RecursionError, OverflowError, MemoryError, RuntimeError,
)  # fmt: skip
"""What `zipfile`, `zlib` and NumPy raise for damaged files."""


@contextlib.contextmanager
def open_zip(file: ZipSource, members: Collection[str] | None = None) -> Iterator[zipfile.ZipFile]:
    """Open a zip file after checking its directory: what each member claims, and how it is called.

    :param file: its path, or an open binary file, which stays open.
    :param members: names of those that will be in memory at the same time; None for all.
    :yields: the archive; read its members with :func:`read_member`.
    :raises DamagedFile: if it is not a zip file, or claims more than it can hold or this process can take.
    :raises OSError: if there is no such file, or it may not be read.
    """
    name = _name_of(file)
    with contextlib.ExitStack() as stack:
        raw = stack.enter_context(open_file(Path(file))) if isinstance(file, str | os.PathLike) else file
        with _faults_named(name):
            archive = stack.enter_context(zipfile.ZipFile(raw))
            _require_all_entries(archive, raw)
        _check_directory(archive, raw.seek(0, os.SEEK_END), name)
        infos = archive.infolist()
        require_memory(name, sum(info.file_size for info in infos if members is None or info.filename in members))
        yield archive


def read_member(archive: zipfile.ZipFile, member: str) -> bytes:
    """Return the content of a member of an archive of :func:`open_zip`, compared with its checksum.

    :param archive: an archive of :func:`open_zip`.
    :param member: its name.
    :return: all of its bytes.
    :raises DamagedFile: if there is no such member, or it is damaged.
    """
    with _open_member(archive, member) as (file, size):
        content = file.read(size)
        _require_end(file, size - len(content))
        return content


def read_npz(
    file: ZipSource, names: Collection[str] | None = None, most_bytes: int | None = None
) -> dict[str, NDArray[Any]]:
    """Return arrays of an ``.npz`` file; memory stays that of the arrays.

    :param file: its path, or an open binary file.
    :param names: the arrays to read, of which some may be missing; None for all.
    :param most_bytes: the most that all of them may take in memory, where that is known; None for what this process
        can take.
    :return: writable arrays by name.
    :raises DamagedFile: if it is damaged, or claims more than it can hold or this process can take.
    :raises OSError: if there is no such file, or it may not be read.
    """
    with open_zip(file, members=()) as archive:
        members = _members(archive)
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
    :return: shape and dtype by name; arrays of numbers have exactly the bytes that they need.
    :raises DamagedFile: if the file or a header is damaged.
    :raises OSError: if there is no such file, or it may not be read.
    """
    headers = {}
    with open_zip(file, members=()) as archive:
        for name, member in _members(archive).items():
            with _open_member(archive, member) as (content, size):
                headers[name] = _read_header(content, size)
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
    available = available_memory() if needed > _CHUNK_BYTES else needed
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


# -- zip --------------------------------------------------------------------------------------------------------------


def _name_of(file: ZipSource) -> str:
    """Return what to call a file in a message."""
    return os.fspath(file) if isinstance(file, str | os.PathLike) else str(getattr(file, "name", "the file"))


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


def _require_all_entries(archive: zipfile.ZipFile, raw: IO[bytes]) -> None:
    """Refuse a directory with another number of entries than its end says, which `zipfile` does not compare."""
    raw.seek(-_END_BYTES - len(archive.comment), os.SEEK_END)
    (count,) = struct.unpack_from("<H", raw.read(_END_BYTES), 10)
    found = len(archive.infolist())
    if count != _COUNT_IS_ELSEWHERE and count != found:
        raise zipfile.BadZipFile(f"its directory has {found} members, expected {count}")


def _check_directory(archive: zipfile.ZipFile, size: int, name: str) -> None:
    """Refuse a directory that claims what the file cannot hold, or names that are not plain and unique."""
    infos = archive.infolist()
    for info in infos:
        if problem := _find_false_claim(info, size):
            raise DamagedFile(name, f"its member {info.filename!r} {problem}")
    if len({info.filename for info in infos}) < len(infos):
        raise DamagedFile(name, "two of its members have the same name")
    packed = sum(info.compress_size for info in infos)
    if packed > size:
        raise DamagedFile(name, f"its members claim {size_text(packed)} of a file of {size_text(size)}")


def _find_false_claim(info: zipfile.ZipInfo, size: int) -> str | None:
    """Return what a member's entry in the directory says that cannot be so or is not accepted."""
    parts = info.filename.replace("\\", "/").split("/")
    is_absolute = parts[0] == "" or _DRIVE.match(parts[0])
    if is_absolute or ".." in parts or not info.filename.isprintable():
        return "is not a plain relative name"
    if info.compress_type not in _MOST_FROM_A_BYTE or info.flag_bits & _ENCRYPTED:
        kind = "encrypted" if info.flag_bits & _ENCRYPTED else f"packed by method {info.compress_type}"
        return f"is {kind}, expected stored or deflated content"
    if not 0 <= info.header_offset <= size - info.compress_size:
        return f"claims {info.compress_size:,} bytes from byte {info.header_offset:,} of a file of {size:,}"
    most = info.compress_size * _MOST_FROM_A_BYTE[info.compress_type]
    if info.file_size > most or (info.compress_type == zipfile.ZIP_STORED and info.file_size != most):
        packed = size_text(info.compress_size)
        return f"claims {size_text(info.file_size)}, but its {packed} in the file can hold {size_text(most)}"
    return None


@contextlib.contextmanager
def _open_member(archive: zipfile.ZipFile, member: str) -> Iterator[tuple[IO[bytes], int]]:
    """Yield a member and its size; whatever is wrong with it names both file and member."""
    with _faults_named(archive.filename or "the file", member), archive.open(member) as file:
        yield file, archive.getinfo(member).file_size


def _require_end(file: IO[bytes], missing: int) -> None:
    """Refuse a member that ends early; one that was read to its end has been compared with its checksum."""
    if missing or file.read(1):  # this reads the end where there was nothing before it
        raise EOFError(f"it ends {missing:,} bytes early")


# -- npy --------------------------------------------------------------------------------------------------------------


def _members(archive: zipfile.ZipFile) -> dict[str, str]:
    """Return the file of every array by its name."""
    members = {member.removesuffix(".npy"): member for member in archive.namelist()}
    if len(members) < len(archive.namelist()):
        raise DamagedFile(archive.filename or "the file", "two of its arrays have the same name")
    return members


def _read_header(file: IO[bytes], size: int) -> Header:
    """Return shape and dtype of an array, whose header must describe exactly the bytes that follow it."""
    front = io.BytesIO(file.read(min(size, _LONGEST_HEADER)))
    version = np.lib.format.read_magic(front)
    if version not in _HEADER_READERS:
        raise ValueError(f"npy version {version} is not supported")
    shape, _, dtype = _HEADER_READERS[version](front)
    if not all(type(length) is int and length >= 0 for length in shape):
        raise ValueError(f"its shape must be numbers >= 0, got {shape}")
    if dtype.hasobject:
        return shape, dtype  # it is refused if it is wanted
    if dtype.itemsize == 0 or dtype.names is not None or dtype.subdtype is not None:
        raise ValueError(f"its entries must be plain numbers or texts, got dtype {dtype}")
    claimed, following = math.prod(shape) * dtype.itemsize, size - front.tell()
    if claimed != following:
        raise ValueError(f"it claims {claimed:,} bytes, shape {shape} of {dtype}, but has {following:,}")
    return shape, dtype


def _read_array(archive: zipfile.ZipFile, member: str) -> NDArray[Any]:
    """Return an array whose header describes its bytes, which are all read and so compared with their checksum."""
    with _open_member(archive, member) as (file, size):
        _, dtype = _read_header(file, size)
        if dtype.hasobject:
            problem = f"`{member.removesuffix('.npy')}` holds Python objects, expected plain numbers or texts"
            raise DamagedFile(archive.filename or "the file", f"{problem}; nothing is unpickled")
        file.seek(0)
        array: NDArray[Any] = np.lib.format.read_array(file, allow_pickle=False)
        _require_end(file, 0)
        return array
