"""The commands of ``zoo dataset``: each takes the parsed arguments, prints tables and returns the result."""

import contextlib
import shlex
import warnings
from argparse import Namespace
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium.spaces import Box

from agents.common.data.arrays import Transitions
from agents.common.files import digest_of
from agents.common.files.npz import read_npz_headers
from zoo.algorithms.baselines import find_algorithm
from zoo.algorithms.packages import import_environments
from zoo.datasets.benchmarks import describe_task, download_ocbench, find_data
from zoo.datasets.check import (
    BROKEN,
    TRANSITIONS,
    check_dataset,
    check_headers,
    explained,
    is_standard,
)
from zoo.datasets.collect import collect as play_episodes
from zoo.datasets.custom import check_actions, check_fit, spaces_for, warn_of_constant_rewards
from zoo.datasets.download import download_dataset
from zoo.datasets.files import (
    ARRAYS,
    data_path,
    dataset_files,
    folder_option,
    missing_files,
    recorded_sha256,
    training_files,
)
from zoo.datasets.formats.base import ReadOptions, write_set
from zoo.datasets.formats.read import metadata_of, name_of, read_source
from zoo.datasets.generate import generate_dataset
from zoo.datasets.names import (
    DATASETS,
    DatasetSpec,
    gym_id,
    is_custom,
    parse_name,
    single_task_names,
)
from zoo.datasets.shards import convert_shards
from zoo.envs.make import dataset_only_id, make_env, register_dataset_only_env
from zoo.envs.probe import probe
from zoo.envs.tasks import OCBENCH, TASKS
from zoo.settings.layers import parse_overrides
from zoo.terminal.errors import BAD_INPUT, SUCCEEDED, Interrupted, UsageError
from zoo.terminal.messages import log
from zoo.terminal.parser import check_output
from zoo.terminal.tables import print_table, result_for_terminal

Result = dict[str, Any]
CUSTOM_FLAGS = (
    "columns", "step_reward", "done", "env", "no_env", "env_kwargs", "gym_packages", "action_range", "reward_from",
)  # fmt: skip


def list_datasets(args: Namespace) -> Result:
    """Show every dataset of the benchmarks."""
    tables: dict[str, list[Result]] = {"Datasets": []}
    for spec in DATASETS.values():
        is_complete = not missing_files(spec, args.dataset_dir)
        tables["Datasets"].append({**_describe(spec), "here": is_complete})
    for task in TASKS.values():
        tables.setdefault(task.benchmark, []).append(describe_task(task, args.dataset_dir))
    result = {}
    for title, rows in tables.items():
        print_rows(title, rows)
        result[title.lower()] = rows
    return result_for_terminal(
        result,
        "zoo dataset info cube-double-play-v0, or zoo train, which makes or fetches what it needs",
    )


def info(args: Namespace) -> Result:
    """Show the size and the tasks of one dataset, and the arrays of its files."""
    if args.name in OCBENCH:
        return describe_task(OCBENCH[args.name], args.dataset_dir)
    spec = parse_name(args.name).spec
    validation = dataset_files(spec.name, args.dataset_dir)[1]
    files = {}
    for path in (*training_files(spec, args.dataset_dir), validation):
        if not path.exists():
            continue
        with explained(path, spec):  # before its checksum, which reads all of a large file
            check_headers(path, spec)
        arrays = {}
        for name, (shape, dtype) in read_npz_headers(path).items():
            arrays[name] = {"shape": list(shape), "dtype": str(dtype)}
        files[str(path)] = {
            "bytes": path.stat().st_size,
            "sha256": digest_of(path),
            "arrays": arrays,
        }
        print_rows(str(path), [{"array": name, **values} for name, values in arrays.items()])
    result = {**_describe(spec), "environments": single_task_names(spec.name)}
    return result | result_for_terminal({"files": files}, _training(spec.name, args))


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


def generate(args: Namespace) -> Result:
    """Make a dataset with scripted oracles."""
    with _explaining_interrupt("finished episodes"):
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
    return _describe_files(files, args)


