"""Files appear completely or not at all, on every kind of storage."""

import errno
import os
import stat
from unittest.mock import Mock

import pytest

from agents.common.files import (
    DamagedFileError,
    WriteError,
    atomic_folder,
    atomic_path,
    is_transient,
    read_manifest,
    write_manifest,
)


def write(path, text, then):
    """Write a file, and run something before the file appears."""
    with atomic_path(path) as temporary:
        temporary.write_text(text)
        then()


def test_a_file_replaces_the_old_one_and_a_failed_one_leaves_it(tmp_path):
    path = tmp_path / "file.txt"
    path.write_text("old")
    with pytest.raises(ZeroDivisionError):
        write(path, "half", lambda: 1 / 0)
    assert path.read_text() == "old"
    with atomic_path(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
        assert (temporary.parent, temporary.suffix) == (tmp_path, ".txt")
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def raise_as_a_library_does():
    try:
        raise OSError(errno.ENOSPC, "No space left on device")
    except OSError:
        raise RuntimeError("unexpected position")  # noqa: B904  # PyTorch's error does not say why


def test_a_full_disk_is_told_of_whatever_a_library_makes_of_it(tmp_path):
    with pytest.raises(
        WriteError, match=r"file\.txt could not be written: No space left on device; free space"
    ):
        write(tmp_path / "file.txt", "half", raise_as_a_library_does)


@pytest.fixture
def refuse_sync(monkeypatch):
    """Return a function that makes syncing of folders, or of files, fail."""

    def refuse(is_kind):
        def fsync(handle):
            if is_kind(os.fstat(handle).st_mode):
                raise OSError(errno.EINVAL, "Invalid argument")

        monkeypatch.setattr(os, "fsync", fsync)

    return refuse


def test_storage_that_cannot_sync_folders_is_written_to(tmp_path, refuse_sync):
    refuse_sync(stat.S_ISDIR)
    with atomic_folder(tmp_path / "folder"):
        write(tmp_path / "file", "text", lambda: None)
    assert (tmp_path / "folder").exists()


def test_a_file_that_cannot_be_synced_is_named(tmp_path, refuse_sync):
    refuse_sync(stat.S_ISREG)
    with pytest.raises(OSError, match=r"Invalid argument: .*file"):
        write(tmp_path / "file", "text", lambda: None)


@pytest.mark.parametrize(
    "error",
    [OSError(errno.ESTALE, "Stale file handle"), RuntimeError("can't allocate memory")],
)
def test_a_passing_error_of_reading_says_nothing_against_a_file(tmp_path, monkeypatch, error):
    write_manifest(tmp_path)
    monkeypatch.setattr("agents.common.files.read_text", Mock(side_effect=error))
    with pytest.raises(
        (type(error), MemoryError), match=r"Stale|not enough memory to read .*manifest\.json"
    ) as raised:
        read_manifest(tmp_path)
    assert is_transient(raised.value)
    (tmp_path / "manifest.json").unlink()
    with pytest.raises(DamagedFileError) as damaged:
        read_manifest(tmp_path)
    assert not is_transient(damaged.value)


def test_two_writers_of_a_file_do_not_share_a_temporary_one(tmp_path):
    with atomic_path(tmp_path / "file") as first, atomic_path(tmp_path / "file") as second:
        assert first != second
        first.write_text("first")
        second.write_text("second")
    assert (tmp_path / "file").read_text() == "first"


def test_a_file_has_the_rights_that_the_user_gives_new_files(tmp_path):
    old_mask = os.umask(0o027)
    try:
        with atomic_path(tmp_path / "file") as temporary:
            temporary.write_text("")
    finally:
        os.umask(old_mask)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o640


def test_a_folder_takes_no_name_that_another_has(tmp_path):
    with atomic_folder(tmp_path / "a") as temporary:
        (temporary / "file").write_text("first")
    with pytest.raises(FileExistsError), atomic_folder(tmp_path / "a") as temporary:
        (temporary / "file").write_text("second")
    assert (tmp_path / "a" / "file").read_text() == "first"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
