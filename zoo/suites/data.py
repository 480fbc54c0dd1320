"""The datasets of a suite: which ones its runs train on, how large they are, and their download."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from zoo.datasets.download import download_dataset
from zoo.datasets.files import missing_files, training_files
from zoo.datasets.names import DATASETS, is_single_task, parse_env_name
from zoo.suites.jobs import make_jobs
from zoo.suites.suite import Suite, read_suite
from zoo.terminal.errors import UsageError
from zoo.terminal.messages import log


def describe_dataset(name: str, transitions: int | None, folder: str | None) -> dict[str, Any]:
    """Return the row of a table: files, transitions and whether the files exist.

    :param transitions: how many of them the runs of a suite use; None: all.
    """
    spec = DATASETS[name]
    files = len(training_files(spec, folder, transitions))
    share = files / spec.files
    return {
        "name": name,
        "files": files,
        "transitions": round(share * spec.transitions),
        "here": not missing_files(spec, folder, transitions),
    }


def suite_datasets(suite: Suite) -> dict[str, int | None]:
    """Return the datasets that the runs of a suite train on -> the most transitions that a run uses; None: all.

    :raises UsageError: if the suite is wrong, or OGBench does not host one of its datasets.
    """
    runs = suite.runs()
    names = {}
    for env in {run.env for run in runs}:
        if not is_single_task(env) or not parse_env_name(env).spec.hosted:
            raise UsageError(
                f"`--suite` downloads datasets that OGBench hosts, got a suite with {env}; docs/data.md says how other "
                "data are made or loaded"
            )
        names[env] = parse_env_name(env).spec.name
    # The settings of a run decide how much of a dataset it uses, e.g. ten of a hundred files.
    sizes: dict[str, int | None] = {}
    for job in make_jobs(suite, runs, Path("logs")):
        name = names[job.run.env]
        size = job.config.run.dataset_size
        largest = sizes.get(name, 0)
        sizes[name] = None if size is None or largest is None else max(size, largest)
    return sizes


def download_suite(
    file: Path, dataset_dir: str | None, *, dry_run: bool, replace: bool
) -> list[dict[str, Any]]:
    """Download the datasets of a suite, those that are missing, and return a row for each.

    :param dry_run: return the rows, and download nothing.
    :param replace: download all files again.
    :raises UsageError: before the first download, if the suite is wrong or one of its datasets cannot be downloaded.
    """
    suite = read_suite(file)
    if suite.dataset == "generate":
        raise UsageError(
            f"expected a suite that downloads its datasets, got {file.name} with `dataset: generate`; `zoo benchmark` "
            "makes them"
        )
    sizes = suite_datasets(suite)
    folder = dataset_dir or suite.dataset_dir or None
    if not dry_run:
        existing = "replace" if replace else "keep"
        for number, (name, size) in enumerate(sizes.items(), start=1):
            log.info("dataset %d of %d: %s", number, len(sizes), name)
            download_dataset(name, folder, transitions=size, existing=existing)
    return [describe_dataset(name, size, folder) for name, size in sizes.items()]
