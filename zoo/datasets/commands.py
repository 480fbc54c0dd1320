"""List, convert and check datasets, for ``zoo dataset``."""

import contextlib
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from agents.common.data.arrays import Transitions
from zoo.algorithms.packages import import_environments
from zoo.datasets.custom import find_data, load_custom, task_path, warn_of_constant_rewards
from zoo.datasets.files import (
    Folder,
    dataset_files,
    missing_files,
    training_files,
)
from zoo.datasets.formats.base import write_set
from zoo.datasets.formats.read import has_rewards, npz_files, read_source
from zoo.datasets.names import (
    DATASETS,
    DatasetSpec,
    gym_id,
    is_custom,
    is_single_task,
    parse_name,
)
from zoo.datasets.ogbench import check_dataset
from zoo.envs.make import make_env, try_env
from zoo.envs.tasks import TASKS
from zoo.settings.layers import parse_overrides
from zoo.terminal.errors import UsageError

Result = dict[str, Any]


def list_datasets(folder: Folder) -> dict[str, list[Result]]:
    """Return, for each benchmark, a table with one row per dataset.

    :param folder: folder of datasets; None for each benchmark's default folder.
    """
    tables: dict[str, list[Result]] = {"OGBench": []}
    for spec in DATASETS.values():
        row = {
            "name": spec.name,
            "transitions": spec.transitions,
            "download": spec.hosted,
            "generate": spec.is_generatable,
            "here": not missing_files(spec, folder),
        }
        tables["OGBench"].append(row)
    for task in TASKS.values():
        row = {"name": task.name, "here": task_path(task, folder).exists()}
        tables.setdefault(task.benchmark, []).append(row)
    return tables


def convert(name: str, folder: Folder, path: Path, reward_from: str | None) -> Result:
    """Convert a dataset that is not OGBench's to an npz file; return a summary of its content.

    :param path: path of the npz file.
    """
    source = _source_of(name, folder)
    if not is_custom(source):
        parse_name(source)
        raise UsageError(f"{name} is an OGBench dataset; `zoo dataset convert` is for other data")
    content = read_source(source, reward_from)
    write_set(path, content)
    return {"file": str(path), **_counts(content)}


def check(
    name: str,
    folder: Folder,
    *,
    env: str | None,
    env_kwargs: Sequence[str],
    gym_packages: Sequence[str],
    action_range: tuple[float, float] | None,
    reward_from: str | None,
) -> Result:
    """Read a dataset as training does, and return the errors and warnings as findings.

    :param env: environment for the data. None: tasks of robomimic and D4RL have their own; for other data, checks that
        need an environment are skipped.
    """
    findings: list[Result] = []
    result: Result = {}
    source = _source_of(name, folder)
    if not is_custom(source):
        spec = parse_name(source).spec
        if env or env_kwargs or gym_packages or action_range or reward_from:
            raise UsageError(
                f"OGBench's {name} takes only --dataset-dir; other flags are for your data"
            )
        paths = training_files(spec, folder)
        validation = dataset_files(spec, folder)[1]
        # Users may delete original files after their conversion; training does not need the validation file.
        missing = missing_files(spec, folder)
        paths = [path for path in [*paths, validation] if path.exists() or path in missing]
        result["files"] = _check_ogbench(spec, paths, findings)
    elif env is not None and is_single_task(env) and not has_rewards(source, env):
        if action_range or reward_from:
            raise UsageError(
                f"{source} has states of OGBench without rewards; leave out `--action-range` and `--reward-from`"
            )
        path = Path(source).expanduser()
        paths = npz_files(path) if path.is_dir() else [path]
        result["files"] = _check_ogbench(parse_name(env).spec, paths, findings)
    elif name in TASKS or env is not None:
        # register the environments that training would register
        import_environments(gym_packages)
        kwargs = parse_overrides(env_kwargs, "--env-kwargs")
        # a wrong environment is an error of the command line, not a finding about the dataset
        with contextlib.closing(make_env(gym_id(env or name), **kwargs)) as built:
            try_env(built)
            with _recording(findings):
                data = load_custom(
                    source,
                    built,
                    action_range=action_range,
                    reward_from=reward_from,
                )
                result = _counts(data.transitions)
    elif action_range or env_kwargs or gym_packages:
        raise UsageError(
            "`--action-range`, `--env-kwargs` and `--gym-packages` need `--env`, the environment to compare with"
        )
    else:
        with _recording(findings):
            content = read_source(source, reward_from)
            warn_of_constant_rewards(source, content)
            result = _counts(content)
    is_sound = all(row["severity"] != "error" for row in findings)
    return {"name": name, "sound": is_sound, "findings": findings, **result}


def _source_of(name: str, folder: Folder) -> str:
    """Return the path or Minari id of the data if the name is a task of robomimic or D4RL, otherwise the name."""
    return find_data(TASKS[name], folder) if name in TASKS else name


def _check_ogbench(spec: DatasetSpec, paths: Sequence[Path], findings: list[Result]) -> Result:
    """Check files of an OGBench dataset, and return file name -> result."""
    results: Result = {}
    for path in paths:
        with _recording(findings, file=path.name):
            results[path.name] = check_dataset(path, spec)
    return results


@contextlib.contextmanager
def _recording(findings: list[Result], **columns: str) -> Iterator[None]:
    """Append the warnings and errors raised in the block to `findings`, instead of passing them on.

    :param columns: further columns of these findings.
    """
    with warnings.catch_warnings(record=True) as caught:
        # by default, Python records a repeated warning only once, even if it is about another file
        warnings.simplefilter("always")
        try:
            yield
        except UsageError as error:
            findings.append({**columns, "severity": "error", "message": str(error)})
    for warning in caught:
        findings.append({**columns, "severity": "warning", "message": str(warning.message)})


def _counts(content: Transitions) -> Result:
    """Return the numbers of trajectories and transitions, observation and action shapes, and statistics of returns."""
    ends = np.flatnonzero(content.ends)
    rewards = content.arrays["rewards"][content.valid]
    masks = content.arrays["masks"][content.valid]
    returns = np.add.reduceat(rewards, np.append(0, ends[:-1] + 1), dtype=np.float64)
    return {
        "trajectories": len(ends),
        "transitions": len(rewards),
        "terminated": int((masks[ends] == 0).sum()),
        "observation": content.arrays["observations"].shape[1:],
        "action": content.arrays["actions"].shape[1:],
        "returns": {
            "lowest": float(returns.min()),
            "mean": float(returns.mean()),
            "highest": float(returns.max()),
        },
    }
