"""The training program: from a command line to the result of its run."""

import argparse
import contextlib
import secrets
import shlex
import signal
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium import Env
from gymnasium.spaces import Box, Space
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecEnv

from agents.common.common_settings import CommonSettings
from agents.common.data.arrays import Transitions
from agents.common.files import atomic_path, digest_of
from agents.common.model_file import algorithm_of, find_model, read_attributes, read_model_file, require_algorithm
from agents.common.sb3.encoders import POLICIES, make_policy
from agents.common.sb3.first_update import AgentError, check_first_update
from agents.common.sb3.model import FlowAlgorithm
from agents.registry import BUILT_IN, origin_of
from zoo.algorithms.baselines import find_algorithm
from zoo.algorithms.packages import import_environments, import_optional
from zoo.datasets.benchmarks import find_data
from zoo.datasets.custom import load_custom
from zoo.datasets.formats.base import Dataset, ReadOptions
from zoo.datasets.formats.read import has_rewards, name_of, read_source
from zoo.datasets.load import SOURCES, load_dataset
from zoo.datasets.names import DATASETS, gym_id, parse_env_name
from zoo.datasets.shards import ShardedDataset
from zoo.envs.border import check_same_spaces
from zoo.envs.make import absent_id, find_spec, is_ogbench, make_env, register_absent
from zoo.envs.observations import policy_name
from zoo.envs.snapshot import ResumableEnv
from zoo.envs.tasks import TASKS
from zoo.playing.evaluate import Evaluator
from zoo.playing.held_out import HeldOutEvaluator, hold_out
from zoo.playing.pool import count_environments
from zoo.processes.serving import start_server
from zoo.processes.versions import describe_versions
from zoo.runs.folder import RunFolder, check_log_folder, ending_recorded
from zoo.runs.resume import find_run, result_of_done
from zoo.runs.scores import WITHOUT_ENV
from zoo.settings.config import load_config
from zoo.settings.layers import dump_yaml, parse_overrides
from zoo.settings.record import RunRecord, RunSettings
from zoo.terminal.errors import STOP_SIGNALS, UsageError, as_usage_error
from zoo.terminal.messages import FILE_ONLY, keep_in, log
from zoo.terminal.parser import parse_seeds
from zoo.training.callbacks import Observer, TrainingRun
from zoo.training.logs import BEGINNING, ReplicaLogger, Replicas, tracked

CONFIG_FLAGS = (*RunSettings.declared(), *CommonSettings.with_role("machine"))
"""Flags that override a setting of the same name."""


@dataclass(frozen=True)
class RunRequest:
    """A run that is asked for.

    :param has_dataset: whether OGBench has data of the environment.
    :param has_own_data: whether its data have rewards: a set of the user's own, OCBench's, robomimic's or D4RL's.
    :param content: these data, where they were read for their spaces.
    :param seeds: one for each replica; None takes any.
    :param env_kwargs: arguments of `make_env`: its constructor's, wrappers and stacked frames.
    """

    args: argparse.Namespace
    config: RunRecord
    env_id: str
    has_dataset: bool
    has_own_data: bool
    seeds: list[int] | None
    env_kwargs: dict[str, Any]
    eval_env_kwargs: dict[str, Any]
    content: Transitions | None = None

    @property
    def has_success(self) -> bool:
        """Whether its score is known to be success before it starts: the environments of the benchmarks report it."""
        run = self.config.run
        if run.score is not None:
            return run.score == "success"
        return run.success_return is not None or self.has_dataset or self.config.env in TASKS


