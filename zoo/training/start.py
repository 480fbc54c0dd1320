"""Training, from a request to the result of its run."""

import contextlib
import os
import secrets
import shlex
import signal
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium import Env
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import SubprocVecEnv, VecEnv

from agents.common.model_file import ModelFile, read_model_file
from agents.common.normalization import Normalization, named_action_noise, normalized_env
from agents.common.processor import STOP_SIGNALS
from agents.common.sb3.constructor import check_policy_kwargs, with_named_classes
from agents.common.sb3.environments import require_own_environments
from agents.common.sb3.first_update import AgentError
from agents.common.sb3.model import FlowAlgorithm
from agents.common.sb3.policy import POLICIES
from agents.common.sb3.transfer import check_outputs
from agents.registry import BUILT_IN
from agents.testing.habits import find_habits
from zoo.algorithms.catalogue import find_algorithm
from zoo.datasets.formats.base import Dataset
from zoo.envs.checks import RepeatableEnv, check_same_spaces, policy_name
from zoo.envs.make import make_env
from zoo.evaluation.evaluator import Evaluator, HeldOutLosses, hold_out
from zoo.evaluation.workers import leave_to_parent, start_server
from zoo.runs.folder import RunFolder, ending_recorded
from zoo.runs.resume import find_run, result_of_done
from zoo.runs.versions import describe_versions
from zoo.settings.record import RunRecord
from zoo.settings.request import TrainRequest
from zoo.terminal.errors import StopSignal, UsageError, as_usage_error, describe_error
from zoo.terminal.messages import log, log_to_folders
from zoo.terminal.parser import check_output
from zoo.training.logs import ReplicaLogger, Replicas
from zoo.training.loop import Checkpoints, Loop
from zoo.training.plan import RunPlan, load_data, plan_run
from zoo.training.recorder import Observer, Recorder


def train(request: TrainRequest, observe: Observer | None = None) -> dict[str, Any]:
    """Train a run, and return the result to print.

    :param observe: called after each evaluation with all evaluations so far; if it raises, the run ends.
    """
    begin = time.perf_counter()
    plan = plan_run(request)
    config = plan.config
    log.info("%s in %s, profile %s", config.algo, config.env, config.profile)
    if config.departures:
        pairs = config.departures.items()
        texts = [f"{name} {value} instead of {expected}" for name, (value, expected) in pairs]
        log.info("settings differ from protocol `%s`: %s", request.profile, "; ".join(texts))
    online_steps = config.run.online_steps
    learning_starts = config.settings["learning_starts"]
    if 0 < online_steps <= learning_starts:
        log.warning(
            "the online phase will not perform any update: `learning_starts` is %d and --online-steps %d; change one",
            learning_starts,
            online_steps,
        )
    check_output("--log-folder", request.log_folder / config.algo, "folder")
    with contextlib.ExitStack() as stack:
        result = _train(plan, stack, observe)
    _log_end(result, plan)
    return {**result, "wall_s": round(time.perf_counter() - begin, 1)}


def _log_end(result: dict[str, Any], plan: RunPlan) -> None:
    """Log the mean final score of all seeds, the first seed's folder, and the next commands."""
    request = plan.request
    runs = result.get("runs", [result])
    # a run's files do not name these packages
    flags = "".join(f" --gym-packages {package}" for package in request.gym_packages)
    # without --trust, no module that a run's file names is imported
    if request.behaviour or plan.config.run.env_wrapper or ":" in request.env + request.algo:
        flags += " --trust"
    if request.no_env:
        log.info("next: zoo evaluate %s%s --fitted-q", shlex.quote(runs[0]["run"]), flags)
        return
    if runs := [run for run in runs if run["return"] is not None]:
        score = f"mean return {np.mean([run['return'] for run in runs]):.2f}"
        if runs[0]["success"] is not None:
            score = f"{np.mean([run['success'] for run in runs]):.1%} success"
        folder = shlex.quote(runs[0]["run"])
        log.info("%s reached %s; TensorBoard curve and models: %s", result["algo"], score, folder)
        log.info("next: zoo enjoy %s%s --video run.gif", folder, flags)
    log.info("next: zoo compare %s -o report/", shlex.quote(str(request.log_folder)))


