"""Shared code of programs: dispatch, exit codes, error messages and the result as a line of JSON."""

import argparse
import importlib
import json
import shlex
import sys
import traceback
import warnings
from collections.abc import Callable, Sequence
from importlib.metadata import version
from typing import Any

from agents.common.files import DamagedFileError, WriteError
from agents.common.validation import unknown_name_message
from zoo.terminal.errors import (
    BAD_INPUT,
    FAILED,
    INTERRUPTED,
    SUCCEEDED,
    TRACEBACK_HINT,
    Interrupted,
    UsageError,
    describe_error,
    handling_signals,
    one_line,
)
from zoo.terminal.messages import LOG_FILE_ONLY, log, messages
from zoo.terminal.parser import Parser, module_of

PROGRAMS = {
    "train": "train an algorithm on an environment's dataset, then online",
    "tune": "search for an algorithm's best settings",
    "benchmark": "train every run of a suite, here or on a cluster, and compare the results",
    "enjoy": "watch or record an agent",
    "export": "write a policy as an ONNX file, for programs without PyTorch",
    "evaluate": "evaluate any model under its run's protocol, and print the score",
    "push-to-hub": "upload an agent to the Hugging Face hub, with a model card",
    "compare": "compare runs and published scores: tables, statistics and plots",
    "monitor": "show the state, scores and remaining time of runs",
    "dataset": "list, generate, download, check and convert datasets",
    "agents": "show algorithms and settings, create or check your own",
}


def run_program(body: Callable[[], dict[str, Any]], verbose: int = 1) -> int:
    """Run a program's body, print its result as one line of JSON, and convert its errors to exit codes.

    :param verbose: 0 shows only errors; 2 or more also shows the tracebacks of errors.
    :return: 0 done, 2 bad input, 3 stopped by a signal, 1 any other error.
    """
    with handling_signals(_interrupt), messages(verbose), warnings.catch_warnings():
        # log the message of a warning without the line of code that Python adds
        warnings.showwarning = lambda message, *_, **__: log.warning(message)
        try:
            print(json.dumps(body()), flush=True)
        except (KeyboardInterrupt, Interrupted) as error:
            log.error(one_line(error))
            return INTERRUPTED
        except (Exception, SystemExit) as error:  # an environment may call `sys.exit`
            is_known = isinstance(error, (UsageError, DamagedFileError))
            trace = traceback.format_exc().rstrip()
            if verbose >= 2:
                log.error(trace)
            elif is_known or isinstance(error, WriteError):
                log.error(error)
            else:
                log.log(LOG_FILE_ONLY, trace)
                log.error("%s%s", describe_error(error), TRACEBACK_HINT)
            return BAD_INPUT if is_known else FAILED
    return SUCCEEDED


def as_program(
    make_parser: Callable[[], Parser], body: Callable[[argparse.Namespace], dict[str, Any]]
) -> Callable[..., int]:
    """Return the ``main`` of a program; ``body`` may set ``exit_code`` in the arguments that it receives.

    If the parser has a default for ``command_line``, ``main`` replaces it with the command line.
    """

    def main(arguments: Sequence[str] | None = None) -> int:
        """Run the program with some arguments, by default the command line's; return its exit code."""
        parser = make_parser()
        words = list(sys.argv[1:] if arguments is None else arguments)
        args = parser.parse_args(words)
        if "command_line" in args:
            args.command_line = f"{parser.prog} {shlex.join(words)}"
        code = run_program(lambda: body(args), getattr(args, "verbose", 1))
        return code or int(getattr(args, "exit_code", SUCCEEDED))

    return main


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``zoo PROGRAM ...`` with some arguments, by default the command line's; return its exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words or words[0] in ("-h", "--help"):
        print("usage: zoo PROGRAM [arguments], zoo --version; programs:")
        width = max(map(len, PROGRAMS))
        for name, purpose in PROGRAMS.items():
            print(f"  {name:<{width}} {purpose}")
        return SUCCEEDED if words else BAD_INPUT
    if words == ["--version"]:
        print(f"flow-rl-zoo {version('flow-rl-zoo')}")
        return SUCCEEDED
    if words[0] not in PROGRAMS:
        log.error("%s; see zoo --help", unknown_name_message("program", words[0], PROGRAMS))
        return BAD_INPUT
    program = importlib.import_module(f"zoo.{module_of(words[0])}")
    return int(program.main(words[1:]))


def _interrupt(signum: int, frame: object) -> None:
    """Raise KeyboardInterrupt for a signal, as Python does for Ctrl-C."""
    raise KeyboardInterrupt(f"stopped by signal {signum}")
