"""What the reference pages are made of: flags from parsers, settings from declarations, formulas as MathML."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from types import ModuleType

import pytest
from docutils import core, nodes

pytest.importorskip("sphinx")

import agents.core
from agents.registry import BUILT_IN
from docs import directives
from docs.mathml import tex2mathml
from tests.docs.commands import pages
from zoo.cli import PROGRAMS
from zoo.terminal.arguments import Parser, whole_number

OTHERS = {"--agent", "--gpus", "--horizon", "--ogbench", "--online", "--sparse"}
"""Flags of other projects' programs."""
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


@pytest.mark.parametrize("path", pages(), ids=lambda path: path.name)
def test_every_flag_that_a_page_names_is_one(path: Path) -> None:
    if path.name != "CHANGELOG.md":
        known = set(re.findall(r"--[a-z][a-z-]+", "\n".join(directives.programs()))) | OTHERS
        text = re.sub(r"^ *```.*?^ *```", "", path.read_text(), flags=re.MULTILINE | re.DOTALL)
        assert set(re.findall(r"`(--[a-z][a-z-]+)", text)) <= known


def test_every_setting_of_an_algorithm_is_on_its_page_or_in_the_common_list() -> None:
    common = "\n".join(directives.settings())
    assert set(agents.algorithm_ids()) <= set(directives.described())
    for id, found in directives.described().items():
        page = "\n".join(directives.settings_page(id))
        assert id != "trqam" or ".. setting:: trqam.gamma = 0.995" in page  # it differs from the common one
        for name in found["settings"]:
            assert f".. setting:: {id}.{name} = " in page or f".. setting:: all.{name} = " in common, f"{name} of {id}"


def test_the_index_names_the_algorithms_that_a_setting_is_of() -> None:
    index = "\n".join(directives.settings())
    assert "``kl_budget``\n   :setting:`SQAM <sqam.kl_budget>`, :setting:`TRQAM <trqam.kl_budget>`\n" in index


def table(*cells: str) -> nodes.document:
    """Return a document with a table of these cells below its head."""
    rows = [("setting", "range", "meaning"), cells]
    text = "\n".join(directives.table(rows, ""))
    return core.publish_doctree(text)


def test_cells_of_texts_name_their_columns_and_those_of_numbers_do_not() -> None:
    texts, numbers = table("rho", "> 0", "a meaning of more than thirty characters"), table("1", "2", "3")
    for each in (texts, numbers):
        directives.label_cells(None, each)
    assert [each.astext() for each in texts.findall(nodes.inline)] == ["range: ", "meaning: "]
    assert not list(numbers.findall(nodes.inline))


@pytest.mark.parametrize("module", [agents, agents.core])
def test_every_public_name_is_in_the_reference(module: ModuleType) -> None:
    text = "\n".join(path.read_text() for path in (directives.ROOT / "docs/reference/api").glob("*.rst"))
    named = set(re.findall(r"\.\. auto\w+:: (\S+)", text))
    for name in set(module.__all__) - set(BUILT_IN.values()):
        found = getattr(module, name)
        if inspect.isfunction(found) or inspect.isclass(found):  # not the aliases of types
            places = {found.__module__, f"{found.__module__}.{name}", f"{module.__name__}.{name}", f"agents.{name}"}
            assert places & named, f"{module.__name__}.{name} is on no page of docs/reference/api"


def test_every_formula_can_be_shown() -> None:
    found = 0
    for path in pages():
        text = re.sub(r"^ *```.*?^ *```|`[^`]*`", "", path.read_text(), flags=re.MULTILINE | re.DOTALL)
        for block, inline in FORMULA.findall(text) if "docs" in path.parts else ():
            assert "<math" in tex2mathml(block or inline, as_block=bool(block)), path
            found += 1
    assert found > 100
