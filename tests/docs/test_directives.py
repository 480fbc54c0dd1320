"""The sources of the reference pages: flags from parsers, settings from declarations."""

import ast
import inspect
import re

import pytest

pytest.importorskip("sphinx")

import agents.core
from agents.registry import BUILT_IN
from docs import directives
from tests.docs.commands import pages, prose_of
from zoo.terminal.cli import PROGRAMS

FOREIGN_FLAGS = {"--agent", "--gpus", "--horizon", "--ogbench", "--online", "--sparse"}
"""Flags of other projects' programs."""


def test_every_program_is_described_with_its_flags():
    text = "\n".join(directives.programs())
    assert ".. option:: --eval-episodes EVAL_EPISODES\n\n   episodes per evaluation\n" in text
    assert "\nzoo dataset check\n-----------------\n" in text
    assert re.findall(r"^zoo ([\w-]+)\n=+$", text, flags=re.MULTILINE) == list(PROGRAMS)


@pytest.mark.parametrize("path", pages(), ids=lambda path: path.name)
def test_every_flag_that_a_page_names_is_one(path):
    if path.name != "CHANGELOG.md":
        flags = set(re.findall(r"--[a-z][a-z-]+", "\n".join(directives.programs()))) | FOREIGN_FLAGS
        assert set(re.findall(r"`(--[a-z][a-z-]+)", prose_of(path))) <= flags


def test_every_setting_is_on_its_page_or_in_the_common_list():
    common = "\n".join(directives.settings())
    assert set(agents.algorithm_ids()) <= set(directives.described())
    for id, algorithm in directives.described().items():
        text = common + "\n".join(directives.settings_page(id))
        for name in algorithm["settings"]:
            assert re.search(rf"\.\. setting:: ({id}|all)\.{name} = ", text), f"{name} of {id}"


def test_every_class_has_an_entry_with_a_valid_example():
    text = "\n".join(directives.algorithms())
    assert re.findall(r"py:class:: agents\.(\w+)\(policy, env", text) == [
        entry.class_name for entry in BUILT_IN.values()
    ]
    for id, entry in BUILT_IN.items():
        construction, *training = ast.parse("\n".join(directives.example(id))).body
        assert ast.unparse(construction.value.func) == f"agents.{entry.class_name}"
        keywords = construction.value.keywords
        settings = {keyword.arg: ast.literal_eval(keyword.value) for keyword in keywords}
        assert agents.get(id).method(**settings).sparse
        assert all(
            hasattr(getattr(agents, entry.class_name), call.value.func.attr) for call in training
        )


@pytest.mark.parametrize("module", [agents, agents.core])
def test_the_reference_lists_the_public_names_and_describes_them(module):
    reference = directives.ROOT / "docs/reference"
    text = "\n".join(path.read_text() for path in (reference / "api").glob("*.rst"))
    described = set(re.findall(r"\.\. auto\w+:: (\S+)", text))
    names = set(module.__all__) - {entry.class_name for entry in BUILT_IN.values()}
    (listed,) = re.findall(
        rf"names of ``{module.__name__}`` are.*?\n\n(.*?)\n\n",
        (reference / "api.rst").read_text(),
        re.DOTALL,
    )
    assert set(re.findall(r"\w+", listed)) == names
    for name in names:
        value = getattr(module, name)
        if inspect.isfunction(value) or inspect.isclass(value):  # without type aliases
            homes = (value.__module__, module.__name__, "agents")
            places = {value.__module__, *(f"{home}.{name}" for home in homes)}
            assert places & described, f"no page of docs/reference/api has {name}"
