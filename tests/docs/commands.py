"""The documentation's commands: pages, words, and the reasons why some commands are not run."""

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
"""Folders whose pages name the commands behind measurements, which take hours and are not run."""


@dataclass(frozen=True)
class Block:
    """A block of commands on a page.

    :param mark: ``not run`` or ``run by``, from the comment before the block; empty if :mod:`tests.docs.test_commands`
        runs it.
    :param reason: why the block is not run, or the tests that run it.
    """

    page: str
    mark: str
    reason: str
    commands: tuple[tuple[str, ...], ...]


def pages():
    """Return the README, and every page of the site that may contain commands."""
    paths = sorted(ROOT.glob("*.md"))
    for folder in ("docs", *MEASUREMENTS):
        paths += sorted((ROOT / folder).rglob("*.md"))
    return [path for path in paths if "_build" not in path.parts]


def prose_of(path):
    """Return the text of a page without its code blocks."""
    return re.sub(r"^ *```.*?^ *```", "", path.read_text(), flags=re.MULTILINE | re.DOTALL)


def blocks():
    """Return the command blocks of all pages, in order."""
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
    """Yield the words of each command, with the block's variables replaced by their values."""
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
    """Yield page and words of every command that is within a line of text and has arguments."""
    for path in pages():
        commands = re.findall(r"(?<!`)`((?:zoo|python zoo/\w+\.py) [^`]+)`(?!`)", prose_of(path))
        for code in commands:
            words = tuple(shlex.split(code.replace("\n", " ")))
            if len(words) > 2:
                yield str(path.relative_to(ROOT)), words


def commands_run_by(test):
    """Return command -> words, in the page's order, for the commands that a page marks as run by a test."""
    commands = {}
    for block in blocks():
        if block.reason.partition("::")[2] == test:
            commands |= {shlex.join(words): list(words) for words in block.commands}
    return commands


def with_values(words, values):
    """Return a command's words with the values after some flags replaced, and with the user's folder instead of ~."""
    replaced = [values.get(flag, word) for flag, word in zip(["", *words], words, strict=False)]
    return [str(Path(word).expanduser()) if word.startswith("~") else word for word in replaced]


def run_all(test, capsys, extra, values, run=main):
    """Run the commands that pages mark as run by a test; return command -> last printed line.

    :param extra: word of a command -> words that make the command quick.
    :param values: flag -> value that replaces the command's.
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
    """Return the module of the program that a command calls, and its arguments; None for another project's program."""
    (file,) = re.findall(r"^python ((?:benchmarks|zoo)/\w+)\.py", " ".join(words[:2])) or [None]
    if words[0] == "zoo" and words[1] in PROGRAMS:
        file = f"zoo/{module_of(words[1])}"
    return file and (importlib.import_module(file.replace("/", ".")), list(words[2:]))
