"""The commands of ``zoo dataset``: each prints what a person reads and returns the result."""

import contextlib
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from agents.common.data.arrays import Transitions
from agents.common.files.npz import read_npz_headers
from zoo.algorithms.packages import import_environments
from zoo.datasets.custom import describe_task, find_data, load_custom, warn_of_constant_rewards
from zoo.datasets.download import download_dataset
from zoo.datasets.files import (
    Folder,
    dataset_files,
    missing_files,
    recorded_sha256,
    training_files,
)
from zoo.datasets.formats.base import ReadOptions, write_set
from zoo.datasets.formats.read import metadata_of, name_of, read_source
from zoo.datasets.generate import generate_dataset
from zoo.datasets.names import DATASETS, DatasetSpec, gym_id, is_custom, parse_name
from zoo.datasets.ogbench import BROKEN, check_dataset
from zoo.envs.dataset_only import dataset_only_id, register_dataset_only_env
from zoo.envs.make import make_env
from zoo.envs.probe import probe
from zoo.envs.tasks import TASKS
from zoo.settings.layers import parse_overrides
from zoo.terminal.errors import Interrupted, UsageError
from zoo.terminal.parser import check_output
from zoo.terminal.tables import print_table

Result = dict[str, Any]


def list_datasets(folder: Folder) -> Result:
    """Print every dataset of the benchmarks, and return the names of those on disk.

    :param folder: folder of datasets; None takes that of each benchmark.
    """
    tables: dict[str, list[Result]] = {"OGBench": []}
    for spec in DATASETS.values():
        row = {
            "name": spec.name,
            "files": spec.files,
            "episodes": spec.files * spec.episodes,
            "transitions": spec.transitions,
            "download": spec.hosted,
            "generate": spec.is_generatable,
            "here": not missing_files(spec, folder),
        }
        tables["OGBench"].append(row)
    for task in TASKS.values():
        tables.setdefault(task.benchmark, []).append(describe_task(task, folder))
    on_disk = []
    for benchmark, rows in tables.items():
        print_rows(benchmark, rows)
        on_disk += [row["name"] for row in rows if row["here"]]
    return {"here": on_disk}


def generate(
    name: str,
    folder: Folder,
    *,
    episodes: int | None,
    episode_steps: int | None,
    seed: int,
    replace: bool,
) -> Result:
    """Generate a dataset with scripted oracles."""
    try:
        files = generate_dataset(
            name,
            folder,
            num_episodes=episodes,
            episode_steps=episode_steps,
            seed=seed,
            existing="replace" if replace else "refuse",
        )
    except KeyboardInterrupt as error:
        raise Interrupted(
            "stopped; finished episodes are kept, and the same command continues from there"
        ) from error
    return _describe_files(files)


def download(name: str, folder: Folder, *, transitions: int | None, replace: bool) -> Result:
    """Download a dataset.

    :param transitions: of several files, download those that hold so many; None downloads all.
    """
    spec = parse_name(name).spec
    if transitions is not None and spec.files == 1:
        raise UsageError(f"`--dataset-size` is for datasets of several files; {spec.name} is one")
    existing = "replace" if replace else "refuse"
    paths = download_dataset(spec.name, folder, transitions=transitions, existing=existing)
    if spec.files == 1:
        return _describe_files(dataset_files(spec.name, folder))
    return {"name": spec.name, "folder": str(paths[0].parent), "files": len(paths)}


def convert(
    name: str,
    folder: Folder,
    output: Path,
    *,
    columns: Sequence[str],
    step_reward: float | None,
    done: str | None,
    reward_from: str | None,
    replace: bool,
) -> Result:
    """Write a dataset in any format as an npz file.

    :param columns: words NAME=COLUMN; this and the other options are those of `ReadOptions`.
    """
    path = output.expanduser()
    # before the data are read
    if path.suffix.lower() != ".npz":
        raise UsageError(f"`--output` must name an .npz file, got {path}")
    check_output("--output", path)
    if path.exists() and not replace:
        raise UsageError(f"{path} exists; add `--force` to replace it, or choose another name")
    column_of = dict(word.partition("=")[::2] for word in columns)
    if "" in column_of.values() or len(column_of) < len(columns):
        raise UsageError(
            f"`--columns` expects NAME=COLUMN with each name once, e.g. rewards=cost, got {' '.join(columns)!r}"
        )
    source = _source_of(name, folder)
    if not is_custom(source):
        raise UsageError(
            f"{name} is read as it is; only other formats than OGBench's are converted"
        )
    content = read_source(source, ReadOptions(column_of, step_reward, done, reward_from))
    write_set(path, content)
    recorded_in = metadata_of(source).environment
    return {"file": str(path), **_counts(content), "recorded_in": recorded_in}


