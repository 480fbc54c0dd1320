"""Files that appear whole or not at all, checksums, and errors that name a damaged file."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_OF_PATHS = (errno.ENOENT, errno.ENOTDIR)


class DamagedFileError(ValueError):
    """A file is damaged, or is not what its place asks for.

    :param file: its path, or what else names it.
    :param problem: what is wrong with it, and what was expected.
    :param remedy: what to do.
    """

    def __init__(self, file: str, problem: str, remedy: str = "get or make the file again") -> None:
        super().__init__(file, problem, remedy)
        self.file = file
        self.problem = problem
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.file} cannot be read: {self.problem}; {self.remedy}"


@contextlib.contextmanager
def raising_damaged_file(name: str) -> Iterator[None]:
    """Turn whatever a library raises over a damaged file into `DamagedFileError`.

    :param name: of the file.
    :yields: nothing.
    :raises DamagedFileError: if the content is at fault.
    :raises OSError: if storage is.
    :raises MemoryError: if there is too little memory to read it.
    """
    try:
        yield
    except DamagedFileError:
        raise
    except Exception as error:
        if isinstance(error, OSError) and (is_transient(error) or error.errno in _OF_PATHS):
            raise
        if is_transient(error):
            raise MemoryError(
                f"{name} could not be read, memory ran out: {error}; free some and try again"
            ) from error
        problem = " ".join(str(error).split())
        raise DamagedFileError(name, problem or type(error).__name__) from error


def is_transient(error: BaseException) -> bool:
    """Return whether storage or memory stopped the reading of a file, which says nothing against the file."""
    # damage can send a reader to a position before the beginning: EINVAL
    of_damage = (None, errno.EINVAL, errno.EISDIR, *_OF_PATHS)
    cause: BaseException | None = error
    while cause is not None:
        # PyTorch has RuntimeErrors for memory
        if isinstance(cause, MemoryError) or "allocate" in str(cause):
            return True
        if isinstance(cause, OSError) and cause.errno not in of_damage:
            return True
        cause = cause.__cause__
    return False


def read_text(path: Path) -> str:
    """Return the text of a file.

    :param path: of the file.
    :return: its text, which is UTF-8.
    :raises DamagedFileError: if it is not text, or is a folder.
    :raises OSError: if there is no such file, or it may not be read.
    """
    with raising_damaged_file(str(path)):
        return path.read_text(encoding="utf-8")


class WriteError(OSError):
    """A file could not be written; the message says which, why, and how to go on."""


@contextlib.contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path, with the ending of ``path``, that becomes ``path`` or, on failure, is removed.

    :param path: of the file; a symbolic link stays, and what it leads to is replaced.
    :yields: where to write it.
    """
    target = Path(os.path.realpath(path))
    temporary = _temporary_path(target)
    try:
        with explaining_write_errors(path):
            yield temporary
            sync(temporary)  # before the name, which must not appear without the content
            os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file, whole or not at all.

    :param path: of the file.
    :param text: what it is to hold.
    """
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


@contextlib.contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield a new folder that becomes ``path`` or, on failure, is removed.

    What is put into it must be written without making missing folders above. A folder that is not empty keeps its
    name: two processes can ask for one name, and only one gets it.

    :param path: of the folder.
    :yields: where to fill it.
    :raises FileExistsError: if ``path`` is a folder that holds something, or a file.
    """
    temporary = _temporary_path(path)
    try:
        with explaining_write_errors(path):
            temporary.mkdir()
            yield temporary
            for file in temporary.iterdir():
                sync(file)
            sync(temporary)
            try:
                os.rename(temporary, path)
            except OSError as error:
                if error.errno in (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR):
                    raise FileExistsError(error.errno, error.strerror, str(path)) from error
                raise
            sync(path.parent)  # else a power cut may take the new name away
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def remove_folder(folder: Path) -> None:
    """Remove a folder and what is in it, so that it disappears at once.

    :param folder: the folder.
    """
    temporary = _temporary_path(folder)
    os.rename(folder, temporary)  # one that is half removed would pass for a whole one
    shutil.rmtree(temporary)


def sync(path: Path) -> None:
    """Wait until a file or folder is on disk; some storage cannot do that for folders.

    :param path: of the file or folder.
    :raises OSError: if a file cannot be synced; it names the file.
    """
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if not path.is_dir():
            raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        os.close(handle)


def _temporary_path(path: Path) -> Path:
    """Return a hidden path, used by nobody else, from which a rename to ``path`` is possible."""
    # in the same folder: a rename does not cross file systems
    return path.parent / f".{path.stem}.{uuid.uuid4().hex}{path.suffix}"


@contextlib.contextmanager
def explaining_write_errors(path: Path) -> Iterator[None]:
    """Name the file that a full disk or a lost folder keeps from being written, and say what to do.

    :param path: of the file or folder that is to appear.
    :yields: nothing.
    :raises WriteError: if there is no room for the file, or its folder is gone.
    """
    try:
        yield
    except Exception as error:
        cause: BaseException | None = error
        while cause is not None:  # libraries raise errors of their own from that of the system
            if isinstance(cause, OSError) and cause.errno in _NO_ROOM:
                raise WriteError(
                    f"{path} could not be written: {cause.strerror}; free space or raise the limit, then try again; a "
                    "run continues with --resume"
                ) from error
            cause = cause.__cause__ or cause.__context__
        if isinstance(error, FileNotFoundError) and not path.parent.is_dir():
            raise WriteError(
                f"{path.name} could not be written: its folder {path.parent} is gone; it was deleted or moved while it "
                "was in use, and what is not saved elsewhere is lost"
            ) from error
        raise


MANIFEST = "manifest.json"


def digest_of(path: Path) -> str:
    """Return the SHA-256 of a file.

    :param path: the file.
    :return: 64 hexadecimal digits.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_manifest(folder: Path, **values: Any) -> None:
    """Write the checksum of every file of a folder.

    :param folder: with files only, which do not change any more.
    :param values: plain values to keep beside the checksums.
    """
    files = {path.name: digest_of(path) for path in sorted(folder.iterdir())}
    text = json.dumps({**values, "files": files}, indent=1)
    (folder / MANIFEST).write_text(text + "\n", encoding="utf-8")


def read_manifest(folder: Path) -> dict[str, Any]:
    """Compare the files of a folder with their checksums, and return what :func:`write_manifest` kept beside them.

    :param folder: the folder.
    :return: the values, with ``files``.
    :raises DamagedFileError: if there is no manifest, or if a file is missing or differs; the message names it.
    """
    path = folder / MANIFEST
    with raising_damaged_file(str(path)):
        if not path.exists():
            raise DamagedFileError(str(path), "it is missing")
        manifest = dict(json.loads(read_text(path)))
        files = dict(manifest["files"])
    for name, digest in files.items():
        path = folder / name
        if not path.is_file():
            raise DamagedFileError(str(path), "it is missing")
        if digest_of(path) != digest:
            raise DamagedFileError(str(path), "its SHA-256 is not that of what was written")
    return manifest
