"""Directives of the reference pages: programs' flags from parsers, and settings from declarations.

The page of each algorithm's settings is written before Sphinx reads the pages.
"""

from __future__ import annotations

import argparse
import importlib
import inspect
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util.docutils import SphinxDirective

from agents.registry import BUILT_IN
from tools import ROOT
from zoo.algorithms.catalogue import SB3, describe_algorithms, find_algorithm, settings_of
from zoo.list_agents import readable_type
from zoo.settings.config import known_settings
from zoo.settings.layers import DEFAULT_PROFILE, ENTRY_NOTES, describe_profiles, merge
from zoo.terminal.cli import PROGRAMS
from zoo.terminal.parser import Parser, module_of

SETTINGS = ROOT / "docs" / "reference" / "settings"
"""Folder of the generated pages; git ignores it."""
COMMON = "all"
"""Used instead of an algorithm's id for settings that all algorithms share."""
EXAMPLE_DOMAIN = "scene-play"
"""Domain whose settings the examples of the algorithm classes use."""
ONE_BACKTICK = r"(?<![:`])`([^`]+)`(?!`)"
"""Inline code in texts for a terminal, but not a role such as :math:."""


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directives with Sphinx."""
    for name in LINES:
        app.add_directive(name, Generated)
    app.add_object_type("setting", "setting", parse_node=show_setting)
    app.connect("builder-inited", write_settings)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


class Generated(SphinxDirective):
    """Insert reStructuredText that is generated when the page is read."""

    def run(self) -> list[nodes.Node]:
        """Return the nodes of the generated lines."""
        return self.parse_text_to_nodes("\n".join(LINES[self.name]()), allow_section_headings=True)


def programs() -> Iterator[str]:
    """Yield every program's flags, grouped as in its help."""
    for name in PROGRAMS:
        parser = importlib.import_module(f"zoo.{module_of(name)}").make_parser()
        yield heading(f"zoo {name}", "=")
        yield from program(parser, f"zoo {name}")


def program(parser: Parser, name: str) -> Iterator[str]:
    """Yield a parser's description, flags and sub-commands."""
    description = escaped(inspect.cleandoc(parser.description or ""))
    yield f"{description}\n\n.. program:: {name}\n"
    for group in parser._action_groups:
        shown = [action for action in group._group_actions if is_shown(action)]
        commands = [action for action in shown if isinstance(action, argparse._SubParsersAction)]
        flags = [action for action in shown if action not in commands]
        if flags:
            yield f".. rubric:: {escaped((group.title or '').capitalize())}\n"
        for action in flags:
            yield option(parser, action)
        for action in commands:
            for word, command in action.choices.items():
                yield heading(f"{name} {word}", "-")
                command.description = f"{command.description[:1].upper()}{command.description[1:]}."
                yield from program(command, f"{name} {word}")


def is_shown(action: argparse.Action) -> bool:
    """Return whether a flag is in the reference: all except ``--help`` and hidden flags."""
    return action.help != argparse.SUPPRESS and not isinstance(action, argparse._HelpAction)


def option(parser: Parser, action: argparse.Action) -> str:
    """Return one flag or argument: its spellings, and its help with the default."""
    formatter = parser._get_formatter()
    metavar = formatter._get_default_metavar_for_optional(action)
    value = "" if action.nargs == 0 else f" {formatter._format_args(action, metavar)}"
    if not action.option_strings:
        value = formatter._format_args(action, action.dest)
    spellings = ", ".join(f"{flag}{value}" for flag in action.option_strings) or value
    return f".. option:: {spellings}\n\n   {escaped(formatter._expand_help(action))}\n"


def settings() -> Iterator[str]:
    """Yield the index of all settings, and the entries of settings that all algorithms share."""
    places = defaultdict(list)
    for name in common_settings():
        places[name].append(f":setting:`all <{COMMON}.{name}>`")
    for id, algorithm in described().items():
        for name in own_settings(id):
            places[name].append(f":setting:`{algorithm['published_name']} <{id}.{name}>`")
    for name in sorted(places):
        yield f"{code(name)}\n   {', '.join(places[name])}\n"
    yield heading("Settings of all algorithms", "=")
    yield "All algorithms except those of SB3 have these settings, with these defaults.\n"
    yield from setting_entries(COMMON, common_settings())


def write_settings(_: Sphinx) -> None:
    """Write the page of each algorithm's settings unless it is unchanged, because Sphinx rereads written files."""
    SETTINGS.mkdir(exist_ok=True)
    for id in described():
        path, text = SETTINGS / f"{id}.rst", "\n".join(settings_page(id))
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


def settings_page(id: str) -> Iterator[str]:
    """Yield an algorithm's settings page: its own settings, settings with other defaults, and its profiles."""
    algorithm = described()[id]
    yield heading(f"Settings of {algorithm['published_name']}", "#")
    page = ""
    if (ROOT / f"docs/algorithms/{id}.md").exists():
        page = f":doc:`Page of the algorithm </docs/algorithms/{id}>`. "
    yield f"{page}Id: ``{id}``. Paper: {escaped(algorithm['paper'])}.\n"
    if id not in SB3:
        yield "It also has :doc:`the settings of all algorithms </docs/reference/settings>`.\n"
    yield from setting_entries(id, own_settings(id))
    for profile, entries in algorithm["profiles"].items():
        yield heading(f"``--profile {profile}``", "=")
        yield from profile_table(entries)


@cache
def described() -> dict[str, dict[str, Any]]:
    """Return id -> description of the algorithm."""
    return {id: row | _describe_class(id) for id, row in describe_algorithms().items()}


