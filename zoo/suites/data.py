"""The datasets of a suite: which ones its runs train on, how large they are, and their download."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zoo.datasets.benchmarks import describe_task, download_ocbench
from zoo.datasets.download import download_dataset
from zoo.datasets.files import dataset_files, shard_folder
from zoo.datasets.names import (
    DATASETS,
    is_single_task,
    parse_env_name,
)
from zoo.datasets.shards import shard_names
from zoo.envs.tasks import OCBENCH, TASKS
from zoo.suites.jobs import make_jobs
from zoo.suites.suite import Suite, read_suite
from zoo.terminal.errors import UsageError
from zoo.terminal.messages import log

DOWNLOADED = ("auto", "download")
"""Values of a suite's `dataset` with which its runs look for OGBench's and OCBench's files."""


@dataclass(frozen=True)
class SuiteDataset:
    """A dataset that runs of a suite train on.

    :param name: of OGBench's dataset, or of OCBench's task.
    :param transitions: how many of them the runs use; infinity for all.
    """

    name: str
    transitions: float

    def files(self) -> list[str]:
        """Return the names, without ending, of the training files of OGBench's dataset that the runs use."""
        spec = DATASETS[self.name]
        if spec.files == 1:
            return [self.name]
        return spec.file_names(self.transitions)

    def missing(self, folder: str | None) -> list[str]:
        """Return the names of the files that do not exist."""
        # Converted files count: users may delete the archives after the conversion.
        present = shard_names(shard_folder(self.name, folder))
        if dataset_files(self.name, folder)[0].exists():
            present.append(self.name)
        return [name for name in self.files() if name not in present]

    def describe(self, folder: str | None) -> dict[str, Any]:
        """Return the row of a table: files, transitions, size of the arrays and whether the files exist."""
        if self.name in OCBENCH:
            return describe_task(OCBENCH[self.name], folder)
        spec = DATASETS[self.name]
        files = len(self.files())
        share = files / spec.files
        return {
            "name": self.name,
            "files": files,
            "transitions": round(share * spec.transitions),
            "gigabytes": round(share * spec.array_bytes / 1e9, 1),
            "here": not self.missing(folder),
        }

    def download(self, folder: str | None, *, replace: bool) -> None:
        """Download the files that are missing, or all of them again."""
        if self.name in OCBENCH:
            download_ocbench(OCBENCH[self.name], folder, replace=replace)
            return
        existing, names = "keep", self.missing(folder)
        if replace:
            existing, names = "replace", self.files()
        if names:
            download_dataset(self.name, folder, names=names, existing=existing)


def dataset_name(env: str) -> str:
    """Return the name of the dataset that belongs to an environment.

    :raises UsageError: if the dataset is neither OGBench's nor OCBench's.
    """
    if is_single_task(env):
        return parse_env_name(env).spec.name
    if env in OCBENCH:
        return env
    advice = "docs/data.md says how data of your own are loaded"
    if env in TASKS:
        advice = f"docs/{TASKS[env].benchmark.lower()}.md says how its data are loaded"
    raise UsageError(
        f"`--suite` downloads datasets of OGBench and OCBench, got a suite with {env}; {advice}"
    )


def suite_datasets(suite: Suite) -> list[SuiteDataset]:
    """Return the datasets that the runs of a suite train on, each with the most transitions that a run uses.

    :raises UsageError: if the suite is wrong, or one of its datasets cannot be downloaded.
    """
    runs = suite.runs()
    # First, since making a job may need the package of a benchmark whose data are refused anyway.
    names = {run.env: dataset_name(run.env) for run in runs}
    for name in names.values():
        if name in DATASETS and not DATASETS[name].hosted:
            raise UsageError(
                f"OGBench hosts no file of {name}; make it with `zoo dataset generate {name}`"
            )
    # The settings of a run decide how much of a dataset it uses, e.g. ten of a hundred files.
    sizes: dict[str, float] = {}
    for job in make_jobs(suite, runs, Path("logs")):
        name = names[job.run.env]
        size = job.config.run.dataset_size or math.inf
        sizes[name] = max(size, sizes.get(name, 0))
    return [SuiteDataset(name, size) for name, size in sizes.items()]


def download_suite(
    file: Path, dataset_dir: str | None, *, dry_run: bool, replace: bool
) -> list[dict[str, Any]]:
    """Download the datasets of a suite, those that are missing, and return a row for each.

    :param dry_run: return the rows, and download nothing.
    :param replace: download all files again.
    :raises UsageError: before the first download, if the suite is wrong or one of its datasets cannot be downloaded.
    """
    suite = read_suite(file)
    if suite.dataset not in DOWNLOADED:
        raise UsageError(
            f"expected a suite that downloads its datasets, got {file.stem} with `dataset: {suite.dataset}`; start "
            f"it with `zoo benchmark {file.stem}`"
        )
    datasets = suite_datasets(suite)
    folder = dataset_dir or suite.dataset_dir
    if not dry_run:
        for number, dataset in enumerate(datasets, start=1):
            log.info("dataset %d of %d: %s", number, len(datasets), dataset.name)
            dataset.download(folder, replace=replace)
    return [dataset.describe(folder) for dataset in datasets]
