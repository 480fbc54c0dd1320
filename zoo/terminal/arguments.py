"""Command lines: how they are parsed, and what their help looks like."""

from __future__ import annotations

import argparse
import decimal
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from agents.common.validation import closest_names, unknown_name_message
from zoo.errors import BAD_INPUT, FAILED, UsageError
from zoo.terminal.messages import log, write_out

MOST_SEEDS = 10_000
MOST_THREADS = 1024
"""More than PyTorch can start in one process on most machines."""
MOST, MOST_SEED = 10**18 - 1, 2**32 - 1
"""The largest number that an argument takes, and the largest seed that NumPy takes."""


class Parser(argparse.ArgumentParser):
    """Parses a command line: flags are written out, unknown ones name the closest, help states each default once.

    :param program: a name in :data:`PROGRAMS`, shown as the user has called it; None takes ``prog`` from the options.
    """

    answer_shell: Callable[[argparse.ArgumentParser], None] = staticmethod(lambda parser: None)
    """What gives the shell completions; `zoo.cli` puts its own here where the shell asks for some."""

    def __init__(self, program: str | None = None, **options: Any) -> None:
        if program is not None:
            file = f"{module_of(program)}.py"
            options["prog"] = file if Path(sys.argv[0]).name == file else f"zoo {program}"
        super().__init__(**{"allow_abbrev": False, "formatter_class": _HelpFormatter, **options})
        self._negative_number_matcher = re.compile(r"-\.?\d[\d.,eE+-]*$")  # two with a comma are a value too

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse arguments, or complete them where the shell asks for that."""
        self.answer_shell(self)
        return super().parse_args(args, namespace)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> tuple[Any, list[str]]:
        """Parse arguments; refuse unknown ones by the name of the sub-command that they were given to."""
        words, known = list(sys.argv[1:] if args is None else args), self._option_string_actions
        for word in words:
            if word == "--" or (self._subparsers is not None and not word.startswith("-")):
                break  # what follows a sub-command is its own
            flag = word.partition("=")[0]
            is_value = not word[1:] or word[0] != "-" or " " in word or self._negative_number_matcher.match(word)
            has_value_attached = word[1:2] != "-" and word[:2] in known  # -flogs
            if not is_value and not has_value_attached and flag not in known:
                self.error(f"unknown flag {flag}; closest: {', '.join(closest_names(flag, known))}")
        found, rest = super().parse_known_args(words, namespace)
        if rest:
            self.error(f"unexpected argument {rest[0]!r}")
        return found, rest

    def print_help(self, file: Any = None) -> None:
        """Print the help, however much of it is read."""
        if file is not None:
            super().print_help(file)
        elif not write_out(self.format_help().rstrip("\n")):
            self.exit(FAILED)

    def error(self, message: str) -> NoReturn:
        """Exit with one line that says what is wrong."""
        log.error("%s: %s; see %s --help", self.prog, message, self.prog)
        self.exit(BAD_INPUT)

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        """Refuse what is not one of the choices by the closest of them."""
        if action.choices is not None and value not in action.choices:
            raise argparse.ArgumentError(action, unknown_name_message("choice", value, map(str, action.choices)))

    def _get_option_tuples(self, option_string: str) -> list[Any]:
        """Accept no abbreviation of a flag with a single dash either; ``allow_abbrev`` is about those with two."""
        found = super()._get_option_tuples(option_string)
        return [candidate for candidate in found if option_string.startswith(candidate[1])]


class _HelpFormatter(argparse.HelpFormatter):
    """Formats help as wide as the terminal, and states a default where it says something."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=32)

    def _get_help_string(self, action: argparse.Action) -> str:
        text, default = action.help or "", action.default
        is_telling = default not in ([], "", argparse.SUPPRESS) and default is not None and default is not False
        if not is_telling or "(default:" in text:
            return text
        shown = " ".join(map(str, default)) if isinstance(default, list) else str(default)
        return f"{text} (default: {shown.replace('%', '%%')})"

    def _get_default_metavar_for_optional(self, action: argparse.Action) -> str:
        is_whole = isinstance(action.type, Number) and action.type.is_whole
        return "N" if is_whole else super()._get_default_metavar_for_optional(action)

    def _format_action_invocation(self, action: argparse.Action) -> str:
        if not action.option_strings or action.nargs == 0:
            return super()._format_action_invocation(action)
        value = self._format_args(action, self._get_default_metavar_for_optional(action))  # once, after all spellings
        return f"{', '.join(action.option_strings)} {value}"

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        fill = super()._fill_text
        return "\n\n".join(fill(paragraph, width, indent) for paragraph in text.split("\n\n"))


