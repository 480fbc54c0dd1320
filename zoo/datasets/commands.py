"""The commands of ``zoo dataset``: each takes the parsed arguments, prints tables and returns the result."""

from __future__ import annotations

import argparse
import contextlib
import os
import shlex
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from agents.common.data.arrays import Transitions
from agents.common.files import digest_of
from agents.common.files.npz import read_npz_headers
from zoo.algorithms.baselines import find_algorithm
from zoo.algorithms.packages import import_environments
from zoo.datasets.benchmarks import describe_task, download_ocbench, find_data, generate_ocbench, generated_files
from zoo.datasets.check import TRANSITIONS, check_dataset, check_headers, explained, is_standard
from zoo.datasets.collect import collect as play_episodes
from zoo.datasets.custom import check_fit, spaces_for, warn_of_constant_rewards
from zoo.datasets.download import download_dataset
from zoo.datasets.files import DatasetError, dataset_files, folder_option, recorded_sha256, shard_folder, training_files
from zoo.datasets.formats.base import ReadOptions, write_set
from zoo.datasets.formats.read import environment_of, name_of, read_source
from zoo.datasets.generate import generate_dataset
from zoo.datasets.names import DATASETS, DatasetSpec, extension, gym_id, is_custom, parse_name, single_task_names
from zoo.datasets.shards import convert_shards
from zoo.envs.make import absent_id, make_env, register_absent
from zoo.envs.probe import probe
from zoo.envs.tasks import D4RL, OCBENCH, ROBOMIMIC, TASKS
from zoo.settings.layers import parse_overrides
from zoo.terminal.errors import BAD_INPUT, Interrupted, UsageError
from zoo.terminal.messages import log
from zoo.terminal.tables import as_shown, print_table

Result = dict[str, Any]
CUSTOM_FLAGS = (
    "columns", "step_reward", "done", "reward_from", "env", "no_env", "env_kwargs", "gym_packages", "action_range",
)  # fmt: skip


def list_datasets(args: argparse.Namespace) -> Result:
    """Show every dataset of the benchmarks."""
    rows = []
    for spec in DATASETS.values():
        here = all(path.exists() for path in training_files(spec, args.dataset_dir))
        rows.append({**_describe(spec), "here": here})
    _print_table("Datasets", rows)
    found = {"datasets": rows}
    benchmarks = {"OCBench": OCBENCH, "robomimic": ROBOMIMIC, "D4RL": D4RL}
    for title, tasks in benchmarks.items():
        found[title.lower()] = [describe_task(task, args.dataset_dir) for task in tasks.values()]
        _print_table("D4RL, in Minari" if title == "D4RL" else title, found[title.lower()])
    return as_shown(found, "zoo dataset info cube-double-play-v0, or zoo train, which makes or fetches what it needs")


def info(args: argparse.Namespace) -> Result:
    """Show what is known about one dataset and what its files hold."""
    if task := OCBENCH.get(args.name):
        return describe_task(task, args.dataset_dir)
    spec = parse_name(args.name).spec
    files = {}
    several = training_files(spec, args.dataset_dir) if spec.files > 1 else None
    for path in several or dataset_files(spec.name, args.dataset_dir):
        if path.exists():
            with explained(path, spec):
                check_headers(path, spec)
            headers = read_npz_headers(path)
            arrays = {name: {"shape": list(shape), "dtype": str(dtype)} for name, (shape, dtype) in headers.items()}
            files[str(path)] = {"bytes": path.stat().st_size, "sha256": digest_of(path), "arrays": arrays}
            _print_table(str(path), [{"array": name, **values} for name, values in arrays.items()])
    result = {**_describe(spec), "environments": single_task_names(spec.name)}
    return result | as_shown({"files": files}, _training(spec.name, args))


def _describe(spec: DatasetSpec) -> Result:
    """Return what OGBench says about a dataset."""
    return {
        "name": spec.name,
        "files": spec.files,
        "episodes": spec.files * spec.episodes,
        "transitions": spec.transitions,
        "download": spec.hosted,
        "generate": spec.is_generatable,
    }


