"""Directives of the reference pages: a program's flags from its parser, settings from their declarations, videos.

The settings of an algorithm have a page of their own, which is written before the pages are read.
"""

from __future__ import annotations

import argparse
import importlib
import inspect
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util.docutils import SphinxDirective

from zoo.algorithms.overview import describe_algorithms
from zoo.list_agents import describe_algorithm, readable_type
from zoo.terminal.cli import PROGRAMS
from zoo.terminal.parser import Parser, module_of

ROOT = Path(__file__).resolve().parent.parent
SETTINGS = ROOT / "docs" / "reference" / "settings"
"""Folder of the pages that are written; git ignores it."""
COMMON = "all"
"""What stands for an algorithm in the names of settings that all algorithms share."""
LONG = 30
"""Characters from which a cell of a table is a text, and code in it may be broken into lines."""
ONE_BACKTICK = r"(?<![:`])`([^`]+)`(?!`)"
"""Code as texts for a terminal have it, and not a role such as :math:."""


def setup(app: Sphinx) -> dict[str, bool]:
    """Offer the directives to Sphinx."""
    for name in LINES:
        app.add_directive(name, Generated)
    app.add_object_type("setting", "setting", parse_node=show_setting)
    app.connect("builder-inited", write_settings)
    app.connect("doctree-read", label_cells)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


class Generated(SphinxDirective):
    """Shows lines of reStructuredText that are made when the page is read."""

    def run(self) -> list[nodes.Node]:
        """Return what the lines say."""
        return self.parse_text_to_nodes("\n".join(LINES[self.name]()), allow_section_headings=True)


def programs() -> Iterator[str]:
    """Give every program's flags, in the groups of its help."""
    for name in PROGRAMS:
        parser = importlib.import_module(f"zoo.{module_of(name)}").make_parser()
        yield from heading(f"zoo {name}", "=")
        yield from program(parser, f"zoo {name}")


def program(parser: Parser, name: str) -> Iterator[str]:
    """Give a parser's description, flags, and sub-commands."""
    yield from (escaped(inspect.cleandoc(parser.description or "")), "", f".. program:: {name}", "")
    for group in parser._action_groups:
        shown = [action for action in group._group_actions if is_shown(action)]
        commands = [action for action in shown if isinstance(action, argparse._SubParsersAction)]
        flags = [action for action in shown if action not in commands]
        if flags:
            yield from (f".. rubric:: {escaped((group.title or '').capitalize())}", "")
        for action in flags:
            yield from option(parser, action)
        for word, command in (pair for each in commands for pair in each.choices.items()):
            purpose = next(choice.help for choice in commands[0]._choices_actions if choice.dest == word)
            yield from heading(f"{name} {word}", "-")
            command.description = f"{purpose[:1].upper()}{purpose[1:]}."
            yield from program(command, f"{name} {word}")


def is_shown(action: argparse.Action) -> bool:
    """Return whether a flag is in the help; ``--help`` itself needs no words."""
    return action.help != argparse.SUPPRESS and not isinstance(action, argparse._HelpAction)


def option(parser: Parser, action: argparse.Action) -> Iterator[str]:
    """Give one flag or argument: how it is written, and its line of help with the default."""
    formatter = parser._get_formatter()
    metavar = formatter._get_default_metavar_for_optional(action)
    value = "" if action.nargs == 0 else f" {formatter._format_args(action, metavar)}"
    if not action.option_strings:
        value = formatter._format_args(action, action.dest)
    spellings = ", ".join(f"{flag}{value}" for flag in action.option_strings) or value
    yield from (f".. option:: {spellings}", "", f"   {escaped(formatter._expand_help(action))}", "")


def settings() -> Iterator[str]:
    """Give the index of all settings, and those that all algorithms share."""
    places = defaultdict(list)
    for name in common_settings():
        places[name].append(f":setting:`all <{COMMON}.{name}>`")
    for id, found in described().items():
        for name in own_settings(id):
            places[name].append(f":setting:`{found['published_name']} <{id}.{name}>`")
    for name in sorted(places):
        yield from (code(name), f"   {', '.join(places[name])}", "")
    yield from heading("Settings of all algorithms", "=")
    yield from ("Every algorithm but SB3's own has these settings, with these defaults.", "")
    yield from setting_entries(COMMON, common_settings())


def write_settings(_: Sphinx) -> None:
    """Write the page of each algorithm's settings, where it is not there as it is to be."""
    SETTINGS.mkdir(exist_ok=True)
    for id in described():
        path, text = SETTINGS / f"{id}.rst", "\n".join(settings_page(id))
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


def settings_page(id: str) -> Iterator[str]:
    """Give the page of an algorithm: the settings that are its own or have another default, and its profiles."""
    found = described()[id]
    yield from heading(f"Settings of {found['published_name']}", "#")
    page = f":doc:`Its page </docs/algorithms/{id}>`. " if (ROOT / f"docs/algorithms/{id}.md").exists() else ""
    yield from (f"{page}Id: ``{id}``. Paper: {escaped(found['paper'])}.", "")
    if not is_baseline(found):
        yield from ("It also has :doc:`the settings of all algorithms </docs/reference/settings>`.", "")
    yield from setting_entries(id, own_settings(id))
    for profile, entries in found["profiles"].items():
        yield from heading(f"``--profile {profile}``", "=")
        yield from profile_table(entries)