def read_request(args: argparse.Namespace) -> RunRequest:
    """Return the run that a command line asks for; raise UsageError if it contradicts itself or a setting is wrong."""
    _check_flags(args)
    for package in args.gym_packages:
        import_environments(package)
    seeds = None if args.seed < 0 else [args.seed]  # None: to be drawn
    if args.seeds is not None:
        seeds = parse_seeds(args.seeds, "--seeds")
    has_task = args.env in TASKS
    has_own_data = has_task if args.dataset in SOURCES else has_rewards(args.dataset, args.env)
    has_dataset = False
    if has_task:
        find_spec(gym_id(args.env))  # refuses it if its simulator is not installed
    elif not args.no_env:
        is_known = ":" in args.env or has_own_data  # OGBench's names are those that Gymnasium need not know
        spec = find_spec(gym_id(args.env)) if is_known else gymnasium.registry.get(args.env)
        has_dataset = spec is None or is_ogbench(spec)
    config, env_id = read_config(args, has_dataset, has_own_data)
    check_start(args, config)
    content = None
    if args.no_env:
        content = read_source(args.dataset, ReadOptions(reward_from=config.run.reward_from))
        register_absent(args.env, content, config.run.action_range, args.spaces)
    env_kwargs = parse_overrides(args.env_kwargs, "--env-kwargs")
    eval_env_kwargs = parse_overrides(args.eval_env_kwargs, "--eval-env-kwargs") or env_kwargs
    wrapping = {}
    if config.settings.get("frame_stack", 1) > 1:
        wrapping["frame_stack"] = config.settings["frame_stack"]
    if config.run.env_wrapper:
        wrapping["env_wrapper"] = config.run.env_wrapper
    kwargs = env_kwargs | wrapping, eval_env_kwargs | wrapping
    return RunRequest(args, config, env_id, has_dataset, has_own_data, seeds, *kwargs, content)


def _check_flags(args: argparse.Namespace) -> None:
    """Refuse flags that contradict each other; let `--env` name the stand-in of `--no-env`."""
    if args.track:
        import_optional("wandb", "Weights & Biases", "`--track`", "wandb")
    elif args.wandb_project_name or args.wandb_entity or args.wandb_group or args.wandb_tags:
        raise UsageError("the flags of Weights & Biases need --track; add it, or leave them out")
    if args.no_env:
        if args.dataset in SOURCES or not has_rewards(args.dataset):
            raise UsageError(
                f"`--no-env` needs data of your own with rewards, got --dataset {args.dataset}; name a file or folder"
            )
        args.env = absent_id(name_of(args.dataset))
    elif args.spaces is not None:
        raise UsageError("`--spaces` are those of data without an environment; add --no-env, or leave it out")


def read_config(args: argparse.Namespace, has_dataset: bool, has_own_data: bool) -> tuple[RunRecord, str]:
    """Return the checked configuration, and the Gymnasium id of the environment."""
    flags = {name: getattr(args, name) for name in CONFIG_FLAGS if getattr(args, name) is not None}
    if args.no_env:
        flags.setdefault("online_steps", 0)
    domain = None
    dataset = None
    env_id = gym_id(args.env)
    task = TASKS.get(args.env)
    groups = task.entries if task else ()
    if has_dataset:
        name = parse_env_name(args.env, gymnasium.registry)
        domain = name.domain
        dataset = name.spec.name
        env_id = name.env_id
        groups = ("visual",) if name.spec.is_visual else ()
    elif not has_own_data:
        flags.setdefault("offline_steps", 0)
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
    run = config.run
    if run.pretraining_steps + run.offline_steps and not (has_dataset or has_own_data):
        if args.dataset not in SOURCES:
            raise UsageError(
                f"{args.dataset} has no rewards, and `{args.env}` is no task of OGBench, which would give them to its "
                "states; add `rewards` to it, or choose such a task"
            )
        raise UsageError(
            f"`{args.env}` has no dataset to train on offline; give your own with --dataset (docs/data.md), or leave "
            "--offline-steps and --pretraining-steps at 0"
        )
    if (run.action_range, run.reward_from) != (None, None) and not has_own_data:
        raise UsageError(
            "`--action-range` and `--reward-from` belong to a dataset of your own; name it with --dataset, or leave "
            "them out"
        )
    if args.no_env:
        if run.online_steps or run.score is not None or run.success_return is not None:
            raise UsageError(
                "`--no-env` cannot train online or evaluate: set --online-steps to 0, and leave out --score, "
                "--success-return and --reference-scores"
            )
        run.score = "critic" if config.method is not None and config.method.rates_actions else "loss"
    elif run.score in WITHOUT_ENV:
        raise UsageError(f"`score` = {run.score} is that of data alone; add --no-env, or leave it out")
    return config, env_id