@contextlib.contextmanager
def _explaining_interrupt(progress: str) -> Iterator[None]:
    """Say in the error of an interrupt what is kept."""
    try:
        yield
    except KeyboardInterrupt as error:
        raise Interrupted(
            f"stopped; {progress} are kept, and the same command continues from there"
        ) from error


def download(args: Namespace) -> Result:
    """Fetch a dataset."""
    if args.name in OCBENCH:
        if args.dataset_size is not None:
            raise UsageError(
                f"`--dataset-size` does not choose among OCBench's files, got {args.name}; give `--files N`"
            )
        folder = download_ocbench(
            OCBENCH[args.name], args.dataset_dir, num_files=args.files, replace=args.force
        )
        return {"name": args.name, "folder": str(folder), "files": len(list(folder.glob("*.npz")))}
    spec = parse_name(args.name).spec
    if args.files is not None:
        raise UsageError(
            f"`--files` chooses among OCBench's files, got OGBench's {spec.name}; leave it out"
        )
    if args.dataset_size is not None and spec.files == 1:
        raise UsageError(
            f"`--dataset-size` chooses among several files, and {spec.name} is one file; leave it out"
        )
    paths = download_dataset(
        spec.name,
        args.dataset_dir,
        transitions=args.dataset_size,
        existing="replace" if args.force else "refuse",
    )
    if spec.files == 1:
        return _describe_files(dataset_files(spec.name, args.dataset_dir), args)
    return {"name": spec.name, "folder": str(paths[0].parent), "files": len(paths)}


def convert(args: Namespace) -> Result:
    """Convert a dataset in another format; or one of several files before training, which would do it too."""
    # Datasets of several files are the only ones that are converted in their own place.
    if args.output is not None:
        path = _output(args)
        _find_data_of_task(args)
        content = read_source(args.name, _options(args))
        write_set(path, content)
        recorded_in = metadata_of(args.name).environment
        result = {"file": str(path), **_counts(content), "recorded_in": recorded_in}
        hint = _command("dataset", "check", path, "--env", recorded_in or "ENV")
        if recorded_in is None:
            hint += ", or with --no-env"
        return result | _next(hint)
    if is_custom(args.name):
        command = _command("dataset", "convert", args.name, "-o", "my.npz")
        raise UsageError(f"`--output` must name the file to write, e.g. `{command}`")
    spec = parse_name(args.name).spec
    _reject_flags_of_custom(args)
    if spec.files == 1:
        raise UsageError(
            f"{spec.name} is one file, which is read as it is; only datasets of several are converted"
        )
    folder = data_path(spec, args.dataset_dir)
    with _explaining_interrupt("converted files"):
        shards = convert_shards(folder, spec, size=args.dataset_size)
    return {
        "name": spec.name,
        "folder": str(folder / ARRAYS),
        "files": len(shards),
        "transitions": sum(shard.transitions for shard in shards),
    }


def collect(args: Namespace) -> Result:
    """Play episodes in an environment and write them."""
    path = _output(args)
    env_id, env_kwargs = _environment(args)
    if args.algo is not None:
        find_algorithm(args.algo)  # what the user names is imported
    content = play_episodes(
        args.policy,
        env_id,
        env_kwargs,
        episodes=args.episodes,
        seed=args.seed,
        noise=args.noise,
        max_steps=args.max_episode_steps,
        trust=args.trust,
    )
    write_set(path, content)
    counts = _counts(content)
    returns = counts["returns"]
    result = {
        "file": str(path),
        **counts,
        "return": returns["mean"],
        "best_return": returns["highest"],
    }
    flags = _flags(args, "env", "env_kwargs", "gym_packages")
    return result | _next(_command("train", "--algo", "fql", "--dataset", path, *flags))


def _find_data_of_task(args: Namespace) -> str | None:
    """Replace a task of another benchmark than OGBench by the path of its data; return the task's name."""
    task = TASKS.get(args.name)
    if task is None:
        return None
    args.name = find_data(task, args.dataset_dir)
    return task.name