def generate(args: argparse.Namespace) -> Result:
    """Make a dataset with scripted oracles."""
    existing = "replace" if args.force else "refuse"
    how = {"num_episodes": args.episodes, "seed": args.seed, "num_workers": args.num_workers, "existing": existing}
    with _told_how_to_go_on("finished episodes"):
        if not (task := OCBENCH.get(args.name)):
            files = generate_dataset(
                args.name, args.dataset_dir, dataset_size=args.dataset_size, episode_steps=args.episode_steps, **how
            )
            return _describe_files(args, files)
        if args.dataset_size or args.episode_steps:
            raise UsageError(
                f"the episodes of {task.name} differ in length; give `--episodes` instead of `--dataset-size` or "
                "`--episode-steps`"
            )
        files = generated_files(task, args.dataset_dir)
        generate_ocbench(task, files, **how)
        found = {"name": task.name, "train": str(files[0]), "val": str(files[1])}
        place = folder_option(args.dataset_dir)
        return found | _next(f"zoo train --algo fql --env {task.name} --dataset generate{place}")


@contextlib.contextmanager
def _told_how_to_go_on(what: str) -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt as error:
        raise Interrupted(f"stopped; {what} are kept, and the same command continues from there") from error


def download(args: argparse.Namespace) -> Result:
    """Fetch a dataset."""
    existing = "replace" if args.force else "refuse"
    if task := OCBENCH.get(args.name):
        folder = download_ocbench(task, args.dataset_dir, num_files=args.files, replace=args.force)
        return {"name": task.name, "folder": str(folder), "files": len(list(folder.glob("*.npz")))}
    spec, size = parse_name(args.name).spec, args.dataset_size
    if spec.files == 1:
        if size is not None:
            raise UsageError(f"`--dataset-size` chooses among several files, and {spec.name} is one file; leave it out")
        download_dataset(args.name, args.dataset_dir, existing=existing)
        return _describe_files(args, dataset_files(spec.name, args.dataset_dir))
    names = spec.shard_names[: spec.files if size is None else spec.files_for(size)]
    paths = download_dataset(spec.name, args.dataset_dir, names=names, existing=existing)
    return {"name": spec.name, "folder": str(paths[0].parent), "files": len(paths)}


def convert(args: argparse.Namespace) -> Result:
    """Convert a dataset in another format; or one of several files before training, which would do it too."""
    if args.output is not None:
        path = _output(args)
        _find_data_of_task(args)
        content = read_source(args.name, _options(args))
        found = {**_write(path, content), "recorded_in": environment_of(args.name)}
        return found | _next(_command("dataset", "check", path, "--env", found["recorded_in"] or "ENV"))
    if is_custom(args.name):
        command = _command("dataset", "convert", args.name, "-o", "my.npz")
        raise UsageError(f"`--output` must name the file to write, e.g. `{command}`")
    spec = parse_name(args.name).spec
    _reject_flags_of_custom(args)
    if spec.files == 1:
        raise UsageError(f"{spec.name} is one file, which is read as it is; only datasets of several are converted")
    with _told_how_to_go_on("converted files"):
        shards = convert_shards(shard_folder(spec.name, args.dataset_dir), spec, size=args.dataset_size)
    transitions = sum(shard.transitions for shard in shards)
    return {"name": spec.name, "folder": str(shards[0].folder.parent), "files": len(shards), "transitions": transitions}


def collect(args: argparse.Namespace) -> Result:
    """Play episodes in an environment and write them."""
    path, (env_id, env_kwargs) = _output(args), _environment(args)
    if args.algo is not None:
        find_algorithm(args.algo)  # what the user names is imported
    content, returns = play_episodes(
        args.policy,
        env_id,
        env_kwargs,
        episodes=args.episodes,
        seed=args.seed,
        noise=args.noise,
        max_steps=args.max_episode_steps,
        trust=args.trust,
    )
    found = {**_write(path, content), "return": float(np.mean(returns)), "best_return": max(returns)}
    return found | _next(_command("train", "--algo", "fql", *_flags(args, "env"), "--dataset", path))