def _train(plan: RunPlan, stack: contextlib.ExitStack, observe: Observer | None) -> dict[str, Any]:
    """Train the run unless it has finished already; the stack closes all resources."""
    request = plan.request
    # check algorithm and data against the environment before a model is built or a folder is created
    with contextlib.closing(make_env(plan.spec, **plan.env_kwargs)) as env:
        check_method_on_env(plan, env)
        data = load_data(request, plan.config, plan.data_kind, env, plan.content)
    evaluator: Evaluator | HeldOutLosses | None = None
    if request.no_env:
        assert data is not None  # a plan without an environment has data
        trained, evaluator = hold_out(data.transitions, request.eval_seed)
        data = replace(data, content=trained)
    record = plan.describe(data)
    seeds = list(request.seeds or ())
    run = None
    if request.resume:
        run = find_run(request.log_folder, record, seeds or None)
        if run is not None and run.is_done:
            return result_of_done(run)
    stop = StopSignal()
    if evaluator is None:
        # the evaluator's processes create their environments while the model is built
        evaluator = stack.enter_context(
            Evaluator(
                plan.spec,
                episodes=plan.config.run.eval_episodes,
                n_envs=request.n_eval_envs,
                seed=request.eval_seed,
                env_kwargs=plan.eval_env_kwargs,
                check_in=stop.check,
            )
        )
    folders = run.folders if run else []
    stack.enter_context(ending_recorded(folders))
    if run:
        log_to_folders(folder.path for folder in folders)
        seeds = run.record.all_seeds
    # sample a seed only now, because --resume without seeds uses the seeds of the stored run
    seeds = seeds or [secrets.randbelow(100_000)]
    if request.num_threads is not None:
        torch.set_num_threads(request.num_threads)
        # without this variable, `agents.common.engine.execution` would choose another number
        os.environ["OMP_NUM_THREADS"] = str(request.num_threads)
    envs = make_environments(plan, len(seeds), stack)
    model = make_model(plan, seeds, data, envs)
    if not run:
        # create folders after these calls, which may reject the environment or the held-out data
        if isinstance(evaluator, Evaluator):
            spaces = model.observation_space, model.action_space
            check_same_spaces("the model", spaces, plan.spec.id, evaluator.pool.spaces)
        else:
            evaluator.draw(model.policy)
        make_folders(folders, record, seeds, model, data, request)
    replicas = Replicas(model, folders, seeds)
    recorder = Recorder(record, evaluator, replicas, stop, observe)
    checkpoints = Checkpoints(recorder)
    # load the checkpoint first, because logs continue from it
    log_state = checkpoints.restore()
    replicas.write_status("running")  # a resumed run may have failed before its first checkpoint
    logger = ReplicaLogger(replicas, log_state)
    model.set_logger(stack.enter_context(contextlib.closing(logger)))
    return Loop(recorder, checkpoints).run()


def _close(envs: Env[Any, Any] | VecEnv) -> None:
    """Close training environments; a failure does not affect the result of the run."""
    try:
        envs.close()
    except Exception as error:
        log.warning("a training environment failed to close: %s", describe_error(error))


