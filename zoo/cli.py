"""What every program shares: dispatch, its command line, exit codes, error text and the last line of JSON."""

from __future__ import annotations

import argparse
import ctypes
import decimal
import importlib
import json
import os
import signal
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

from agents.common.validation import closest_names, unknown_name_message
from zoo.errors import Interrupted, UsageError
from zoo.messages import FILE_ONLY, log, messages

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # names of glibc's malloc.h
DONE, FAILED, BAD_INPUT, INTERRUPTED = 0, 1, 2, 3

PROGRAMS = {
    "train": "train an algorithm on an environment's dataset, then online",
    "tune": "search for an algorithm's best settings",
    "compare": "tables, statistics and plots of runs and published scores",
    "published": "import the raw data of published scores",
    "dataset": "list, generate, download and check datasets",
    "agents": "show the algorithms and their settings",
}


class Parser(argparse.ArgumentParser):
    """Parses a command line: flags are written out, unknown ones name the closest, help states each default once.

    :param program: a name in :data:`PROGRAMS`, shown as the user has called it; None takes ``prog`` from the options.
    """

    def __init__(self, program: str | None = None, **options: Any) -> None:
        if program is not None:
            file = f"{module_of(program)}.py"
            options["prog"] = file if Path(sys.argv[0]).name == file else f"zoo {program}"
        super().__init__(**{"allow_abbrev": False, "formatter_class": _HelpFormatter, **options})

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> tuple[argparse.Namespace, list[str]]:
        """Parse arguments; refuse unknown ones by the name of the sub-command that they were given to."""
        words = list(sys.argv[1:] if args is None else args)
        for flag in self._unknown_flags(words):
            self.error(f"unknown flag {flag}; closest: {', '.join(closest_names(flag, self._option_string_actions))}")
        found, rest = super().parse_known_args(words, namespace)
        if rest:
            self.error(f"unexpected argument {rest[0]!r}")
        return found, rest

    def error(self, message: str) -> NoReturn:
        """Exit with one line that says what is wrong."""
        self.exit(BAD_INPUT, f"{self.prog}: {message}; see {self.prog} --help\n")

    def _unknown_flags(self, words: Sequence[str]) -> Iterator[str]:
        """Give the unknown flags among the words; those after a sub-command are its own."""
        for word in words:
            if word == "--" or (self._subparsers is not None and not word.startswith("-")):
                return
            flag, known = word.partition("=")[0], self._option_string_actions
            is_value = not word[1:] or word[0] != "-" or " " in word or self._negative_number_matcher.match(word)
            has_value_attached = word[1:2] != "-" and word[:2] in known  # -flogs
            if not is_value and not has_value_attached and flag not in known:
                yield flag

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
        return "N" if action.type is whole_number else super()._get_default_metavar_for_optional(action)

    def _format_action_invocation(self, action: argparse.Action) -> str:
        if not action.option_strings or action.nargs == 0:
            return super()._format_action_invocation(action)
        value = self._format_args(action, self._get_default_metavar_for_optional(action))  # once, after all spellings
        return f"{', '.join(action.option_strings)} {value}"

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        fill = super()._fill_text
        return "\n\n".join(fill(paragraph, width, indent) for paragraph in text.split("\n\n"))


def whole_number(text: str) -> int:
    """Read a whole number of at most 18 digits, e.g. ``"1000"``, ``"100_000"`` or ``"1e5"``."""
    try:
        value = decimal.Decimal(text)
    except decimal.InvalidOperation:
        value = decimal.Decimal("nan")
    if not value.is_finite() or value.adjusted() >= 18 or value != value.to_integral_value():
        raise argparse.ArgumentTypeError(f"expected a whole number, e.g. 1000, 100_000 or 1e5, got {text!r}")
    return int(value)


