"""A run that is asked for, checked and settled: its settings, its environment, and where its data are from."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import gymnasium

from agents.common.common_settings import CommonSettings
from agents.common.files import digest_of
from agents.common.model_file import algorithm_of, find_model, read_attributes, require_algorithm
from agents.common.nets.pretrained import PretrainedFlow
from agents.common.nets.specs import find_behaviour
from agents.common.sb3.pretrained import check_fit
from agents.registry import BUILT_IN, origin_of
from zoo.algorithms.baselines import find_algorithm
from zoo.algorithms.flows import describe_flow, load_flow
from zoo.algorithms.packages import import_environments
from zoo.datasets.formats.base import Dataset, ReadOptions
from zoo.datasets.formats.read import has_rewards, name_of, read_source
from zoo.datasets.load import SOURCES
from zoo.datasets.names import DATASETS
from zoo.datasets.shards import ShardedDataset
from zoo.envs.make import dataset_only_id, register_dataset_only_env
from zoo.runs.scores import WITHOUT_ENV
from zoo.settings.config import NO_BENCHMARK, Benchmark, Overrides, load_config
from zoo.settings.layers import parse_overrides
from zoo.settings.record import RunRecord
from zoo.terminal.errors import UsageError, as_usage_error
from zoo.terminal.messages import log
from zoo.training.data import DataSource, DataWithRewards, NoData, find_source
from zoo.training.request import TrainRequest

MACHINE_FLAGS = CommonSettings.with_role("machine")
"""Flags that override a setting of the same name."""


@dataclass(frozen=True)
class RunPlan:
    """A run that can be trained.

    :param env_id: Gymnasium's id of the environment.
    :param env_kwargs: arguments of `make_env`: its constructor's, wrappers and stacked frames.
    :param behaviour: a flow that was trained elsewhere.
    """

    request: TrainRequest
    config: RunRecord
    benchmark: Benchmark
    source: DataSource
    env_id: str
    env_kwargs: dict[str, Any]
    eval_env_kwargs: dict[str, Any]
    behaviour: PretrainedFlow | None = None

    @property
    def has_success(self) -> bool:
        """Whether its score is known to be success before it starts: the environments of the benchmarks report it."""
        run = self.config.run
        if run.score is not None:
            return run.score == "success"
        return run.success_return is not None or self.benchmark != NO_BENCHMARK

    def load_data(self, env: gymnasium.Env[Any, Any]) -> Dataset | ShardedDataset | None:
        """Return the dataset; None for a run that needs none, or whose environment has none.

        :param env: the environment that the run trains in, whose spaces the data must fit.
        """
        run = self.config.run
        dataset = self.request.dataset
        takes_data = (
            run.pretraining_steps + run.offline_steps > 0
            or self.config.settings["balanced_sampling"]
        )
        if run.offline_data is not None:
            takes_data = run.offline_data != "none"
        elif not takes_data and dataset not in SOURCES:
            raise UsageError(
                f"`--dataset` {dataset} would not be used: there are no offline steps, and `{self.config.algo}` takes "
                "no data online; give `--offline-data preload` or `balanced`, or leave out the dataset"
            )
        return self.source.load(self.config, self.request, self.env_id, env) if takes_data else None

    def describe(self, data: Dataset | ShardedDataset | None = None) -> RunRecord:
        """Return everything that decides the run's outcome besides its seeds; runs that agree in it are the same run.

        :param data: what it trains on, once that is loaded.
        """
        request = self.request
        config = self.config
        entries: dict[str, Any] = {
            "eval_seed": request.eval_seed,
            "label": request.label,
            "n_envs": request.n_envs,
        }
        entries["env_kwargs"] = list(request.env_kwargs) or None
        entries["eval_env_kwargs"] = list(request.eval_env_kwargs) or None
        if config.method is not None and config.algo not in BUILT_IN:
            entries["agent"] = origin_of(type(config.method))
        if request.pretrained_actor is not None:
            entries["pretrained_actor"] = describe_model(request.pretrained_actor)
        if self.behaviour is not None:
            assert request.behaviour is not None
            entries["behaviour"] = describe_flow(request.behaviour, self.behaviour)
        if request.trained_agent is not None:
            entries["trained_agent"] = describe_model(request.trained_agent)
        if data is not None:
            entries["dataset"] = describe_data(data)
            official = DATASETS.get(data.path.stem)
            if (
                config.run.dataset_size is None
                and official
                and data.num_transitions < 0.99 * official.transitions
            ):
                fewer = f"dataset of {data.num_transitions:,} transitions instead of {official.transitions:,}"
                log.warning(fewer)
                entries["departures"] = [*config.departures, fewer]
        return replace(config, **entries)


def plan_run(request: TrainRequest) -> RunPlan:
    """Return the run that is asked for; raise UsageError if it contradicts itself or a setting is wrong."""
    if request.no_env:
        if request.dataset in SOURCES or not has_rewards(request.dataset):
            raise UsageError(
                f"`--no-env` needs data of your own with rewards, got --dataset {request.dataset}; name a file or "
                "folder"
            )
        request = replace(request, env=dataset_only_id(name_of(request.dataset)))
    for package in request.gym_packages:
        import_environments(package)
    source, benchmark, env_id = find_source(request)
    config = _load_config(request, benchmark, source)
    _check_data(request, config, source)
    _check_start(request, config)
    if request.no_env:
        content = read_source(request.dataset, ReadOptions(reward_from=config.run.reward_from))
        register_dataset_only_env(request.env, content, config.run.action_range, request.spaces)
        source = DataWithRewards(content=content)
    env_kwargs = parse_overrides(request.env_kwargs, "--env-kwargs")
    eval_env_kwargs = parse_overrides(request.eval_env_kwargs, "--eval-env-kwargs") or env_kwargs
    wrapping: dict[str, Any] = {}
    if config.settings.get("frame_stack", 1) > 1:
        wrapping["frame_stack"] = config.settings["frame_stack"]
    if config.run.env_wrapper:
        wrapping["env_wrapper"] = config.run.env_wrapper
    behaviour = _load_behaviour(request, config)
    return RunPlan(
        request,
        config,
        benchmark,
        source,
        env_id,
        env_kwargs | wrapping,
        eval_env_kwargs | wrapping,
        behaviour,
    )


def _load_config(request: TrainRequest, benchmark: Benchmark, source: DataSource) -> RunRecord:
    """Return the checked settings of a run."""
    flags = dict(request.run)
    for name in MACHINE_FLAGS:
        if getattr(request, name) is not None:
            flags[name] = getattr(request, name)
    if request.no_env:
        flags.setdefault("online_steps", 0)
    if isinstance(source, NoData):
        flags.setdefault("offline_steps", 0)
    overrides = Overrides(
        request.profile, request.quick, request.conf_file, request.trial, request.hyperparams, flags
    )
    return load_config(request.algo, request.env, benchmark, overrides, request.device)


def _check_data(request: TrainRequest, config: RunRecord, source: DataSource) -> None:
    """Refuse settings that do not fit the data, or that need data where there are none."""
    run = config.run
    if run.pretraining_steps + run.offline_steps and isinstance(source, NoData):
        if request.dataset not in SOURCES:
            raise UsageError(
                f"{request.dataset} has no rewards, and `{request.env}` is no task of OGBench, which would give them "
                "to its states; add `rewards` to it, or choose such a task"
            )
        raise UsageError(
            f"`{request.env}` has no dataset to train on offline; give your own with --dataset (docs/data.md), or "
            "leave --offline-steps and --pretraining-steps at 0"
        )
    if (run.action_range, run.reward_from) != (None, None) and not isinstance(
        source, DataWithRewards
    ):
        raise UsageError(
            "`--action-range` and `--reward-from` belong to a dataset of your own; name it with --dataset, or leave "
            "them out"
        )
    if request.no_env:
        if run.online_steps or run.score is not None or run.success_return is not None:
            raise UsageError(
                "`--no-env` cannot train online or evaluate: set --online-steps to 0, and leave out --score, "
                "--success-return and --reference-scores"
            )
        run.score = (
            "critic" if config.method is not None and config.method.rates_actions else "loss"
        )
    elif run.score in WITHOUT_ENV:
        raise UsageError(
            f"`score` = {run.score} is that of data alone; add --no-env, or leave it out"
        )


def _check_start(request: TrainRequest, config: RunRecord) -> None:
    """Refuse a model or a behaviour flow to start from that is missing or does not fit."""
    if request.trained_agent is not None:
        with as_usage_error(OSError, ValueError):
            file = find_model(request.trained_agent)
            require_algorithm(file, algorithm_of(file), find_algorithm(config.algo).algorithm)
    if request.pretrained_actor is None:
        return
    if "pretraining_steps" not in config.settings:
        raise UsageError(
            f"`{config.algo}` has no behaviour flow to start from; leave out --pretrained-actor"
        )
    if config.run.pretraining_steps:
        raise UsageError(
            f"`--pretrained-actor` takes the place of pretraining, got {config.run.pretraining_steps} steps of it too; "
            "set --pretraining-steps to 0"
        )
    describe_model(request.pretrained_actor)


def _load_behaviour(request: TrainRequest, config: RunRecord) -> PretrainedFlow | None:
    """Return the flow that was trained elsewhere, if there is one; refuse one that the algorithm cannot take."""
    if request.behaviour is None:
        return None
    if config.method is None:
        raise UsageError(
            f"`{config.algo}` has no behaviour flow to start from; leave out --behaviour"
        )
    flow = load_flow(request.behaviour)
    with as_usage_error(ValueError):
        check_fit(flow, config.method, find_behaviour(config.method.networks()))
    return flow


def describe_model(path: Path) -> dict[str, Any]:
    """Return path, updates and sha256 of a saved model to begin with, given its ``.zip`` or the folder of its run."""
    with as_usage_error(OSError, KeyError, TypeError, ValueError):
        file = find_model(path)
        updates = int(read_attributes(file)["_n_updates"])
    return {"path": str(file.resolve()), "updates": updates, "fingerprint": digest_of(file)}


def describe_data(data: Dataset | ShardedDataset) -> dict[str, Any]:
    """Return what a run records of its dataset."""
    described = {
        "name": data.path.stem,
        "size": data.num_transitions,
        "fingerprint": data.fingerprint,
    }
    if isinstance(data, Dataset) and data.reference_scores is not None:
        described["reference_scores"] = list(data.reference_scores)
    return described
