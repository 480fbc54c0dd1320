"""List algorithms, show their settings, check your algorithm, or create a package for a new one."""

import argparse
import importlib.util
import keyword
import re
import shlex
import sys
from pathlib import Path
from typing import Any

if not __package__:  # run as a file: let `import agents` and `import zoo` find the packages
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from agents.common.files import atomic_folder
from agents.common.validation import unknown_name_message
from agents.registry import ALIASES
from zoo.algorithms.catalogue import (
    NUMBERS,
    algorithm_ids,
    cells_of,
    describe_algorithms,
    in_order,
    start_text,
)
from zoo.settings.request import TrainRequest
from zoo.terminal.cli import as_program
from zoo.terminal.errors import UsageError, as_usage_error
from zoo.terminal.messages import log
from zoo.terminal.parser import Parser, a_path, add_flags
from zoo.terminal.tables import print_table, terminal

TEMPLATE = Path(__file__).parent / "algorithms" / "template"
"""Template of a package with an algorithm. The files end in ``.txt``, so that tools do not treat them as code."""


def make_parser() -> Parser:
    """Return the command-line parser."""
    parser = Parser("agents", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(word: str, run: Any, purpose: str) -> Parser:
        command = commands.add_parser(word, help=purpose, description=purpose)
        command.set_defaults(run=run)
        return command

    add("list", _list, "list all algorithms: scores, work per update, and when to use them")
    show = add("show", _show, "show an algorithm: settings, defaults and their meaning")
    show.add_argument("algo", help="algorithm id or alias, e.g. qam")
    purpose = "test whether an algorithm meets all requirements of training, saving and reports"
    check = add("check", _check, purpose)
    check.add_argument("algo", help="algorithm id, or module:Class")
    check.add_argument(
        "--skip", nargs="+", default=[], metavar="CHECK", help="checks to leave out, e.g. compiled"
    )
    add_flags(check, TrainRequest, ("hyperparams",))
    new = add("new", _new, "create a package with a small algorithm to start from")
    new.add_argument("name", help="name of the package and the algorithm, e.g. my_agent")
    new.add_argument("--folder", type=a_path, default=Path(), help="parent folder of the package")
    return parser


def _list(args: argparse.Namespace) -> dict[str, Any]:
    """Print a recommendation, a table of all algorithms, and the next command."""
    algorithms = describe_algorithms()
    console = terminal()
    console.print(start_text(algorithms, "{id}") + "\n")
    rows = []
    for id in in_order(algorithms):
        row = algorithms[id]
        rows.append((id, row["source"] or "", *cells_of(row), row["when"]))
    header = ("id", "source", *NUMBERS, "when to use it")
    print_table("", header, rows, wrapped="when to use it")
    console.print(
        "offline, online: published success in %; compare scores only within a source. mini: success in the mini "
        "benchmark, online for rlpd and SB3's algorithms. work: operations per update, relative to bc.\n"
        "next: zoo agents show fql, or zoo train --algo fql --env ENV --quick"
    )
    return {"algorithms": list(algorithms)}


def _show(args: argparse.Namespace) -> dict[str, Any]:
    """Print an algorithm's description, its settings with default, type and meaning, and its profiles."""
    # imported late, here and below, because importing PyTorch takes seconds
    from zoo.algorithms.catalogue import find_algorithm, settings_of
    from zoo.settings.config import known_settings
    from zoo.settings.layers import describe_profiles

    entry = find_algorithm(args.algo)
    settings = settings_of(entry)
    summary = (entry.algorithm.__doc__ or "").partition("\n\n")[0]
    console = terminal()
    console.print(
        f"{entry.published_name} ({entry.id}), {entry.paper}\n\n{_unmarked(' '.join(summary.split()))}\n"
    )
    rows = []
    for name, setting in settings.items():
        search = f" Search: {setting.search}." if setting.search else ""
        meaning = f"{_unmarked(setting.meaning)}{search} ({readable_type(setting.annotation)})"
        rows.append((name, str(setting.default), meaning))
    header = ("setting", "default", "meaning (type)")
    print_table("Settings", header, rows, wrapped="meaning (type)")
    for name, entries in describe_profiles(entry.id, known_settings(entry)).items():
        profile = []
        for task, values in entries.items():
            profile.append((task, " ".join(f"{key}={value}" for key, value in values.items())))
        print_table(f"--profile {name}", ("entry", "settings"), profile, wrapped="settings")
    console.print(f"next: zoo train --algo {args.algo} --env ENV --quick")
    defaults = {name: setting.default for name, setting in settings.items()}
    return {"algo": entry.id, "settings": defaults}


def _check(args: argparse.Namespace) -> dict[str, Any]:
    """Check an algorithm, and print the outcomes as a table; the exit code is 1 if a check fails."""
    from agents.testing.kit import CHECKS, PAGE, run_checks
    from zoo.algorithms.catalogue import find_algorithm
    from zoo.settings.layers import parse_overrides

    entry = find_algorithm(args.algo)
    if entry.method is None:
        raise UsageError(
            f"`{args.algo}` is one of SB3's algorithms; the checks are for subclasses of `agents.Method`"
        )
    settings = parse_overrides(args.hyperparams or (), "-params")
    # validate names and settings first, because a wrong setting would make every check fail
    for name in (*args.skip, *entry.method.fails_by_design):
        if name not in CHECKS:
            raise UsageError(unknown_name_message("check", name, CHECKS))
    with as_usage_error():
        entry.method(**settings)
    log.info(
        "checking %s; without `--skip compiled`, one check compiles for about half a minute",
        entry.published_name,
    )
    outcomes = list(run_checks(entry.method, settings, args.skip))
    states = {outcome.check: outcome.state for outcome in outcomes}
    failed = [name for name, state in states.items() if state == "fails"]
    verdict = f"fails: {', '.join(failed)}" if failed else "conforms"
    header = ("check", "outcome", "found")
    print_table(f"{entry.id} {verdict}", header, outcomes, wrapped="found")
    if failed:
        log.info("%s describes the checks", PAGE)
    else:  # suggest training with the settings that were checked
        words = ["zoo", "train", "--algo", args.algo, "--env", "ENV", "--quick"]
        if args.hyperparams:
            words += ["-params", *args.hyperparams]
        log.info("next: %s", shlex.join(words))
    args.exit_code = int(bool(failed))  # SUCCEEDED or FAILED
    return {"algo": entry.id, "holds": not failed, "checks": states}


def _new(args: argparse.Namespace) -> dict[str, Any]:
    """Create a package with one algorithm from the template."""
    name = args.name
    if not re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", name) or keyword.iskeyword(name):
        raise UsageError(
            f"the name must be lower case with underscores, e.g. `my_agent`, got {name!r}"
        )
    # a package with the name of an existing module would hide that module, or be hidden by it
    if name in (*algorithm_ids(), *ALIASES) or importlib.util.find_spec(name) is not None:
        raise UsageError(
            f"`{name}` is the name of an algorithm or a module; choose another name, e.g. `my_{name}`"
        )
    folder = args.folder / name
    if folder.exists():
        raise UsageError(f"{folder} exists already; choose another name or --folder")
    if not args.folder.is_dir():
        raise UsageError(f"`--folder` must be an existing folder, got {args.folder}")
    class_name = "".join(part.capitalize() for part in name.split("_"))
    names = {"my_agent": name, "MyAgent": class_name, "my-agent": name.replace("_", "-")}
    files = []
    with atomic_folder(folder) as temporary:
        for path in sorted(TEMPLATE.iterdir()):
            texts = [path.name.removesuffix(".txt"), path.read_text(encoding="utf-8")]
            for placeholder, replacement in names.items():
                texts = [text.replace(placeholder, replacement) for text in texts]
            (temporary / texts[0]).write_text(texts[1], encoding="utf-8")
            files.append(texts[0])
    algo = f"{name}:{class_name}"
    check = f"cd {shlex.quote(str(folder))} && zoo agents check {algo}"
    log.info("wrote %s: %s\nnext: %s", folder, ", ".join(files), check)
    return {"folder": str(folder), "files": files, "algo": algo}


def _unmarked(text: str) -> str:
    """Return text without the inline markup of code and formulas."""
    return re.sub(r"(?::\w+:)?(`{1,2})(.+?)\1", r"\2", text, flags=re.DOTALL)


def readable_type(name: str) -> str:
    """Return a type's name without its modules; the values of a ``Literal`` become, for example, ``a | b``."""
    name = re.sub(r"\b(?:\w+\.)+(?=\w)", "", name)
    return re.sub(
        r"Literal\[(.*?)\]", lambda match: match[1].replace("'", "").replace(",", " |"), name
    )


main = as_program(make_parser, lambda args: args.run(args))

if __name__ == "__main__":
    sys.exit(main())
