"""The training program: from a request to the result of its run."""

import contextlib
import secrets
import shlex
import sys
import time
from dataclasses import replace
from typing import Any

import torch

from agents.common.files import atomic_path
from agents.common.sb3.model import FlowAlgorithm
from zoo.datasets.formats.base import Dataset
from zoo.datasets.shards import ShardedDataset
from zoo.envs.make import make_env
from zoo.playing.evaluate import Evaluator
from zoo.playing.held_out import HeldOutEvaluator, hold_out
from zoo.playing.pool import count_environments
from zoo.processes.versions import describe_versions
from zoo.runs.folder import RunFolder, check_log_folder, ending_recorded
from zoo.runs.resume import find_run, result_of_done
from zoo.settings.layers import dump_yaml
from zoo.settings.record import RunRecord
from zoo.terminal.messages import LOG_FILE_ONLY, log, log_to_folders
from zoo.training.callbacks import Observer, TrainingRun
from zoo.training.logs import EMPTY_LOG, ReplicaLogger, Replicas, tracked
from zoo.training.model import check_method_on_env, make_environments, make_model
from zoo.training.plan import RunPlan, plan_run
from zoo.training.request import TrainRequest


def train(request: TrainRequest, observe: Observer | None = None) -> dict[str, Any]:
    """Train a run, and return the result to print.

    :param observe: called with the evaluations so far after each of them; what it raises ends the run.
    """
    begin = time.perf_counter()
    log.log(LOG_FILE_ONLY, shlex.join(sys.orig_argv))
    plan = plan_run(request)
    config = plan.config
    log.info("%s in %s, profile %s", config.algo, config.env, config.profile)
    if config.departures:
        log.info(
            "settings differ from protocol `%s`: %s", config.profile, "; ".join(config.departures)
        )
    online_steps = config.run.online_steps
    learning_starts = config.settings["learning_starts"]
    if 0 < online_steps <= learning_starts:
        log.warning(
            "the online phase will make no update: `learning_starts` is %d and --online-steps %d; make "
            "`learning_starts` smaller or --online-steps larger, or leave the online phase out (--online-steps 0)",
            learning_starts,
            online_steps,
        )
    check_log_folder(request.log_folder)
    with contextlib.ExitStack() as stack:
        result = _train(plan, stack, observe)
    return {**result, "wall_s": round(time.perf_counter() - begin, 1)}


def _train(plan: RunPlan, stack: contextlib.ExitStack, observe: Observer | None) -> dict[str, Any]:
    """Train, or find that this was done already; the stack closes what is opened."""
    request = plan.request
    env = stack.enter_context(contextlib.closing(make_env(plan.env_id, **plan.env_kwargs)))
    check_method_on_env(plan, env)
    data = plan.load_data(env)
    held_out = None
    if request.no_env:
        assert isinstance(data, Dataset)
        data, held_out = hold_out(data)
    record = plan.describe(data)
    seeds = list(request.seeds or ())
    run = find_run(request.log_folder, record, seeds or None) if request.resume else None
    if run is not None and run.is_done:
        return result_of_done(run)
    evaluator = stack.enter_context(contextlib.closing(make_evaluator(plan, held_out)))
    folders = run.folders if run else []
    stack.enter_context(ending_recorded(folders))
    if run:
        log_to_folders(folder.path for folder in folders)
        seeds = run.seeds
    seeds = seeds or [secrets.randbelow(100_000)]
    if request.num_threads > 0:
        torch.set_num_threads(request.num_threads)
    model = make_model(plan, seeds, data, make_environments(plan, len(seeds), env))
    if not run:
        make_folders(folders, record, seeds, model, data, request)
    replicas = Replicas(folders, seeds, stops=request.on_divergence == "stop")
    bar = request.progress if request.verbose else bool(request.progress)
    training = TrainingRun(record, model, evaluator, replicas, bar, observe)
    log_state = training.restore() if run else EMPTY_LOG
    if request.track:
        stack.enter_context(tracked(request, record, replicas))
    events = [
        folder.events_folder(request.tensorboard_log, record.algo, bool(run)) for folder in folders
    ]
    logger = ReplicaLogger(replicas, events, log_state)
    model.set_logger(stack.enter_context(contextlib.closing(logger)))
    result = training.run()
    if request.save_replay_buffer:
        with atomic_path(folders[0].replay_buffer) as temporary, temporary.open("wb") as file:
            model.save_replay_buffer(file)
    replicas.write_status(model, "done")
    return result


def make_evaluator(plan: RunPlan, held_out: Dataset | None = None) -> Evaluator | HeldOutEvaluator:
    """Start the environments of the evaluation.

    :param held_out: the trajectories that take their place.
    """
    seed = plan.request.eval_seed
    if held_out is not None:
        return HeldOutEvaluator(held_out, seed=seed)
    episodes = plan.config.run.eval_episodes
    env_kwargs = plan.eval_env_kwargs
    count = plan.request.n_eval_envs or count_environments(plan.env_id, env_kwargs, episodes)
    return Evaluator(plan.env_id, episodes=episodes, n_envs=count, seed=seed, env_kwargs=env_kwargs)


def make_folders(
    folders: list[RunFolder],
    record: RunRecord,
    seeds: list[int],
    model: FlowAlgorithm,
    data: Dataset | ShardedDataset | None,
    request: TrainRequest,
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
        folders.append(RunFolder.create(request.log_folder, record.algo, record.env, seed))
    log_to_folders(folder.path for folder in folders)
    if isinstance(model, FlowAlgorithm) and model.policy.own_widths:
        record = replace(record, agent={**(record.agent or {}), "layers": model.policy.own_widths})
    if len(seeds) > 1:
        record = replace(record, seeds=seeds, folders=[folder.path.name for folder in folders])
    places = []
    for seed, folder in zip(seeds, folders, strict=True):
        folder.write_origin(request.arguments(), versions)
        folder.write_config(replace(record, seed=seed))
        places.append(f"{folder.path} (seed {seed})")
    log.log(LOG_FILE_ONLY, dump_yaml(record.plain()).rstrip())
    log.info(
        "run folder%s, with all settings in config.yml: %s",
        "s" * (len(folders) > 1),
        ", ".join(places),
    )