def check(args: Namespace) -> Result:
    """Check a dataset's files; report everything that is broken instead of raising the first error."""
    task = _find_data_of_task(args)
    # A benchmark's data are compared with the environment of their task.
    if task is not None and not args.no_env:
        args.env = task
    if is_custom(args.name):
        return _check_custom(args)
    spec = parse_name(args.name).spec
    _reject_flags_of_custom(args)
    findings: list[Result] = []
    paths = training_files(spec, args.dataset_dir)
    validation = dataset_files(spec.name, args.dataset_dir)[1]
    if validation.exists():  # training does without it
        paths.append(validation)
    for path in paths:
        with _recording(findings, file=path.name):
            check_dataset(path, spec)
    report = _report(args, spec.name, findings)
    standard = None
    if report["sound"]:
        report |= _next(_training(spec.name, args))
        standard = is_standard(paths[0], spec)
    if standard is not None:
        verdict = "this is the standard set" if standard else "this is not the standard set"
        compared = f"the first {TRANSITIONS} transitions of `zoo dataset generate`"
        log.info(f"{spec.name}: {verdict}; compared: {compared}")
    return {"standard": standard, **report}


def _reject_flags_of_custom(args: Namespace) -> None:
    """Refuse flags that one of OGBench's datasets has no use for."""
    flags = [word for word in _flags(args, *CUSTOM_FLAGS) if word.startswith("--")]
    if flags:
        raise UsageError(
            f"{' '.join(flags)} belong to a dataset of your own, got OGBench's {args.name}; leave them out"
        )


def _check_custom(args: Namespace) -> Result:
    """Check a dataset of the user's own: what needs no environment, and whether it fits one that is named."""
    options = _options(args)
    findings: list[Result] = []
    content = None
    with contextlib.ExitStack() as stack:
        if args.env is None:
            stack.enter_context(_recording(findings))
            content = read_source(args.name, options)
            warn_of_constant_rewards(args.name, content)
            if args.no_env:  # training plays in a stand-in, which not all data have
                env_id = dataset_only_id(name_of(args.name))
                register_dataset_only_env(env_id, content, args.action_range)
            if args.action_range is not None:
                box = Box(-1.0, 1.0, content.arrays["actions"].shape[1:])
                check_actions(args.name, content, box, args.action_range)
        else:
            # Before the data are read, which may take minutes: a wrong environment is a wrong command.
            env_id, env_kwargs = _environment(args)
            env = stack.enter_context(contextlib.closing(make_env(env_id, **env_kwargs)))
            probe(env, lambda: make_env(env_id, **env_kwargs))
            stack.enter_context(_recording(findings))
            spaces = spaces_for(args.name, env_id, env)
            content = read_source(args.name, options)
            check_fit(args.name, content, env_id, spaces, args.action_range)
    report = _report(args, args.name, findings)
    if content is not None:
        report |= _counts(content)
    if not report["sound"]:
        return report
    # Training has no such flags, so an npz file comes first.
    flags = _flags(args, "columns", "step_reward", "done")
    if flags:
        flags += _flags(args, "reward_from")
        return report | _next(_command("dataset", "convert", args.name, "-o", "my.npz", *flags))
    if args.env is None and not args.no_env:
        args.env = metadata_of(args.name).environment or "ENV"
    flags = _flags(args, *CUSTOM_FLAGS)
    return report | _next(_command("train", "--algo", "fql", "--dataset", args.name, *flags))


def _flags(args: Namespace, *names: str) -> list[str]:
    """Return the words of those flags with some names that were given."""
    words: list[str] = []
    for name in names:
        value = getattr(args, name, None)
        flag = f"--{name.replace('_', '-')}"
        if name == "action_range" and value:
            # One word, since it may begin with a minus.
            words.append(f"{flag}={value[0]:.12g},{value[1]:.12g}")
        elif isinstance(value, list) and value:
            words += [flag, *value]
        elif value is True:
            words.append(flag)
        elif isinstance(value, str | float):
            words += [flag, str(value)]
    return words


def _command(*words: object) -> str:
    """Return a command of ``zoo`` as a shell takes it."""
    return shlex.join(["zoo", *map(str, words)])