def check_start(args: argparse.Namespace, config: RunRecord) -> None:
    """Refuse a model or a behaviour flow to start from that is missing or does not fit."""
    if args.trained_agent is not None:
        with as_usage_error(OSError, ValueError):
            file = find_model(args.trained_agent)
            require_algorithm(file, algorithm_of(file), find_algorithm(config.algo).algorithm)
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


# -- the program --------------------------------------------------------------------------------------------------


def train(args: argparse.Namespace, observe: Observer | None = None) -> dict[str, Any]:
    """Do what the command line asks for, and return the result to print.

    :param observe: called with the evaluations so far after each of them; what it raises ends the run.
    """
    begin = time.perf_counter()
    log.log(FILE_ONLY, shlex.join(sys.orig_argv))
    request = read_request(args)
    config = request.config
    log.info("%s in %s, profile %s", config.algo, config.env, config.profile)
    if config.departures:
        log.info("settings differ from protocol `%s`: %s", config.profile, "; ".join(config.departures))
    online_steps = config.run.online_steps
    first = config.settings["learning_starts"]
    if 0 < online_steps <= first:
        log.warning(
            "the online phase will make no update: `learning_starts` is %d and --online-steps %d; make "
            "`learning_starts` smaller or --online-steps larger, or leave the online phase out (--online-steps 0)",
            first,
            online_steps,
        )
    check_log_folder(args.log_folder)
    with contextlib.ExitStack() as stack:
        result = _train(request, stack, observe)
    return {**result, "wall_s": round(time.perf_counter() - begin, 1)}


def _train(request: RunRequest, stack: contextlib.ExitStack, observe: Observer | None) -> dict[str, Any]:
    """Train, or find that this was done already; the stack closes what is opened."""
    args = request.args
    config = request.config
    try_hooks(request)
    data = load_data(request)
    held_out = None
    if args.no_env:
        assert isinstance(data, Dataset)
        data, held_out = hold_out(data)
    record = describe_run(config, data, args)
    found = find_run(args.log_folder, record, request.seeds) if args.resume else None
    if found is not None and found.is_done:
        return result_of_done(found)
    evaluator = stack.enter_context(contextlib.closing(make_evaluator(request, held_out)))
    folders = found.folders if found else []
    seeds = request.seeds or (found.seeds if found else [secrets.randbelow(100_000)])
    stack.enter_context(ending_recorded(folders))
    if found:
        keep_in(folder.path for folder in folders)
    model = make_model(request, seeds, data)
    assert model.replay_buffer is not None
    log.info(model.replay_buffer.placement.text)
    if data is not None:
        log.info(model.replay_buffer.dataset_description)
    if isinstance(model, FlowAlgorithm):  # SB3's own algorithms come here too
        log.info("updates: %s", model.trainer.mode)
        if config.run.online_steps:
            with as_usage_error(ValueError):
                model.require_statistics()
    if not found:
        make_folders(folders, record, seeds, model, data, args)
    replicas = Replicas(folders, seeds, stops=args.on_divergence == "stop")
    bar = args.progress if args.verbose else bool(args.progress)
    training = TrainingRun(record, model, evaluator, replicas, bar, observe)
    position = training.restore() if found else BEGINNING
    if args.track:
        stack.enter_context(tracked(args, config, replicas))
    events = [folder.events_folder(args.tensorboard_log, config.algo, bool(found)) for folder in folders]
    model.set_logger(stack.enter_context(contextlib.closing(ReplicaLogger(replicas, events, position))))
    result = training.run()
    if args.save_replay_buffer:
        with atomic_path(folders[0].replay_buffer) as temporary, temporary.open("wb") as file:
            model.save_replay_buffer(file)
    replicas.write_status(model, "done")
    return result


def make_evaluator(request: RunRequest, held_out: Dataset | None = None) -> Evaluator | HeldOutEvaluator:
    """Start the environments of the evaluation.

    :param held_out: the trajectories that take their place.
    """
    if held_out is not None:
        return HeldOutEvaluator(held_out, seed=request.args.eval_seed)
    args = request.args
    env_id = request.env_id
    env_kwargs = request.eval_env_kwargs
    episodes = request.config.run.eval_episodes
    count = args.n_eval_envs or count_environments(env_id, env_kwargs, episodes)
    return Evaluator(env_id, episodes=episodes, n_envs=count, seed=args.eval_seed, env_kwargs=env_kwargs)


