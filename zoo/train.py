"""Train an algorithm on an environment's dataset, then online: one run folder per seed."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import secrets
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if __package__ in (None, ""):  # run as a file: let `import agents` and `import zoo` find the packages
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from zoo.cli import Parser, run_program, whole_number
from zoo.errors import UsageError
from zoo.layers import DEFAULT_PROFILE
from zoo.messages import FILE_ONLY, keep_in, log

if TYPE_CHECKING:
    from zoo.config import Config
    from zoo.playing.background import BackgroundEvaluator
    from zoo.playing.evaluate import Evaluator


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program.

    :param arguments: the words after the program's name; None takes them from the command line.
    :return: exit code: 0 done, 2 bad input, 3 stopped by a signal, 1 anything else.
    """
    args = make_parser().parse_args(arguments)
    return run_program(lambda: train(args), args.verbose)


def make_parser() -> Parser:
    """Return the parser of the command line."""
    parser = Parser("train", description=__doc__)
    what = parser.add_argument_group("what to train")
    what.add_argument("--algo", required=True, help="algorithm id, e.g. qam")
    what.add_argument("--env", required=True, help="e.g. cube-double-play-singletask-task2-v0")
    what.add_argument("--seed", type=whole_number, default=-1, help="seed of everything random; -1 draws one")
    what.add_argument("--seeds", nargs="+", help="stacked seeds in one process, e.g. 0-11 or 3 7 9")
    what.add_argument(
        "--profile", default=DEFAULT_PROFILE, help="protocol of the settings; `zoo agents show ALGO` lists them"
    )
    what.add_argument(
        "--pretrain-steps",
        type=whole_number,
        help="gradient steps before --offline-steps that clone alone (default: from YAML)",
    )
    what.add_argument("--offline-steps", type=whole_number, help="gradient steps on the dataset (default: from YAML)")
    what.add_argument("--online-steps", type=whole_number, help="environment steps after it (default: from YAML)")
    what.add_argument("--quick", action="store_true", help="the algorithm's small settings, for a laptop")
    what.add_argument(
        "-params",
        "--hyperparams",
        nargs="+",
        metavar="KEY=VALUE",
        action="extend",
        default=[],
        help="settings, repeatable",
    )
    what.add_argument("-conf", "--conf-file", help="YAML file that overrides the shipped settings")
    what.add_argument(
        "--resume",
        action="store_true",
        help="go on with the newest unfinished run of the same settings; name it if it is done, else start",
    )
    what.add_argument("-i", "--trained-agent", default="", help="model (.zip), or folder of a run, to start from")
    what.add_argument(
        "--pretrained-actor", type=Path, help="model (.zip), or folder of a run, whose behaviour flow to start from"
    )
    _add_data_arguments(parser)
    envs = parser.add_argument_group("environments")
    envs.add_argument("--n-envs", type=whole_number, help="training environments (default: one per seed)")
    envs.add_argument("--vec-env", choices=("dummy", "subproc"), default="dummy", help="how training ones are stepped")
    keywords = {"nargs": "+", "action": "extend", "default": [], "metavar": "KEY=VALUE"}
    envs.add_argument("--env-kwargs", **keywords, help="arguments of the environment")
    envs.add_argument("--eval-env-kwargs", **keywords, help="the same for evaluation")
    envs.add_argument("--gym-packages", nargs="+", default=[], help="packages to import, for their environments")
    protocol = parser.add_argument_group("evaluation and saving")
    protocol.add_argument("--eval-freq", type=whole_number, help="steps between evaluations (default: from YAML)")
    protocol.add_argument("--eval-episodes", type=whole_number, help="episodes per evaluation (default: from YAML)")
    protocol.add_argument(
        "--eval-mode",
        choices=("auto", "sync", "async"),
        default="auto",
        help="training waits for evaluations (sync) or goes on beside them (async); auto: async on CUDA, else sync",
    )
    protocol.add_argument(
        "--n-eval-envs",
        type=whole_number,
        help="evaluation environments (default: two per core or eight, mazes one per episode)",
    )
    protocol.add_argument("--eval-seed", type=whole_number, default=0, help="decides the evaluation's starts and noise")
    protocol.add_argument("--save-freq", type=whole_number, help="steps between checkpoints (default: from YAML)")
    protocol.add_argument("--save-replay-buffer", action="store_true", help="save the replay buffer at the end")
    speed = parser.add_argument_group("speed")
    speed.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, ...")
    speed.add_argument("--precision", choices=("fp32", "tf32", "bf16"), help="matrix products (default: tf32 on CUDA)")
    speed.add_argument("--compile", choices=("auto", "on", "off"), help="compile the update (default: auto)")
    speed.add_argument(
        "--num-threads", type=whole_number, default=-1, help="CPU threads of PyTorch; -1 leaves its choice"
    )
    output = parser.add_argument_group("output")
    output.add_argument("-f", "--log-folder", type=Path, default=Path("logs"), help="where run folders are made")
    output.add_argument("-tb", "--tensorboard-log", help="folder of TensorBoard events (default: the run folder)")
    output.add_argument(
        "--log-interval", type=whole_number, help="gradient steps between log entries (default: from YAML)"
    )
    output.add_argument("-P", "--progress", action="store_true", default=None, help="progress bar, terminal or not")
    output.add_argument("--label", help="name of this run's row in a comparison (default: the algorithm)")
    output.add_argument(
        "--verbose", type=whole_number, default=1, help="0 errors only, 1 what happens, 2 tracebacks too"
    )
    output.add_argument("--track", action="store_true", help="log to Weights & Biases (needs wandb)")
    output.add_argument("--wandb-project-name", help="its project (default: flow-rl-zoo)")
    output.add_argument("--wandb-entity", help="its entity")
    output.add_argument("--wandb-group", help="its group")
    output.add_argument("-tags", "--wandb-tags", nargs="+", default=[], help="its tags")
    return parser