def make_folders(
    folders: list[RunFolder],
    record: RunRecord,
    seeds: list[int],
    model: FlowAlgorithm,
    data: Dataset | None,
    request: TrainRequest,
) -> None:
    """Create and lock one run folder for each replica, and write its record.

    :param folders: list to which each new folder is appended immediately, so that a failure can be recorded there.
    """
    device = model.device
    device_name = device.type
    if device.type == "cuda":
        device_name = torch.cuda.get_device_name(device)
    versions = {
        **describe_versions(device_name),
        "data": {} if data is None else dict(data.origin),
        "dataset": request.dataset,
        "dataset_dir": request.dataset_dir,
    }
    for _ in seeds:
        folders.append(RunFolder.create(request.log_folder, record.algo, record.env))
    log_to_folders(folder.path for folder in folders)
    if len(seeds) > 1:
        record = replace(record, seeds=seeds, folders=[folder.path.name for folder in folders])
    pairs = list(zip(seeds, folders, strict=True))
    # the first replica's record, with which --resume finds the run, is written last
    for seed, folder in reversed(pairs):
        folder.write_origin(versions)
        folder.write_config(replace(record, seed=seed))
    places = [f"{folder.path} (seed {seed})" for seed, folder in pairs]
    log.info("runs, with all settings in %s: %s", folders[0].config.name, ", ".join(places))


def check_trained_agent(path: Path, plan: RunPlan, spaces: tuple[Any, Any]) -> None:
    """Raise UsageError if a run cannot start from a saved model, because spaces or numbers of seeds differ.

    :param spaces: observation and action space of the environment.
    """
    with as_usage_error(OSError, ValueError):
        saved = read_model_file(path).attributes()
    trained = saved["observation_space"], saved["action_space"]
    check_same_spaces(path, trained, plan.spec.id, spaces)
    count = len(plan.request.seeds or [0])
    saved_count = len(saved.get("seeds") or [0])
    if count != saved_count:
        raise UsageError(f"the number of seeds must be {saved_count} as in {path}, got {count}")


def check_method_on_env(plan: RunPlan, env: RepeatableEnv) -> None:
    """Raise UsageError if an algorithm cannot learn in an environment; needs neither data nor a run folder.

    A custom algorithm is checked by one update on a dummy batch.

    :param env: a training environment; it is not stepped.
    """
    config = plan.config
    method = config.method
    spaces = env.observation_space, env.action_space
    policy = policy_name(env.observation_space)
    if plan.request.trained_agent is not None:
        check_trained_agent(plan.request.trained_agent, plan, spaces)
    if method is None:  # an algorithm of SB3
        if policy != "MlpPolicy":
            raise UsageError(
                f"`{config.algo}` of Stable-Baselines3 takes only vector observations here, got "
                f"{env.observation_space} in {plan.spec.id}; use an algorithm of this zoo, e.g. --algo qam"
            )
        return
    features: Any = env.observation_space
    faults: list[str] = []
    is_vector = policy == "MlpPolicy"
    with as_usage_error(AgentError, NotImplementedError, TypeError, ValueError):
        has_flow = method.pretrained is not None
        policy_kwargs = config.settings.get("policy_kwargs")
        if has_flow or not is_vector or method.encoder or method.random_crop or policy_kwargs:
            policy_kwargs = with_named_classes("policy_kwargs", policy_kwargs)
            check_policy_kwargs(POLICIES[policy], policy_kwargs)
            wrapped = FlowAlgorithm._wrap_env(env)
            policy_on_env: Any = POLICIES[policy](
                wrapped.observation_space,
                wrapped.action_space,
                lambda _: 0.0,
                method,
                list(plan.request.seeds or [0]),
                **policy_kwargs,
            )
            features = policy_on_env.features_space
            if has_flow:
                check_outputs(policy_on_env)
        if config.algo not in BUILT_IN:
            findings = find_habits(method, features, env.action_space)
            for check, texts in findings.items():
                if check not in method.fails_by_design:
                    faults += texts
    if faults:
        raise UsageError(
            f"{config.algo}: {'; '.join(faults)} (`zoo agents check {plan.request.algo}` runs all checks); correct it, "
            "or state the reason in `fails_by_design`"
        )