def try_hooks(request: RunRequest) -> None:
    """Try the hooks of an algorithm that is not built in before data are loaded and a folder is made.

    Any that does not take the environment's observations, or not with these settings, is refused too.
    """
    config = request.config
    method = config.method
    with contextlib.closing(make_env(request.env_id, **request.env_kwargs)) as env:
        policy = policy_name(env.observation_space)
        if request.args.trained_agent is not None:
            with as_usage_error(OSError, ValueError):
                saved, _ = read_model_file(request.args.trained_agent).attributes()
            trained = saved["observation_space"], saved["action_space"]
            spaces = env.observation_space, env.action_space
            check_same_spaces(request.args.trained_agent, trained, request.env_id, spaces)
        if method is None:  # SB3's own
            if policy != "MlpPolicy":
                raise UsageError(
                    f"`{config.algo}` is one of Stable-Baselines3's, which take vectors here, got "
                    f"{env.observation_space} in {request.env_id}; use an algorithm of this zoo, e.g. --algo qam"
                )
            return
        with as_usage_error(AgentError, NotImplementedError, TypeError, ValueError):
            seen: Space[Any] = env.observation_space
            if policy != "MlpPolicy" or not isinstance(seen, Box) or method.encoder is not None or method.random_crop:
                wrapped = FlowAlgorithm._wrap_env(env)
                seeds = request.seeds or [0]
                spaces = wrapped.observation_space, wrapped.action_space
                tried = make_policy(
                    POLICIES[policy], *spaces, lambda _: 0.0, method, seeds, config.settings.get("policy_kwargs")
                )
                seen = tried.features_space
            if config.algo not in BUILT_IN:
                check_first_update(method, seen, env.action_space)


def load_data(request: RunRequest) -> Dataset | ShardedDataset | None:
    """Return the dataset, made first if need be; None for a run that needs none, or whose environment has none."""
    config = request.config
    run = config.run
    args = request.args
    how = run.offline_data
    steps = run.pretraining_steps + run.offline_steps
    takes_data = steps > 0 or config.settings["balanced_sampling"]
    needed = takes_data if how is None else how != "none"
    if not needed and how is None and args.dataset not in SOURCES:
        raise UsageError(
            f"`--dataset` {args.dataset} would not be used: there are no offline steps, and `{config.algo}` takes no "
            "data online; give `--offline-data preload` or `balanced`, or leave out the dataset"
        )
    if not needed or not (request.has_dataset or request.has_own_data):
        return None
    if request.has_own_data:
        if config.settings.get("sparse"):
            raise UsageError("`sparse` belongs to OGBench's rewards, and --dataset has its own; set it to false")
        source = args.dataset
        if source in SOURCES:
            source = find_data(TASKS[config.env], args.dataset_dir, source)
        return load_custom(
            source,
            request.env_id,
            {name: value for name, value in request.env_kwargs.items() if name != "frame_stack"},
            size=run.dataset_size,
            action_range=run.action_range,
            reward_from=run.reward_from,
            content=request.content,
        )
    return load_dataset(
        config.env,
        dataset_dir=args.dataset_dir,
        dataset=args.dataset,
        dataset_size=run.dataset_size,
        sparse=config.settings["sparse"],
        replace_interval=run.dataset_replace_interval,
    )