@dataclass(frozen=True)
class Number:
    """The type of an argument: a number within bounds, e.g. ``1000``, ``100_000`` or ``1e5``.

    :param is_whole: whether it is a whole number.
    """

    least: int = -MOST
    most: int = MOST
    is_whole: bool = True

    def __call__(self, text: str) -> float:
        """Read a number."""
        try:
            value = decimal.Decimal(text)
        except decimal.InvalidOperation:
            value = decimal.Decimal("nan")
        if not (value.is_finite() and self.least <= value <= self.most) or (self.is_whole and value % 1):
            raise argparse.ArgumentTypeError(f"expected {self}, got {text!r}")
        return int(value) if self.is_whole else float(value)

    def __str__(self) -> str:
        """Return what is expected."""
        noun = "a whole number" if self.is_whole else "a number"
        least = f" >= {self.least}" if self.least > -MOST else ""
        most = f" and <= {self.most}" if self.most < MOST else ""
        return f"{noun}{least}{most}, e.g. 1000, 100_000 or 1e5"


COUNT, ZERO_OR_MORE, THREADS, whole_number = Number(1), Number(0), Number(-1, MOST_THREADS), Number()
SEED, SEED_OR_ANY = Number(0, MOST_SEED), Number(-1, MOST_SEED)
AMOUNT, REAL = Number(0, is_whole=False), Number(is_whole=False)
"""Types of the arguments of all programs; -1 threads are PyTorch's default."""


def a_path(text: str) -> Path:
    """Read a path; no text at all would be the current folder."""
    if not text:
        raise argparse.ArgumentTypeError("expected a path, e.g. `.` for the current folder, got ''")
    return Path(text)


def two_numbers(text: str) -> list[float]:
    """Read two numbers with a comma between them, e.g. ``"-1,1"``."""
    try:
        low, high = map(float, text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected two numbers with a comma, e.g. -1,1, got {text!r}") from None
    return [low, high]


def add_reward_from(command: argparse._ActionsContainer) -> None:
    """Add the flag of rewards that a dataset has as successes."""
    command.add_argument(
        "--reward-from",
        choices=("success",),
        help="take rewards from the `success` flags of a dataset of your own: -1 a step, 0 where the task is achieved",
    )


def add_verbose(parser: argparse._ActionsContainer) -> None:
    """Add the flag that says how much is said."""
    parser.add_argument(
        "--verbose", type=ZERO_OR_MORE, default=1, help="0 errors only, 1 what happens, 2 tracebacks too"
    )


def add_reference_scores(parser: argparse._ActionsContainer) -> None:
    """Add the flag that normalises the returns of runs, which `zoo.report.references` reads."""
    parser.add_argument(
        "--reference-scores",
        nargs="+",
        action="extend",
        default=[],
        metavar="ENV=RANDOM,EXPERT",
        help="returns of a random and an expert policy, or YAML files of `env: [random, expert]`; normalises returns",
    )


def module_of(program: str) -> str:
    """Return the name of the module of the package ``zoo`` that holds a program."""
    # a file zoo/agents.py would hide the package `agents` from the files beside it when they are run by path
    return "list_agents" if program == "agents" else program.replace("-", "_")


def parse_seeds(words: Sequence[str], name: str) -> list[int]:
    """Return the numbers that words stand for, e.g. ``["0-2", "7"]``.

    :param name: what they were given as, for messages.
    """
    seeds: list[int] = []
    for word in words:
        first, dash, last = word.partition("-")
        try:
            wanted = range(int(first), int(last) + 1) if dash else [int(first)]
            seeds += [wanted[0], *wanted[1 : MOST_SEEDS + 1]]  # a range that ends before it begins has no first
        except (ValueError, IndexError):
            raise UsageError(f"`{name}` expects numbers or ranges such as 0-11, got {word!r}") from None
    if len(seeds) > MOST_SEEDS:
        raise UsageError(f"`{name}` expects at most {MOST_SEEDS:,} seeds, got {' '.join(words)}")
    if max(seeds, default=0) > MOST_SEED:
        raise UsageError(f"`{name}` expects seeds <= {MOST_SEED}, got {' '.join(words)}")
    if not seeds or len(set(seeds)) < len(seeds):
        raise UsageError(f"`{name}` expects different seeds, got {' '.join(words)}")
    return seeds
