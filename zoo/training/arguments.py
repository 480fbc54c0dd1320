"""The command line of the training program."""

from __future__ import annotations

import argparse
from pathlib import Path

from zoo.arguments import Parser, whole_number
from zoo.layers import DEFAULT_PROFILE

PURPOSE = "Train an algorithm on an environment's dataset, then online: one run folder per seed."


def make_parser() -> Parser:
    """Return the parser of the command line."""
    parser = Parser("train", description=PURPOSE)
    _add_task(parser.add_argument_group("what to train"))
    _add_data(parser.add_argument_group("data"))
    _add_environments(parser.add_argument_group("environments"))
    _add_protocol(parser.add_argument_group("evaluation and saving"))
    _add_speed(parser.add_argument_group("speed"))
    _add_output(parser.add_argument_group("output"))
    return parser


def _add_task(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--algo", required=True, help="algorithm id, e.g. qam")
    group.add_argument("--env", required=True, help="e.g. cube-double-play-singletask-task2-v0")
    group.add_argument("--seed", type=whole_number, default=-1, help="seed of everything random; -1 draws one")
    group.add_argument("--seeds", nargs="+", help="several seeds at once, e.g. 0-11 or 3 7 9")
    group.add_argument(
        "--profile", default=DEFAULT_PROFILE, help="protocol of the settings; `zoo agents show ALGO` lists them"
    )
    group.add_argument(
        "--pretraining-steps",
        "--pretrain-steps",  # its former name
        type=whole_number,
        help="cloning steps before the offline phase (default: from YAML)",
    )
    group.add_argument("--offline-steps", type=whole_number, help="gradient steps on the dataset (default: from YAML)")
    group.add_argument("--online-steps", type=whole_number, help="environment steps after it (default: from YAML)")
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
    group.add_argument(
        "--resume",
        action="store_true",
        help="continue the newest unfinished run with the same settings; report it if it has finished; otherwise start "
        "a new one",
    )
    group.add_argument("-i", "--trained-agent", default="", help="model (.zip), or folder of a run, to start from")
    group.add_argument(
        "--pretrained-actor", type=Path, help="model (.zip), or folder of a run, whose behaviour flow to start from"
    )


def _add_data(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--dataset", default="auto", help="auto, download, generate or the path of a file or folder")
    group.add_argument("--dataset-dir", help="where datasets live (default: ~/.ogbench/data)")
    group.add_argument(
        "--offline-data",
        choices=("preload", "balanced", "none"),
        help="what online training does with the dataset: in front of the buffer, half of every batch, nothing "
        "(default: from YAML)",
    )
    group.add_argument("--dataset-size", type=whole_number, help="transitions to use, or to generate (default: all)")
    group.add_argument(
        "--dataset-replace-interval",
        type=whole_number,
        help="updates until a set's next file takes over (default: from YAML)",
    )
    group.add_argument(
        "--storage",
        choices=("auto", "device", "host"),
        default="auto",
        help="where the replay buffer is kept: on the device if it fits, always, or never",
    )


def _add_environments(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--n-envs", type=whole_number, help="training environments (default: one per seed)")
    group.add_argument(
        "--vec-env", choices=("dummy", "subproc"), default="dummy", help="how training environments are stepped"
    )
    keywords = {"nargs": "+", "action": "extend", "default": [], "metavar": "KEY=VALUE"}
    group.add_argument("--env-kwargs", **keywords, help="arguments of the environment")
    group.add_argument("--eval-env-kwargs", **keywords, help="the same for evaluation")
    group.add_argument("--gym-packages", nargs="+", default=[], help="packages to import, for their environments")


def _add_protocol(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--eval-freq", type=whole_number, help="steps between evaluations (default: from YAML)")
    group.add_argument("--eval-episodes", type=whole_number, help="episodes per evaluation (default: from YAML)")
    group.add_argument(
        "--eval-mode",
        choices=("auto", "sync", "async"),
        default="auto",
        help="training waits for evaluations (sync) or continues during them (async); auto: async on CUDA, else sync",
    )
    group.add_argument(
        "--n-eval-envs",
        type=whole_number,
        help="evaluation environments (default: two per core or eight, mazes one per episode)",
    )
    group.add_argument("--eval-seed", type=whole_number, default=0, help="decides the evaluation's starts and noise")
    group.add_argument("--save-freq", type=whole_number, help="steps between checkpoints (default: from YAML)")
    group.add_argument("--save-replay-buffer", action="store_true", help="save the replay buffer at the end")


def _add_speed(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, ...")
    group.add_argument("--precision", choices=("fp32", "tf32", "bf16"), help="matrix products (default: tf32 on CUDA)")
    group.add_argument("--compile", choices=("auto", "on", "off"), help="compile the update (default: auto)")
    group.add_argument(
        "--num-threads", type=whole_number, default=-1, help="CPU threads of PyTorch; -1: PyTorch's default"
    )


def _add_output(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--claim", type=Path, help=argparse.SUPPRESS)  # `zoo/benchmark.py` trains under claims
    group.add_argument("-f", "--log-folder", type=Path, default=Path("logs"), help="where run folders are made")
    group.add_argument("-tb", "--tensorboard-log", help="folder of TensorBoard events (default: the run folder)")
    group.add_argument(
        "--log-interval", type=whole_number, help="gradient steps between log entries (default: from YAML)"
    )
    group.add_argument("-P", "--progress", action="store_true", default=None, help="progress bar, terminal or not")
    group.add_argument("--label", help="name of this run's row in a comparison (default: the algorithm)")
    group.add_argument(
        "--verbose", type=whole_number, default=1, help="0 errors only, 1 what happens, 2 tracebacks too"
    )
    group.add_argument("--track", action="store_true", help="log to Weights & Biases (needs wandb)")
    group.add_argument("--wandb-project-name", help="its project (default: flow-rl-zoo)")
    group.add_argument("--wandb-entity", help="its entity")
    group.add_argument("--wandb-group", help="its group")
    group.add_argument("-tags", "--wandb-tags", nargs="+", default=[], help="its tags")