def keep_freed_memory() -> None:
    """Make glibc keep freed memory for the next large array.

    An update makes and frees arrays of some megabytes again and again. Returning them to the system each time, and
    getting them back cleared page by page, took 8% of an update on a CPU.
    """
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        libc.mallopt(M_MMAP_THRESHOLD, 1 << 25)  # the highest value that glibc takes
        libc.mallopt(M_TRIM_THRESHOLD, (1 << 31) - 1)


def prepare_process() -> None:
    """Give a process that trains for a program what :func:`run_program` gives the program itself."""
    keep_freed_memory()
    warnings.showwarning = _show_warning


def run_program(body: Callable[[], dict[str, Any] | None], verbose: int = 1) -> int:
    """Run a program's body, print its result, and turn its failures into exit codes.

    :param verbose: 0 shows errors only, 2 or more the traceback of an unexpected failure.
    :return: 0 done, 2 bad input, 3 stopped by a signal, 1 anything else.
    """
    signal.signal(signal.SIGTERM, _interrupt)
    # Read when PyTorch loads. Its threads spin while they wait for each other; where another process wants the cores,
    # matrix products then take ten times as long. Spinning for some microseconds only costs 3% on an idle machine.
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    keep_freed_memory()
    with messages(verbose), warnings.catch_warnings():
        warnings.showwarning = _show_warning
        try:
            result = body()
        except UsageError as error:
            _show_traceback_of_others(error)
            log.error("%s", error)
            return BAD_INPUT
        except (KeyboardInterrupt, Interrupted) as error:
            log.error("%s", str(error) or "stopped by a signal")
            return INTERRUPTED
        except Exception as error:
            _show_failure(error, verbose)
            return FAILED
    try:
        if result is not None:
            print(json.dumps(result), flush=True)
    except BrokenPipeError:  # the reader has gone
        return FAILED
    return DONE


def _show_failure(error: Exception, verbose: int) -> None:
    """Say what went wrong unexpectedly, and where: in a run's log always, on the terminal on demand."""
    trace = "".join(traceback.format_exception(error)).rstrip()
    if verbose >= 2:
        log.error("%s", trace)
        return
    log.log(FILE_ONLY, "%s", trace)
    is_shown = _show_traceback_of_others(error)
    hint = "" if is_shown else " (run with --verbose 2 for the traceback)"
    log.error("%s: %s", type(error).__name__, error, extra={"hint": hint})


def _show_traceback_of_others(error: BaseException) -> bool:
    """Show where an error comes from if that is in an algorithm that is not ours: its author wants to see the line."""
    from agents.registry import is_from_elsewhere

    found: BaseException | None = error
    while found is not None:
        frames = traceback.walk_tb(found.__traceback__)
        if any(is_from_elsewhere(frame.f_globals.get("__name__", "")) for frame, _ in frames):
            log.error("%s", "".join(traceback.format_exception(found, chain=False)).rstrip())
            return True
        found = found.__cause__ or found.__context__
    return False


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``zoo PROGRAM ...`` on the words after ``zoo``, by default those typed; return its exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words or words[0] in ("-h", "--help"):
        print("usage: zoo PROGRAM [arguments]; programs:")
        for name, purpose in PROGRAMS.items():
            print(f"  {name:<10} {purpose}")
        return DONE if words else BAD_INPUT
    if words[0] not in PROGRAMS:
        print(f"{unknown_name_message('program', words[0], PROGRAMS)}; see zoo --help", file=sys.stderr)
        return BAD_INPUT
    program = importlib.import_module(f"zoo.{module_of(words[0])}")
    return int(program.main(words[1:]))


def module_of(program: str) -> str:
    """Return the name of the module of the package ``zoo`` that holds a program."""
    # a file zoo/agents.py would hide the package `agents` from the files beside it when they are run by path
    return "list_agents" if program == "agents" else program


def _interrupt(signum: int, frame: object) -> None:
    """Treat SIGTERM like Ctrl-C."""
    raise KeyboardInterrupt(f"stopped by signal {signum}")


def _show_warning(message: Warning | str, *where: object) -> None:
    """Show a warning without the line of code that raised it."""
    log.warning("%s", message)
