"""List, describe, generate, download, check, convert and collect datasets: ``python zoo/dataset.py COMMAND ...``."""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

if __package__ in (None, ""):  # run as a file: let `import agents` and `import zoo` find the packages
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from zoo.arguments import AMOUNT, COUNT, REAL, SEED, Parser, a_path, add_verbose, two_numbers
from zoo.cli import run_program
from zoo.datasets.files import DEFAULT_DATASET_DIR
from zoo.envs.rendering import VISUAL, WHAT_TO_INSTALL, choose_platform, prepare_pictures
from zoo.errors import BAD_INPUT, Interrupted, UsageError
from zoo.models.arguments import TRUST

if TYPE_CHECKING:
    from zoo.datasets.formats.read import Reading
    from zoo.datasets.names import DatasetSpec
    from zoo.envs.ocbench import OcbenchTask

_STOPPED = "stopped; finished episodes are kept, and the same command continues from there"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program on the words after its name, by default those of the command line; return its exit code."""
    args = make_parser().parse_args(arguments)
    return run_program(lambda: args.command(args), args.verbose) or int(getattr(args, "exit_code", 0))


def make_parser() -> Parser:
    """Return the parser of the command line."""
    parser = Parser("dataset", description="List, describe, generate, download, check, convert, collect datasets.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for word, function, purpose in (
        ("list", _list, "every dataset of the benchmarks: size, where it comes from, whether it is here"),
        ("info", _info, "one dataset: its sizes, tasks, files and arrays"),
        ("generate", _generate, "make a dataset with OGBench's or OCBench's scripted oracles"),
        ("download", _download, "fetch a dataset from OGBench's or OCBench's host, or a mirror"),
        ("check", _check, "test a dataset: arrays, values, trajectories, and whether it fits its environment"),
        ("convert", _convert, "make an npz of a dataset in another format, or the arrays of one of several files"),
        ("show", _show, "draw what is in a dataset: returns, lengths, actions, coverage, on one HTML page"),
        ("collect", _collect, "play episodes in an environment and write them as a dataset"),
    ):
        command = commands.add_parser(word, help=purpose, description=purpose)
        command.set_defaults(command=function)
        _add_arguments(command, word)
    return parser


def _add_arguments(command: Parser, word: str) -> None:
    if word == "collect":
        command.add_argument(
            "policy", metavar="POLICY", help="random, a model (.zip), the folder of a run, or module:function"
        )
    elif word != "list":
        others = ", or the path of your own, or minari:ID" if word in ("check", "convert", "show") else ""
        command.add_argument("name", metavar="NAME", help=f"dataset name, e.g. cube-double-play-v0{others}")
    command.add_argument("--dataset-dir", metavar="DIR", default=DEFAULT_DATASET_DIR, help="folder of datasets")
    add_verbose(command)
    if word in ("generate", "download"):
        command.add_argument("--force", action="store_true", help="replace a dataset that exists")
    if word in ("download", "convert"):
        command.add_argument(
            "--dataset-size", type=COUNT, help="of several files, those that hold the first N transitions"
        )
    if word == "download":
        command.add_argument("--files", type=COUNT, help="of a dataset of OCBench, the first N training files")
    if word == "generate":
        size = command.add_mutually_exclusive_group()
        size.add_argument("--episodes", type=COUNT, help="training episodes (default: the usual number)")
        size.add_argument("--dataset-size", type=COUNT, help="training transitions instead of episodes")
        command.add_argument("--episode-steps", type=COUNT, help="transitions of an episode (default: OGBench's)")
        command.add_argument("--seed", type=SEED, default=0, help="seed of the dataset")
        command.add_argument("--num-workers", type=COUNT, help="processes (default: one for each core)")
    _add_own(command, word)


def _add_own(command: Parser, word: str) -> None:
    """Add the arguments about datasets of the user's own."""
    if word in ("check", "convert", "show"):
        _add_reading(command)
    if word in ("check", "collect"):
        command.add_argument(
            "--env", required=word == "collect", help="environment of a dataset of your own, e.g. HalfCheetah-v5"
        )
        command.add_argument("--env-kwargs", nargs="+", default=[], metavar="KEY=VALUE", help="its arguments")
        command.add_argument("--gym-packages", nargs="+", default=[], help="packages to import, for their environments")
    if word == "check":
        command.add_argument(
            "--action-range", type=two_numbers, metavar="LOW,HIGH", help="what stands for the limits of its actions"
        )
    if word == "show":
        command.add_argument("-o", "--output", type=a_path, default=Path("card.html"), help="the page to write")
    if word in ("convert", "collect"):
        command.add_argument("-o", "--output", type=a_path, required=word == "collect", help="the npz file to write")
        command.add_argument("--force", action="store_true", help="replace a file that exists")
    if word == "collect":
        command.add_argument("--episodes", type=COUNT, default=100, help="how many")
        command.add_argument("--seed", type=SEED, default=0, help="seed of starts and noise")
        command.add_argument("--algo", metavar="MODULE:CLASS", help="algorithm of a model, where it is your own")
        command.add_argument("--trust", action="store_true", help=TRUST)
        command.add_argument("--noise", type=AMOUNT, default=0.0, help="of the actions, in halves of their range")
        command.add_argument("--max-episode-steps", type=COUNT, help="cut episodes off after so many steps")


