"""What every program shares: dispatch, exit codes, error text and the last line of JSON."""

import argparse
import importlib
import json
import shlex
import signal
import sys
import traceback
import warnings
from collections.abc import Callable, Sequence
from importlib.metadata import version
from typing import Any

from agents.common.files import DamagedFileError
from agents.common.validation import unknown_name_message
from zoo.terminal.errors import (
    BAD_INPUT,
    FAILED,
    INTERRUPTED,
    SUCCEEDED,
    TRACEBACK_HINT,
    Interrupted,
    UsageError,
    heard_signals,
)
from zoo.terminal.messages import LOG_FILE_ONLY, log, messages
from zoo.terminal.parser import Parser, module_of

PROGRAMS = {
    "train": "train an algorithm on an environment's dataset, then online",
    "tune": "search for an algorithm's best settings",
    "benchmark": "train every run of a suite, here or on a cluster, and compare",
    "enjoy": "watch an agent play, and record it",
    "export": "write a policy as an ONNX file, for programs without PyTorch",
    "evaluate": "play any model under the report's protocol, and print its score",
    "push-to-hub": "upload an agent to the Hugging Face hub, with a model card",
    "compare": "tables, statistics and plots of runs and published scores",
    "monitor": "state, scores and time left of runs, once or until they have ended",
    "dataset": "list, generate, download, check and convert datasets",
    "agents": "show algorithms and settings, check or begin one of your own",
}


def run_program(body: Callable[[], dict[str, Any] | None], verbose: int = 1) -> int:
    """Run a program's body, print its result, and turn its failures into exit codes.

    :param verbose: 0 shows errors only, 2 or more their tracebacks too.
    :return: 0 done, 2 bad input, 3 stopped by a signal, 1 anything else.
    """
    for number in heard_signals():
        if number != signal.SIGINT:  # for which Python has a handler
            signal.signal(number, _interrupt)
    with messages(verbose), warnings.catch_warnings():
        warnings.showwarning = lambda message, *_, **__: log.warning(message)  # no line of code
        try:
            result = body()
            if result is not None:
                print(json.dumps(result), flush=True)
        except (KeyboardInterrupt, Interrupted) as error:
            log.error(str(error) or "stopped by a signal")
            return INTERRUPTED
        except (Exception, SystemExit) as error:  # an environment may call `sys.exit`
            is_known = isinstance(error, (UsageError, DamagedFileError))
            trace = "".join(traceback.format_exception(error)).rstrip()
            if verbose >= 2:
                log.error(trace)
            elif is_known:
                log.error(error)
            else:
                log.log(LOG_FILE_ONLY, trace)
                frame = traceback.extract_tb(error.__traceback__)[-1]
                # e.g. `raise NotImplementedError` says nothing but where it stands
                text = str(error) or f"raised by `{frame.name}` in {frame.filename}:{frame.lineno}"
                log.error("%s: %s%s", type(error).__name__, text, TRACEBACK_HINT)
            return BAD_INPUT if is_known else FAILED
    return SUCCEEDED


def as_program(
    make_parser: Callable[[], Parser], body: Callable[[argparse.Namespace], dict[str, Any] | None]
) -> Callable[..., int]:
    """Return the ``main`` of a program, whose body may leave an exit code of its own in its arguments.

    A parser with a default of ``command_line`` has the words that were typed there.
    """

    def main(arguments: Sequence[str] | None = None) -> int:
        """Run the program on the words after its name, by default those of the command line; return its exit code."""
        parser = make_parser()
        words = list(sys.argv[1:] if arguments is None else arguments)
        args = parser.parse_args(words)
        if "command_line" in args:
            args.command_line = f"{parser.prog} {shlex.join(words)}"
        code = run_program(lambda: body(args), getattr(args, "verbose", 1))
        return code or int(getattr(args, "exit_code", SUCCEEDED))

    return main


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``zoo PROGRAM ...`` on the words after ``zoo``, by default those typed; return its exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words or words[0] in ("-h", "--help"):
        lines = ["usage: zoo PROGRAM [arguments], zoo --version; programs:"]
        lines += [f"  {name:<11} {purpose}" for name, purpose in PROGRAMS.items()]
        print("\n".join(lines))
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
    """Treat a signal like Ctrl-C."""
    raise KeyboardInterrupt(f"stopped by signal {signum}")
