"""What programs say and where it is kept; texts of strangers do nothing where they are shown."""

import csv
import io
import re

import pytest

from tests.zoo.runs.test_read import write_run
from zoo import compare
from zoo.errors import UsageError
from zoo.terminal.messages import (
    FILE_ONLY,
    check_label,
    csv_cell,
    in_words,
    keep_in,
    log,
    messages,
    printable,
    wrapped,
)  # fmt: skip
from zoo.terminal.tables import print_table

FORMULAS = ("=cmd|' /C calc'!A0", "+1+1", "-1+1", "@SUM(1)")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"), ("größe", "größe"), ("\x1b[2J\x07", "\\x1b[2J\\x07"), ("a\nb", "a\\nb"),
        ("\u202eabc", "\\u202eabc"), ("\udcff", "\\udcff"), ("\x9b1m", "\\x9b1m"),
    ],
)  # fmt: skip
def test_control_bytes_are_written_out(text, shown):
    assert printable(text) == shown
    assert printable("a\nb", keep="\n") == "a\nb"


@pytest.mark.parametrize("text", FORMULAS)
def test_formulas_become_texts(text):
    assert csv_cell(text) == f"'{text}"
    assert csv_cell(f"\t{text}") == f"\\t{text}"


@pytest.mark.parametrize("label", ["a\nb", "\x1b[2J", "a\tb", "\u202ea", "a" * 201])
def test_label_that_no_line_can_show_is_refused(label):
    with pytest.raises(UsageError, match="a label must be at most 200 characters without line breaks") as raised:
        check_label(label)
    assert str(raised.value).isprintable()


HOSTILE = "=1<script>alert(1)</script>[a](javascript:b)|\\input{/etc/passwd}$x_1%&#^~"


def test_tables_and_messages_in_the_terminal_hold_no_control_bytes(capsys):
    print_table("\x1b[2Jtitle", ["a"], [["\x1b]0;owned\x07"]])
    with messages(1):
        log.warning("%s", "first\nsecond \x1b[2J")
    shown = capsys.readouterr().err
    assert "\x1b" not in shown
    assert "\x07" not in shown
    assert "warning: first\nsecond \\x1b[2J" in shown


def test_comparison_of_hostile_runs_writes_and_shows_harmless_texts(tmp_path, capsys):
    for seed in range(2):
        write_run(tmp_path / "logs" / f"{seed}\x1b[2J", seed=seed, label=HOSTILE, settings={"own": "\x1b]0;a\x07"})
        write_run(tmp_path / "logs" / f"other{seed}", seed=seed, label="plain")
    write_run(tmp_path / "logs" / "failed", seed=7, state="failed")
    (tmp_path / "logs" / "failed" / "status.json").write_text('{"state": "failed", "reason": "\\u001b[2J"}')
    words = f"{tmp_path / 'logs'} --output {tmp_path / 'report'} --print --reps 50 --format svg".split()
    assert compare.main(words) == 0
    shown = capsys.readouterr()
    assert "\x1b" not in shown.out + shown.err
    texts = {path: path.read_text() for path in (tmp_path / "report").rglob("*.[chjmt]*") if path.is_file()}
    assert {path.suffix for path in texts} == {".csv", ".html", ".json", ".md", ".tex"}
    for path, text in texts.items():
        assert "\x07" not in text, path
        if path.suffix != ".html":  # where it is no command
            assert "\x1b" not in text, path
        if path.suffix in (".html", ".md"):
            assert "<script>alert" not in text, path
        if path.suffix == ".csv":
            cells = [cell for row in csv.reader(io.StringIO(text)) for cell in row]
            assert not [cell for cell in cells if cell.startswith("=")], path


STAMP = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ "


def lines_of(folder):
    """Return a run's log without the time stamps, which every line must have."""
    lines = (folder / "run.log").read_text().splitlines()
    assert all(re.match(STAMP, line) for line in lines)
    return [re.sub(f"^{STAMP}", "", line) for line in lines]


def test_a_runs_log_has_what_was_said_before_its_folder_existed(tmp_path, capsys):
    with messages(1):
        log.info("first\nand more")
        keep_in([tmp_path])
        log.warning("second")
    assert lines_of(tmp_path) == ["first", "and more", "warning: second"]
    assert capsys.readouterr().err == "first\nand more\nwarning: second\n"


def test_what_is_for_the_file_is_not_on_the_terminal(tmp_path, capsys):
    with messages(2):
        keep_in([tmp_path])
        log.log(FILE_ONLY, "details")
        log.info("news", extra={"hint": " (more in the manual)"})
    assert capsys.readouterr().err == "news (more in the manual)\n"
    assert lines_of(tmp_path) == ["details", "news"]


def test_a_log_that_cannot_be_written_is_named_once_and_stops_nothing(tmp_path, capsys):
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


def test_only_lines_wider_than_the_terminal_are_broken_and_no_word_is(monkeypatch):
    monkeypatch.setenv("COLUMNS", "20")
    assert wrapped("a short   line\nnext: zoo compare a/long-folder/of-a-run -o r/") == (
        "a short   line\nnext: zoo compare\na/long-folder/of-a-run\n-o r/"
    )


def test_a_result_is_words_for_a_person_with_what_to_do_next():
    runs = [{"run": f"my logs/qam/Env-v0_{seed}", "success": 0.98765} for seed in (1, 2)]
    assert in_words({"wall_s": 12.34567, "runs": runs, "seeds": [0, 1]}).splitlines() == [
        "wall s: 12.35",
        "runs: ",
        "  run my logs/qam/Env-v0_1, success 0.9877",
        "  run my logs/qam/Env-v0_2, success 0.9877",
        "seeds: 0, 1",
        "next: zoo compare 'my logs' -o report/",
    ]
    assert in_words({"methods": 3, "runs": 4, "report": "r/report.html"}).endswith("next: open r/report.html")
    assert in_words({"video": "a.gif"}).endswith("next: open a.gif")
    study = {"study": "fql_Env-v0", "algo": "fql", "env": "Env-v0", "storage": None}
    assert in_words(study).endswith("env: Env-v0\nnext: zoo train --algo fql --env Env-v0 --study fql_Env-v0")
    assert in_words({"found": [0] * 20}).endswith("and 12 more, which a pipe gets as JSON")
