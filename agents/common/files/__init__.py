"""Atomic file writes, checksums, and errors that name a damaged file."""

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

_DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class DamagedFileError(ValueError):
    """A file is damaged or has an unexpected format.

    :param file: its path or name.
    :param problem: the problem, as text that follows a colon.
    :param remedy: advice to the user.
    """

    def __init__(
        self, file: str, problem: str, remedy: str = "download or create it again"
    ) -> None:
        super().__init__(file, problem, remedy)
        self.file = file
        self.problem = problem
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.file} cannot be read: {self.problem}; {self.remedy}"


@contextlib.contextmanager
def raising_damaged_file(name: str) -> Iterator[None]:
    """Convert errors caused by a damaged file to `DamagedFileError`.

    :param name: name of the file.
    :yields: nothing.
    :raises DamagedFileError: if the content is invalid.
    :raises OSError: if storage failed, or the file is missing.
    :raises MemoryError: if there is too little memory to read the file.
    """
    try:
        yield
    except DamagedFileError:
        raise
    except Exception as error:
        # safetensors raises FileNotFoundError without `errno`
        is_missing = isinstance(error, FileNotFoundError | NotADirectoryError)
        if is_missing or (isinstance(error, OSError) and is_transient(error)):
            raise
        if is_transient(error):
            raise MemoryError(
                f"not enough memory to read {name}: {error}; free some and try again"
            ) from error
        problem = " ".join(str(error).split())
        raise DamagedFileError(name, problem or type(error).__name__) from error


def is_transient(error: BaseException) -> bool:
    """Return whether reading failed for a transient reason (I/O, memory) and not because the file is damaged."""
    # a damaged file can make a reader seek to a negative offset, which raises EINVAL
    damage_codes = (None, errno.EINVAL, errno.EISDIR, errno.ENOENT, errno.ENOTDIR)
    cause: BaseException | None = error
    while cause is not None:
        # PyTorch raises RuntimeError if memory is exhausted
        if isinstance(cause, MemoryError) or "allocate" in str(cause):
            return True
        if isinstance(cause, OSError) and cause.errno not in damage_codes:
            return True
        cause = cause.__cause__
    return False


def read_text(path: Path) -> str:
    """Return the text of a file.

    :param path: path of a UTF-8 file.
    :return: its text.
    :raises DamagedFileError: if the file is not text, or the path is a folder.
    :raises OSError: if the file is missing or unreadable.
    """
    with raising_damaged_file(str(path)):
        return path.read_text(encoding="utf-8")


class WriteError(OSError):
    """A file could not be written; the message contains path, reason and remedy."""


@contextlib.contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path with the suffix of ``path``, renamed to ``path`` on success and removed on failure.

    :param path: path of the file; for a symbolic link, its target is replaced.
    :yields: path to write to.
    """
    target = Path(os.path.realpath(path))
    temporary = _temporary_path(target)
    try:
        with explaining_write_errors(path):
            yield temporary
            sync(temporary)  # before the rename, so that the file never appears without its content
            os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically.

    :param path: path of the file.
    :param text: its content.
    """
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


@contextlib.contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield a new folder, renamed to ``path`` on success and removed on failure.

    Writers must not create parent folders, so that they fail if the new folder has been removed. An existing non-empty
    folder is never replaced, so if two processes write to the same path, only one succeeds.

    :param path: path of the folder.
    :yields: folder to fill.
    :raises FileExistsError: if ``path`` is a file or a non-empty folder.
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
            sync(path.parent)  # a power failure could otherwise undo the rename
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def remove_folder(folder: Path) -> None:
    """Remove a folder atomically.

    :param folder: path of the folder.
    """
    temporary = _temporary_path(folder)
    os.rename(folder, temporary)  # a partly removed folder could be mistaken for a complete one
    shutil.rmtree(temporary)


def sync(path: Path) -> None:
    """Flush a file or folder to disk; on file systems that cannot flush folders, skip folders.

    :param path: path of the file or folder.
    :raises OSError: if a file cannot be flushed; the error names the file.
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
    """Return a unique hidden path that can be renamed to ``path``."""
    # in the same folder, because a rename cannot cross file systems
    return path.parent / f".{path.stem}.{uuid.uuid4().hex}{path.suffix}"


@contextlib.contextmanager
def explaining_write_errors(path: Path) -> Iterator[None]:
    """Convert errors of a full disk or a deleted folder to `WriteError`, with the path and advice.

    :param path: path of the file or folder to write.
    :yields: nothing.
    :raises WriteError: if the disk is full, or the parent folder is missing.
    """
    try:
        yield
    except Exception as error:
        cause: BaseException | None = error
        while cause is not None:  # libraries wrap the system's error
            if isinstance(cause, OSError) and cause.errno in _DISK_FULL:
                raise WriteError(
                    f"{path} could not be written: {cause.strerror}; free space or raise the limit, then try again "
                    "(resume a run with --resume)"
                ) from error
            cause = cause.__cause__ or cause.__context__
        if isinstance(error, FileNotFoundError) and not path.parent.is_dir():
            raise WriteError(
                f"{path.name} could not be written: its folder {path.parent} is missing; create it. If it was "
                "deleted or moved while in use, unsaved data are lost"
            ) from error
        raise


MANIFEST = "manifest.json"


def digest_of(path: Path) -> str:
    """Return the SHA-256 of a file.

    :param path: path of the file.
    :return: 64 hexadecimal digits.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_manifest(folder: Path, **values: Any) -> None:
    """Write a manifest with the checksums of all files in a folder.

    :param folder: folder of finished files, without subfolders.
    :param values: plain values to store with the checksums.
    """
    files = {path.name: digest_of(path) for path in sorted(folder.iterdir())}
    text = json.dumps({**values, "files": files}, indent=1)
    (folder / MANIFEST).write_text(text + "\n", encoding="utf-8")


def read_manifest(folder: Path) -> dict[str, Any]:
    """Verify the files of a folder by their checksums, and return its manifest.

    :param folder: a folder with the manifest of :func:`write_manifest`.
    :return: the stored values, with ``files``.
    :raises DamagedFileError: if there is no valid manifest, or a file is missing or differs; the error names the file.
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
            raise DamagedFileError(str(path), "its SHA-256 does not match the manifest")
    return manifest
