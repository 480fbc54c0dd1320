"""What is recorded of a run before it trains."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch

from agents.common.files.manifest import digest_of
from agents.common.saved import find_model, read_attributes, require_algorithm
from agents.common.sb3.model import FlowQLearning
from agents.registry import BUILT_IN, origin_of
from zoo.baselines import find_algorithm
from zoo.datasets.load import Dataset
from zoo.datasets.shards import ShardedDataset
from zoo.errors import UsageError, as_usage_error
from zoo.runs.folder import RunFolder
from zoo.runs.versions import describe_versions
from zoo.settings import plain_yaml
from zoo.settings.config import Config
from zoo.terminal.messages import FILE_ONLY, keep_in, log


def describe_run(config: Config, data: Dataset | ShardedDataset | None, args: argparse.Namespace) -> dict[str, Any]:
    """Return everything that decides a run's outcome besides its seeds; runs that agree in it are the same run."""
    record = config.record() | {"eval_seed": args.eval_seed}
    for name in ("label", "n_envs", "env_kwargs", "eval_env_kwargs", "trained_agent"):
        if getattr(args, name):
            record[name] = getattr(args, name)
    method = find_algorithm(config.algo).method
    if method is not None and config.algo not in BUILT_IN:
        record["agent"] = origin_of(method)
    if args.pretrained_actor:
        record["pretrained_actor"] = describe_model(args.pretrained_actor)
    if data is not None:
        record["dataset"] = {"name": data.path.stem, "size": data.num_transitions, "fingerprint": data.fingerprint}
        if isinstance(data, Dataset) and data.reference_scores is not None:
            record["dataset"]["reference_scores"] = list(data.reference_scores)
    return record


def describe_model(path: Path) -> dict[str, Any]:
    """Return path, updates and sha256 of a saved model to begin with, given its ``.zip`` or the folder of its run."""
    with as_usage_error(OSError, KeyError, TypeError, ValueError):
        file = find_model(path)
        updates = int(read_attributes(file)["_n_updates"])
    return {"path": str(file.resolve()), "updates": updates, "fingerprint": digest_of(file)}


def check_trained_agent(path: Path, config: Config) -> None:
    """Refuse a model to start from that is missing, or that another algorithm has saved."""
    try:
        require_algorithm(find_model(path), find_algorithm(config.algo).algorithm)
    except (OSError, ValueError) as error:
        raise UsageError(f"`--trained-agent`: {error}") from error


def make_folders(
    folders: list[RunFolder],
    record: dict[str, Any],
    seeds: list[int],
    model: FlowQLearning,
    data: Dataset | ShardedDataset | None,
    args: argparse.Namespace,
) -> None:
    """Make and claim one run folder for each replica, and write what is known before training.

    :param folders: takes each folder as soon as it exists, so that a failure finds those to end.
    """
    device = model.device
    device_name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    versions = describe_versions(device_name, None if data is None else data.fingerprint)
    assert model.replay_buffer is not None
    versions["storage"] = model.replay_buffer.placement.text
    for seed in seeds:
        folders.append(RunFolder.create(args.log_folder, record["algo"], record["env"], seed))
        folders[-1].enter_in_index(seed, args.label or record["algo"])
    keep_in(folder.path for folder in folders)
    together = {"seeds": seeds, "folders": [folder.path.name for folder in folders]} if len(seeds) > 1 else {}
    arguments = {name: str(value) if isinstance(value, Path) else value for name, value in vars(args).items()}
    for seed, folder in zip(seeds, folders, strict=True):
        folder.write_origin(arguments, versions)
        folder.write_config(record | {"seed": seed} | together)
    log.log(FILE_ONLY, "%s", plain_yaml.write(record).rstrip())
    places = ", ".join(f"{folder.path} (seed {seed})" for seed, folder in zip(seeds, folders, strict=True))
    log.info("run folder%s, with all settings in config.yml: %s", "s" * (len(folders) > 1), places)