def make_model(plan: RunPlan, seeds: list[int], data: Dataset | None, env: VecEnv) -> FlowAlgorithm:
    """Return a run's model, with the dataset loaded into its replay buffer."""
    config = plan.config
    run = config.run
    request = plan.request
    settings = {**config.settings, "seed": seeds[0]}
    if config.method is not None:
        settings = {
            **config.method.settings(),
            "policy_kwargs": settings.get("policy_kwargs"),
            "behaviour": config.method.pretrained,
            "seeds": seeds,
        }
    with as_usage_error(NotImplementedError, TypeError, ValueError, OSError):
        model = find_algorithm(config.algo).algorithm(
            policy_name(env.observation_space),
            env,
            **settings,
            replay_buffer_kwargs={"storage": request.storage},
            device=request.device,
            verbose=max(request.verbose - 1, 0),
        )
        if run.online_steps:
            model.replay_buffer.require_capacity()  # check now: a later failure would waste the offline phase
        if run.noise_std:
            model.action_noise = named_action_noise(
                run.noise_type or "normal", run.noise_std, model.action_space
            )
        if data is not None:
            model.load_dataset(data.content)
        # load the agent after the dataset, to replace the dataset's observation statistics
        if request.trained_agent:
            _start_from(model, read_model_file(request.trained_agent))
        # also after the dataset, whose observation statistics are compared with the actor's
        if request.pretrained_actor:
            model.load_pretrained_actor(request.pretrained_actor)
        if isinstance(model, FlowAlgorithm) and run.online_steps:  # check now, as above
            model.require_statistics()
            require_own_environments(len(seeds), env, model.action_noise)
    log.info(model.replay_buffer.placement)
    if data is not None:
        log.info(model.replay_buffer.dataset_description)
    return model


def _start_from(model: FlowAlgorithm, saved: ModelFile) -> None:
    """Copy parameters, variables such as SAC's entropy coefficient, and normalisation statistics from a saved model.

    :raises ValueError: if only the saved model has normalised observations.
    """
    model.read_parameters(saved)
    statistics = saved.attributes({"behaviour"}).get("_saved_normalization")
    if statistics is None:
        return
    normalize = model.get_vec_normalize_env()
    if normalize is None:
        raise ValueError(f"{saved.name} has normalised observations; add -params normalize=true")
    Normalization(**statistics).copy_to(normalize)


def make_environments(plan: RunPlan, replicas: int, stack: contextlib.ExitStack) -> VecEnv:
    """Return the training environments; by default one per replica, or a single one without online steps.

    :param stack: stack that closes each environment once, even if closing another one fails.
    """
    request = plan.request
    run = plan.config.run
    n_envs = request.n_envs or (replicas if run.online_steps else 1)
    train_freq = plan.config.settings["train_freq"]
    in_episodes = isinstance(train_freq, tuple) and train_freq[1] == "episode"
    if in_episodes and n_envs > 1 and run.online_steps:
        raise UsageError(
            f"`train_freq` = {list(train_freq)} needs one environment, got {n_envs}; set it in steps"
        )

    # do not use the plan in the functions below: it contains the data, which would be copied to each process
    spec, env_kwargs = plan.spec, plan.env_kwargs

    def make_here() -> Env[Any, Any]:
        env = make_env(spec, **env_kwargs)
        stack.callback(_close, env)
        return env

    def make_in_process() -> Env[Any, Any]:
        leave_to_parent(*{*STOP_SIGNALS} - {signal.SIGTERM})  # SIGTERM ends these processes
        np.random.seed()  # reseed, because forked processes inherit the same state of the global generator
        return make_env(spec, **env_kwargs)

    if request.vec_env == "subproc":
        start_server()  # SB3 forks its processes from this server
        envs = make_vec_env(make_in_process, n_envs, vec_env_cls=SubprocVecEnv)
        stack.callback(_close, envs)
    else:
        envs = make_vec_env(make_here, n_envs)
    # images are transposed first, because SB3 unnormalises final observations that are transposed already
    with as_usage_error(ValueError):
        return normalized_env(
            FlowAlgorithm._wrap_env(envs), run.normalize, plan.config.settings["gamma"]
        )
