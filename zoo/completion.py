"""Completion in the shell by argcomplete: ``eval "$(register-python-argcomplete zoo)"`` switches it on.

It imports neither PyTorch nor Gymnasium, so that the Tab key answers at once.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterable, Iterator
from importlib.resources import files

import argcomplete
from argcomplete.lexers import split_line

from zoo.datasets.names import DATASETS, single_task_names
from zoo.terminal.arguments import Parser

ASKED = "_ARGCOMPLETE"
"""The variable by which the shell asks for completions; its value is the position of the program's word, from 1."""


def program_typed(programs: Iterable[str]) -> str:
    """Return the program that has been typed, whose parser then answers the shell; complete its name before that."""
    typed = split_line(os.environ["COMP_LINE"], int(os.environ["COMP_POINT"]))[3]
    first = int(os.environ[ASKED])
    if len(typed) > first:
        os.environ[ASKED] = str(first + 1)  # the words from the program's name on are its command line
        Parser.answer_shell = staticmethod(answer)
        return typed[first]
    parser = argparse.ArgumentParser("zoo")
    parser.add_argument("program", choices=list(programs))
    answer(parser)
    raise SystemExit("argcomplete came back without an answer")


def answer(parser: argparse.ArgumentParser) -> None:
    """Give the shell the completions of a parser's command line, and end the process."""
    for action in actions_of(parser):
        for flag in COMPLETERS.keys() & set(action.option_strings):
            action.completer = argcomplete.ChoicesCompleter(COMPLETERS[flag]())  # type: ignore[arg-type, attr-defined]
    argcomplete.autocomplete(parser)


def actions_of(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """Give the actions of a parser and of its sub-commands."""
    for action in parser._actions:
        yield action
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                yield from actions_of(command)


def _algorithms() -> list[str]:
    names = (resource.name for resource in files("hyperparams").iterdir())
    return sorted(name.removesuffix(".yml") for name in names if name.endswith(".yml"))


def _environments() -> list[str]:
    return [name for dataset in DATASETS for name in single_task_names(dataset)]


COMPLETERS: dict[str, Callable[[], list[str]]] = {
    "--algo": _algorithms,
    "--algos": _algorithms,
    "--env": _environments,
    "--envs": _environments,
}
"""Flags whose values are known names."""