def _add_data_arguments(parser: Parser) -> None:
    """Add what decides about the dataset and where it lives."""
    data = parser.add_argument_group("data")
    data.add_argument("--dataset", default="auto", help="auto, download, generate or the path of a file or folder")
    data.add_argument("--dataset-dir", help="where datasets live (default: ~/.ogbench/data)")
    data.add_argument(
        "--offline-data",
        choices=("preload", "balanced", "none"),
        help="what online training does with the dataset: in front of the buffer, half of every batch, nothing "
        "(default: from YAML)",
    )
    data.add_argument("--dataset-size", type=whole_number, help="transitions to use, or to generate (default: all)")
    data.add_argument(
        "--dataset-replace-interval",
        type=whole_number,
        help="updates until a set's next file takes over (default: from YAML)",
    )
    data.add_argument(
        "--storage",
        choices=("auto", "device", "host"),
        default="auto",
        help="where the data live: on the device while they fit, always, never",
    )


def train(args: argparse.Namespace) -> dict[str, Any]:
    """Do what the command line asks for.

    :param args: parsed arguments.
    :return: the result to print.
    :raises UsageError: for bad input, before any training.
    :raises Interrupted: when a signal stopped the run, after its checkpoint was written.
    """
    begin = time.perf_counter()
    from zoo.layers import parse_overrides
    from zoo.runs.folder import check_log_folder, command_line, ending_recorded
    from zoo.runs.resume import find_run, result_of_done
    from zoo.training.build import (
        Training,
        check_algorithm,
        describe_run,
        load_data,
        make_evaluator,
        make_folders,
        make_logger,
        make_model,
    )
    from zoo.training.replicas import Replicas

    log.log(FILE_ONLY, "%s", command_line())
    check_tracking(args)
    for package in args.gym_packages:
        importlib.import_module(package)
    seeds = read_seeds(args)
    config, env_id = read_config(args)
    if config.departures:
        log.info("departs from the protocol `%s`: %s", config.profile, "; ".join(config.departures))
    check_log_folder(args.log_folder)
    env_kwargs = parse_overrides(args.env_kwargs, "--env-kwargs")
    eval_env_kwargs = parse_overrides(args.eval_env_kwargs, "--eval-env-kwargs") or env_kwargs
    with contextlib.ExitStack() as stack:

        def start_evaluator() -> Evaluator | BackgroundEvaluator:
            return stack.enter_context(make_evaluator(config, env_id, eval_env_kwargs, args))

        evaluator = None if args.resume else start_evaluator()  # a run that is done already needs none
        check_algorithm(config, env_id, env_kwargs)
        data = load_data(config, args.dataset, args.dataset_dir)
        record = describe_run(config, data, args)
        found = find_run(args.log_folder, record, seeds) if args.resume else None
        if found is not None and found.is_done:
            return _timed(result_of_done(found), begin)
        evaluator = evaluator or start_evaluator()
        folders = found.folders if found else []
        seeds = seeds or (found.seeds if found else [secrets.randbelow(2**31)])
        stack.enter_context(ending_recorded(folders, seeds))
        if found:
            keep_in(folder.path for folder in folders)
        model = make_model(config, env_id, seeds, data, args, env_kwargs)
        if not found:
            make_folders(record, seeds, model, data, args, folders)
        replicas = Replicas(folders, seeds)
        bar = args.progress if args.verbose else bool(args.progress)
        training = Training(config, model, evaluator, replicas, progress_bar=bar)
        make_logger(config, model, replicas, args, training.restore() if found else None)
        result = training.run()
    if args.save_replay_buffer:
        model.save_replay_buffer(folders[0].path / "replay_buffer.pkl")
    return _timed(result, begin)


