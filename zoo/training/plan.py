"""Turn a training request into a checked plan: settings, environment and source of data."""

from dataclasses import dataclass, replace
from typing import Any, Literal

import gymnasium
from gymnasium.envs.registration import EnvSpec

from agents.common.data.arrays import Transitions
from agents.common.files import digest_of
from agents.common.model_file import find_model, read_model_file
from agents.common.nets.specs import require_behaviour
from agents.common.sb3.transfer import check_fit, check_saved_flow
from agents.registry import BUILT_IN, origin_of
from zoo.algorithms.catalogue import find_algorithm
from zoo.algorithms.packages import import_environments, load_flow
from zoo.datasets.custom import (
    dataset_only_id,
    find_data,
    load_custom,
    register_dataset_only_env,
)
from zoo.datasets.formats.base import Dataset
from zoo.datasets.formats.read import has_rewards, name_of, read_source, require_format
from zoo.datasets.load import load_dataset
from zoo.datasets.names import DATASETS, gym_id, parse_env_name
from zoo.envs.make import find_spec, is_ogbench
from zoo.envs.tasks import TASKS
from zoo.runs.versions import warn_of_simulator
from zoo.settings.config import NO_BENCHMARK, Benchmark, load_config
from zoo.settings.layers import DEFAULT_PROFILE, parse_overrides
from zoo.settings.record import RunRecord
from zoo.settings.request import SOURCES, TrainRequest
from zoo.terminal.errors import UsageError, as_usage_error
from zoo.terminal.messages import log

DataKind = Literal["ogbench", "rewards"]
"""``ogbench``: OGBench's files, relabelled for a task. ``rewards``: a benchmark's or the user's data with rewards."""


@dataclass(frozen=True)
class RunPlan:
    """A checked run, ready to be trained.

    :param data_kind: kind of the run's data; None for a run without data.
    :param config: everything that determines the run's outcome, except seeds and data.
    :param content: the dataset, if it was already loaded to find its spaces.
    :param spec: Gymnasium spec of the environment.
    :param env_kwargs: arguments of `make_env`: constructor arguments, wrappers and the number of stacked frames.
    """

    request: TrainRequest
    config: RunRecord
    benchmark: Benchmark
    data_kind: DataKind | None
    content: Transitions | None
    spec: EnvSpec
    env_kwargs: dict[str, Any]
    eval_env_kwargs: dict[str, Any]

    @property
    def has_success(self) -> bool:
        """Whether success is known to be the score: by a setting, or because benchmark environments report it."""
        run = self.config.run
        if run.score is not None:
            return run.score == "success"
        return run.success_return is not None or self.benchmark != NO_BENCHMARK

    def describe(self, data: Dataset | None) -> RunRecord:
        """Return the record of the run, with the name, size and fingerprint of its loaded dataset."""
        if data is None:
            return self.config
        departures = dict(self.config.departures)
        size = data.content.num_transitions
        dataset: dict[str, Any] = {
            "name": data.name,
            "size": size,
            "fingerprint": data.fingerprint,
        }
        if data.reference_scores is not None:
            dataset["reference_scores"] = list(data.reference_scores)
        if "mujoco" in data.origin:
            warn_of_simulator(self.request.env, "the data", data.origin["mujoco"])
        official = DATASETS.get(data.name)
        is_whole = self.config.run.dataset_size is None
        if is_whole and official and size < 0.99 * official.transitions:
            departures["dataset_size"] = [size, official.transitions]
            log.warning("dataset of %d transitions instead of %d", *departures["dataset_size"])
        return replace(self.config, dataset=dataset, departures=departures)


