"""Parse the command lines of `zoo` commands, and format their help texts."""

import argparse
import fnmatch
import math
import os
import re
import textwrap
from collections.abc import Collection, Sequence
from dataclasses import MISSING, dataclass, field, fields
from functools import partial
from pathlib import Path
from types import UnionType
from typing import Any, Literal, NoReturn, Union, get_args, get_origin, get_type_hints

from agents.common.validation import describe_bounds, suggestion, unknown_name_message
from zoo.terminal.errors import BAD_INPUT, UsageError, one_line
from zoo.terminal.messages import log

MAX_SEED = 2**32 - 1
"""The largest seed that NumPy accepts."""
MAX_PLANNED_SEEDS = 1000
"""Largest number of seeds on a command line; more are assumed to be a typing error."""


class Parser(argparse.ArgumentParser):
    """ArgumentParser that rejects abbreviated flags, suggests the closest flag, and adds defaults to its help.

    :param program: a name in :data:`PROGRAMS`; None if ``options`` contains ``prog``.
    """

    def __init__(self, program: str | None = None, **options: Any) -> None:
        if program is not None:
            options["prog"] = f"zoo {program}"
        formatter = partial(_HelpFormatter, max_help_position=32)
        # in a later release, an abbreviation could mean another flag
        super().__init__(allow_abbrev=False, formatter_class=formatter, **options)
        # arguments without a type must be non-empty texts
        self.register("type", None, a_text)
        # two numbers separated by a comma are a value, not a flag, e.g. `--action-range -1,1`
        self._negative_number_matcher = re.compile(r"-\.?\d[\d.,eE+-]*$")

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> tuple[Any, list[str]]:
        """Parse arguments; errors about unknown arguments name the sub-command."""
        try:
            parsed, unknown = super().parse_known_args(args, namespace)
        except UsageError as error:  # raised by the type of an argument
            self.error(one_line(error))
        if unknown and unknown[0].startswith("-"):
            flag = unknown[0].partition("=")[0]
            message = f"unknown flag {flag}; {suggestion(flag, self._option_string_actions)}"
            if "-params" in self._option_string_actions:
                message += "; set algorithm settings with `-params gamma=0.99`"
            self.error(message)
        if unknown:
            self.error(f"unexpected argument {unknown[0]!r}")
        # resolve paths now, because an environment may change the working folder later
        for name, value in vars(parsed).items():
            if isinstance(value, Path):
                setattr(parsed, name, value.absolute())
        return parsed, unknown

    def error(self, message: str) -> NoReturn:
        """Log the error on one line, and exit."""
        log.error("%s: %s; see %s --help", self.prog, message, self.prog)
        self.exit(BAD_INPUT)


class _HelpFormatter(argparse.HelpFormatter):
    """Adds non-empty defaults to help texts, and keeps the paragraphs of a description."""

    def _get_help_string(self, action: argparse.Action) -> str:
        text = action.help or ""
        default = action.default
        if default is False or default in (None, "", [], argparse.SUPPRESS) or "(default:" in text:
            return text
        return f"{text} (default: %(default)s)"

    def _split_lines(self, text: str, width: int) -> list[str]:
        # names such as cube-double-play-v0 stay on one line
        return textwrap.wrap(text, width, break_on_hyphens=False)

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        fill = super()._fill_text
        return "\n\n".join(fill(paragraph, width, indent) for paragraph in text.split("\n\n"))


@dataclass(frozen=True)
class Number:
    """Argument type: a number within bounds, e.g. ``1000``, ``100_000`` or ``1e5``.

    :param is_whole: whether only whole numbers are valid.
    """

    minimum: float = -math.inf
    maximum: float = math.inf
    is_whole: bool = True

    def __call__(self, text: str) -> float:
        """Parse a number."""
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        is_valid = math.isfinite(value) and self.minimum <= value <= self.maximum
        noun = "a number"
        if self.is_whole:
            noun = "a whole number"
            is_valid = is_valid and value.is_integer()
        if not is_valid:
            bounds = describe_bounds(at_least=self.minimum, at_most=self.maximum)
            raise argparse.ArgumentTypeError(
                f"expected {noun}{bounds}, e.g. 1000, 100_000 or 1e5, got {text!r}"
            )
        if self.is_whole:
            return int(value)
        return value


COUNT = Number(1)
ZERO_OR_MORE = Number(0)
SEED = Number(0, MAX_SEED)
SEED_OR_ANY = Number(-1, MAX_SEED)
REAL = Number(is_whole=False)
"""Argument types that the commands share."""


def a_path(text: str) -> Path:
    """Parse a path, with `~` as the home folder; empty text, which would mean the current folder, is rejected."""
    if not text:
        raise argparse.ArgumentTypeError("expected a path, e.g. `.` for the current folder, got ''")
    # shells do not expand `~` in quotes or after `=`; pathlib would raise an error for an unknown home folder
    return Path(os.path.expanduser(text))


def check_output(flag: str, path: Path, kind: Literal["file", "folder"] = "file") -> None:
    """Raise UsageError if an output file or folder cannot be written; call this before work starts.

    A folder may be missing, a file's folder may not.
    """
    folder = path.absolute()
    is_other = False
    if kind == "file":
        folder = folder.parent
        expected = "a file in a folder that exists and can be written to"
        is_other = path.exists() and not path.is_file()  # e.g. a device
    else:
        # stop at a broken link too, where no folder can be created
        while not os.path.lexists(folder):
            folder = folder.parent
        expected = "a folder to write to"
    if is_other or not folder.is_dir() or not os.access(folder, os.W_OK):
        raise UsageError(f"`{flag}` must be {expected}, got {path}; choose another")