def _timed(result: dict[str, Any], begin: float) -> dict[str, Any]:
    """Return a result with the time that the program took."""
    return {**result, "wall_s": round(time.perf_counter() - begin, 1)}


def check_tracking(args: argparse.Namespace) -> None:
    """Refuse Weights & Biases where it is not installed, and what is said about it where it is not asked for."""
    flags = {
        "--wandb-project-name": args.wandb_project_name,
        "--wandb-entity": args.wandb_entity,
        "--wandb-group": args.wandb_group,
        "--wandb-tags": args.wandb_tags,
    }
    given = [flag for flag, value in flags.items() if value]
    if given and not args.track:
        raise UsageError(f"`{given[0]}` needs --track, which is not given; add it, or leave out `{given[0]}`")
    if args.track:
        try:
            importlib.import_module("wandb")
        except ImportError as error:
            raise UsageError("`--track` needs Weights & Biases; install it with `pip install wandb`") from error


def read_config(args: argparse.Namespace) -> tuple[Config, str]:
    """Return the checked configuration, and the Gymnasium id of the environment."""
    import gymnasium
    import torch

    from zoo.config import load_config
    from zoo.datasets.names import parse_env_name

    names = ("pretrain_steps", "offline_steps", "online_steps", "eval_freq", "eval_episodes", "save_freq")
    names += ("log_interval", "dataset_size", "dataset_replace_interval", "offline_data", "precision", "compile")
    flags = {name: getattr(args, name) for name in names if getattr(args, name) is not None}
    has_dataset = args.env not in gymnasium.registry
    domain, dataset, env_id = None, None, args.env
    if has_dataset:
        name = parse_env_name(args.env)
        domain, dataset, env_id = name.domain, name.dataset, name.env_id
    elif flags.setdefault("offline_steps", 0) != 0:
        raise UsageError(f"`{args.env}` has no dataset to train on offline; leave --offline-steps at 0")
    config = load_config(
        args.algo,
        args.env,
        domain,
        dataset=dataset,
        profile=args.profile,
        quick=args.quick,
        conf=args.conf_file,
        params=args.hyperparams,
        flags=flags,
        device=args.device,
    )
    if config.run.pretrain_steps and not has_dataset:
        raise UsageError(f"`{args.env}` has no dataset to pretrain on; leave --pretrain-steps at 0")
    check_start(args, config)
    if "precision" in config.settings and args.precision is None and args.device != "cpu" and torch.cuda.is_available():
        config.settings["precision"] = "tf32"
    return config, env_id


def check_start(args: argparse.Namespace, config: Config) -> None:
    """Refuse a model or a behaviour flow to start from that is not there, does not fit, or stands beside the other."""
    from zoo.training.build import check_trained_agent, describe_model

    if args.trained_agent and args.pretrained_actor is not None:
        raise UsageError("`--pretrained-actor` and `--trained-agent` both say where to start; give one of them")
    if args.trained_agent:
        check_trained_agent(args.trained_agent, config)
    if args.pretrained_actor is None:
        return
    if "pretraining_steps" not in config.settings:
        raise UsageError(f"`{config.algo}` has no behaviour flow to start from; leave out --pretrained-actor")
    if config.run.pretrain_steps:
        raise UsageError(
            f"`--pretrained-actor` takes the place of pretraining, got {config.run.pretrain_steps} steps of it too; "
            "set --pretrain-steps to 0"
        )
    describe_model(args.pretrained_actor)


def read_seeds(args: argparse.Namespace) -> list[int] | None:
    """Return the seeds of the replicas: of ``--seeds``, else the one of ``--seed``; None where it is to be drawn."""
    if args.seeds is None:
        return None if args.seed < 0 else [args.seed]
    if args.seed >= 0:
        raise UsageError(f"`--seeds` and `--seed` both name seeds, got --seed {args.seed} too; leave one of them out")
    seeds: list[int] = []
    for word in args.seeds:
        first, dash, last = word.partition("-")
        try:
            seeds += range(int(first), int(last) + 1) if dash else [int(first)]
        except ValueError:
            raise UsageError(f"`--seeds` expects numbers or ranges such as 0-11, got {word!r}") from None
    if not seeds or len(set(seeds)) < len(seeds):
        raise UsageError(f"`--seeds` expects different seeds, got {' '.join(args.seeds)}")
    return seeds


if __name__ == "__main__":
    sys.exit(main())