def _describe_class(id: str) -> dict[str, Any]:
    """Return the summary, settings and profiles of an algorithm, from its class."""
    entry = find_algorithm(id)
    settings = {}
    for name, setting in settings_of(entry).items():
        settings[name] = {
            "type": setting.annotation,
            "default": setting.default,
            "meaning": setting.meaning,
            "search": setting.search and str(setting.search),
        }
    return {
        "summary": inspect.cleandoc(entry.algorithm.__doc__ or ""),
        "settings": settings,
        "profiles": describe_profiles(entry.id, known_settings(entry)),
    }


@cache
def common_settings() -> dict[str, Any]:
    """Return the settings that have the same default and meaning in all algorithms except SB3's."""
    tables = [algorithm["settings"] for id, algorithm in described().items() if id not in SB3]
    return {
        name: row
        for name, row in tables[0].items()
        if all(table.get(name) == row for table in tables)
    }


def own_settings(id: str) -> dict[str, Any]:
    """Return an algorithm's settings, except the common ones."""
    algorithm = described()[id]
    shared = {} if id in SB3 else common_settings()
    return {name: row for name, row in algorithm["settings"].items() if shared.get(name) != row}


def setting_entries(owner: str, rows: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """Yield an entry for each setting, which the site's search finds by the setting's name."""
    for name, row in rows.items():
        search = f" Search: {escaped(row['search'])}." if row["search"] else ""
        meaning = re.sub(ONE_BACKTICK, r"``\1``", " ".join(row["meaning"].split()))
        kind = escaped(readable_type(row["type"]))
        yield f".. setting:: {owner}.{name} = {row['default']}\n\n   {meaning}{search} ({kind})\n"


def show_setting(_: BuildEnvironment, text: str, node: addnodes.desc_signature) -> str:
    """Write ``ALGORITHM.NAME = DEFAULT`` without the algorithm; return the name of the entry."""
    name, _, default = text.partition(" = ")
    node += addnodes.desc_name("", name.partition(".")[2])
    node += addnodes.desc_annotation("", f" = {default}")
    return name


def algorithms() -> Iterator[str]:
    """Yield an entry for each algorithm class: its own settings, its summary, and an example."""
    for id, entry in BUILT_IN.items():
        algorithm = described()[id]
        yield heading(algorithm["published_name"], "=")
        arguments = ["policy", "env", "*"]
        for setting, row in own_settings(id).items():
            arguments.append(f"{setting}={row['default']!r}")
        yield f".. py:class:: agents.{entry.class_name}({', '.join(arguments)}, **settings)\n"
        summary = algorithm["summary"].partition("\n")[0]
        yield f"   {escaped(summary)} **When to use it.** {escaped(algorithm['when'])}\n"
        yield "   .. code-block:: python\n"
        for line in example(id):
            yield f"      {line}"
        yield (
            f"\n   {escaped(algorithm['paper'])}. :doc:`Objective and scores </docs/algorithms/{id}>`, "
            f":doc:`all settings </docs/reference/settings/{id}>`.\n"
        )


def example(id: str) -> Iterator[str]:
    """Yield Python code that trains an algorithm on `EXAMPLE_DOMAIN`; default values are left out."""
    entries = described()[id]["profiles"][DEFAULT_PROFILE]
    values = merge(entries["default"], entries.get(EXAMPLE_DOMAIN, {}))
    rows = described()[id]["settings"]
    yield f"model = agents.{BUILT_IN[id].class_name}("
    yield '    "MlpPolicy",'
    yield "    env,"
    for name in ("sparse", "horizon_length", *own_settings(id)):
        if name in values and values[name] != rows[name]["default"]:
            yield f"    {name}={values[name]!r},"
    yield ")"
    if values["offline_steps"]:
        yield f"model.learn_offline({values['offline_steps']:_}, dataset=data)"
    else:
        yield "model.load_dataset(data)"
        yield f"model.learn({values['online_steps']:_})"


def profile_table(entries: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """Return a table with the settings of each entry of a profile, and their sources."""
    lines: list[tuple[str, ...]] = [("entry", "settings", *ENTRY_NOTES)]
    for entry, values in entries.items():
        texts = [code(f"{key}={value}") for key, value in values.items() if key not in ENTRY_NOTES]
        notes = [escaped(str(values.get(note, ""))) for note in ENTRY_NOTES]
        lines.append((code(entry), ", ".join(texts), *notes))
    return table(lines)


def table(rows: list[tuple[str, ...]]) -> Iterator[str]:
    """Yield a table whose first row is the header."""
    yield ".. list-table::\n   :header-rows: 1\n"
    for row in rows:
        yield from (f"   {'* -' if not index else '  -'} {cell}" for index, cell in enumerate(row))
    yield ""


def heading(text: str, line: str) -> str:
    """Return the lines of a heading."""
    return f"{text}\n{line * len(text)}\n"


def code(value: object) -> str:
    """Return a value as inline code."""
    return f"``{value}``" if str(value) else ""


def escaped(text: str) -> str:
    """Escape the marks of reStructuredText in a text, except code in backticks."""
    text = re.sub(r"([*|\\])", r"\\\1", " ".join(text.split()))
    text = re.sub(r"(\w)_(?!\w)", r"\1\\_", text)
    return re.sub(ONE_BACKTICK, r"``\1``", text)


LINES = {"algorithms": algorithms, "programs": programs, "settings": settings}
"""Name of a directive -> function that yields its lines."""
