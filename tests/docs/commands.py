"""The commands of the documentation: their pages, words, and the reasons why some are not run."""

import importlib
import json
import re
import shlex
from dataclasses import dataclass
from pathlib import Path

from tests import ROOT
from zoo.terminal.cli import PROGRAMS, main
from zoo.terminal.parser import module_of

FENCE = re.compile(r"^ *```(\w*)\s*$", flags=re.MULTILINE)
BLOCK = re.compile(
    r"(?:^<!-- (?P<mark>not run|run by): (?P<reason>[^\n]+) -->\n)?^```(?:bash|sh)\n(?P<code>.*?)^```",
    flags=re.MULTILINE | re.DOTALL,
)
MEASUREMENTS = ("results", "benchmarks")
"""Folders whose pages name the commands that measured them: these take hours, and are not run."""


@dataclass(frozen=True)
class Block:
    """A block of commands on a page.

    :param mark: ``not run`` or ``run by``, from the comment before it; empty where :mod:`tests.docs.test_commands`
        runs it.
    :param reason: why it is not run, or the tests that run it.
    """

    page: str
    mark: str
    reason: str
    commands: tuple[tuple[str, ...], ...]


def pages():
    """Return every page of the site that can have commands, and the README."""
    paths = sorted(ROOT.glob("*.md"))
    for folder in ("docs", *MEASUREMENTS):
        paths += sorted((ROOT / folder).rglob("*.md"))
    return [path for path in paths if "_build" not in path.parts]


def prose_of(path):
    """Return the text of a page without its blocks of code."""
    return re.sub(r"^ *```.*?^ *```", "", path.read_text(), flags=re.MULTILINE | re.DOTALL)


def blocks():
    """Return the blocks of commands of all pages, in their order."""
    all_blocks = []
    for path in pages():
        page = str(path.relative_to(ROOT))
        for match in BLOCK.finditer(path.read_text()):
            mark, reason = match["mark"] or "", match["reason"] or ""
            if page.startswith(MEASUREMENTS):
                mark, reason = "not run", "a measurement takes hours"
            all_blocks.append(Block(page, mark, reason, tuple(words_of(match["code"]))))
    return all_blocks


def words_of(code):
    """Give the words of each command, with variables of the block in their places."""
    variables = {}
    for line in code.replace("\\\n", " ").splitlines():
        assignment = re.fullmatch(r'(\w+)="(.*)"', line)
        if assignment:
            variables[assignment[1]] = assignment[2]
            continue
        for name, value in variables.items():
            line = line.replace(f"${name}", value)
        words = shlex.split(line, comments=True)
        while words and re.fullmatch(r"[A-Z_]+=\S*", words[0]):
            del words[0]
        if words:
            yield tuple(words)


def inline_commands():
    """Give the page and the words of every command inside a line of text that has arguments."""
    for path in pages():
        commands = re.findall(r"(?<!`)`((?:zoo|python zoo/\w+\.py) [^`]+)`(?!`)", prose_of(path))
        for code in commands:
            words = tuple(shlex.split(code.replace("\n", " ")))
            if len(words) > 2:
                yield str(path.relative_to(ROOT)), words


def commands_run_by(test):
    """Return the words of each command whose page names a test that runs it, by the command, in the page's order."""
    commands = {}
    for block in blocks():
        if block.reason.partition("::")[2] == test:
            commands |= {shlex.join(words): list(words) for words in block.commands}
    return commands


def with_values(words, values):
    """Return the words of a command with other values after some flags, and with the user's folder in place of ~."""
    replaced = [values.get(flag, word) for flag, word in zip(["", *words], words, strict=False)]
    return [str(Path(word).expanduser()) if word.startswith("~") else word for word in replaced]


def run_all(test, capsys, extra, values, run=main):
    """Run the commands of pages that name a test, and return what each prints last, by the command.

    :param extra: word of a command -> the words that make it quick.
    :param values: other values after some flags.
    """
    results = {}
    for line, words in commands_run_by(test).items():
        quick = with_values(words[1:], values)
        for word in words:
            quick += extra.get(word, "").split()
        assert run(quick) == 0, (line, capsys.readouterr().err)
        results[line] = json.loads(capsys.readouterr().out.splitlines()[-1])
    return results


def program_of(words):
    """Return the module of the program that a command calls, and its arguments; None if it is not one of ours."""
    (name,) = re.findall(r"^python zoo/(\w+)\.py", " ".join(words[:2])) or [None]
    if words[0] == "zoo" and words[1] in PROGRAMS:
        name = module_of(words[1])
    return name and (importlib.import_module(f"zoo.{name}"), list(words[2:]))