def check(
    name: str,
    folder: Folder,
    *,
    env: str | None,
    no_env: bool,
    env_kwargs: Sequence[str],
    gym_packages: Sequence[str],
    action_range: tuple[float, float] | None,
    reward_from: str | None,
) -> Result:
    """Read a dataset as training does, and report what training would refuse or warn of.

    :param env: environment of your own data; None checks only what needs no environment.
    :param no_env: check what training without environment needs.
    """
    findings: list[Result] = []
    result: Result = {}
    source = _source_of(name, folder)
    if not is_custom(source):
        if env or no_env or env_kwargs or gym_packages or action_range or reward_from:
            raise UsageError(
                f"OGBench's {name} needs no further flags: they are for data of your own"
            )
        _check_ogbench(parse_name(source).spec, folder, findings)
    elif action_range and not (env or no_env or name in TASKS):
        raise UsageError("`--action-range` needs `--env` or `--no-env`, whose limits it stands for")
    else:
        import_environments(gym_packages)
        if name in TASKS and not no_env:
            env = TASKS[name].env_id
        kwargs = parse_overrides(env_kwargs, "--env-kwargs")
        with contextlib.ExitStack() as stack:
            env_id = None if env is None else gym_id(env)
            playing = None
            if env_id is not None:
                # a wrong environment is a wrong command, no finding
                playing = stack.enter_context(contextlib.closing(make_env(env_id, **kwargs)))
                probe(playing, lambda: make_env(str(env_id), **kwargs))
            stack.enter_context(_recording(findings))
            content = read_source(source, ReadOptions(reward_from=reward_from))
            result = _counts(content)
            if no_env:
                env_id = dataset_only_id(name_of(source))
                register_dataset_only_env(env_id, content, action_range)
                playing = stack.enter_context(contextlib.closing(make_env(env_id)))
            if playing is None or env_id is None:
                warn_of_constant_rewards(source, content)
            else:
                # the function by which training loads it
                load_custom(
                    source, env_id, kwargs, action_range=action_range, content=content, env=playing
                )
                box: Any = playing.action_space
                result["actions"] = {"low": box.low.tolist(), "high": box.high.tolist()}
    if findings:
        print_rows(f"Findings in {name}", findings, wrapped=("message",))
    is_sound = all(row["severity"] != "error" for row in findings)
    return {"name": name, "sound": is_sound, "findings": findings, **result}


def _source_of(name: str, folder: Folder) -> str:
    """Return the path of the data of a task of robomimic or D4RL; other names as they are."""
    return find_data(TASKS[name], folder) if name in TASKS else name


def _check_ogbench(spec: DatasetSpec, folder: Folder, findings: list[Result]) -> None:
    """Check all files of a dataset of OGBench."""
    paths = training_files(spec, folder)
    validation = dataset_files(spec.name, folder)[1]
    if validation.exists():  # training does not need it
        paths.append(validation)
    for path in paths:
        with _recording(findings, file=path.name):
            check_dataset(path, spec)


@contextlib.contextmanager
def _recording(findings: list[Result], **place: str) -> Iterator[None]:
    """Record warnings and errors of a dataset as findings instead of showing them.

    :param place: further columns of the findings.
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")  # else only the first file that has a warning shows it
        try:
            yield
        except BROKEN as error:
            findings.append({**place, "severity": "error", "message": str(error)})
    for warning in caught:
        findings.append({**place, "severity": "warning", "message": str(warning.message)})


def _counts(content: Transitions) -> Result:
    """Return the size of a dataset and its returns."""
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


def _describe_files(files: tuple[Path, Path]) -> Result:
    """Return a dataset's training and validation file, its rows and its checksum."""
    train, validation = files
    return {
        "name": train.stem,
        "train": str(train),
        "val": str(validation),
        "rows": read_npz_headers(train)["observations"][0][0],
        "sha256": recorded_sha256(train),
    }


def print_rows(title: str, rows: Sequence[Result], wrapped: Sequence[str] = ()) -> None:
    """Print rows, one at least, as a table."""
    cells = []
    for row in rows:
        cells.append([_cell(value) for value in row.values()])
    print_table(title, list(rows[0]), cells, wrapped)


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else ""
    return f"{value:,}" if isinstance(value, int) else str(value)
