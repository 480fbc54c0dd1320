"""List, generate, download, check and convert datasets: `zoo dataset COMMAND ...`."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

if not __package__:  # run as a file: let `import agents` and `import zoo` find the packages
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from agents.common.files.npz import read_npz_headers
from zoo.datasets.files import dataset_files, recorded_sha256
from zoo.datasets.names import parse_name
from zoo.envs.rendering import prepare_pictures
from zoo.settings.request import TrainRequest
from zoo.terminal.cli import as_program
from zoo.terminal.errors import BAD_INPUT, Interrupted, UsageError
from zoo.terminal.parser import (
    COUNT,
    SEED,
    Parser,
    a_path,
    add_flags,
    add_verbose,
    check_output,
    two_numbers,
)
from zoo.terminal.tables import print_table


def _list(args: argparse.Namespace) -> dict[str, Any]:
    """Print all datasets, and return the names of those on disk."""
    # each command imports its own modules, because importing all of them takes seconds
    from zoo.datasets.commands import list_datasets

    on_disk = []
    for benchmark, rows in list_datasets(args.dataset_dir).items():
        print_rows(benchmark, rows, wrapped="name")
        on_disk += [row["name"] for row in rows if row["here"]]
    return {"here": on_disk}


def _generate(args: argparse.Namespace) -> dict[str, Any]:
    """Generate a dataset with scripted oracles."""
    prepare_pictures(args.name)  # before the import of MuJoCo, which reads the chosen backend
    from zoo.datasets.generate import generate_dataset

    try:
        files = generate_dataset(
            args.name,
            args.dataset_dir,
            dataset_size=args.dataset_size,
            episode_steps=args.episode_steps,
            seed=args.seed,
            existing="replace" if args.force else "refuse",
        )
    except KeyboardInterrupt as error:
        raise Interrupted(
            "stopped; finished episodes are kept, and the same command continues from there"
        ) from error
    return _describe_files(files)


def _download(args: argparse.Namespace) -> dict[str, Any]:
    """Download a dataset."""
    spec = parse_name(args.name).spec
    if args.dataset_size is not None and spec.files == 1:
        raise UsageError(
            f"`--dataset-size` is for datasets of several files; {spec.name} has one file"
        )
    from zoo.datasets.download import download_dataset

    paths = download_dataset(
        spec.name,
        args.dataset_dir,
        transitions=args.dataset_size,
        existing="replace" if args.force else "refuse",
    )
    if spec.files == 1:
        return _describe_files(dataset_files(spec, args.dataset_dir))
    return {"name": spec.name, "folder": str(paths[0].parent), "files": len(paths)}


def _convert(args: argparse.Namespace) -> dict[str, Any]:
    """Convert a dataset in any supported format to an npz file."""
    path = args.output
    # reject a wrong path before the data are read
    if path.suffix != ".npz":
        raise UsageError(f"`--output` must name an .npz file, got {path}")
    check_output("--output", path)
    if path.exists() and not args.force:
        raise UsageError(f"{path} exists; add `--force` to replace it, or choose another name")
    from zoo.datasets.commands import convert

    return convert(args.name, args.dataset_dir, path, args.reward_from)


def _check(args: argparse.Namespace) -> dict[str, Any]:
    """Report the errors and warnings that training on a dataset would cause; errors set the exit code `BAD_INPUT`."""
    from zoo.datasets.commands import check

    result = check(
        args.name,
        args.dataset_dir,
        env=args.env,
        env_kwargs=args.env_kwargs or (),
        gym_packages=args.gym_packages or (),
        action_range=args.action_range,
        reward_from=args.reward_from,
    )
    if result["findings"]:
        print_rows(f"Findings in {args.name}", result["findings"], wrapped="message")
    if not result["sound"]:
        args.exit_code = BAD_INPUT
    return result


def _describe_files(files: tuple[Path, Path]) -> dict[str, Any]:
    """Return the paths of a dataset's two files, and the training file's number of rows and checksum."""
    train, validation = files
    return {
        "name": train.stem,
        "train": str(train),
        "val": str(validation),
        "rows": read_npz_headers(train)["observations"][0][0],
        "sha256": recorded_sha256(train),
    }


def print_rows(title: str, rows: Sequence[dict[str, Any]], wrapped: str) -> None:
    """Print rows as a table; there must be at least one row."""
    cells = []
    for row in rows:
        cells.append([_cell(value) for value in row.values()])
    print_table(title, list(rows[0]), cells, wrapped)


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else ""
    return f"{value:,}" if isinstance(value, int) else str(value)


COMMANDS = {
    "list": (_list, "list all datasets of the benchmarks, and show which are on disk"),
    "generate": (_generate, "generate a dataset with OGBench's scripted oracles"),
    "download": (_download, "download a dataset"),
    "check": (_check, "check that a dataset can be trained on and fits its environment"),
    "convert": (_convert, "convert a dataset in any supported format to an npz file"),
}


def make_parser() -> Parser:
    """Return the command-line parser."""
    parser = Parser("dataset", description=__doc__)
    add_verbose(parser)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for word, (function, purpose) in COMMANDS.items():
        command = commands.add_parser(word, help=purpose, description=purpose)
        command.set_defaults(run=function)
        add_flags(command, TrainRequest, ("dataset_dir",))
        if word != "list":
            _add_arguments(command, word)
    return parser


def _add_arguments(command: Parser, word: str) -> None:
    """Add the arguments of a command other than list."""
    add = command.add_argument
    names = "dataset name, e.g. cube-double-play-v0"
    if word in ("check", "convert"):
        names += ", path of your data, or minari:ID"
    add("name", metavar="NAME", help=names)
    if word in ("generate", "download"):
        add(
            "--dataset-size",
            type=COUNT,
            help="transitions, rounded up to whole episodes or downloaded files (default: as in OGBench)",
        )
    if word != "check":
        add("--force", action="store_true", help="replace existing files")
    if word == "generate":
        add("--episode-steps", type=COUNT, help="transitions per episode (default: as in OGBench)")
        add("--seed", type=SEED, default=0, help="random seed")
    if word == "check":
        add("--env", help="environment of your data, e.g. HalfCheetah-v5")
        add(
            "--action-range",
            type=two_numbers,
            metavar="LOW,HIGH",
            help="action bounds of your dataset, mapped to the environment's bounds",
        )
        add_flags(command, TrainRequest, ("env_kwargs", "gym_packages"))
    if word == "convert":
        add("-o", "--output", type=a_path, required=True, help="the npz file to write")
    if word in ("check", "convert"):
        add(
            "--reward-from",
            choices=("success",),
            help="compute rewards from the array `success`: 0 for a step with success, otherwise -1",
        )


main = as_program(make_parser, lambda args: args.run(args))

if __name__ == "__main__":
    sys.exit(main())
