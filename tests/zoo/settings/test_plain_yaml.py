"""YAML from anyone: what is too large is refused at once, and so is what is not valid."""

from __future__ import annotations

import time
import tracemalloc
from pathlib import Path

import pytest

from zoo.errors import UsageError
from zoo.settings import plain_yaml
from zoo.settings.layers import parse_override, read_profiles
from zoo.settings.plain_yaml import InvalidYaml


def alias_bomb(levels: int = 9, width: int = 9) -> str:
    """Return a text of some hundred characters that expands to width ** levels values."""
    rows = ["a0: &a0 [x]"]
    for level in range(1, levels):
        rows.append(f"a{level}: &a{level} [{','.join([f'*a{level - 1}'] * width)}]")
    return "\n".join(rows)


def test_values_come_back_as_they_were_written() -> None:
    values = {"a": [1, 2.5, None, True, "text"], "b": {"c": [], "d": "- 1"}, "long": "word " * 2000, "seed": 2**31}
    assert plain_yaml.read(plain_yaml.write(values)) == values


def test_aliases_are_understood() -> None:
    assert plain_yaml.read("a: &a [1, 2]\nb: *a\nc: {<<: &d {e: 1}, e: 2, f: *d}") == {
        "a": [1, 2], "b": [1, 2], "c": {"e": 2, "f": {"e": 1}},
    }  # fmt: skip


def test_a_name_that_is_said_twice_is_refused() -> None:
    with pytest.raises(InvalidYaml, match="says `b` twice in one mapping"):
        plain_yaml.read("a: {b: 1, c: 1, b: 2}")


LARGE = {
    "aliases": (alias_bomb(), r"it has [\d,]+ values after its aliases are expanded, expected at most 100,000"),
    "values": ("[" + "1," * 200_000 + "]", "it has 100,001 values .* expected at most 100,000"),
    "levels": ("[" * 500_000, "it has 65 levels, expected at most 64"),
    "characters": ("#" * 2_000_000, "it has 2,000,000 characters, expected at most 1,048,576"),
    "text": ("a: " + "b" * 100_000, "it has 100,000 characters in one value, expected at most 65,536"),
    "digits": ("9" * 2000, "it has 2,000 characters in a number, expected at most 1,000"),
    "base 60": ("1" + ":1" * 30_000, "it has 60,001 characters in a number"),
    "cycle": ("&a [*a]", r"its alias \*a stands for nothing before it, or for what it is part of"),
}


@pytest.mark.parametrize(("text", "message"), LARGE.values(), ids=LARGE)
def test_what_is_larger_than_any_settings_is_refused_at_once(text: str, message: str) -> None:
    tracemalloc.start()
    begin = time.process_time()
    with pytest.raises(InvalidYaml, match=message):
        plain_yaml.read(text)
    took, (_, peak) = time.process_time() - begin, tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 8 << 20
    assert took < 5  # the longest of them some tenths of a second, traced and on a busy machine


@pytest.mark.parametrize(
    "text",
    [
        "a: [1", "\ta: 1", "a: \x1b[2J", "--- 1\n--- 2", "*unknown", "{[1]: 2}", "<<: 3", "2001-99-99",
        "!!timestamp foo", "!!bool foo", "!!int ''", "!!float x", "!!binary \u00fc", "1" + ":1" * 400 + ".5",
        "!!python/object/apply:os.abort []",
    ],
)  # fmt: skip
def test_whatever_is_not_valid_is_told_as_such(text: str) -> None:
    with pytest.raises(InvalidYaml, match=r"\w"):
        plain_yaml.read(text)


def test_settings_on_the_command_line_are_bounded_too() -> None:
    with pytest.raises(UsageError, match="the value of `a` must be valid YAML: it has 65 levels, expected at most 64"):
        parse_override("a=" + "[" * 1000)


@pytest.mark.parametrize(("value", "base"), [("010", 8), ("-07", 8), ("1:30", 60), ("1:30.5", 60), ("[1, 020]", 8)])
def test_a_setting_in_a_base_that_its_writer_did_not_mean_is_refused(value: str, base: int) -> None:
    with pytest.raises(UsageError, match=f"is a number of base {base} there; write it in decimal, or in quotes"):
        parse_override(f"a={value}")
    assert parse_override("a=[0, '010', 0.5, 0x10]") == {"a": [0, "010", 0.5, 16]}


def test_settings_files_are_bounded_too(tmp_path: Path) -> None:
    (tmp_path / "large.yml").write_text("#" * 2_000_000)
    with pytest.raises(UsageError, match=r"`-conf` .* got .*large\.yml .* it has 2\.0 MB, expected at most 1\.0 MB"):
        read_profiles("qam", tmp_path / "large.yml")
    (tmp_path / "bomb.yml").write_text(alias_bomb())
    with pytest.raises(UsageError, match=r"bomb\.yml must be valid YAML: it has [\d,]+ values"):
        read_profiles("qam", tmp_path / "bomb.yml")