def a_text(text: str) -> str:
    """Parse a non-empty text."""
    if not text.strip():
        raise argparse.ArgumentTypeError(f"expected a non-empty text, got {text!r}")
    return text


def two_numbers(text: str) -> list[float]:
    """Parse two numbers separated by a comma, e.g. ``"-1,1"``."""
    try:
        low, high = map(float, text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"expected two numbers separated by a comma, e.g. -1,1, got {text!r}"
        ) from None
    return [low, high]


# -- flags declared as fields of a request ----------------------------------------------------------------------------


def flag(doc: str, *aliases: str, default: Any = None, **options: Any) -> Any:
    """Declare a dataclass field that is also a flag, by default with the same name.

    :param doc: help text of the flag.
    :param aliases: other names, e.g. ``-f``.
    :param default: default of the field, or ``MISSING``.
    :param options: argparse options, which override the options implied by the type. Further options: ``section``, the
        title of a group of flags that starts with this flag; ``either``, a name that mutually exclusive flags share;
        ``name``, the flag's name.
    """
    return field(default=default, metadata={"aliases": aliases, "help": doc, **options})


def options_of(kind: Any, minimum: float = 1) -> dict[str, Any]:
    """Return the options of argparse for a type; ``None`` in a union has no effect.

    :param minimum: lower bound of an int.
    """
    origin = get_origin(kind)
    if origin in (Union, UnionType):
        return options_of(get_args(kind)[0], minimum)
    if origin is Literal:
        return {"choices": get_args(kind)}
    if origin is tuple:
        return {"type": two_numbers, "metavar": "LOW,HIGH"}
    if origin in (list, Sequence):
        return {"nargs": "+", **options_of(get_args(kind)[0])}
    options: dict[Any, dict[str, Any]] = {
        bool: {"action": "store_true"},
        int: {"type": Number(minimum)},
        float: {"type": REAL},
        Path: {"type": a_path},
    }
    return options.get(kind, {})


def add_flags(
    parser: argparse.ArgumentParser,
    request: type[Any],
    names: Collection[str] | None = None,
) -> dict[str, argparse._ArgumentGroup]:
    """Add the flags declared by the fields of a request; return title -> group of flags.

    :param names: names of the fields; None for all.
    """
    kinds = get_type_hints(request)
    groups: dict[str, argparse._ArgumentGroup] = {}
    exclusive: dict[str, argparse._MutuallyExclusiveGroup] = {}
    for entry in fields(request):
        options = {**options_of(kinds[entry.name]), **entry.metadata}
        if "section" in options:
            title = options.pop("section")
            group = groups[title] = parser.add_argument_group(title)
        if "help" not in options or not (names is None or entry.name in names):
            continue
        target: argparse._ActionsContainer = group
        if "either" in options:
            rivals = options.pop("either")
            is_required = options.pop("required", False)
            if rivals not in exclusive:
                exclusive[rivals] = group.add_mutually_exclusive_group(required=is_required)
            target = exclusive[rivals]
        # omit empty defaults, because argparse would append to them and the help would show them
        if entry.default not in (MISSING, "", ()):
            options["default"] = entry.default
        name = options.pop("name", f"--{entry.name.replace('_', '-')}")
        target.add_argument(*options.pop("aliases"), name, dest=entry.name, **options)
    return groups


def given_flags(args: argparse.Namespace, request: type[Any]) -> dict[str, Any]:
    """Return the fields of a request that are set by flags or by defaults of the parser."""
    values = {}
    for entry in fields(request):
        value = getattr(args, entry.name, None)
        if value is not None:
            values[entry.name] = tuple(value) if isinstance(value, list) else value
    return values


def add_verbose(parser: argparse._ActionsContainer) -> None:
    """Add the flag ``--verbose``."""
    parser.add_argument(
        "--verbose",
        type=ZERO_OR_MORE,
        default=1,
        help="0: errors only; 1: also progress messages; 2: also tracebacks",
    )


def module_of(program: str) -> str:
    """Return the name of a program's module in the package ``zoo``."""
    # a module zoo/agents.py would shadow the package `agents` in programs that are run as files
    return "list_agents" if program == "agents" else program.replace("-", "_")


def parse_seeds(words: Sequence[str], name: str) -> list[int]:
    """Return the seeds in words such as ``["0-2", "7"]``.

    :param name: name of the flag or key, for messages.
    """
    seeds: list[int] = []
    for word in words:
        first, dash, last = word.partition("-")
        try:
            low, high = int(first), int(last if dash else first)
        except ValueError:
            low, high = 0, -1
        if high < low:
            raise UsageError(f"`{name}` expects numbers or ranges such as 0-11, got {word!r}")
        # check before creating the list, because the list of 0-4000000000 would exhaust the memory
        if len(seeds) + high - low >= MAX_PLANNED_SEEDS:
            raise UsageError(
                f"`{name}` expects at most {MAX_PLANNED_SEEDS} seeds, got {' '.join(words)}"
            )
        seeds += range(low, high + 1)
    if not seeds or len(set(seeds)) < len(seeds) or max(seeds) > MAX_SEED:
        raise UsageError(f"`{name}` expects different seeds <= {MAX_SEED}, got {' '.join(words)}")
    return seeds


def match_names(patterns: Sequence[str], names: Collection[str], noun: str) -> set[str]:
    """Return the names that match any of the patterns; all names if there are no patterns.

    :param noun: kind of the names, for messages.
    :raises UsageError: if a pattern matches no name.
    """
    matching: set[str] = set() if patterns else {*names}
    for pattern in patterns:
        # a name may contain brackets, which are special in patterns
        matches = {pattern}.intersection(names) or fnmatch.filter(names, pattern)
        if not matches:
            raise UsageError(unknown_name_message(noun, pattern, names))
        matching.update(matches)
    return matching
