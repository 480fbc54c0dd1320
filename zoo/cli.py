"""What every program shares: dispatch, exit codes, error text and the last line of JSON."""

from __future__ import annotations

import ctypes
import importlib
import json
import os
import signal
import sys
import traceback
import warnings
from collections.abc import Callable, Sequence
from typing import Any

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # names of glibc's malloc.h
DONE, FAILED, BAD_INPUT, INTERRUPTED = 0, 1, 2, 3

PROGRAMS = {
    "train": "train an algorithm on an environment's dataset, then online",
    "compare": "tables, statistics and plots of runs and published scores",
    "published": "import the raw data of published scores",
    "dataset": "list, generate, download and check datasets",
    "agents": "show the algorithms and their settings",
}


class UsageError(Exception):
    """Bad arguments, settings or data, found before any work starts; the program exits with code 2."""


class Interrupted(Exception):
    """The run was stopped by a signal after its checkpoint was written; the program exits with code 3."""


def keep_freed_memory() -> None:
    """Let the C library keep freed memory for the next large array, where it is glibc.

    An update makes and frees arrays of some megabytes again and again. Handing them back to the system each time, and
    having them cleared page by page when they come again, took 8% of an update on a CPU.
    """
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        libc.mallopt(M_MMAP_THRESHOLD, 1 << 25)  # the highest value that glibc takes
        libc.mallopt(M_TRIM_THRESHOLD, (1 << 31) - 1)


def print_result(result: dict[str, Any]) -> None:
    """Print a program's result as the one JSON object that ends its standard output.

    :param result: JSON-serialisable values.
    """
    print(json.dumps(result), flush=True)


def run_program(body: Callable[[], dict[str, Any]], verbose: int = 1) -> int:
    """Run a program's body, print its result, and turn its failures into exit codes.

    :param body: does the work and returns the result to print.
    :param verbose: 2 or more prints the traceback of an unexpected failure.
    :return: 0 done, 2 bad input, 3 stopped by a signal, 1 anything else.
    """
    signal.signal(signal.SIGTERM, _interrupt)
    # Read when PyTorch loads. Its threads spin while they wait for each other; where another process wants the cores,
    # matrix products then take ten times as long. Spinning for some microseconds only costs 3% on an idle machine.
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    keep_freed_memory()
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _print_warning
            print_result(body())
    except UsageError as error:
        _print_traceback_of_others(error)
        print(str(error), file=sys.stderr)
        return BAD_INPUT
    except (KeyboardInterrupt, Interrupted) as error:
        print(str(error) or "stopped by a signal", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        return FAILED
    except Exception as error:
        if verbose >= 2:
            traceback.print_exc()
        elif _print_traceback_of_others(error):
            print(f"{type(error).__name__}: {error}", file=sys.stderr)
        else:
            print(f"{type(error).__name__}: {error} (run with --verbose 2 for the traceback)", file=sys.stderr)
        return FAILED
    return DONE


def _print_traceback_of_others(error: BaseException) -> bool:
    """Print where an error comes from if that is in an algorithm that is not ours: its author wants to see the line."""
    from agents.registry import is_from_elsewhere

    found: BaseException | None = error
    while found is not None:
        frames = traceback.walk_tb(found.__traceback__)
        if any(is_from_elsewhere(frame.f_globals.get("__name__", "")) for frame, _ in frames):
            traceback.print_exception(found, chain=False)
            return True
        found = found.__cause__ or found.__context__
    return False


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``zoo PROGRAM ...``.

    :param arguments: the words after ``zoo``; None takes them from the command line.
    :return: the program's exit code.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words or words[0] in ("-h", "--help"):
        print("usage: zoo PROGRAM [arguments]; programs:")
        for name, purpose in PROGRAMS.items():
            print(f"  {name:<10} {purpose}")
        return DONE if words else BAD_INPUT
    if words[0] not in PROGRAMS:
        print(f"unknown program `{words[0]}`; programs: {', '.join(PROGRAMS)}", file=sys.stderr)
        return BAD_INPUT
    program = importlib.import_module(f"zoo.{words[0]}")
    return int(program.main(words[1:]))


def _interrupt(signum: int, frame: object) -> None:
    """Treat a polite request to stop like Ctrl-C."""
    raise KeyboardInterrupt(f"stopped by signal {signum}")


def _print_warning(message: Warning | str, *where: object) -> None:
    """Print a warning without the line of code that raised it."""
    print(f"warning: {message}", file=sys.stderr, flush=True)