@contextlib.contextmanager
def _recording(findings: list[Result], **place: str) -> Iterator[None]:
    """Record warnings and errors of a dataset as findings instead of showing them.

    :param place: columns of the findings.
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")  # else only the first file that has a warning shows it
        try:
            yield
        except BROKEN as error:
            array = getattr(error, "array", "file")
            finding = {"severity": "error", "array": array, "message": str(error)}
            findings.append({**place, **finding})
    for warning in caught:
        finding = {"severity": "warning", "array": "file", "message": str(warning.message)}
        findings.append({**place, **finding})


def _report(args: Namespace, name: str, findings: list[dict[str, Any]]) -> Result:
    """Print findings, decide the exit code, and return the result."""
    if findings:
        print_rows(f"Findings in {name}", findings, wrapped=("message",))
    is_sound = all(row["severity"] != "error" for row in findings)
    # Findings are the result that was asked for, and no exception; only the exit code says that one is an error.
    args.exit_code = SUCCEEDED
    if not is_sound:
        args.exit_code = BAD_INPUT
    return {"name": name, "sound": is_sound, **result_for_terminal({"findings": findings})}


def _environment(args: Namespace) -> tuple[str, dict[str, Any]]:
    """Return the Gymnasium id and the arguments of the environment that was asked for."""
    import_environments(args.gym_packages)
    return gym_id(args.env), parse_overrides(args.env_kwargs, "--env-kwargs")


def _options(args: Namespace) -> ReadOptions:
    """Return the options of reading that were given."""
    columns = dict(word.partition("=")[::2] for word in args.columns)
    if "" in columns.values() or len(columns) < len(args.columns):
        raise UsageError(
            f"`--columns` expects NAME=COLUMN with each name once, e.g. rewards=cost, got {' '.join(args.columns)!r}"
        )
    return ReadOptions(columns, args.step_reward, args.done, args.reward_from)


def _output(args: Namespace) -> Path:
    """Return the file to write, which must not be there."""
    path: Path = args.output.expanduser()
    # Now, and not after episodes were played or data read.
    if path.suffix.lower() != ".npz":
        raise UsageError(f"`--output` must name an .npz file, got {path}")
    check_output("--output", path)
    if path.exists() and not args.force:
        raise UsageError(
            f"expected no file at {path} yet; add `--force` to replace it, or choose another"
        )
    return path


def _counts(content: Transitions) -> Result:
    """Return how much a dataset holds."""
    ends = np.flatnonzero(content.ends)
    rewards = content.arrays["rewards"][content.valid]
    masks = content.arrays["masks"][content.valid]
    returns = np.add.reduceat(rewards, np.append(0, ends[:-1] + 1), dtype=np.float64)
    return {
        "trajectories": len(ends),
        "transitions": len(rewards),
        "terminated": int((masks[ends] == 0).sum()),
        "observation": content.arrays["observations"].shape[1],
        "action": content.arrays["actions"].shape[1],
        "returns": {
            "lowest": float(returns.min()),
            "mean": float(returns.mean()),
            "highest": float(returns.max()),
        },
    }


def _describe_files(files: tuple[Path, Path], args: Namespace) -> Result:
    """Return a dataset's files, their rows and their checksum.

    :param files: for training and for validation.
    """
    train, validation = files
    result = {
        "name": train.stem,
        "train": str(train),
        "val": str(validation),
        "rows": read_npz_headers(train)["observations"][0][0],
        "sha256": recorded_sha256(train),
    }
    return result | _next(_training(train.stem, args))


def _training(dataset: str, args: Namespace) -> str:
    """Return the command that trains on a dataset's first task."""
    words = f"{single_task_names(dataset)[1]} --quick"
    if dataset in OCBENCH:
        words = f"{dataset} --dataset generate"
    return f"zoo train --algo fql --env {words}{folder_option(args.dataset_dir)}"


def _next(hint: str) -> Result:
    """Return what to do next, for a person only."""
    return result_for_terminal({}, hint)


def print_rows(title: str, rows: list[dict[str, Any]], wrapped: Sequence[str] = ()) -> None:
    """Print rows, one at least, as a table."""
    cells = []
    for row in rows:
        cells.append([_cell(value) for value in row.values()])
    print_table(title, list(rows[0]), cells, wrapped)


def _cell(value: Any) -> str:
    if value is True:
        return "yes"
    if value is False:
        return ""
    if isinstance(value, int):
        return f"{value:,}"
    return str(value)
