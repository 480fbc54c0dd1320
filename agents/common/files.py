"""Files and folders that appear whole or not at all, and only while this process may still write them."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path


class TakenOver(OSError):
    """Another process has taken over what this one was writing."""


class _Stage:
    """Where what belongs below a folder is prepared; None: beside the file that it becomes."""

    root: Path | None = None
    folder: Path | None = None


def prepare_in(folder: Path, root: Path) -> None:
    """Prepare everything that will appear below ``root`` in a folder of its own from now on, in this process.

    Whoever removes that folder takes over: a rename out of it is the only way in which something appears below
    ``root``, and that fails from then on, even for a process that was suspended in the middle of a write.

    :param folder: where files are prepared, on the same file system as ``root``.
    :param root: where they will appear.
    """
    _Stage.root, _Stage.folder = root.resolve(), folder.resolve()


def prepare_beside() -> None:
    """Prepare every file beside the one that it becomes, as a new process does."""
    _Stage.root = _Stage.folder = None


def is_taken_over() -> bool:
    """Return whether the folder given to :func:`prepare_in` is gone.

    :return: False where none was given.
    """
    return _Stage.folder is not None and not _Stage.folder.is_dir()


@contextlib.contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path, with the ending of ``path``, that becomes ``path`` or, on failure, is removed.

    :param path: of the file.
    :yields: where to write it.
    :raises TakenOver: if another process has taken over, see :func:`prepare_in`.
    """
    temporary = _temporary_path(path)
    with _telling_of_a_takeover(path):
        try:
            yield temporary
            sync(temporary)
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield a new folder that becomes ``path`` or, on failure, is removed.

    What is put into it must be written without making missing folders above. A folder that is not empty keeps its
    name: two processes can ask for one name, and only one gets it.

    :param path: of the folder.
    :yields: where to fill it.
    :raises FileExistsError: if ``path`` is a folder that holds something, or a file.
    :raises TakenOver: if another process has taken over, see :func:`prepare_in`.
    """
    temporary = _temporary_path(path)
    with _telling_of_a_takeover(path):
        temporary.mkdir()
        try:
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
            sync(path.parent)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def discard(folder: Path) -> None:
    """Remove a folder and what is in it, so that it disappears at once.

    :param folder: the folder.
    :raises TakenOver: if another process has taken over, see :func:`prepare_in`.
    """
    temporary = _temporary_path(folder)
    with _telling_of_a_takeover(folder):
        os.rename(folder, temporary)
        shutil.rmtree(temporary)


def sync(path: Path) -> None:
    """Wait until a file or folder is on disk.

    :param path: of the file or folder.
    """
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _temporary_path(path: Path) -> Path:
    """Return a hidden path, used by nobody else, from which a rename to ``path`` is possible."""
    is_staged = _Stage.root is not None and path.resolve().is_relative_to(_Stage.root)
    folder = _Stage.folder if is_staged and _Stage.folder is not None else path.parent
    return folder / f".{path.stem}.{uuid.uuid4().hex}{path.suffix}"


@contextlib.contextmanager
def _telling_of_a_takeover(path: Path) -> Iterator[None]:
    """Turn the failure of a write into :class:`TakenOver` if that is its cause."""
    try:
        yield
    except OSError as error:
        if not isinstance(error, TakenOver) and is_taken_over():
            raise TakenOver(f"another process has taken over; {path} is not written") from error
        raise
