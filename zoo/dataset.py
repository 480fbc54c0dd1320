"""List, generate, download, check and convert datasets: ``python zoo/dataset.py COMMAND ...``."""

import argparse
import sys
from pathlib import Path
from typing import Any

if not __package__:  # run as a file: let `import agents` and `import zoo` find the packages
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from zoo.datasets.names import parse_name
from zoo.envs.rendering import prepare_pictures
from zoo.envs.tasks import TASKS
from zoo.suites import find_suite
from zoo.terminal.cli import as_program
from zoo.terminal.errors import BAD_INPUT, UsageError
from zoo.terminal.parser import COUNT, REAL, SEED, Parser, a_path, add_verbose, two_numbers

COMMANDS = {
    "list": "list all datasets of the benchmarks and whether they are on disk",
    "generate": "generate a dataset with OGBench's scripted oracles",
    "download": "download a dataset, or all datasets of a suite",
    "check": "check that a dataset can be trained on and fits its environment",
    "convert": "convert a dataset in any supported format to an npz file",
}


def _run(args: argparse.Namespace) -> dict[str, Any]:
    """Run a command."""
    if args.command == "download" and args.name is None:
        return _download_suite(args)
    name = "" if args.command == "list" else args.name
    # before the imports below, which take seconds
    if args.command in ("generate", "download") and name not in TASKS:
        parse_name(name)
    if args.command == "generate":  # MuJoCo reads its rendering backend when it is imported
        prepare_pictures(name)
    from zoo.datasets import commands

    folder = args.dataset_dir
    if args.command == "list":
        return commands.list_datasets(folder)
    if args.command == "generate":
        return commands.generate(
            name,
            folder,
            episodes=args.episodes,
            episode_steps=args.episode_steps,
            seed=args.seed,
            replace=args.force,
        )
    if args.command == "download":
        if args.dry_run:
            raise UsageError("`--dry-run` requires `--suite`; `zoo dataset list` shows sizes")
        return commands.download(name, folder, transitions=args.dataset_size, replace=args.force)
    if args.command == "convert":
        return commands.convert(
            name,
            folder,
            args.output,
            columns=args.columns,
            step_reward=args.step_reward,
            done=args.done,
            reward_from=args.reward_from,
            replace=args.force,
        )
    result = commands.check(
        name,
        folder,
        env=args.env,
        no_env=args.no_env,
        env_kwargs=args.env_kwargs,
        gym_packages=args.gym_packages,
        action_range=args.action_range,
        reward_from=args.reward_from,
    )
    if not result["sound"]:
        args.exit_code = BAD_INPUT
    return result


def _download_suite(args: argparse.Namespace) -> dict[str, Any]:
    """Download the datasets of a suite, or list them."""
    if args.dataset_size is not None:
        raise UsageError(
            "`--dataset-size` cannot be combined with `--suite`, whose settings say how much of a dataset is used"
        )
    file = find_suite(args.suite)  # before the imports below, which take seconds
    from zoo.datasets.commands import print_rows
    from zoo.suites.data import download_suite

    rows = download_suite(file, args.dataset_dir, dry_run=args.dry_run, replace=args.force)
    print_rows(f"Datasets of {file.stem}", rows)
    return {"suite": file.stem, "datasets": rows}


def make_parser() -> Parser:
    """Return the parser of the command line."""
    parser = Parser("dataset", description="List, generate, download, check, convert datasets.")
    add_verbose(parser)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for word, purpose in COMMANDS.items():
        command = commands.add_parser(word, help=purpose, description=purpose)
        command.set_defaults(command=word)
        command.add_argument(
            "--dataset-dir",
            metavar="DIR",
            help="folder of datasets (default: that of each benchmark)",
        )
        if word != "list":
            _add_arguments(command, word)
    return parser


def _add_arguments(command: Parser, word: str) -> None:
    """Add the arguments of a command other than list."""
    add = command.add_argument
    if word == "download":
        which = command.add_mutually_exclusive_group(required=True)
        which.add_argument(
            "name", nargs="?", metavar="NAME", help="dataset name, e.g. cube-double-play-v0"
        )
        which.add_argument("--suite", type=a_path, help="name or file of a suite")
        add("--dry-run", action="store_true", help="with --suite: only list the datasets")
        add(
            "--dataset-size",
            type=COUNT,
            help="of a dataset of several files, those with the first N transitions",
        )
    else:
        own = "" if word == "generate" else ", the path of your own, or minari:ID"
        add("name", metavar="NAME", help=f"dataset name, e.g. cube-double-play-v0{own}")
    if word != "check":
        add("--force", action="store_true", help="replace existing files")
    if word == "generate":
        add("--episodes", type=COUNT, help="training episodes (default: as OGBench)")
        add("--episode-steps", type=COUNT, help="transitions per episode (default: as OGBench)")
        add("--seed", type=SEED, default=0, help="random seed")
    if word == "check":
        _add_environment(command)
    if word == "convert":
        add("-o", "--output", type=a_path, required=True, help="the npz file to write")
        add(
            "--columns",
            nargs="+",
            default=[],
            metavar="NAME=COLUMN",
            help="columns of parquet and HDF5 files, e.g. rewards=cost",
        )
        add("--step-reward", type=REAL, metavar="X", help="constant reward, if there are none")
        add(
            "--done",
            choices=("terminated", "truncated"),
            help="how episodes end, if the dataset does not say",
        )
    if word in ("check", "convert"):
        add(
            "--reward-from",
            choices=("success",),
            help="compute rewards from the array `success`: -1 per step, 0 where the task is achieved",
        )


def _add_environment(command: Parser) -> None:
    """Add what training needs to know about the environment of your own data."""
    add = command.add_argument
    place = command.add_mutually_exclusive_group()
    place.add_argument("--env", help="environment of your own data, e.g. HalfCheetah-v5")
    place.add_argument(
        "--no-env", action="store_true", help="check what training without environment needs"
    )
    add("--env-kwargs", nargs="+", default=[], metavar="KEY=VALUE", help="arguments of --env")
    add("--gym-packages", nargs="+", default=[], help="packages that register --env")
    add(
        "--action-range",
        type=two_numbers,
        metavar="LOW,HIGH",
        help="values in the data that correspond to the limits of the actions",
    )


main = as_program(make_parser, _run)

if __name__ == "__main__":
    sys.exit(main())
