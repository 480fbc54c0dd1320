"""List, describe, generate, download, check and convert datasets: ``python zoo/dataset.py COMMAND ...``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

if __package__ in (None, ""):  # run as a file: let `import agents` and `import zoo` find the packages
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from zoo.arguments import Parser, whole_number
from zoo.cli import run_program
from zoo.datasets.files import DEFAULT_DATASET_DIR
from zoo.errors import BAD_INPUT, Interrupted, UsageError

if TYPE_CHECKING:
    from zoo.datasets.names import DatasetSpec


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program on the words after its name, by default those of the command line; return its exit code."""
    args = make_parser().parse_args(arguments)
    return run_program(lambda: args.command(args), args.verbose) or int(getattr(args, "exit_code", 0))


def make_parser() -> Parser:
    """Return the parser of the command line."""
    parser = Parser("dataset", description="List, describe, generate, download, check, convert datasets.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for word, function, purpose in (
        ("list", _list, "every dataset of OGBench: size, where it comes from, whether it is here"),
        ("info", _info, "one dataset: its sizes, tasks, files and arrays"),
        ("generate", _generate, "make a dataset with OGBench's scripted oracles"),
        ("download", _download, "fetch a dataset from OGBench's host or its mirror"),
        ("check", _check, "test a dataset's files: arrays, values, trajectories, tasks"),
        ("convert", _convert, "make the arrays that training maps, of a dataset of several files"),
    ):
        command = commands.add_parser(word, help=purpose, description=purpose)
        command.set_defaults(command=function)
        _add_arguments(command, word)
    return parser


def _add_arguments(command: Parser, word: str) -> None:
    if word != "list":
        command.add_argument("name", metavar="NAME", help="dataset name, e.g. cube-double-play-v0")
    command.add_argument("--dataset-dir", metavar="DIR", default=DEFAULT_DATASET_DIR, help="folder of datasets")
    command.add_argument(
        "--verbose", type=whole_number, default=1, help="2 shows the traceback of an unexpected failure"
    )
    if word in ("generate", "download"):
        command.add_argument("--force", action="store_true", help="replace a dataset that exists")
    if word in ("download", "convert"):
        command.add_argument(
            "--dataset-size", type=whole_number, help="of several files, those that hold the first N transitions"
        )
    if word == "generate":
        size = command.add_mutually_exclusive_group()
        size.add_argument("--episodes", type=whole_number, help="training episodes (default: as many as OGBench)")
        size.add_argument("--dataset-size", type=whole_number, help="training transitions instead of episodes")
        command.add_argument("--seed", type=whole_number, default=0, help="seed of the dataset")
        command.add_argument("--num-workers", type=whole_number, help="processes (default: one for each core)")


def _list(args: argparse.Namespace) -> dict[str, Any]:
    from zoo.datasets.files import training_files
    from zoo.datasets.names import DATASETS
    from zoo.tables import terminal

    rows = []
    for spec in DATASETS.values():
        here = all(path.exists() for path in training_files(spec, args.dataset_dir))
        rows.append({**_describe(spec), "here": here})
    left_out = ("files", "episodes") if terminal().width < 100 else ()
    _print_table("Datasets", [{key: value for key, value in row.items() if key not in left_out} for row in rows])
    return {"datasets": rows}


def _info(args: argparse.Namespace) -> dict[str, Any]:
    """Show what is known about one dataset and what its files hold."""
    from agents.common.bounded import read_npz_headers
    from zoo.datasets.check import check_structure, require_sound
    from zoo.datasets.files import dataset_files, file_sha256, training_files
    from zoo.datasets.names import parse_name, single_task_names

    spec = parse_name(args.name).spec
    files = {}
    several = training_files(spec, args.dataset_dir) if spec.files > 1 else None
    for path in several or dataset_files(spec.name, args.dataset_dir):
        if path.exists():
            require_sound(check_structure(path, spec), spec, path)
            headers = read_npz_headers(path)
            arrays = {name: {"shape": list(shape), "dtype": str(dtype)} for name, (shape, dtype) in headers.items()}
            files[str(path)] = {"bytes": path.stat().st_size, "sha256": file_sha256(path), "arrays": arrays}
            _print_table(str(path), [{"array": name, **values} for name, values in arrays.items()])
    return {**_describe(spec), "environments": single_task_names(spec.name), "files": files}