def make_model(request: RunRequest, seeds: list[int], data: Dataset | ShardedDataset | None) -> FlowAlgorithm:
    """Return the run's model, with its environments and data loaded."""
    config = request.config
    args = request.args
    settings = config.settings
    if config.method is not None:
        settings = {"method": config.method, "policy_kwargs": settings.get("policy_kwargs")}
    if args.num_threads > 0:
        torch.set_num_threads(args.num_threads)
    env = _make_environments(request, seeds)
    with as_usage_error(NotImplementedError, TypeError, ValueError, OSError):
        model = find_algorithm(config.algo).algorithm(
            policy_name(env.observation_space),
            env,
            **settings,
            replay_buffer_kwargs={"storage": args.storage},
            seeds=seeds,
            device=args.device,
            verbose=max(args.verbose - 1, 0),
        )
        if config.run.online_steps:
            model.replay_buffer.require_room()  # now, and not after the offline phase
        if data is not None:
            model.load_dataset(data.content)
        if args.trained_agent:  # after the dataset: it has observation statistics of its own
            model.set_parameters(find_model(args.trained_agent), device=args.device)
        if args.pretrained_actor:  # after the dataset, which gives the observation statistics
            model.load_pretrained_actor(args.pretrained_actor)
    return model


def _make_environments(request: RunRequest, seeds: list[int]) -> VecEnv:
    """Return the training environments, the same number for each replica."""
    args = request.args
    is_online = request.config.run.online_steps > 0
    have_processes = args.vec_env == "subproc"
    if is_online and args.n_envs and args.n_envs % len(seeds):
        raise UsageError(
            f"`--n-envs` must be a multiple of the {len(seeds)} seeds, got {args.n_envs}; each seed trains online with "
            "environments of its own"
        )

    def make() -> Env[Any, Any]:
        if have_processes:
            for number in {*STOP_SIGNALS} - {signal.SIGTERM}:  # by which Python ends them with the program
                signal.signal(number, signal.SIG_IGN)
            np.random.seed()  # all processes have been forked with the same global generator
        return make_env(request.env_id, **request.env_kwargs)

    if have_processes:
        start_server()  # SB3 forks from it too
    env = make_vec_env(
        make,
        n_envs=args.n_envs or (len(seeds) if is_online else 1),
        wrapper_class=ResumableEnv if is_online else None,
        vec_env_cls=SubprocVecEnv if have_processes else DummyVecEnv,
    )
    for index in range(env.num_envs):
        env.env_method("set_name", f"training environment {index}", indices=[index])
    return env


# -- what is recorded of a run before it trains -----------------------------------------------------------------------


def describe_run(config: RunRecord, data: Dataset | ShardedDataset | None, args: argparse.Namespace) -> RunRecord:
    """Return everything that decides a run's outcome besides its seeds; runs that agree in it are the same run."""
    found: dict[str, Any] = {"eval_seed": args.eval_seed}
    for name in ("label", "n_envs", "env_kwargs", "eval_env_kwargs"):
        found[name] = getattr(args, name) or None
    if config.method is not None and config.algo not in BUILT_IN:
        found["agent"] = origin_of(type(config.method))
    for name in ("pretrained_actor", "trained_agent"):
        if getattr(args, name) is not None:
            found[name] = describe_model(getattr(args, name))
    if data is not None:
        found["dataset"] = {"name": data.path.stem, "size": data.num_transitions, "fingerprint": data.fingerprint}
        if isinstance(data, Dataset) and data.reference_scores is not None:
            found["dataset"]["reference_scores"] = list(data.reference_scores)
        official = DATASETS.get(data.path.stem)
        if config.run.dataset_size is None and official and data.num_transitions < 0.99 * official.transitions:
            fewer = f"dataset of {data.num_transitions:,} transitions instead of {official.transitions:,}"
            log.warning(fewer)
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
    model: FlowAlgorithm,
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
    keep_in(folder.path for folder in folders)
    if isinstance(model, FlowAlgorithm) and (own := model.policy.own_widths):
        record = replace(record, agent={**(record.agent or {}), "layers": own})
    if len(seeds) > 1:
        record = replace(record, seeds=seeds, folders=[folder.path.name for folder in folders])
    arguments = {name: str(value) if isinstance(value, Path) else value for name, value in vars(args).items()}
    for seed, folder in zip(seeds, folders, strict=True):
        folder.write_origin(arguments, versions)
        folder.write_config(replace(record, seed=seed))
    log.log(FILE_ONLY, dump_yaml(record.plain()).rstrip())
    places = ", ".join(f"{folder.path} (seed {seed})" for seed, folder in zip(seeds, folders, strict=True))
    log.info("run folder%s, with all settings in config.yml: %s", "s" * (len(folders) > 1), places)