def _add_reading(command: Parser) -> None:
    """Add what formats leave open."""
    command.add_argument(
        "--columns", nargs="+", default=[], metavar="NAME=COLUMN", help="of parquet and HDF5, e.g. rewards=cost"
    )
    command.add_argument("--step-reward", type=REAL, metavar="X", help="reward of each step of a dataset without any")
    command.add_argument(
        "--done", choices=("terminated", "truncated"), help="how episodes end where the dataset does not say"
    )


def _list(args: argparse.Namespace) -> dict[str, Any]:
    from zoo.datasets.files import training_files
    from zoo.datasets.names import DATASETS
    from zoo.datasets.sources import ocbench, robomimic
    from zoo.envs.ocbench import TASKS
    from zoo.envs.robomimic import TASKS as ROBOMIMIC
    from zoo.tables import terminal

    rows = []
    for spec in DATASETS.values():
        here = all(path.exists() for path in training_files(spec, args.dataset_dir))
        rows.append({**_describe(spec), "here": here})
    left_out = ("files", "episodes") if terminal().width < 100 else ()
    _print_table("Datasets", [{key: value for key, value in row.items() if key not in left_out} for row in rows])
    tasks = [ocbench.describe_task(task, args.dataset_dir) for task in TASKS.values()]
    _print_table("OCBench", tasks)
    demonstrated = [robomimic.describe_task(task, args.dataset_dir) for task in ROBOMIMIC.values()]
    _print_table("robomimic", demonstrated)
    return {"datasets": rows, "ocbench": tasks, "robomimic": demonstrated}


def _info(args: argparse.Namespace) -> dict[str, Any]:
    """Show what is known about one dataset and what its files hold."""
    from agents.common.bounded import read_npz_headers
    from agents.common.manifest import digest_of
    from zoo.datasets.check import check_structure, require_sound
    from zoo.datasets.files import dataset_files, training_files
    from zoo.datasets.names import parse_name, single_task_names
    from zoo.datasets.sources.ocbench import describe_task
    from zoo.envs.ocbench import find_task

    if task := find_task(args.name):
        return describe_task(task, args.dataset_dir)
    spec = parse_name(args.name).spec
    files = {}
    several = training_files(spec, args.dataset_dir) if spec.files > 1 else None
    for path in several or dataset_files(spec.name, args.dataset_dir):
        if path.exists():
            require_sound(check_structure(path, spec), spec, path)
            headers = read_npz_headers(path)
            arrays = {name: {"shape": list(shape), "dtype": str(dtype)} for name, (shape, dtype) in headers.items()}
            files[str(path)] = {"bytes": path.stat().st_size, "sha256": digest_of(path), "arrays": arrays}
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
    prepare_pictures(args.name)  # before MuJoCo is imported
    from zoo.datasets.generate.ogbench import generate_dataset
    from zoo.envs.ocbench import find_task

    if task := find_task(args.name):
        return _generate_ocbench(args, task)
    try:
        files = generate_dataset(
            args.name,
            args.dataset_dir,
            num_episodes=args.episodes,
            dataset_size=args.dataset_size,
            episode_steps=args.episode_steps,
            seed=args.seed,
            num_workers=args.num_workers,
            existing="replace" if args.force else "refuse",
        )
    except KeyboardInterrupt as error:
        raise Interrupted(_STOPPED) from error
    return _describe_files(args.name, files)


def _generate_ocbench(args: argparse.Namespace, task: OcbenchTask) -> dict[str, Any]:
    from zoo.datasets.generate.ocbench import generate_ocbench
    from zoo.datasets.sources.ocbench import generated_files

    for flag in ("dataset_size", "episode_steps"):
        if getattr(args, flag) is not None:
            flag = flag.replace("_", "-")
            raise UsageError(f"the episodes of {task.name} differ in length; give `--episodes` instead of `--{flag}`")
    files = generated_files(task, args.dataset_dir)
    try:
        generate_ocbench(
            task,
            files,
            num_episodes=args.episodes,
            seed=args.seed,
            num_workers=args.num_workers,
            existing="replace" if args.force else "refuse",
        )
    except KeyboardInterrupt as error:
        raise Interrupted(_STOPPED) from error
    return {"name": task.name, "train": str(files[0]), "val": str(files[1])}


