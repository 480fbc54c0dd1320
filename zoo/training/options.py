"""What the command line of ``train.py`` asks for, checked before any work, and what is recorded of it."""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import gymnasium
import torch

from agents.common.common_settings import CommonSettings
from agents.common.files import digest_of
from agents.common.model_file import find_model, read_attributes, require_algorithm
from agents.common.sb3.model import FlowQLearning
from agents.registry import BUILT_IN, origin_of
from zoo.baselines import find_algorithm
from zoo.datasets.formats.base import Arrays, Reading
from zoo.datasets.formats.read import environment_of, is_own, name_of, read_source
from zoo.datasets.load import SOURCES, Dataset
from zoo.datasets.names import DATASETS, gym_id, parse_env_name
from zoo.datasets.shards import ShardedDataset
from zoo.envs.make import absent_id, find_spec, is_ogbench, register_absent
from zoo.envs.tasks import TASKS
from zoo.errors import UsageError, as_usage_error
from zoo.packages import import_environments
from zoo.runs.folder import RunFolder
from zoo.runs.versions import describe_versions
from zoo.settings import plain_yaml
from zoo.settings.config import load_config
from zoo.settings.layers import parse_overrides
from zoo.settings.record import RunRecord, RunSettings
from zoo.terminal.arguments import parse_seeds
from zoo.terminal.messages import FILE_ONLY, keep_in, log
from zoo.terminal.texts import check_label
from zoo.training.logs import check_tracking

CONFIG_FLAGS = (*RunSettings.declared(), *CommonSettings.with_role("machine"))
"""Flags that override a setting of the same name."""
_GIVE_DATA = "give your own with --dataset (docs/data.md), or leave"


@dataclass(frozen=True)
class Request:
    """A run that is asked for.

    :param has_dataset: whether OGBench has data of the environment.
    :param has_own_data: whether its data have rewards: a set of the user's own, OCBench's, robomimic's or D4RL's.
    :param arrays: these data, where they were read for their spaces.
    :param seeds: one for each replica; None takes any.
    :param env_kwargs: arguments of `make_env`: those of the environment's constructor, and of stacked frames.
    """

    args: argparse.Namespace
    config: RunRecord
    env_id: str
    has_dataset: bool
    has_own_data: bool
    seeds: list[int] | None
    env_kwargs: dict[str, Any]
    eval_env_kwargs: dict[str, Any]
    arrays: Arrays | None = None

    @property
    def has_success(self) -> bool:
        """Whether its score is known to be success: the environments of the benchmarks report it."""
        run = self.config.run
        is_reported = self.has_dataset or self.config.env in TASKS
        return run.score is None and (is_reported or run.success_return is not None)


def read_request(args: argparse.Namespace) -> Request:
    """Return the run that a command line asks for; raise UsageError if it contradicts itself or a setting is wrong."""
    check_tracking(args)
    if args.eval_mode is not None:
        raise UsageError("training waits for each evaluation now, with the same numbers; leave out `--eval-mode`")
    check_label(args.label)
    if args.no_env:
        if args.env is not None:
            raise UsageError(f"`--no-env` takes the place of `--env`, got --env {args.env} too; leave out one of them")
        if args.dataset in SOURCES or not is_own(args.dataset):
            raise UsageError(f"`--no-env` needs data of your own, got --dataset {args.dataset}; name a file or folder")
        args.env = absent_id(name_of(args.dataset))
    elif args.spaces is not None:
        raise UsageError("`--spaces` are those of data without an environment; add --no-env, or leave it out")
    if args.env is None:
        raise UsageError("`--env` must name an environment; give it, or --no-env for data alone")
    import_environments(args.gym_packages)
    seeds = read_seeds(args)
    has_task = args.env in TASKS
    has_own_data = has_task if args.dataset in SOURCES else is_own(args.dataset)
    if has_task:
        find_spec(gym_id(args.env))  # refuses it if its simulator is not installed
    has_dataset = not (has_task or args.no_env) and _is_of_ogbench(args.env, args.dataset if has_own_data else None)
    config, env_id = read_config(args, has_dataset, has_own_data)
    check_start(args, config)
    arrays = None
    if args.no_env:
        arrays = read_source(args.dataset, Reading(reward_from=config.run.reward_from))
        register_absent(args.env, arrays, config.run.action_range, args.spaces)
    env_kwargs = parse_overrides(args.env_kwargs, "--env-kwargs")
    eval_env_kwargs = parse_overrides(args.eval_env_kwargs, "--eval-env-kwargs") or env_kwargs
    stacked = {"frame_stack": k} if (k := config.settings.get("frame_stack", 1)) > 1 else {}
    kwargs = {**env_kwargs, **stacked}, {**eval_env_kwargs, **stacked}
    return Request(args, config, env_id, has_dataset, has_own_data, seeds, *kwargs, arrays)