def plan_run(request: TrainRequest) -> RunPlan:
    """Check a request and return its plan; raises UsageError for contradictory flags and wrong settings."""
    if request.no_env:
        if request.dataset in SOURCES or not has_rewards(request.dataset):
            raise UsageError(
                f"`--no-env` needs your data with rewards, got --dataset {request.dataset}; pass a file or folder"
            )
        request = replace(request, env=dataset_only_id(name_of(request.dataset)))
    # a package may register the environment
    import_environments(request.gym_packages)
    # find the source first, because settings depend on the benchmark, and phases on the data
    data_kind, benchmark, env_id = find_source(request)
    # profiles have steps for both phases, but this run may have no environment or no data
    phases = {}
    if request.no_env:
        phases["online_steps"] = 0
    if data_kind is None:
        phases["offline_steps"] = 0
    config = load_config(request, benchmark, phases)
    if not _takes_data(request, config, data_kind):
        data_kind = None
    origins = _find_start(request, config)
    if config.method is not None and config.algo not in BUILT_IN:
        origins["agent"] = origin_of(type(config.method))
    config = replace(config, **origins, no_env=request.no_env or None)
    content = None
    if request.no_env:
        content = read_source(request.dataset, config.run.reward_from)
        register_dataset_only_env(request.env, content, config.run.action_range)
    env_kwargs = parse_overrides(request.env_kwargs, "--env-kwargs")
    eval_env_kwargs = parse_overrides(config.evaluation_env_kwargs, "--eval-env-kwargs")
    wrapping = {
        "frame_stack": config.settings.get("frame_stack", 1),
        "env_wrapper": config.run.env_wrapper or (),
    }
    if wrapping.keys() & {*env_kwargs, *eval_env_kwargs}:
        raise UsageError(
            "`frame_stack` and `env_wrapper` are settings, got them as arguments of the environment; use -params"
        )
    env_kwargs |= wrapping
    return RunPlan(
        request,
        config,
        benchmark,
        data_kind,
        content,
        find_spec(env_id, **env_kwargs),
        env_kwargs,
        eval_env_kwargs | wrapping,
    )


def load_data(
    request: TrainRequest,
    config: RunRecord,
    data_kind: DataKind | None,
    env: gymnasium.Env[Any, Any],
    content: Transitions | None = None,
) -> Dataset | None:
    """Return the dataset, generated or downloaded if necessary; None for a run without data.

    :param env: the training environment, whose spaces the data must fit.
    :param content: the dataset, if it was already read.
    """
    if data_kind is None:
        return None
    run = config.run
    settings = config.settings
    source = request.dataset
    dataset_dir = request.dataset_dir
    if data_kind == "ogbench":
        return load_dataset(
            config.env,
            dataset_dir=dataset_dir,
            dataset=source,
            dataset_size=run.dataset_size,
            sparse=settings["sparse"],
            replace_interval=run.dataset_replace_interval,
        )
    if settings.get("sparse"):
        raise UsageError(
            "`sparse` applies to OGBench's rewards, but this dataset has its own rewards; set `sparse` to false"
        )
    if source in SOURCES:  # the dataset of the benchmark
        generate = source == "generate"
        source = find_data(TASKS[request.env], dataset_dir, generate=generate)
    return load_custom(
        source,
        env,
        size=run.dataset_size,
        action_range=run.action_range,
        reward_from=run.reward_from,
        content=content,
    )


def load_data_of_run(
    config: RunRecord, dataset: str, dataset_dir: str | None, env: gymnasium.Env[Any, Any]
) -> Dataset:
    """Load a dataset with the rewards and action units that a run was trained with.

    :param config: record of the run.
    :param dataset: value of `--dataset`.
    :param env: environment whose spaces the data must fit.
    :raises UsageError: if the dataset cannot be read, lacks rewards, or does not fit the environment's spaces.
    """
    if config.no_env and dataset in SOURCES:
        raise UsageError(
            f"`{config.env}` was trained without an environment, so --dataset must be a file or folder, got {dataset}"
        )
    request = TrainRequest(
        algo=config.algo,
        env=config.env,
        no_env=bool(config.no_env),
        dataset=dataset,
        dataset_dir=dataset_dir,
    )
    data_kind, _, _ = find_source(request)
    if data_kind is None:
        raise UsageError(
            f"`{config.env}` has no dataset with rewards, got --dataset {dataset}; pass your data (docs/data.md)"
        )
    data = load_data(request, config, data_kind, env)
    assert data is not None  # because `data_kind` is not None
    return data


def find_source(request: TrainRequest) -> tuple[DataKind | None, Benchmark, str]:
    """Return the kind of a run's data, the benchmark of its environment, and the environment's Gymnasium id.

    :raises UsageError: for an unknown environment, or one whose simulator is not installed.
    """
    task = TASKS.get(request.env)
    env_id = gym_id(request.env)
    has_own_rewards = task is not None
    if request.dataset not in SOURCES:
        has_own_rewards = has_rewards(request.dataset, request.env)
    kind: DataKind | None = "rewards" if has_own_rewards else None
    if task is not None:
        return kind, Benchmark(task.domain, [task.benchmark]), env_id
    if request.no_env:
        return kind, NO_BENCHMARK, env_id
    # OGBench's names may be unregistered in Gymnasium, so an unknown name is no error here
    must_be_known = ":" in request.env or kind == "rewards"
    spec = find_spec(env_id) if must_be_known else gymnasium.registry.get(request.env)
    if spec is not None and not is_ogbench(spec):
        return kind, NO_BENCHMARK, env_id
    # an id of OGBench's own names no data, so it is no suggestion
    suggestions = [id for id, entry in gymnasium.registry.items() if not is_ogbench(entry)]
    name = parse_env_name(request.env, suggestions)
    groups = ["visual"] if name.spec.is_visual else []
    # as in the QAM paper's experiments on data of other quality; other profiles may need data of another size
    usual_data = name.domain.replace("-noisy", "-play").replace("-stitch", "-navigate")
    if request.profile == DEFAULT_PROFILE and usual_data != name.domain:
        groups.append(usual_data)
    return kind or "ogbench", Benchmark(name.domain, groups, name.spec.name), name.env_id


