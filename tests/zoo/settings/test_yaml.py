"""YAML: values are read as they were written, and invalid files are rejected."""

import pytest

from tests.zoo.outcomes import refuses
from zoo.settings.layers import as_words, dump_yaml, load_yaml, merge, nested, parse_overrides


def load(text):
    return load_yaml(text, "a test")


def test_values_come_back_as_they_were_written():
    values = {
        "a": [1, 2.5, None, True, "text"],
        "b": {"c": [], "d": "- 1", "e": "1e5", "f": 1e20, "g": 1e-5},
        "long": "word " * 2000,
        "texts": ["Infinity", "NaN"],
        "seed": 2**31,
    }
    assert load(dump_yaml(values)) == values


def test_a_dotted_name_is_nested_except_inside_a_value():
    assert merge({"a": {"c": 1}}, nested({"a.b": {"c.d": 2}})) == {"a": {"c": 1, "b": {"c.d": 2}}}


@pytest.mark.parametrize("word", ["no", "Yes", "2024-01-01", "010", "1:30", "12e", "e5"])
def test_word_that_another_yaml_reads_as_something_else_is_text(word):
    assert load(f"{word}: [{word}]") == {word: [word]}
    assert load(dump_yaml([word])) == [word]


def test_numbers_infinity_and_booleans_are_read_as_such():
    values = load("[-.inf, true, FALSE, 1.5e3, 3e-4, 1e5, 1_000, 1.0]")
    assert values == [-float("inf"), True, False, 1500, 3e-4, 100_000, 1000, 1.0]
    assert [type(value) for value in values[3:]] == [int, float, int, int, float]


def test_words_have_the_values_that_they_were_made_of():
    values = {"a": [0.5, float("inf")], "b": -float("inf"), "c": {"d": "no"}}
    assert parse_overrides(as_words(values)) == values


def test_a_name_that_is_said_twice_is_refused():
    with refuses("duplicate key `b`"):
        load("a: {b: 1, c: 1, b: 2}")


@pytest.mark.parametrize(
    "text",
    [
        "&a [*a]", "[" * 3000 + "]" * 3000,
        "a: [1", "\ta: 1", "--- 1\n--- 2", "*unknown", "{[1]: 2}", "!!python/object/apply:os.abort []",
    ],
)  # fmt: skip
def test_whatever_is_not_valid_is_told_as_such(text):
    with refuses(r"a test must be valid YAML: .*\w"):
        load(text)