def _is_of_ogbench(env: str, own: str | None) -> bool:
    """Return whether OGBench has data of an environment.

    :param own: the user's own set, which may say where an unknown environment is from.
    """
    if ":" not in env and own is None:
        spec = gymnasium.registry.get(env)
    else:
        try:
            spec = find_spec(gym_id(env))
        except UsageError as error:
            recorded = None if own is None else environment_of(own)
            if recorded != env:
                raise
            raise UsageError(
                f"{own} was recorded in `{env}`, which is not installed; install the package that registers it and "
                "name it with --gym-packages, or give --env another environment with the same observations and actions"
            ) from error
    return spec is None or is_ogbench(spec)


def read_config(args: argparse.Namespace, has_dataset: bool, has_own_data: bool) -> tuple[RunRecord, str]:
    """Return the checked configuration, and the Gymnasium id of the environment."""
    flags = {name: getattr(args, name) for name in CONFIG_FLAGS if getattr(args, name) is not None}
    if args.no_env:
        flags |= {"score": "value", "online_steps": flags.get("online_steps", 0)}
    domain, dataset, env_id = None, None, gym_id(args.env)
    task = TASKS.get(args.env)
    groups = task.entries if task else ()
    if has_dataset:
        name = parse_env_name(args.env, gymnasium.registry)
        domain, dataset, env_id = name.domain, name.dataset, name.env_id
        groups = ("visual",) if name.spec.is_visual else ()
    elif not has_own_data and flags.setdefault("offline_steps", 0) != 0:
        raise UsageError(f"`{args.env}` has no dataset to train on offline; {_GIVE_DATA} --offline-steps at 0")
    config = load_config(
        args.algo,
        args.env,
        task.domain if task else domain,
        groups=groups,
        dataset=dataset,
        profile=args.profile,
        quick=args.quick,
        conf=args.conf_file,
        trial=args.trial,
        params=args.hyperparams,
        flags=flags,
        device=args.device,
    )
    if config.run.pretraining_steps and not (has_dataset or has_own_data):
        raise UsageError(f"`{args.env}` has no dataset to pretrain on; {_GIVE_DATA} --pretraining-steps at 0")
    given = (config.run.action_range, config.run.reward_from)
    if given != (None, None) and not has_own_data:
        raise UsageError(
            "`--action-range` and `--reward-from` belong to a dataset of your own; name it with --dataset, or leave "
            "them out"
        )
    if args.no_env and (
        config.run.online_steps or config.run.score != "value" or config.run.success_return is not None
    ):
        raise UsageError(
            "`--no-env` has nothing to play in: set --online-steps to 0, and leave out --success-return and "
            "--reference-scores"
        )
    if config.run.score == "value" and not args.no_env:
        raise UsageError("`score` = value is that of data alone; add --no-env, or leave it out")
    return config, env_id


def check_start(args: argparse.Namespace, config: RunRecord) -> None:
    """Refuse a model or a behaviour flow to start from that is missing or does not fit, and two of them."""
    if args.trained_agent and args.pretrained_actor is not None:
        raise UsageError("`--pretrained-actor` and `--trained-agent` both say where to start; give one of them")
    if args.trained_agent:
        try:
            require_algorithm(find_model(args.trained_agent), find_algorithm(config.algo).algorithm)
        except (OSError, ValueError) as error:
            raise UsageError(f"`--trained-agent`: {error}") from error
    if args.pretrained_actor is None:
        return
    if "pretraining_steps" not in config.settings:
        raise UsageError(f"`{config.algo}` has no behaviour flow to start from; leave out --pretrained-actor")
    if config.run.pretraining_steps:
        raise UsageError(
            f"`--pretrained-actor` takes the place of pretraining, got {config.run.pretraining_steps} steps of it too; "
            "set --pretraining-steps to 0"
        )
    describe_model(args.pretrained_actor)