def _download(args: argparse.Namespace) -> dict[str, Any]:
    from zoo.datasets.names import parse_name
    from zoo.datasets.sources.download import download_dataset, download_shards
    from zoo.datasets.sources.ocbench import download_ocbench
    from zoo.envs.ocbench import find_task

    if task := find_task(args.name):
        how = "replace" if args.force else "refuse"
        folder = download_ocbench(task, args.dataset_dir, num_files=args.files, existing=how)
        return {"name": task.name, "folder": str(folder), "files": len(list(folder.glob("*.npz")))}
    spec, existing = parse_name(args.name).spec, "replace" if args.force else "refuse"
    size = args.dataset_size
    if spec.files == 1:
        if size is not None:
            raise UsageError(f"`--dataset-size` chooses among several files, and {spec.name} is one file; leave it out")
        return _describe_files(args.name, download_dataset(args.name, args.dataset_dir, existing=existing))
    names = spec.shard_names[: spec.files if size is None else spec.files_for(size)]
    paths = download_shards(spec.name, args.dataset_dir, names=names, existing=existing)
    return {"name": spec.name, "folder": str(paths[0].parent), "files": len(paths)}


def _convert(args: argparse.Namespace) -> dict[str, Any]:
    """Convert a dataset in another format; or one of several files before training, which would do it too."""
    if args.output is not None:
        return _convert_own(args)
    from zoo.datasets.files import shard_folder
    from zoo.datasets.names import parse_name
    from zoo.datasets.shards import convert_shards

    if _is_own(args.name):
        raise UsageError(f"`--output` must name the file to write, e.g. `zoo dataset convert {args.name} -o my.npz`")
    spec = parse_name(args.name).spec
    if spec.files == 1:
        raise UsageError(f"{spec.name} is one file, which is read as it is; only datasets of several are converted")
    size = args.dataset_size
    try:
        shards = convert_shards(shard_folder(spec.name, args.dataset_dir), spec, size=size)
    except KeyboardInterrupt as error:
        raise Interrupted("stopped; converted files are kept, and the same command continues from there") from error
    transitions = sum(shard.transitions for shard in shards)
    return {"name": spec.name, "folder": str(shards[0].folder.parent), "files": len(shards), "transitions": transitions}


def _is_own(name: str) -> bool:
    """Return whether a name is that of a dataset of the user's own, and not of OGBench's."""
    from zoo.datasets.names import DATASETS

    path = Path(name)
    return name.startswith("minari:") or (
        name not in DATASETS and (path.suffix in (".npz", ".hdf5", ".h5", ".parquet") or path.exists())
    )


def _convert_own(args: argparse.Namespace) -> dict[str, Any]:
    from zoo.datasets.formats.read import environment_of, read_source

    path = _output(args)
    arrays = read_source(args.name, _reading(args))
    return {**_write(path, arrays), "recorded_in": environment_of(args.name)}


def _collect(args: argparse.Namespace) -> dict[str, Any]:
    import numpy as np

    from zoo.config import find_entry
    from zoo.datasets.generate.rollouts import collect

    path, (env_id, env_kwargs) = _output(args), _environment(args)
    if args.algo is not None:
        find_entry(args.algo)  # what the user names is imported
    arrays, returns = collect(
        args.policy,
        env_id,
        env_kwargs,
        episodes=args.episodes,
        seed=args.seed,
        noise=args.noise,
        max_steps=args.max_episode_steps,
        trust=args.trust,
    )
    return {**_write(path, arrays), "return": float(np.mean(returns)), "best_return": max(returns)}


def _show(args: argparse.Namespace) -> dict[str, Any]:
    can_draw = not _is_own(args.name) and choose_platform() is not None  # before MuJoCo is imported
    from zoo.datasets.card import draw_states, rows_shown, write_card

    _find_data_of_task(args)
    about: dict[str, Any] = {}
    pictures = None
    if _is_own(args.name):
        from zoo.datasets.formats.read import environment_of, read_source

        arrays, recorded = read_source(args.name, _reading(args)), environment_of(args.name)
        about = {} if recorded is None else {"recorded in": recorded}
    else:
        from zoo.datasets.load import load_file

        env_name, arrays = load_file(args.name, args.dataset_dir)
        about = {"rewards of": env_name}
        if not env_name.startswith(VISUAL):  # whose observations are pictures
            if can_draw:
                pictures = draw_states(env_name, rows_shown(len(arrays["observations"])), args.dataset_dir)
            else:
                about["states are not drawn"] = WHAT_TO_INSTALL
    facts = write_card(args.output, args.name, about, arrays, pictures)
    return {"name": args.name, "card": str(args.output), **facts}


