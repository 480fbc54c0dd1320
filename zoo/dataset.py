"""List, describe, generate, download, check, convert and collect datasets: ``python zoo/dataset.py COMMAND ...``."""

import argparse
import sys
from pathlib import Path
from typing import Any

if not __package__:  # run as a file: let `import agents` and `import zoo` find the packages
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from zoo.datasets.files import folder_option
from zoo.datasets.names import parse_name
from zoo.envs.rendering import prepare_pictures
from zoo.envs.tasks import TASKS
from zoo.models.agent_flags import TRUST
from zoo.suites import find_suite
from zoo.terminal.cli import as_program
from zoo.terminal.errors import UsageError
from zoo.terminal.parser import (
    AMOUNT,
    COUNT,
    REAL,
    SEED,
    Parser,
    a_path,
    add_verbose,
    two_numbers,
)
from zoo.terminal.tables import result_for_terminal

COMMANDS = {
    "list": "every dataset of the benchmarks: size, where it comes from, whether it is here",
    "info": "one dataset: its sizes, tasks, files and arrays",
    "generate": "make a dataset with OGBench's or OCBench's scripted oracles",
    "download": "fetch a dataset, or those of a suite, from OGBench's or OCBench's host, or a mirror",
    "check": "test a dataset: arrays, values, trajectories, and whether it fits its environment",
    "convert": "make an npz of a dataset in another format, or the arrays of one of several files",
    "collect": "play episodes in an environment and write them as a dataset",
}


def _run(args: argparse.Namespace) -> dict[str, Any]:
    """Do what a command asks for."""
    if args.command == "download" and args.name is None:
        return _download_suite(args)
    if args.command in ("info", "generate", "download") and args.name not in TASKS:
        parse_name(args.name)  # a misspelt name is refused before the simulators are imported
    if args.command == "generate":  # what draws is chosen before MuJoCo is imported
        prepare_pictures(args.name)
    # It imports the simulators, which takes seconds that `--help` and a slip of the keyboard do not need.
    from zoo.datasets import commands

    if args.command == "download" and args.dry_run:
        raise UsageError(
            f"`--dry-run` needs `--suite`, got {args.name}; `zoo dataset info {args.name}` shows its size"
        )
    function = "list_datasets" if args.command == "list" else args.command
    result: dict[str, Any] = getattr(commands, function)(args)
    return result


def _download_suite(args: argparse.Namespace) -> dict[str, Any]:
    """Download the datasets of a suite, or list them."""
    for flag, value in (("--dataset-size", args.dataset_size), ("--files", args.files)):
        if value is not None:
            raise UsageError(
                f"`{flag}` chooses among the files of one dataset, got `--suite`; leave it out: the suite says how "
                "much of a dataset it uses"
            )
    file = find_suite(args.suite)  # a misspelt name is refused before the simulators are imported
    from zoo.datasets.commands import print_rows
    from zoo.suites.data import download_suite

    rows = download_suite(file, args.dataset_dir, dry_run=args.dry_run, replace=args.force)
    print_rows(f"Datasets of {file.stem}", rows)
    where = folder_option(args.dataset_dir)
    hint = f"zoo benchmark {args.suite}{where} --dry-run"
    if args.dry_run:
        hint = f"zoo dataset download --suite {args.suite}{where}"
    return {"suite": file.stem, **result_for_terminal({"datasets": rows}, hint)}