def read_seeds(args: argparse.Namespace) -> list[int] | None:
    """Return the seeds of the replicas: of ``--seeds``, else the one of ``--seed``; None where it is to be drawn."""
    if args.seeds is None:
        return None if args.seed < 0 else [args.seed]
    if args.seed >= 0:
        raise UsageError(f"`--seeds` and `--seed` both name seeds, got --seed {args.seed} too; leave one of them out")
    return parse_seeds(args.seeds, "--seeds")


# -- what is recorded of a run before it trains -----------------------------------------------------------------------


def describe_run(config: RunRecord, data: Dataset | ShardedDataset | None, args: argparse.Namespace) -> RunRecord:
    """Return everything that decides a run's outcome besides its seeds; runs that agree in it are the same run."""
    found: dict[str, Any] = {"eval_seed": args.eval_seed}
    for name in ("label", "n_envs", "env_kwargs", "eval_env_kwargs"):
        found[name] = getattr(args, name) or None
    if config.method is not None and config.algo not in BUILT_IN:
        found["agent"] = origin_of(type(config.method))
    for name in ("pretrained_actor", "trained_agent"):
        if getattr(args, name):
            found[name] = describe_model(getattr(args, name))
    if data is not None:
        found["dataset"] = {"name": data.path.stem, "size": data.num_transitions, "fingerprint": data.fingerprint}
        if isinstance(data, Dataset) and data.reference_scores is not None:
            found["dataset"]["reference_scores"] = list(data.reference_scores)
        official = DATASETS.get(data.path.stem)
        if config.run.dataset_size is None and official and data.num_transitions < 0.99 * official.transitions:
            fewer = f"dataset of {data.num_transitions:,} transitions instead of {official.transitions:,}"
            log.warning(
                "%s: %s, a departure from how scores are published; make it again without a size", data.path, fewer
            )
            found["departures"] = [*config.departures, fewer]
    return replace(config, **found)


def describe_model(path: Path) -> dict[str, Any]:
    """Return path, updates and sha256 of a saved model to begin with, given its ``.zip`` or the folder of its run."""
    with as_usage_error(OSError, KeyError, TypeError, ValueError):
        file = find_model(path)
        updates = int(read_attributes(file)["_n_updates"])
    return {"path": str(file.resolve()), "updates": updates, "fingerprint": digest_of(file)}


def make_folders(
    folders: list[RunFolder],
    record: RunRecord,
    seeds: list[int],
    model: FlowQLearning,
    data: Dataset | ShardedDataset | None,
    args: argparse.Namespace,
) -> None:
    """Make and lock one run folder for each replica, and write what is known before training.

    :param folders: takes each folder as soon as it exists, so that a failure finds those to end.
    """
    device = model.device
    device_name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    versions = describe_versions(device_name, None if data is None else data.fingerprint)
    assert model.replay_buffer is not None
    versions["storage"] = model.replay_buffer.placement.text
    for seed in seeds:
        folders.append(RunFolder.create(args.log_folder, record.algo, record.env, seed))
        folders[-1].enter_in_index(seed, record.label or record.algo)
    keep_in(folder.path for folder in folders)
    if isinstance(model, FlowQLearning) and (own := model.policy.own_widths):
        record = replace(record, agent={**(record.agent or {}), "layers": own})
    if len(seeds) > 1:
        record = replace(record, seeds=seeds, folders=[folder.path.name for folder in folders])
    arguments = {name: str(value) if isinstance(value, Path) else value for name, value in vars(args).items()}
    for seed, folder in zip(seeds, folders, strict=True):
        folder.write_origin(arguments, versions)
        folder.write_config(replace(record, seed=seed))
    log.log(FILE_ONLY, "%s", plain_yaml.write(record.plain()).rstrip())
    places = ", ".join(f"{folder.path} (seed {seed})" for seed, folder in zip(seeds, folders, strict=True))
    log.info("run folder%s, with all settings in config.yml: %s", "s" * (len(folders) > 1), places)
