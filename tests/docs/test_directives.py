"""What the reference pages are made of: flags from parsers, settings from declarations, formulas as MathML."""

from __future__ import annotations

import re

import pytest

pytest.importorskip("sphinx")

import agents
from docs import directives
from docs.mathml import tex2mathml
from tests.docs.commands import pages
from zoo.arguments import Parser, whole_number
from zoo.cli import PROGRAMS

FORMULA = re.compile(r"\$\$(.+?)\$\$|(?<![\\$`])\$([^$`]+)\$", flags=re.DOTALL)


def parser() -> Parser:
    found = Parser("train", description="Does *one* thing.")
    group = found.add_argument_group("how long")
    group.add_argument("-n", "--steps", type=whole_number, default=5, help="steps of `fit`")
    group.add_argument("--secret", help=directives.argparse.SUPPRESS)
    group.add_argument("--fast", action="store_true", help="be quick")
    command = found.add_subparsers().add_parser("list", help="show all")
    command.add_argument("name", help="a pattern, e.g. scene_*")
    return found


def test_a_flag_has_its_spellings_value_help_and_default() -> None:
    text = "\n".join(directives.program(parser(), "zoo train"))
    assert "Does \\*one\\* thing." in text
    assert ".. rubric:: How long" in text
    assert ".. option:: -n N, --steps N\n\n   steps of ``fit`` (default: 5)" in text
    assert ".. option:: --fast\n\n   be quick" in text


def test_a_sub_command_has_a_heading_and_its_own_arguments() -> None:
    text = "\n".join(directives.program(parser(), "zoo train"))
    assert "zoo train list\n--------------\n\nShow all.\n\n.. program:: zoo train list" in text
    assert ".. option:: name\n\n   a pattern, e.g. scene\\_\\*" in text


def test_every_program_is_described() -> None:
    text = "\n".join(directives.programs())
    assert re.findall(r"^zoo ([\w-]+)\n=+$", text, flags=re.MULTILINE) == list(PROGRAMS)


def test_every_setting_of_an_algorithm_is_in_its_table_or_in_the_common_one() -> None:
    common, *own = re.split(r"^\S.* \(``\w+``\)\n=+$", "\n".join(directives.settings()), flags=re.MULTILINE)
    ids = re.findall(r"^\S.* \(``(\w+)``\)\n=+$", "\n".join(directives.settings()), flags=re.MULTILINE)
    assert set(agents.algorithm_ids()) <= set(ids)
    for id, text in zip(ids, own, strict=True):
        for name in directives.describe_algorithm(id)["settings"]:
            assert f"* - ``{name}``" in common + text, f"{name} of {id}"


def test_a_value_that_differs_from_the_common_one_is_in_the_own_table() -> None:
    text = "\n".join(directives.settings()).partition("(``trqam``)")[2].partition("* - ``kl_budget``")[0]
    assert "* - ``gamma``\n     - ``0.995``" in text


def test_every_formula_can_be_shown() -> None:
    found = 0
    for path in pages():
        text = re.sub(r"^ *```.*?^ *```|`[^`]*`", "", path.read_text(), flags=re.MULTILINE | re.DOTALL)
        for block, inline in FORMULA.findall(text) if "docs" in path.parts else ():
            assert "<math" in tex2mathml(block or inline, as_block=bool(block)), path
            found += 1
    assert found > 100
