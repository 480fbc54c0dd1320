"""Files appear whole or not at all; once another process has taken over, nothing of this one appears any more."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agents.common.files import (
    TakenOver,
    atomic_folder,
    atomic_path,
    discard,
    is_taken_over,
    prepare_beside,
    prepare_in,
)


def write(path: Path, text: str, then: Callable[[], Any]) -> None:
    """Write a file to which something happens before it appears."""
    with atomic_path(path) as temporary:
        temporary.write_text(text)
        then()


def test_a_written_file_takes_the_place_of_the_old_one_and_a_failed_one_leaves_it(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    path.write_text("old")
    with pytest.raises(ZeroDivisionError):
        write(path, "half", lambda: 1 / 0)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
    with atomic_path(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
        assert (temporary.parent, temporary.suffix) == (tmp_path, ".txt")
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_two_writers_of_a_file_do_not_share_a_temporary_one(tmp_path: Path) -> None:
    with atomic_path(tmp_path / "file") as first, atomic_path(tmp_path / "file") as second:
        assert first != second
        first.write_text("first")
        second.write_text("second")
    assert (tmp_path / "file").read_text() == "first"


def test_a_file_has_the_rights_that_the_user_gives_new_files(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        with atomic_path(tmp_path / "file") as temporary:
            temporary.write_text("")
    finally:
        os.umask(before)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o640


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Path]:
    """Return the folder in which everything below ``tmp_path / 'root'`` is prepared."""
    (tmp_path / "root" / "stage").mkdir(parents=True)
    prepare_in(tmp_path / "root" / "stage", root=tmp_path / "root")
    yield tmp_path / "root" / "stage"
    prepare_beside()


def test_files_below_the_root_are_prepared_in_the_stage_and_others_beside(stage: Path, tmp_path: Path) -> None:
    with atomic_path(tmp_path / "root" / "file.txt") as inside, atomic_path(tmp_path / "file.txt") as outside:
        assert (inside.parent, outside.parent) == (stage, tmp_path)
        inside.write_text("a")
        outside.write_text("b")
    assert (tmp_path / "root" / "file.txt").read_text() == "a"
    assert list(stage.iterdir()) == []


def test_a_file_that_was_written_before_a_takeover_does_not_appear_after_it(stage: Path, tmp_path: Path) -> None:
    path = tmp_path / "root" / "file.txt"
    path.write_text("of the new owner")

    with pytest.raises(TakenOver, match=r"another process has taken over; .*file.txt is not written"):
        write(path, "late", lambda: shutil.rmtree(stage))  # while this process is suspended
    assert path.read_text() == "of the new owner"
    assert is_taken_over()


def test_neither_a_folder_appears_nor_one_disappears_after_a_takeover(stage: Path, tmp_path: Path) -> None:
    old = tmp_path / "root" / "old"
    old.mkdir()
    shutil.rmtree(stage)
    with pytest.raises(TakenOver), atomic_folder(tmp_path / "root" / "new"):
        pass
    with pytest.raises(TakenOver):
        discard(old)
    assert [path.name for path in (tmp_path / "root").iterdir()] == ["old"]


def test_a_folder_takes_no_name_that_another_has(tmp_path: Path) -> None:
    with atomic_folder(tmp_path / "a") as temporary:
        (temporary / "file").write_text("first")
    with pytest.raises(FileExistsError), atomic_folder(tmp_path / "a") as temporary:
        (temporary / "file").write_text("second")
    assert (tmp_path / "a" / "file").read_text() == "first"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
