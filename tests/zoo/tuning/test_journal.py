"""The file that a study is kept in, and the workers that share it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from zoo.errors import UsageError
from zoo.tuning.journal import Workers, open_journal, study_names


def make(path: Path, *names: str) -> None:
    for name in names:
        optuna.create_study(storage=open_journal(path), study_name=name)


@pytest.mark.parametrize("text", ["some notes\nof mine\n", '{"a": 1}\n', "1\n2\n", "no newline"])
def test_a_file_of_another_kind_is_refused_and_left_as_it_is(tmp_path: Path, text: str) -> None:
    file = tmp_path / "notes.txt"
    file.write_text(text)
    with pytest.raises(UsageError, match=r"notes\.txt"):
        open_journal(file)
    assert file.read_text() == text


def test_a_journal_is_read_by_optuna_itself(tmp_path: Path) -> None:
    make(tmp_path / "journal.log", "a")
    assert study_names(JournalStorage(JournalFileBackend(str(tmp_path / "journal.log")))) == ["a"]


SPOILERS: dict[str, Callable[[list[str]], Any]] = {
    "changed": lambda lines: lines.insert(1, lines.pop(1).replace("0.25", "0.75")),
    "removed first": lambda lines: lines.pop(0),
    "added": lambda lines: lines.insert(1, '{"op_code": 2, "worker_id": "w", "study_id": 0, "user_attr": {"a": 1}}\n'),
    "not JSON": lambda lines: lines.insert(1, "[[[\n"),
    "cut in the middle": lambda lines: lines.insert(1, lines.pop(1)[:20]),
}


def make_lines(file: Path) -> optuna.Study:
    """Return a study whose journal has some lines."""
    study = optuna.create_study(storage=open_journal(file), study_name="a")
    for name, value in (("b", 0.25), ("c", 1), ("d", 2)):
        study.set_user_attr(name, value)
    return study


@pytest.mark.parametrize("spoil", SPOILERS.values(), ids=SPOILERS)
def test_a_spoiled_line_is_named(tmp_path: Path, spoil: Callable[[list[str]], Any]) -> None:
    file = tmp_path / "journal.log"
    make_lines(file)
    lines = file.read_text().splitlines(keepends=True)
    spoil(lines)
    file.write_text("".join(lines))
    with pytest.raises(UsageError, match=str(file)):
        open_journal(file)
    assert file.read_text() == "".join(lines)


def test_a_journal_that_becomes_shorter_is_not_written_to(tmp_path: Path) -> None:
    file = tmp_path / "journal.log"
    study = make_lines(file)
    left = b"".join(file.read_bytes().splitlines(keepends=True)[:2])
    file.write_bytes(left)
    with pytest.raises(UsageError, match=str(file)):
        study.set_user_attr("e", 3)
    assert file.read_bytes() == left


def test_half_a_line_of_a_killed_writer_is_dropped_by_the_others(tmp_path: Path) -> None:
    file = tmp_path / "journal.log"
    study = make_lines(file)
    with file.open("a") as end:
        end.write('{"op_code": 2, "study')
    study.set_user_attr("e", 3)
    assert optuna.load_study(study_name="a", storage=open_journal(file)).user_attrs["e"] == 3


@pytest.mark.parametrize("name", ["{0}/kept", "../kept", "", 3, "lock", "x-1-a/../../kept", "kept\0-1-b"])
def test_a_worker_of_a_journal_is_a_name_beside_it(tmp_path: Path, name: Any) -> None:
    (tmp_path / "kept").touch()
    name = name.format(tmp_path) if isinstance(name, str) else name
    with Workers(tmp_path / "j") as me, pytest.raises(UsageError, match="worker"):
        me.is_alive(name)
    assert (tmp_path / "kept").exists()


def test_a_worker_is_dead_once_its_process_was_killed(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from zoo.tuning.journal import Workers\n"
        "with Workers(Path(sys.argv[1])) as me: print(me.name, flush=True); time.sleep(100)"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "j")]
    with Workers(tmp_path / "j") as me, subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        name = process.stdout.readline().strip()
        assert me.is_alive(name)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        assert not me.is_alive(name)
        assert me.is_alive(me.name)