def _find_data_of_task(args: argparse.Namespace) -> str | None:
    """Replace a task of another benchmark than OGBench by the path of its data; return the task's name."""
    if not (task := TASKS.get(args.name)):
        return None
    args.name = find_data(task, args.dataset_dir)
    return task.name


def check(args: argparse.Namespace) -> Result:
    """Check a dataset's files; report everything that is broken instead of raising the first error."""
    task = _find_data_of_task(args)
    if task is not None and not args.no_env:
        args.env = task
    if is_custom(args.name):
        return _check_custom(args)
    spec = parse_name(args.name).spec
    _reject_flags_of_custom(args)
    findings: list[Result] = []
    paths = training_files(spec, args.dataset_dir)
    val = dataset_files(spec.name, args.dataset_dir)[1]
    for path in [*paths, val] if val.exists() else paths:
        with _noted(findings, file=path.name):
            check_dataset(path, spec)
    report = _report(args, spec.name, findings)
    standard = is_standard(paths[0], spec) if report["sound"] else None
    if standard is not None:
        text = "this is the standard set" if standard else "this is not the standard set"
        log.info("%s: %s; compared: the first %d transitions of `zoo dataset generate`", spec.name, text, TRANSITIONS)
    return {"standard": standard, **report, **_next(_training(spec.name, args) if report["sound"] else "")}


def _reject_flags_of_custom(args: argparse.Namespace) -> None:
    """Refuse flags that one of OGBench's datasets has no use for."""
    flags = [word for word in _flags(args, *CUSTOM_FLAGS) if word.startswith("--")]
    if flags:
        raise UsageError(
            f"{' '.join(flags)} belong to a dataset of your own, got OGBench's {args.name}; leave them out"
        )


def _check_custom(args: argparse.Namespace) -> Result:
    """Check a dataset of the user's own, against its environment if there is one."""
    if (args.env is None) != args.no_env:
        raise UsageError(
            f"`--env` must name the environment of {args.name}, e.g. --env HalfCheetah-v5, or `--no-env` say that it "
            "has none; give one of the two"
        )
    env_id, env_kwargs = ("", {}) if args.no_env else _environment(args)
    if env_id:
        with contextlib.closing(make_env(env_id, **env_kwargs)) as env:
            probe(env, lambda: make_env(env_id, **env_kwargs))
    findings: list[Result] = []
    content = None
    with _noted(findings):
        if env_id:
            spaces = spaces_for(args.name, env_id, env_kwargs)
            content = read_source(args.name, _options(args))
            check_fit(args.name, content, env_id, spaces, args.action_range)
        else:
            content = read_source(args.name, _options(args))
            warn_of_constant_rewards(args.name, content)
            register_absent(absent_id(name_of(args.name)), content, args.action_range)
    report = {**_report(args, args.name, findings), **(_counts(content) if content else {})}
    return report | _next(_training_of_custom(args) if report["sound"] else "")


def _training_of_custom(args: argparse.Namespace) -> str:
    """Return the command that trains on a dataset that was checked, or that makes one that training reads."""
    options = _flags(args, "columns", "step_reward", "done")
    if options:
        return _command("dataset", "convert", args.name, "-o", "my.npz", *options, *_flags(args, "reward_from"))
    flags = _flags(args, "env", "no_env", "env_kwargs", "gym_packages", "action_range", "reward_from")
    return _command("train", "--algo", "fql", "--dataset", args.name, *flags)


def _flags(args: argparse.Namespace, *names: str) -> list[str]:
    """Return the words of the flags that were given, of those with some names."""
    words = []
    for name in names:
        value = getattr(args, name, None)
        flag = f"--{name.replace('_', '-')}"
        if name == "action_range" and value:
            words.append(f"{flag}={value[0]:g},{value[1]:g}")  # one word: it may begin with a minus
        elif isinstance(value, list) and value:
            words += [flag, *value]
        elif value is True:
            words.append(flag)
        elif value not in (None, False, []):
            words += [flag, str(value)]
    return words


def _command(*words: object) -> str:
    """Return a command of ``zoo`` as a shell takes it."""
    return shlex.join(["zoo", *map(str, words)])