def _find_data_of_task(args: argparse.Namespace) -> str | None:
    """Put the path of its data in the place of a task of another benchmark than OGBench; return the task's name."""
    from zoo.datasets.sources.ocbench import find_existing
    from zoo.datasets.sources.robomimic import find_demonstrations
    from zoo.envs import ocbench, robomimic

    name = args.name
    if task := ocbench.find_task(name):
        args.name = str(find_existing(task, args.dataset_dir))
    elif demonstrated := robomimic.find_task(name):
        args.name = str(find_demonstrations(demonstrated, args.dataset_dir))
    else:
        return None
    return str(name)


def _check_own(args: argparse.Namespace) -> dict[str, Any]:
    """Check a dataset of the user's own against its environment."""
    from zoo.datasets.formats.read import read_source
    from zoo.datasets.own import in_units_of
    from zoo.datasets.plausible import check_set
    from zoo.envs.make import make_env

    if args.env is None:
        raise UsageError(f"`--env` must name the environment of {args.name}, e.g. --env HalfCheetah-v5; add it")
    env_id, env_kwargs = _environment(args)
    arrays = read_source(args.name, _reading(args))
    if args.action_range is not None:
        with contextlib.closing(make_env(env_id, **env_kwargs)) as env:
            arrays["actions"] = in_units_of(env.action_space, arrays["actions"], args.action_range)
    findings = [asdict(finding) for finding in check_set(arrays, env_id, env_kwargs)]
    return {**_report(args, args.name, findings), **_counts(arrays)}


def _report(args: argparse.Namespace, name: str, findings: list[dict[str, Any]]) -> dict[str, Any]:
    """Print findings, decide the exit code, and return the result."""
    _print_table(f"Findings in {name}", findings, wrapped=("message",))
    is_sound = all(row["severity"] != "error" for row in findings)
    args.exit_code = 0 if is_sound else BAD_INPUT
    return {"name": name, "sound": is_sound, "findings": findings}


def _environment(args: argparse.Namespace) -> tuple[str, dict[str, Any]]:
    """Return the Gymnasium id and the arguments of the environment that was asked for."""
    from zoo.datasets.names import gym_id
    from zoo.layers import parse_overrides
    from zoo.packages import import_environments

    import_environments(args.gym_packages)
    return gym_id(args.env), parse_overrides(args.env_kwargs, "--env-kwargs")


def _reading(args: argparse.Namespace) -> Reading:
    from zoo.datasets.formats.read import Reading

    columns = {}
    for word in args.columns:
        name, equals, column = word.partition("=")
        if not equals or not column:
            raise UsageError(f"`--columns` expects NAME=COLUMN, e.g. rewards=cost, got {word!r}")
        columns[name] = column
    return Reading(columns, args.step_reward, args.done)


def _output(args: argparse.Namespace) -> Path:
    """Return the file to write, which must not be there."""
    path: Path = args.output.expanduser()
    if path.suffix != ".npz":
        raise UsageError(f"`--output` must name an .npz file, got {path}")
    if path.exists() and not args.force:
        raise UsageError(f"expected no file at {path} yet; add `--force` to replace it, or choose another")
    if not path.parent.is_dir():
        raise UsageError(f"`--output` must be in a folder that exists, got {path}; make the folder first")
    return path


def _write(path: Path, arrays: dict[str, Any]) -> dict[str, Any]:
    from zoo.datasets.formats.episodes import write_set

    write_set(path, arrays)
    return {"file": str(path), **_counts(arrays)}


def _counts(arrays: dict[str, Any]) -> dict[str, Any]:
    """Return how much a set holds."""
    last = arrays["valids"] == 0
    terminated = (arrays["masks"] == 0)[:-1] & last[1:]
    return {
        "trajectories": int(last.sum()),
        "transitions": int((~last).sum()),
        "terminated": int(terminated.sum()),
        "observation": arrays["observations"].shape[1],
        "action": arrays["actions"].shape[1],
    }


def _check(args: argparse.Namespace) -> dict[str, Any]:
    """Check a dataset's files; report everything that is broken instead of raising the first error."""
    from zoo.datasets.check import check_dataset
    from zoo.datasets.files import dataset_files, training_files
    from zoo.datasets.names import parse_name

    args.env = _find_data_of_task(args) or args.env
    if _is_own(args.name):
        return _check_own(args)
    spec = parse_name(args.name).spec
    findings = []
    paths = training_files(spec, args.dataset_dir)
    val = dataset_files(spec.name, args.dataset_dir)[1]
    for path in [*paths, val] if val.exists() else paths:
        findings += [{"file": path.name, **asdict(finding)} for finding in check_dataset(path, spec)]
    return _report(args, spec.name, findings)


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
