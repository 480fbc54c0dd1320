"""Messages of programs, and the files that keep them."""

import contextlib
import io
import os
import re
import sys

from zoo.datasets.files import track
from zoo.terminal.messages import LOG_FILE_ONLY, log, log_to_folders, messages
from zoo.terminal.tables import terminal


def test_a_runs_log_has_earlier_messages_and_details_too(tmp_path, capsys):
    with messages(2):
        log.info("first\nand more")
        log_to_folders([tmp_path])
        log.log(LOG_FILE_ONLY, "details")
        log.warning("second")
    stamp = r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ "
    text = (tmp_path / "run.log").read_text()
    assert re.match(stamp, text)
    lines = re.sub(stamp, "", text, flags=re.MULTILINE).splitlines()
    assert lines == ["first", "and more", "details", "warning: second"]
    assert capsys.readouterr().err == "first\nand more\nwarning: second\n"


def test_a_full_disk_costs_a_runs_log_and_nothing_else(tmp_path, capsys):
    (tmp_path / "run.log").symlink_to("/dev/full")
    with messages(1):
        log_to_folders([tmp_path])
        log.info("first")
        log.info("second")
    first, warning, second = capsys.readouterr().err.splitlines()
    assert (first, second) == ("first", "second")
    assert warning.endswith("run.log could not be written: No space left on device")


def test_a_terminal_that_goes_away_ends_no_progress_bar(monkeypatch):
    ours, theirs = os.openpty()
    stream = os.fdopen(theirs, "w")
    monkeypatch.setattr(sys, "stderr", stream)
    for number in track(range(3), "three", 3):
        if number == 0:
            os.close(ours)
    assert number == 2
    with contextlib.suppress(OSError):
        stream.close()


def test_a_character_that_the_terminal_lacks_is_escaped():
    stream = io.TextIOWrapper(io.BytesIO(), "latin-1")
    terminal(stream).print("‡ ±2")
    assert stream.buffer.getvalue() == b"\\u2021 \xb12\n"
