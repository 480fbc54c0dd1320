"""The command line of the training program."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from zoo.settings.layers import DEFAULT_PROFILE
from zoo.terminal.arguments import (
    COUNT,
    REAL,
    SEED,
    SEED_OR_ANY,
    THREADS,
    ZERO_OR_MORE,
    Parser,
    a_path,
    add_reward_from,
    add_verbose,
    two_numbers,
)

PURPOSE = "Train an algorithm on an environment's dataset, then online: one run folder per seed."


def make_parser() -> Parser:
    """Return the parser of the command line."""
    parser = Parser("train", description=PURPOSE)
    task = parser.add_argument_group("what to train")
    add_task(task, needs_env=False)
    task.add_argument(
        "--no-env", action="store_true", help="train and judge by --dataset alone, in place of --env (docs/no_env.md)"
    )
    task.add_argument("--spaces", type=a_path, metavar="YAML", help="with --no-env, limits of observations and actions")
    _add_start(task)
    add_data(parser.add_argument_group("data"))
    add_environments(parser.add_argument_group("environments"))
    protocol = parser.add_argument_group("evaluation and saving")
    add_protocol(protocol)
    protocol.add_argument("--save-replay-buffer", action="store_true", help="save the replay buffer at the end")
    add_speed(parser.add_argument_group("speed"))
    output = parser.add_argument_group("output")
    add_output(output)
    _add_logging(output)
    parser.set_defaults(trial=None)  # settings of a tuning trial, which the program reads where --study asks for them
    return parser


def add_task(group: argparse._ArgumentGroup, seed: int = -1, needs_env: bool = True) -> None:
    """Add the flags of algorithm, environment, seeds, phases and settings.

    :param seed: the default; -1 draws one.
    :param needs_env: whether `--env` must be given.
    """
    group.add_argument("--algo", required=True, help="algorithm id, e.g. qam")
    group.add_argument("--env", required=needs_env, help="e.g. cube-double-play-singletask-task2-v0")
    kind, drawn = (SEED_OR_ANY, "; -1 draws one") if seed < 0 else (SEED, "")
    group.add_argument("--seed", type=kind, default=seed, help=f"seed of everything random{drawn}")
    group.add_argument("--seeds", nargs="+", help="several seeds at once, e.g. 0-11 or 3 7 9")
    group.add_argument(
        "--profile", default=DEFAULT_PROFILE, help="protocol of the settings; `zoo agents show ALGO` lists them"
    )
    group.add_argument(
        "--pretraining-steps",
        type=ZERO_OR_MORE,
        help="cloning steps before the offline phase (default: from YAML)",
    )
    group.add_argument("--offline-steps", type=ZERO_OR_MORE, help="gradient steps on the dataset (default: from YAML)")
    group.add_argument("--online-steps", type=ZERO_OR_MORE, help="environment steps after it (default: from YAML)")
    group.add_argument("--quick", action="store_true", help="the algorithm's small settings, for a laptop")
    group.add_argument(
        "-params",
        "--hyperparams",
        nargs="+",
        metavar="KEY=VALUE",
        action="extend",
        default=[],
        help="settings, repeatable",
    )
    group.add_argument("-conf", "--conf-file", help="YAML file that overrides the shipped settings")
    group.add_argument("-i", "--trained-agent", default="", help="model (.zip), or folder of a run, to start from")
    group.add_argument(
        "--pretrained-actor", type=a_path, help="model (.zip), or folder of a run, whose behaviour flow to start from"
    )


def _add_start(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--study", help="tuning study whose settings to take: its name, its database, or DATABASE:NAME; see zoo tune"
    )
    group.add_argument("--trial-id", help="which of its trials: a number, or best")
    group.add_argument(
        "--resume",
        action="store_true",
        help="continue the newest unfinished run with the same settings; report it if it has finished; otherwise start "
        "a new one",
    )


def add_data(group: argparse._ArgumentGroup, storage: str = "--storage") -> None:
    """Add the flags of data.

    :param storage: what the flag of the replay buffer's place is called.
    """
    group.add_argument(
        "--dataset", default="auto", help="auto, download, generate, the path of a file or folder, or minari:ID"
    )
    group.add_argument("--dataset-dir", help="where datasets live (default: where each benchmark keeps its own)")
    group.add_argument(
        "--offline-data",
        choices=("preload", "balanced", "none"),
        help="what online training does with the dataset: in front of the buffer, half of every batch, nothing "
        "(default: from YAML)",
    )
    group.add_argument("--dataset-size", type=COUNT, help="transitions to use, or to generate (default: all)")
    group.add_argument(
        "--action-range",
        type=two_numbers,
        metavar="LOW,HIGH",
        help="what stands for the limits of the environment's actions in a dataset of your own (default: those limits)",
    )
    add_reward_from(group)
    group.add_argument(
        "--dataset-replace-interval",
        type=COUNT,
        help="updates until a set's next file takes over (default: from YAML)",
    )
    group.add_argument(
        storage,
        dest="storage",
        choices=("auto", "device", "host"),
        default="auto",
        help="where the replay buffer is kept: on the device if it fits, always, or never",
    )


def add_environments(group: argparse._ArgumentGroup) -> None:
    """Add the flags of environments."""
    group.add_argument(
        "--n-envs", type=COUNT, help="training environments (default: one per seed); an update follows a step of all"
    )
    group.add_argument(
        "--vec-env", choices=("dummy", "subproc"), default="dummy", help="how training environments are stepped"
    )
    keywords: dict[str, Any] = {"nargs": "+", "action": "extend", "default": [], "metavar": "KEY=VALUE"}
    group.add_argument("--env-kwargs", **keywords, help="arguments of the environment")
    group.add_argument("--eval-env-kwargs", **keywords, help="those of evaluation, in place of --env-kwargs")
    group.add_argument("--gym-packages", nargs="+", default=[], help="packages to import, for their environments")


def add_protocol(group: argparse._ArgumentGroup, eval_seed: int = 0) -> None:
    """Add the flags of evaluations and checkpoints.

    :param eval_seed: the default.
    """
    group.add_argument("--eval-freq", type=COUNT, help="steps between evaluations (default: from YAML)")
    group.add_argument("--eval-episodes", type=COUNT, help="episodes per evaluation (default: from YAML)")
    group.add_argument(
        "--eval-at-start",
        action=argparse.BooleanOptionalAction,
        help="evaluate before the first update too, or do not (default: from YAML)",
    )
    group.add_argument("--eval-mode", help=argparse.SUPPRESS)  # refused with its reason
    group.add_argument(
        "--n-eval-envs",
        type=COUNT,
        help="evaluation environments (default: two per core or eight, mazes one per episode)",
    )
    group.add_argument("--eval-seed", type=SEED, default=eval_seed, help="decides the evaluation's starts and noise")
    group.add_argument(
        "--score", choices=("return",), help="score runs by their return even where the environment reports success"
    )
    group.add_argument(
        "--success-return", type=REAL, metavar="X", help="an episode succeeds if its return is at least X"
    )
    group.add_argument(
        "--reference-scores",
        type=two_numbers,
        metavar="RANDOM,EXPERT",
        help="score runs by their return, which comparisons put on the scale of these two: 0 and 1",
    )
    group.add_argument("--save-freq", type=COUNT, help="steps between checkpoints (default: from YAML)")
    group.add_argument(
        "--on-divergence",
        choices=("stop", "warn"),
        default="stop",
        help="a seed whose losses or Q are finite but beyond recovery fails (stop), or goes on after a warning (warn); "
        "NaN and infinity always fail",
    )


def add_speed(group: argparse._ArgumentGroup) -> None:
    """Add the flags of device and speed."""
    group.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, ...")
    group.add_argument("--precision", choices=("fp32", "tf32", "bf16"), help="matrix products (default: tf32 on CUDA)")
    group.add_argument("--compile", choices=("auto", "on", "off"), help="compile the update (default: auto)")
    group.add_argument("--num-threads", type=THREADS, default=-1, help="CPU threads of PyTorch; -1: PyTorch's default")


def add_output(group: argparse._ArgumentGroup) -> None:
    """Add the flags of log folder and messages."""
    group.add_argument("-f", "--log-folder", type=a_path, default=Path("logs"), help="where run folders are made")
    group.add_argument("--log-interval", type=COUNT, help="gradient steps between log entries (default: from YAML)")
    add_verbose(group)


def _add_logging(group: argparse._ArgumentGroup) -> None:
    group.add_argument("-tb", "--tensorboard-log", help="folder of TensorBoard events (default: the run folder)")
    group.add_argument("-P", "--progress", action="store_true", default=None, help="progress bar, terminal or not")
    group.add_argument("--label", help="name of this run's row in a comparison (default: the algorithm)")
    group.add_argument(
        "--track",
        nargs="?",
        const="wandb",
        choices=("wandb",),
        help="log to Weights & Biases too, which follows TensorBoard's events",
    )
    group.add_argument("--wandb-project-name", help="project of Weights & Biases (default: flow-rl-zoo)")
    group.add_argument("--wandb-group", help="group of Weights & Biases")
    group.add_argument("--wandb-entity", help="entity of Weights & Biases")
    group.add_argument("-tags", "--wandb-tags", nargs="+", default=[], help="tags of Weights & Biases")