def _describe(spec: DatasetSpec) -> dict[str, Any]:
    """Return what OGBench says about a dataset."""
    return {
        "name": spec.name,
        "files": spec.files,
        "episodes": spec.files * spec.episodes,
        "transitions": spec.transitions,
        "download": spec.hosted,
        "generate": spec.is_generatable,
    }


def _generate(args: argparse.Namespace) -> dict[str, Any]:
    from zoo.datasets.generate import generate_dataset

    try:
        files = generate_dataset(
            args.name,
            args.dataset_dir,
            num_episodes=args.episodes,
            dataset_size=args.dataset_size,
            seed=args.seed,
            num_workers=args.num_workers,
            existing="replace" if args.force else "refuse",
        )
    except KeyboardInterrupt as error:
        raise Interrupted("stopped; finished episodes are kept, and the same command continues from there") from error
    return _describe_files(args.name, files)


def _download(args: argparse.Namespace) -> dict[str, Any]:
    from zoo.datasets.download import download_dataset, download_shards
    from zoo.datasets.names import parse_name

    spec, existing = parse_name(args.name).spec, "replace" if args.force else "refuse"
    size = _checked_size(args.dataset_size)
    if spec.files == 1:
        if size is not None:
            raise UsageError(f"`--dataset-size` chooses among several files, and {spec.name} is one file; leave it out")
        return _describe_files(args.name, download_dataset(args.name, args.dataset_dir, existing=existing))
    names = spec.shard_names[: spec.files if size is None else spec.files_for(size)]
    paths = download_shards(spec.name, args.dataset_dir, names=names, existing=existing)
    return {"name": spec.name, "folder": str(paths[0].parent), "files": len(paths)}


def _convert(args: argparse.Namespace) -> dict[str, Any]:
    """Convert a dataset of several files before training, which would do it too."""
    from zoo.datasets.files import shard_folder
    from zoo.datasets.names import parse_name
    from zoo.datasets.shards import convert_shards

    spec = parse_name(args.name).spec
    if spec.files == 1:
        raise UsageError(f"{spec.name} is one file, which is read as it is; only datasets of several are converted")
    size = _checked_size(args.dataset_size)
    try:
        shards = convert_shards(shard_folder(spec.name, args.dataset_dir), spec, size=size)
    except KeyboardInterrupt as error:
        raise Interrupted("stopped; converted files are kept, and the same command continues from there") from error
    transitions = sum(shard.transitions for shard in shards)
    return {"name": spec.name, "folder": str(shards[0].folder.parent), "files": len(shards), "transitions": transitions}


def _checked_size(size: int | None) -> int | None:
    """Return a number of transitions, or refuse it."""
    if size is not None and size < 1:
        raise UsageError(f"`--dataset-size` must be an int >= 1, got {size}")
    return size


def _check(args: argparse.Namespace) -> dict[str, Any]:
    """Check a dataset's files; report everything that is broken instead of raising the first error."""
    from zoo.datasets.check import check_dataset
    from zoo.datasets.files import dataset_files, training_files
    from zoo.datasets.names import parse_name

    spec = parse_name(args.name).spec
    findings = []
    paths = training_files(spec, args.dataset_dir)
    val = dataset_files(spec.name, args.dataset_dir)[1]
    for path in [*paths, val] if val.exists() else paths:
        findings += [{"file": path.name, **asdict(finding)} for finding in check_dataset(path, spec)]
    _print_table(f"Findings in {spec.name}", findings, wrapped=("message",))
    is_sound = all(row["severity"] != "error" for row in findings)
    args.exit_code = 0 if is_sound else BAD_INPUT
    return {"name": spec.name, "sound": is_sound, "findings": findings}


def _describe_files(name: str, files: tuple[Path, Path]) -> dict[str, Any]:
    from agents.common.bounded import read_npz_headers
    from zoo.datasets.files import recorded_sha256
    from zoo.datasets.names import parse_name

    train, val = files
    rows = read_npz_headers(train)["observations"][0][0]
    dataset, digest = parse_name(name).dataset, recorded_sha256(train)
    return {"name": dataset, "train": str(train), "val": str(val), "rows": rows, "sha256": digest}


def _print_table(title: str, rows: list[dict[str, Any]], wrapped: Sequence[str] = ()) -> None:
    """Print rows as a table, or that there are none."""
    from zoo.tables import print_table

    header = list(rows[0]) if rows else ["none"]
    print_table(title, header, [[_cell(value) for value in row.values()] for row in rows], wrapped)


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else ""
    return f"{value:,}" if isinstance(value, int) else str(value)


if __name__ == "__main__":
    sys.exit(main())
