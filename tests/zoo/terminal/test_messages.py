"""What programs say, and where it is kept."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from zoo.terminal.messages import FILE_ONLY, keep_in, log, messages

STAMP = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ "


def lines_of(folder: Path) -> list[str]:
    """Return a run's log without the time stamps, which every line must have."""
    lines = (folder / "run.log").read_text().splitlines()
    assert all(re.match(STAMP, line) for line in lines)
    return [re.sub(f"^{STAMP}", "", line) for line in lines]


def test_a_runs_log_has_what_was_said_before_its_folder_existed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with messages(1):
        log.info("first\nand more")
        keep_in([tmp_path])
        log.warning("second")
    assert lines_of(tmp_path) == ["first", "and more", "warning: second"]
    assert capsys.readouterr().err == "first\nand more\nwarning: second\n"


def test_what_is_for_the_file_is_not_on_the_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with messages(2):
        keep_in([tmp_path])
        log.log(FILE_ONLY, "details")
        log.info("news", extra={"hint": " (more in the manual)"})
    assert capsys.readouterr().err == "news (more in the manual)\n"
    assert lines_of(tmp_path) == ["details", "news"]


def test_a_log_that_cannot_be_written_is_named_once_and_stops_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good, bad = tmp_path / "good", tmp_path / "bad"
    good.mkdir()
    (bad / "run.log").mkdir(parents=True)
    with messages(1):
        keep_in([bad, good])
        for text in ("first", "second"):
            log.info("%s", text)
    warning = f"warning: {bad / 'run.log'} is incomplete, because it cannot be written: Is a directory"
    assert sorted(capsys.readouterr().err.splitlines()) == sorted(["first", "second", warning])
    assert sorted(lines_of(good)) == sorted(["first", "second", warning])