def _takes_data(request: TrainRequest, config: RunRecord, data_kind: DataKind | None) -> bool:
    """Return whether a run trains on data.

    :raises UsageError: for settings that do not fit the data, for missing data, and for unused data.
    """
    run = config.run
    needs_data = run.pretraining_steps + run.offline_steps or run.offline_data == "balanced"
    if needs_data and data_kind is None:
        if request.dataset not in SOURCES:
            raise UsageError(
                f"{request.dataset} has no rewards; they can be computed only for OGBench tasks, and `{request.env}` "
                "is not one; add a `rewards` array, or choose an OGBench task"
            )
        raise UsageError(
            f"`{request.env}` has no dataset to train on; pass yours with --dataset (docs/data.md), or set "
            "--offline-steps and --pretraining-steps to 0 and omit --offline-data"
        )
    if data_kind != "rewards" and (run.action_range, run.reward_from) != (None, None):
        raise UsageError(
            "`--action-range` and `--reward-from` apply only to custom datasets; pass one with --dataset, or drop "
            "these flags"
        )
    if request.no_env and (
        run.online_steps or run.score is not None or run.success_return is not None
    ):
        raise UsageError(
            "`--no-env` does not support online training or evaluation: set --online-steps to 0, and omit --score, "
            "--success-return and --reference-scores"
        )
    if run.online_steps:
        follow_success = run.reward_from is not None
        if data_kind == "rewards" and request.env not in TASKS:
            follow_success |= require_format(request.dataset)[1].rewards_follow_success
        if follow_success:
            raise UsageError(
                "the dataset's rewards are 0 in steps with success and -1 in others, but the rewards of "
                f"`{request.env}` may differ online; set --online-steps to 0, or use data with the environment's "
                "rewards"
            )
    # balanced sampling uses the data online, too
    if needs_data or run.offline_data == "preload" or config.settings["balanced_sampling"]:
        return True
    if request.dataset not in SOURCES:
        raise UsageError(
            f"`--dataset` {request.dataset} would not be used: there are no offline steps, and `{config.algo}` uses no "
            "data online; add `--offline-data preload` or `balanced`, or omit --dataset"
        )
    return False


def _find_start(request: TrainRequest, config: RunRecord) -> dict[str, Any]:
    """Return the record's entries about a run's initial model; a custom flow becomes the method's ``pretrained``.

    :raises UsageError: if an initial model or flow is missing or does not fit the method.
    """
    method = config.method
    starts: dict[str, Any] = {}
    if method is None and (request.behaviour or request.pretrained_actor):
        raise UsageError(
            f"`{config.algo}` has no behaviour flow to start from; omit --behaviour and --pretrained-actor"
        )
    with as_usage_error(OSError, KeyError, TypeError, ValueError):
        if method is not None and request.pretrained_actor is not None:
            require_behaviour(method, "`--pretrained-actor`")
        if method is not None and request.behaviour is not None:
            flow = method.pretrained = load_flow(request.behaviour)
            check_fit(method)
            starts["behaviour"] = {
                "function": request.behaviour,
                "fingerprint": flow.fingerprint(),
            }
        for name in ("trained_agent", "pretrained_actor"):
            path = getattr(request, name)
            if path is None:
                continue
            file = find_model(path)
            saved = read_model_file(file)
            own_flow = None if method is None else method.pretrained
            check_saved_flow(saved, own_flow, is_whole=name == "trained_agent")
            if name == "trained_agent":
                saved.require_algorithm(find_algorithm(config.algo).algorithm)
            starts[name] = {
                "path": str(file.resolve()),
                "updates": int(saved.described["_n_updates"]),
                "fingerprint": digest_of(file),
            }
    return starts