@contextlib.contextmanager
def _noted(findings: list[Result], **place: str) -> Iterator[None]:
    """Note warnings, and what cannot be trained on, instead of showing them.

    :param place: columns of the findings.
    """
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        try:
            yield
        except DatasetError as error:
            findings.append({**place, "severity": "error", "array": error.array, "message": str(error)})
    for warning in told:
        findings.append({**place, "severity": "warning", "array": "file", "message": str(warning.message)})


def _report(args: argparse.Namespace, name: str, findings: list[dict[str, Any]]) -> Result:
    """Print findings, decide the exit code, and return the result."""
    if findings:
        _print_table(f"Findings in {name}", findings, wrapped=("message",))
    is_sound = all(row["severity"] != "error" for row in findings)
    args.exit_code = 0 if is_sound else BAD_INPUT
    return {"name": name, "sound": is_sound, **as_shown({"findings": findings})}


def _environment(args: argparse.Namespace) -> tuple[str, dict[str, Any]]:
    """Return the Gymnasium id and the arguments of the environment that was asked for."""
    for package in args.gym_packages:
        import_environments(package)
    return gym_id(args.env), parse_overrides(args.env_kwargs, "--env-kwargs")


def _options(args: argparse.Namespace) -> ReadOptions:
    """Return the options of reading that were given."""
    columns = dict(word.partition("=")[::2] for word in args.columns)
    if "" in columns.values() or len(columns) < len(args.columns):
        raise UsageError(
            f"`--columns` expects NAME=COLUMN with each name once, e.g. rewards=cost, got {' '.join(args.columns)!r}"
        )
    return ReadOptions(columns, args.step_reward, args.done, args.reward_from)


def _output(args: argparse.Namespace) -> Path:
    """Return the file to write, which must not be there."""
    path: Path = args.output.expanduser()
    if extension(path) != ".npz" or path.is_dir():
        raise UsageError(f"`--output` must name an .npz file, got {path}")
    if path.exists() and not args.force:
        raise UsageError(f"expected no file at {path} yet; add `--force` to replace it, or choose another")
    if not os.access(path.parent, os.W_OK):
        raise UsageError(
            f"`--output` must be in a folder that exists and can be written to, got {path}; choose another"
        )
    return path


def _write(path: Path, content: Transitions) -> Result:
    write_set(path, content)
    return {"file": str(path), **_counts(content)}


def _counts(content: Transitions) -> Result:
    """Return how much a set holds."""
    ends = np.flatnonzero(content.ends)
    rewards, masks = (content.arrays[name][content.valid] for name in ("rewards", "masks"))
    returns = np.add.reduceat(rewards, np.append(0, ends[:-1] + 1), dtype=np.float64)
    return {
        "trajectories": len(ends),
        "transitions": len(rewards),
        "terminated": int((masks[ends] == 0).sum()),
        "observation": content.arrays["observations"].shape[1],
        "action": content.arrays["actions"].shape[1],
        "returns": {"lowest": float(returns.min()), "mean": float(returns.mean()), "highest": float(returns.max())},
    }


def _describe_files(args: argparse.Namespace, files: tuple[Path, Path]) -> Result:
    train, val = files
    rows = read_npz_headers(train)["observations"][0][0]
    dataset, digest = parse_name(args.name).spec.name, recorded_sha256(train)
    found = {"name": dataset, "train": str(train), "val": str(val), "rows": rows, "sha256": digest}
    return found | _next(_training(dataset, args))


def _training(dataset: str, args: argparse.Namespace) -> str:
    """Return the command that trains on a dataset's first task."""
    return f"zoo train --algo fql --env {single_task_names(dataset)[1]} --quick{folder_option(args.dataset_dir)}"


def _next(hint: str) -> Result:
    """Return what to do next, for a person only."""
    return as_shown({}, hint)


def _print_table(title: str, rows: list[dict[str, Any]], wrapped: Sequence[str] = ()) -> None:
    """Print rows, one at least, as a table."""
    print_table(title, list(rows[0]), [[_cell(value) for value in row.values()] for row in rows], wrapped)


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else ""
    return f"{value:,}" if isinstance(value, int) else str(value)
