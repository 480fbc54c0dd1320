"""Directives of the reference pages: a program's flags from its parser, settings from their declarations, videos."""

from __future__ import annotations

import argparse
import importlib
import inspect
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from zoo.arguments import Parser, module_of
from zoo.cli import PROGRAMS
from zoo.list_agents import describe_algorithm, describe_algorithms, readable_type

ROOT = Path(__file__).resolve().parent.parent
ONE_BACKTICK = r"(?<![:`])`([^`]+)`(?!`)"
"""Code as texts for a terminal have it, and not a role such as :math:."""


def setup(app: Sphinx) -> dict[str, bool]:
    """Offer the directives to Sphinx."""
    for name in LINES:
        app.add_directive(name, Generated)
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
    """Give the settings that all algorithms share, then each algorithm's own and its profiles."""
    described = {id: describe_algorithm(id) for id in describe_algorithms()["algorithms"]}
    flows = [found["settings"] for found in described.values() if not is_baseline(found)]
    first, *others = flows
    shared = {name: row for name, row in first.items() if all(other.get(name) == row for other in others)}
    yield from heading("All algorithms", "=")
    yield from ("Every algorithm but SB3's own has these settings, with these defaults.", "")
    yield from settings_table(shared)
    for id, found in described.items():
        own = {name: row for name, row in found["settings"].items() if is_baseline(found) or shared.get(name) != row}
        yield from heading(f"{found['published_name']} (``{id}``)", "=")
        page = f":doc:`Its page </docs/algorithms/{id}>`. " if (ROOT / f"docs/algorithms/{id}.md").exists() else ""
        yield from (f"{page}Paper: {escaped(found['paper'])}.", "")
        yield from settings_table(own)
        for profile, entries in found["profiles"].items():
            yield from profile_table(profile, entries)


def is_baseline(found: Mapping[str, Any]) -> bool:
    """Return whether a described algorithm is one of SB3's."""
    return bool(found["kind"].startswith("SB3"))


def settings_table(rows: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """Give a table of settings."""
    lines = [("setting", "default", "meaning (type)")]
    for name, row in rows.items():
        search = f" Search: {escaped(row['search'])}." if row["search"] else ""
        meaning = re.sub(ONE_BACKTICK, r"``\1``", " ".join(row["meaning"].split()))
        lines.append((code(name), code(row["default"]), f"{meaning}{search} ({escaped(readable_type(row['type']))})"))
    return table(lines, "")


def profile_table(profile: str, entries: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """Give a table of what each entry of a profile sets, and where that is from."""
    from zoo.layers import ENTRY_NOTES

    lines = [("entry", "settings", *ENTRY_NOTES)]
    for entry, values in entries.items():
        own = ", ".join(code(f"{key}={value}") for key, value in values.items() if key not in ENTRY_NOTES)
        lines.append((code(entry), own, *(escaped(str(values.get(note, ""))) for note in ENTRY_NOTES)))
    return table(lines, f"``--profile {profile}``")


def table(rows: list[tuple[str, ...]], title: str) -> Iterator[str]:
    """Give a table whose first row is its head."""
    yield from (f".. list-table:: {title}".rstrip(), "   :header-rows: 1", "")
    for row in rows:
        yield from (f"   {'* -' if not index else '  -'} {cell}" for index, cell in enumerate(row))
    yield ""


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
