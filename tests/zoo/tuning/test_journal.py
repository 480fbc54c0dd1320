"""The file that a study is kept in, and the workers that share it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import optuna
import pytest

from zoo.errors import UsageError
from zoo.tuning.journal import Workers, open_journal, study_names


def make(path: Path, *names: str) -> None:
    for name in names:
        optuna.create_study(storage=open_journal(path, to_write=True), study_name=name)


def test_a_journal_holds_studies(tmp_path: Path) -> None:
    make(tmp_path / "journal.log", "b", "a")
    assert study_names(open_journal(tmp_path / "journal.log")) == ["a", "b"]


@pytest.mark.parametrize("text", ["some notes\nof mine\n", '{"a": 1}\n', "1\n2\n", "PK\x03\x04\n\n"])
def test_a_file_of_another_kind_is_refused_and_left_as_it_is(tmp_path: Path, text: str) -> None:
    file = tmp_path / "notes.txt"
    file.write_text(text)
    with pytest.raises(UsageError, match=r"expected `.*notes.txt` to be a journal"):
        open_journal(file, to_write=True)
    assert file.read_text() == text


def test_a_folder_is_not_a_journal(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be a study's journal: Is a directory"):
        open_journal(tmp_path)


def test_half_a_line_of_a_killed_writer_is_dropped(tmp_path: Path) -> None:
    file = tmp_path / "journal.log"
    make(file, "a")
    whole = file.read_bytes()
    file.write_bytes(whole + b'{"op_code": 0, "study')
    make(file, "b")
    assert file.read_bytes().startswith(whole)
    assert study_names(open_journal(file)) == ["a", "b"]


def test_a_worker_is_alive_until_it_leaves(tmp_path: Path) -> None:
    with Workers(tmp_path / "j") as one, Workers(tmp_path / "j") as other:
        assert one.name != other.name
        assert one.is_alive(other.name)
    assert not one.is_alive(other.name)


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


def test_one_worker_at_a_time_is_alone(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from zoo.tuning.journal import Workers\n"
        "with Workers(Path(sys.argv[1])).alone(): print('in', flush=True)"
    )
    with Workers(tmp_path / "j") as me:
        with me.alone():
            process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "j")], stdout=subprocess.PIPE)
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(4)
        assert process.communicate(timeout=60)[0] == b"in\n"
