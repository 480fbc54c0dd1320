"""What every program shares: dispatch, exit codes, error text and the last line of JSON."""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import getpass
import glob
import importlib
import json
import os
import signal
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any

from agents.common.files import DamagedFile
from agents.common.validation import unknown_name_message
from zoo.errors import (
    BAD_INPUT,
    DONE,
    FAILED,
    INTERRUPTED,
    TRACEBACK_HINT,
    Interrupted,
    UsageError,
    describe_limit,
    wanted_signals,
)
from zoo.terminal.arguments import Parser, module_of
from zoo.terminal.messages import (
    FILE_ONLY,
    in_words,
    log,
    messages,
    open_standard_streams,
    wrapped,
    write_out,
)

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # names of glibc's malloc.h

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
    "published": "list the published scores that come with the zoo",
    "dataset": "list, generate, download, check, convert and collect datasets",
    "agents": "show algorithms and settings, check or begin one of your own",
}


def give_home() -> None:
    """Give a user whom the system does not know, as containers have them, a name and a home folder of its own."""
    try:
        getpass.getuser()
    except (KeyError, OSError):
        os.environ["LOGNAME"] = str(os.getuid())
    try:
        Path.home()
    except RuntimeError as error:
        home = Path(tempfile.gettempdir()) / f"flow-rl-zoo-{os.getuid()}"
        home.mkdir(mode=0o700, exist_ok=True)
        if home.stat().st_uid != os.getuid():
            raise UsageError(f"this user has no home folder, and {home} is another user's; set HOME") from error
        os.environ["HOME"] = str(home)
        log.warning("this user has no home folder; data and caches go to %s, unless HOME says where", home)


def restart_in_utf8() -> None:
    """Start the program again in Python's UTF-8 mode where the locale has another encoding of file names.

    In such a locale, e.g. C with ``PYTHONUTF8=0``, TensorBoard and others fail on names that are not ASCII.
    """
    if sys.getfilesystemencoding() == "utf-8" or sys.flags.utf8_mode:
        return
    program = sys.modules["__main__"]
    file, spec = Path(getattr(program, "__file__", None) or ""), getattr(program, "__spec__", None)
    if (spec and spec.name.startswith("zoo.")) or file.name == "zoo" or file.resolve().parent == Path(__file__).parent:
        os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])


@contextlib.contextmanager
def signals_deferred() -> Iterator[None]:
    """Let signals that ask for the end wait until the end of a ``with`` block that imports PyTorch.

    An exception in the middle of its import may cross C++ code, which then aborts the process.
    """
    arrived: list[int] = []
    previous = {number: signal.getsignal(number) for number in wanted_signals()}
    for number in previous:
        signal.signal(number, lambda number, frame: arrived.append(number))
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
    for received in arrived[:1]:
        signal.raise_signal(received)


def run_program(body: Callable[[], dict[str, Any] | None], verbose: int = 1) -> int:
    """Run a program's body, print its result, and turn its failures into exit codes.

    :param verbose: 0 shows errors only, 2 or more the traceback of an unexpected failure.
    :return: 0 done, 2 bad input, 3 stopped by a signal, 1 anything else.
    """
    restart_in_utf8()
    open_standard_streams()
    for number in wanted_signals():
        if number != signal.SIGINT:  # for which Python has a handler
            signal.signal(number, _interrupt)
    # Read when PyTorch loads. Its threads spin while they wait for each other; where another process wants the cores,
    # matrix products then take ten times as long. Spinning for some microseconds only costs 3% on an idle machine.
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    # An update makes and frees arrays of some megabytes again and again. Returning them to the system each time, and
    # getting them back cleared page by page, took 8% of an update on a CPU.
    if hasattr(libc := ctypes.CDLL(None), "mallopt"):
        libc.mallopt(M_MMAP_THRESHOLD, 1 << 25)  # the highest value that glibc takes
        libc.mallopt(M_TRIM_THRESHOLD, (1 << 31) - 1)
    with messages(verbose), warnings.catch_warnings():
        warnings.showwarning = lambda message, *_, **__: log.warning("%s", message)  # without the line of code
        try:
            give_home()
            result = body()
        except (UsageError, DamagedFile) as error:
            _show_traceback_of_others(error)
            log.error("%s", error)
            return BAD_INPUT
        except (KeyboardInterrupt, Interrupted) as error:
            log.error("%s", str(error) or "stopped by a signal")
            return INTERRUPTED
        except SystemExit as error:
            place = traceback.extract_tb(error.__traceback__)[-1]
            where = f"{place.filename}, line {place.lineno}"
            log.error("%s ended the program before it was done, with SystemExit(%s)", where, error.code)
            return FAILED
        except Exception as error:
            _show_failure(error, verbose)
            return FAILED
    if result is None:
        return DONE
    return DONE if write_out(wrapped(in_words(result)) if sys.stdout.isatty() else json.dumps(result)) else FAILED