def make_parser() -> Parser:
    """Return the parser of the command line."""
    parser = Parser(
        "dataset",
        description="List, describe, generate, download, check, convert, collect datasets.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for word, purpose in COMMANDS.items():
        command = commands.add_parser(word, help=purpose, description=purpose)
        command.set_defaults(command=word)
        _add_arguments(command, word)
    return parser


def _add_arguments(command: Parser, word: str) -> None:
    """Add the arguments of a command, and those that it shares with others."""
    add = command.add_argument
    if word == "collect":
        add(
            "policy",
            metavar="POLICY",
            help="random, a model (.zip), the folder of a run, or module:function",
        )
    elif word == "download":
        which = command.add_mutually_exclusive_group(required=True)
        which.add_argument(
            "name", nargs="?", metavar="NAME", help="dataset name, e.g. cube-double-play-v0"
        )
        which.add_argument(
            "--suite",
            type=a_path,
            help="a suite's name or file: all datasets that its runs train on",
        )
        add("--dry-run", action="store_true", help="of a suite: show names and sizes only")
    elif word != "list":
        custom = ""
        if word in ("check", "convert"):
            custom = ", or the path of your own, or minari:ID"
        add("name", metavar="NAME", help=f"dataset name, e.g. cube-double-play-v0{custom}")
    add(
        "--dataset-dir",
        metavar="DIR",
        help="folder of datasets (default: where each benchmark keeps its own)",
    )
    add_verbose(command)
    if word in ("generate", "download", "convert", "collect"):
        add("--force", action="store_true", help="replace a dataset or a file that exists")
    if word in ("download", "convert"):
        add(
            "--dataset-size",
            type=COUNT,
            help="of several files, those that hold the first N transitions",
        )
    if word == "download":
        add("--files", type=COUNT, help="of a dataset of OCBench, the first N training files")
    if word == "generate":
        number = command.add_mutually_exclusive_group()
        number.add_argument(
            "--episodes", type=COUNT, help="training episodes (default: the usual number)"
        )
        number.add_argument(
            "--dataset-size", type=COUNT, help="training transitions instead of episodes"
        )
        add("--episode-steps", type=COUNT, help="transitions of an episode (default: OGBench's)")
        add("--seed", type=SEED, default=0, help="seed of the dataset")
        add("--num-workers", type=COUNT, help="processes (default: one for each core)")
    _add_custom(command, word)


def _add_custom(command: Parser, word: str) -> None:
    """Add the arguments about datasets of the user's own."""
    add = command.add_argument
    if word in ("check", "collect"):
        place = command.add_mutually_exclusive_group(required=word == "collect")
        place.add_argument(
            "--env", help="environment of a dataset of your own, e.g. HalfCheetah-v5"
        )
        if word == "check":
            place.add_argument(
                "--no-env",
                action="store_true",
                help="there is none: check what training on data alone needs",
            )
            add(
                "--action-range",
                type=two_numbers,
                metavar="LOW,HIGH",
                help="what stands for the limits of its actions",
            )
        add("--env-kwargs", nargs="+", default=[], metavar="KEY=VALUE", help="its arguments")
        add(
            "--gym-packages",
            nargs="+",
            default=[],
            help="packages to import, for their environments",
        )
    if word in ("convert", "collect"):
        add("-o", "--output", type=a_path, required=word == "collect", help="the npz file to write")
    if word == "collect":
        add("--episodes", type=COUNT, default=100, help="how many")
        add("--seed", type=SEED, default=0, help="seed of starts and noise")
        add("--algo", metavar="MODULE:CLASS", help="algorithm of a model, where it is your own")
        add("--trust", action="store_true", help=TRUST)
        add("--noise", type=AMOUNT, default=0.0, help="of the actions, in halves of their range")
        add("--max-episode-steps", type=COUNT, help="cut episodes off after so many steps")
    if word not in ("check", "convert"):
        return
    # What formats leave open.
    add(
        "--columns",
        nargs="+",
        default=[],
        metavar="NAME=COLUMN",
        help="of parquet and HDF5, e.g. rewards=cost",
    )
    add(
        "--step-reward", type=REAL, metavar="X", help="reward of each step of a dataset without any"
    )
    add(
        "--done",
        choices=("terminated", "truncated"),
        help="how episodes end where the dataset does not say",
    )
    add(
        "--reward-from",
        choices=("success",),
        help="take rewards from the flags `success` of your own data: -1 a step, 0 where the task is achieved",
    )


main = as_program(make_parser, _run)

if __name__ == "__main__":
    sys.exit(main())