@cache
def described() -> dict[str, dict[str, Any]]:
    """Return what each algorithm is, by its id."""
    return {id: describe_algorithm(id) for id in describe_algorithms()["algorithms"]}


@cache
def common_settings() -> dict[str, Any]:
    """Return the settings that have the same default and meaning in all algorithms but SB3's."""
    first, *others = (found["settings"] for found in described().values() if not is_baseline(found))
    return {name: row for name, row in first.items() if all(other.get(name) == row for other in others)}


def own_settings(id: str) -> dict[str, Any]:
    """Return an algorithm's settings without the common ones."""
    found = described()[id]
    return {
        name: row for name, row in found["settings"].items() if is_baseline(found) or common_settings().get(name) != row
    }


def is_baseline(found: Mapping[str, Any]) -> bool:
    """Return whether a described algorithm is one of SB3's."""
    return bool(found["kind"].startswith("SB3"))


def setting_entries(owner: str, rows: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """Give an entry for each setting, which the site's search finds by its name."""
    for name, row in rows.items():
        search = f" Search: {escaped(row['search'])}." if row["search"] else ""
        meaning = re.sub(ONE_BACKTICK, r"``\1``", " ".join(row["meaning"].split()))
        yield from (f".. setting:: {owner}.{name} = {row['default']}", "")
        yield from (f"   {meaning}{search} ({escaped(readable_type(row['type']))})", "")


def show_setting(_: BuildEnvironment, text: str, node: addnodes.desc_signature) -> str:
    """Write ``ALGORITHM.NAME = DEFAULT`` without the algorithm; return the name of the entry."""
    name, _, default = text.partition(" = ")
    node += addnodes.desc_name("", name.partition(".")[2])
    node += addnodes.desc_annotation("", f" = {default}")
    return name


def profile_table(entries: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """Give a table of what each entry of a profile sets, and where that is from."""
    from zoo.settings.layers import ENTRY_NOTES

    lines = [("entry", "settings", *ENTRY_NOTES)]
    for entry, values in entries.items():
        own = ", ".join(code(f"{key}={value}") for key, value in values.items() if key not in ENTRY_NOTES)
        lines.append((code(entry), own, *(escaped(str(values.get(note, ""))) for note in ENTRY_NOTES)))
    return table(lines, "")


def table(rows: list[tuple[str, ...]], title: str) -> Iterator[str]:
    """Give a table whose first row is its head."""
    yield from (f".. list-table:: {title}".rstrip(), "   :header-rows: 1", "")
    for row in rows:
        yield from (f"   {'* -' if not index else '  -'} {cell}" for index, cell in enumerate(row))
    yield ""


def label_cells(_: Sphinx, document: nodes.document) -> None:
    """Write the head of its column into each cell of a table of texts, which a narrow window shows as cards.

    Long code in tables, such as commands, is marked too, since it may be broken into lines.
    """
    for found in document.findall(nodes.table):
        for literal in found.findall(nodes.literal):
            literal["classes"] += ["long"] * (len(literal.astext()) > LONG)
        (head,) = found.findall(nodes.thead)
        titles = [cell.astext() for cell in head.findall(nodes.entry)]
        (body,) = found.findall(nodes.tbody)
        cells = list(body.findall(nodes.entry))
        if max(len(cell.astext()) for cell in cells) > LONG and not any(found.findall(nodes.raw)):
            found["classes"].append("cards")
            for index, cell in enumerate(cells):
                title = titles[index % len(titles)]
                if cell.astext() and title and index % len(titles):
                    cell[0].insert(0, nodes.inline("", f"{title}: ", classes=["title"]))


def videos() -> Iterator[str]:
    """Give every recording in ``docs/figures/play``, with its file's name as what it shows."""
    found = sorted((ROOT / "docs/figures/play").glob("*.gif"))
    if not found:
        yield "There are none yet."
    for path in found:
        shown = path.stem.replace("_", " ")
        yield from (f".. figure:: /{path.relative_to(ROOT)}", f"   :alt: {shown}", "", f"   {escaped(shown)}", "")


def heading(text: str, line: str) -> tuple[str, ...]:
    """Return the lines of a heading."""
    return (text, line * len(text), "")


def code(value: object) -> str:
    """Return a value in the type of code."""
    return f"``{value}``" if str(value) else ""


def escaped(text: str) -> str:
    """Return text of which reStructuredText takes no character as a mark, except code in backticks."""
    text = re.sub(r"([*|\\])", r"\\\1", " ".join(text.split()))
    text = re.sub(r"(\w)_(?!\w)", r"\1\\_", text)
    return re.sub(ONE_BACKTICK, r"``\1``", text)


LINES = {"programs": programs, "settings": settings, "videos": videos}
"""Name of a directive -> what gives its lines."""