def as_program(
    make_parser: Callable[[], Parser], body: Callable[[argparse.Namespace], dict[str, Any] | None]
) -> Callable[..., int]:
    """Return the ``main`` of a program, whose body may leave an exit code of its own in its arguments."""

    def main(arguments: Sequence[str] | None = None) -> int:
        """Run the program on the words after its name, by default those of the command line; return its exit code."""
        args = make_parser().parse_args(arguments)
        code = run_program(lambda: body(checked(args)), getattr(args, "verbose", 1))
        return code or int(getattr(args, "exit_code", DONE))

    return main


def checked(args: argparse.Namespace) -> argparse.Namespace:
    """Return a program's arguments, before PyTorch and the simulators are imported, which takes seconds.

    :raises UsageError: for an ``algo`` or ``env`` that surely does not exist; the message names the closest.
    """
    asked = vars(args)
    if not (algo := asked.get("algo")):
        return args
    import gymnasium

    import zoo.envs.make  # noqa: F401  registers the environments of the benchmarks
    from agents.registry import ALIASES, BUILT_IN
    from zoo.algorithms import SB3, require_algorithm
    from zoo.datasets.names import is_own, parse_env_name
    from zoo.envs.tasks import TASKS

    require_algorithm(algo)
    env = asked.get("env")
    # what the user's packages, an algorithm's module or a dataset say of environments is known later
    is_ours = algo in (*BUILT_IN, *ALIASES, *SB3)
    if not env or ":" in env or not is_ours or asked.get("gym_packages") or is_own(asked.get("dataset", "auto")):
        return args
    has_run = any(Path(asked.get("folder", "."), algo).glob(f"{glob.escape(env)}_*"))
    if not has_run and env not in {*gymnasium.registry, *TASKS}:
        parse_env_name(env, gymnasium.registry)
    return args


def _show_failure(error: Exception, verbose: int) -> None:
    """Say what went wrong unexpectedly, and where: in a run's log always, on the terminal on demand."""
    trace = "".join(traceback.format_exception(error)).rstrip()
    if verbose >= 2:
        log.error("%s", trace)
        return
    log.log(FILE_ONLY, "%s", trace)
    is_shown = _show_traceback_of_others(error)
    hint = "" if is_shown else TRACEBACK_HINT
    limit = describe_limit(error)
    log.error("%s: %s%s", type(error).__name__, error, f": {limit}" if limit else "", extra={"hint": hint})


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
    if ASKED in os.environ:  # the shell's Tab key
        words = [program_typed()]
    if not words or words[0] in ("-h", "--help"):
        lines = [f"  {name:<11} {purpose}" for name, purpose in PROGRAMS.items()]
        is_told = write_out("\n".join(["usage: zoo PROGRAM [arguments], zoo --version; programs:", *lines]))
        return BAD_INPUT if not words else DONE if is_told else FAILED
    if words == ["--version"]:
        return DONE if write_out(f"flow-rl-zoo {version('flow-rl-zoo')}") else FAILED
    if words[0] == "list":  # what one tries first to see what there is
        words = ["agents", *words]
    if words[0] not in PROGRAMS:
        log.error("%s; see zoo --help", unknown_name_message("program", words[0], PROGRAMS))
        return BAD_INPUT
    program = importlib.import_module(f"zoo.{module_of(words[0])}")
    return int(program.main(words[1:]))


def _interrupt(signum: int, frame: object) -> None:
    """Treat a signal like Ctrl-C."""
    raise KeyboardInterrupt(f"stopped by signal {signum}")


# -- completion in the shell by argcomplete: ``eval "$(register-python-argcomplete zoo)"`` switches it on --------------


ASKED = "_ARGCOMPLETE"
"""The variable by which the shell asks for completions; its value is the position of the program's word, from 1."""


def program_typed() -> str:
    """Return the program that has been typed, whose parser then answers the shell; complete its name before that."""
    from argcomplete.lexers import split_line

    typed = split_line(os.environ["COMP_LINE"], int(os.environ["COMP_POINT"]))[3]
    first = int(os.environ[ASKED])
    if len(typed) > first:
        os.environ[ASKED] = str(first + 1)  # the words from the program's name on are its command line
        Parser.answer_shell = staticmethod(answer)
        return typed[first]
    parser = argparse.ArgumentParser("zoo")
    parser.add_argument("program", choices=list(PROGRAMS))
    answer(parser)
    raise SystemExit("argcomplete came back without an answer")


def answer(parser: argparse.ArgumentParser) -> None:
    """Give the shell the completions of a parser's command line, and end the process; PyTorch is not imported."""
    import argcomplete

    from zoo.datasets.names import DATASETS, single_task_names

    settings = [Path(resource.name) for resource in files("hyperparams").iterdir()]
    algorithms = sorted(path.stem for path in settings if path.suffix == ".yml")
    environments = [name for dataset in DATASETS for name in single_task_names(dataset)]
    for action in actions_of(parser):
        for flag, known in (("--algo", algorithms), ("--env", environments)):
            if {flag, f"{flag}s"} & set(action.option_strings):
                action.completer = argcomplete.ChoicesCompleter(known)  # type: ignore[arg-type, attr-defined]
    argcomplete.autocomplete(parser)


def actions_of(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """Give the actions of a parser and of its sub-commands."""
    for action in parser._actions:
        yield action
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                yield from actions_of(command)
