"""Load a dataset for training: find or make its files, check and read them, relabel them for a task."""

import contextlib
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from agents.common.data.arrays import Transitions, compact_transitions
from zoo.datasets.download import DownloadError, download_dataset
from zoo.datasets.files import (
    OFFICIAL,
    Folder,
    data_path,
    missing_files,
    recorded_origin,
    settings_sha256,
)
from zoo.datasets.formats.base import Dataset
from zoo.datasets.generate import generate_dataset
from zoo.datasets.names import DatasetSpec, parse_env_name
from zoo.datasets.ogbench import check_headers, explained, make_labelling_env, read_arrays, relabel
from zoo.datasets.shards import load_shards
from zoo.settings.request import SOURCES
from zoo.terminal.errors import UsageError


def load_dataset(
    env_name: str,
    *,
    dataset_dir: Folder = None,
    dataset: str | Path = "auto",
    dataset_size: int | None = None,
    sparse: bool = False,
    replace_interval: int = 1000,
) -> Dataset:
    """Load the dataset of a single-task environment, making its files first when they are missing.

    A dataset of several files is converted at its first use to arrays that are mapped, see
    ``zoo.datasets.shards``.

    :param dataset: where a missing file comes from: ``"download"``, ``"generate"``, ``"auto"`` for the first of these
        that works; or the path of a file to use instead, or of a folder of files.
    :param dataset_size: use the first whole trajectories that have this many transitions; None uses all.
    :param sparse: reward -1 until the task is achieved and 0 then, instead of OGBench's count of sub-goals.
    :param replace_interval: gradient steps until the next of several files takes over.
    """
    name = parse_env_name(env_name)
    path = _find_files(name.spec, dataset_dir, dataset, dataset_size)
    settings: dict[str, Any] = {
        "environment": name.env_id,
        "dataset_size": dataset_size,
        "sparse": sparse,
        "split": "train",
    }
    # OGBench keeps no record beside the files that it downloads
    origin = recorded_origin(path, OFFICIAL if dataset in SOURCES else None)
    if path.is_dir():
        shards = load_shards(env_name, path, settings, replace_interval)
        return replace(shards, origin=origin)
    with contextlib.closing(make_labelling_env(name.env_id)) as env:
        with explained(path):
            check_headers(path, name.spec)
            digest, arrays = read_arrays(path, name.spec)
        rewards, masks = relabel(arrays, env)
    # OGBench's manipulation tasks count the sub-goals that are open; 0 is success in both
    if sparse:
        rewards = np.where(rewards != 0.0, np.float32(-1.0), np.float32(0.0))
    # `read_arrays` has checked them, so they are not checked again for being a compact dataset.
    content = compact_transitions({**arrays, "rewards": rewards, "masks": masks})
    if dataset_size is not None:
        content = first_trajectories(content, dataset_size, path)
    if content.arrays["masks"].all():
        warnings.warn(
            f"no state in {path} achieves the task of {env_name}; every reward is negative",
            stacklevel=2,
        )
    fingerprint = settings_sha256(settings | {"file": digest})
    return Dataset(path, content, fingerprint, origin={"sha256": digest, **origin})


def _find_files(
    spec: DatasetSpec, dataset_dir: Folder, dataset: str | Path, size: int | None
) -> Path:
    """Return the path of the file to read, or of the folder of files, after making them if needed.

    :param dataset: one of `SOURCES`, or a path.
    :param size: how many transitions are needed; None: all.
    """
    if dataset not in SOURCES:
        path = Path(dataset).expanduser()
        if path.is_dir() or (path.suffix.lower() == ".npz" and path.is_file()):
            return path
        raise UsageError(
            f"`--dataset` must be {', '.join(SOURCES)} or the path of an .npz file that exists, or of a folder of "
            f"them, got {str(path)!r}"
        )
    path = data_path(spec, dataset_dir)
    missing = missing_files(spec, dataset_dir, size)
    if not missing:
        return path
    may_generate = dataset != "download" and spec.is_generatable
    if dataset != "generate" and spec.hosted:
        try:
            download_dataset(spec.name, dataset_dir, transitions=size, existing="keep")
            return path
        except DownloadError as error:
            if not may_generate:
                raise
            warnings.warn(
                f"{error}; generating {spec.name} with OGBench's oracle instead", stacklevel=3
            )
    if may_generate:
        return generate_dataset(spec.name, dataset_dir, dataset_size=size, existing="keep")[0]
    raise UsageError(
        f"{path} lacks {missing[0].name}, which `--dataset {dataset}` cannot make; put it there, or give other data "
        "with `--dataset PATH`"
    )


def first_trajectories(transitions: Transitions, size: int, path: Path) -> Transitions:
    """Return the first whole trajectories with at least ``size`` transitions."""
    cumulative = np.flatnonzero(transitions.ends) + 1  # transitions up to and with each trajectory
    last = int(np.searchsorted(cumulative, size))
    if last == len(cumulative):
        raise UsageError(
            f"`--dataset-size` {size} exceeds the {cumulative[-1]} transitions in {path}; use fewer"
        )
    return transitions.keep(np.arange(len(cumulative)) <= last)
