"""The training program: from a command line to the result of its run."""

from __future__ import annotations

import argparse
import contextlib
import secrets
import time
from typing import Any

from agents.common.files import atomic_path
from zoo.messages import FILE_ONLY, keep_in, log
from zoo.runs.claims import held
from zoo.runs.folder import check_log_folder, ending_recorded
from zoo.runs.resume import find_run, result_of_done
from zoo.runs.versions import command_line
from zoo.training.callbacks import Observer
from zoo.training.logs import set_logger
from zoo.training.options import Request, read_request
from zoo.training.prepare import check_algorithm, load_data, make_evaluator, make_model
from zoo.training.record import describe_run, make_folders
from zoo.training.replicas import Replicas
from zoo.training.run import Training
from zoo.training.tracking import tracked


def train(args: argparse.Namespace, observe: Observer | None = None) -> dict[str, Any]:
    """Do what the command line asks for, and return the result to print.

    :param observe: called with the evaluations so far after each of them; what it raises ends the run.
    """
    begin = time.perf_counter()
    log.log(FILE_ONLY, "%s", command_line())
    request = read_request(args)
    config = request.config
    if config.departures:
        log.info("settings differ from protocol `%s`: %s", config.profile, "; ".join(config.departures))
    online_steps, first = config.run.online_steps, config.settings["learning_starts"]
    if 0 < online_steps <= first:
        log.warning(
            "the online phase will make no update: `learning_starts` is %d and --online-steps %d; make "
            "`learning_starts` smaller or --online-steps larger, or leave the online phase out (--online-steps 0)",
            *(first, online_steps),
        )
    check_log_folder(args.log_folder)
    with contextlib.ExitStack() as stack:
        stack.enter_context(held(args.claim))
        result = _train(request, stack, observe)
    return {**result, "wall_s": round(time.perf_counter() - begin, 1)}


def _train(request: Request, stack: contextlib.ExitStack, observe: Observer | None) -> dict[str, Any]:
    """Train, or find that this was done already; the stack closes what is opened."""
    args, config = request.args, request.config
    evaluator = None if args.resume else stack.enter_context(make_evaluator(request))  # a finished run needs none
    check_algorithm(request)
    data = load_data(request)
    record = describe_run(config, data, args)
    found = find_run(args.log_folder, record, request.seeds, args.claim is not None) if args.resume else None
    if found is not None and found.is_done:
        return result_of_done(found)
    evaluator = evaluator or stack.enter_context(make_evaluator(request))
    folders = found.folders if found else []
    seeds = request.seeds or (found.seeds if found else [secrets.randbelow(2**31)])
    stack.enter_context(ending_recorded(folders, seeds))
    if found:
        keep_in(folder.path for folder in folders)
    model = make_model(request, seeds, data)
    if not found:
        make_folders(folders, record, seeds, model, data, args)
    replicas = Replicas(folders, seeds, stops=args.on_divergence == "stop")
    bar = args.progress if args.verbose else bool(args.progress)
    training = Training(config, model, evaluator, replicas, bar, observe)
    position = training.restore() if found else None
    trackers = stack.enter_context(tracked(args, config, replicas, position))
    set_logger(config, model, replicas, args, position, trackers)
    result = training.run()
    if args.save_replay_buffer:
        with atomic_path(folders[0].replay_buffer) as temporary, temporary.open("wb") as file:
            model.save_replay_buffer(file)
    return result
