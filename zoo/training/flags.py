"""The command line of the training program."""

import argparse
from dataclasses import MISSING, fields
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

from zoo.algorithms.packages import import_optional
from zoo.settings.layers import load_yaml
from zoo.settings.record import RunSettings
from zoo.settings.request import TrainRequest
from zoo.terminal.errors import UsageError
from zoo.terminal.parser import (
    COUNT,
    REAL,
    SEED,
    SEED_OR_ANY,
    THREADS,
    Number,
    Parser,
    a_path,
    add_verbose,
    parse_seeds,
    two_numbers,
)

_FIELDS = {field.name: field.default for field in fields(TrainRequest)}
_DEFAULTS = {name: value for name, value in _FIELDS.items() if value not in (MISSING, "", ())}
"""Defaults of flags; a list has none here, since argparse would append to it."""
PURPOSE = "Train an algorithm on an environment's dataset, then online: one run folder per seed."


def make_parser() -> Parser:
    """Return the parser of the command line."""
    parser = Parser("train", description=PURPOSE)
    task = add_task(parser, has_no_env=True)
    task.add_argument(
        "--spaces",
        type=a_path,
        metavar="YAML",
        help="with --no-env, limits of observations and actions",
    )
    task.add_argument(
        "--study",
        help="tuning study whose settings to take: its name, its database, or DATABASE:NAME; see zoo tune",
    )
    task.add_argument("--trial-id", help="which of its trials: a number, or best")
    task.add_argument(
        "--resume",
        action="store_true",
        help="continue the newest unfinished run with the same settings; report it if it has finished; otherwise start "
        "a new one",
    )
    add_data(parser)
    protocol = add_protocol(parser)
    protocol.add_argument(
        "--save-replay-buffer", action="store_true", help="save the replay buffer at the end"
    )
    output = add_output(parser)
    output.add_argument(
        "-tb",
        "--tensorboard-log",
        type=a_path,
        help="folder of TensorBoard's events (default: the run's)",
    )
    output.add_argument(
        "-P", "--progress", action="store_true", default=None, help="progress bar, terminal or not"
    )
    output.add_argument(
        "--label", help="name of this run's row in a comparison (default: the algorithm)"
    )
    output.add_argument(
        "--track",
        nargs="?",
        const="wandb",
        choices=("wandb",),
        help="log to Weights & Biases too, which follows TensorBoard's events",
    )
    output.add_argument(
        "--wandb-project-name", help="project of Weights & Biases (default: flow-rl-zoo)"
    )
    output.add_argument("--wandb-group", help="group of Weights & Biases")
    output.add_argument("--wandb-entity", help="entity of Weights & Biases")
    output.add_argument("-tags", "--wandb-tags", nargs="+", help="tags of Weights & Biases")
    return parser


def read_request(args: argparse.Namespace) -> TrainRequest:
    """Return the run that a command line asks for; flags that a program does not have keep their defaults.

    :raises UsageError: if flags contradict each other.
    """
    seeds = None if args.seed < 0 else (args.seed,)
    entries: dict[str, Any] = {"run": {}, "seeds": seeds}
    for name, value in vars(args).items():
        if value is None:  # left out: the request has the default
            continue
        if name in RunSettings.declared():
            entries["run"][name] = value
        elif name == "seeds":
            entries["seeds"] = tuple(parse_seeds(value, "--seeds"))
        elif name in _FIELDS:
            entries[name] = tuple(value) if isinstance(value, list) else value
    request = TrainRequest(**entries)
    if request.track:  # refused now, and not when the model is built
        import_optional("wandb", "Weights & Biases", "`--track`", "wandb")
    elif any(getattr(request, name) for name in _FIELDS if name.startswith("wandb_")):
        raise UsageError("the flags of Weights & Biases need --track; add it, or leave them out")
    if request.spaces is not None and not request.no_env:
        raise UsageError(
            "`--spaces` are those of data without an environment; add --no-env, or leave it out"
        )
    if (request.study is None) != (request.trial_id is None):
        raise UsageError(
            "`--study` and `--trial-id` belong together, got one of them; add the other, e.g. best"
        )
    return request


def add_task(parser: Parser, seed: int = -1, has_no_env: bool = False) -> argparse._ArgumentGroup:
    """Add the flags of algorithm, environment, seeds, phases and settings; return their group.

    :param seed: the default; -1 draws one.
    :param has_no_env: whether `--no-env` may be given in place of `--env`.
    """
    parser.set_defaults(**_DEFAULTS)  # of the flags below; help shows them
    group = parser.add_argument_group("what to train")
    group.add_argument("--algo", required=True, help="algorithm id, e.g. qam")
    where = group.add_mutually_exclusive_group(required=True)
    where.add_argument("--env", help="e.g. cube-double-play-singletask-task2-v0")
    if has_no_env:
        where.add_argument(
            "--no-env",
            action="store_true",
            help="train and judge by --dataset alone (docs/no_env.md)",
        )
    seed_help = "seed of everything random"
    kind = SEED
    if seed < 0:
        kind = SEED_OR_ANY
        seed_help += "; -1 draws one"
    seeds = group.add_mutually_exclusive_group()
    seeds.add_argument("--seed", type=kind, default=seed, help=seed_help)
    seeds.add_argument("--seeds", nargs="+", help="several seeds at once, e.g. 0-11 or 3 7 9")
    group.add_argument(
        "--profile",
        help="protocol of the settings; `zoo agents show ALGO` lists them",
    )
    group.add_argument(
        "--quick", action="store_true", help="the algorithm's small settings, for a laptop"
    )
    group.add_argument(
        "-params",
        "--hyperparams",
        nargs="+",
        metavar="KEY=VALUE",
        action="extend",
        help="settings, repeatable",
    )
    group.add_argument(
        "-conf", "--conf-file", type=a_path, help="YAML file that overrides the shipped settings"
    )
    begin = group.add_mutually_exclusive_group()
    begin.add_argument(
        "-i", "--trained-agent", type=a_path, help="model (.zip), or folder of a run, to start from"
    )
    begin.add_argument(
        "--pretrained-actor",
        type=a_path,
        help="model (.zip), or folder of a run, whose behaviour flow to start from",
    )
    begin.add_argument(
        "--behaviour",
        metavar="FILE.py:FUNCTION",
        help="makes the behaviour flow, an agents.PretrainedFlow that was trained elsewhere (docs/pretrained.md)",
    )
    _add_run_settings(parser)
    return group


def _add_run_settings(parser: Parser) -> None:
    """Add a flag for each setting of a run, which overrides the YAML files."""
    group = parser.add_argument_group(
        "steps, data, evaluations and checkpoints (default: from YAML)"
    )
    for name, declared in RunSettings.declared().items():
        # from the declaration's type and bounds, so that each new setting is a flag too
        kind = declared.type
        if get_origin(kind) in (Union, UnionType):  # `| None`: the flag may be left out
            kind = get_args(kind)[0]
        options: dict[str, Any] = {"type": REAL}
        if kind is bool:  # with `--no-...`, to override a YAML file's `true`
            options = {"action": argparse.BooleanOptionalAction}
        elif kind is int:
            options = {"type": Number(int(declared.bounds.get("at_least", 1)))}
        elif get_origin(kind) is Literal:
            options = {"choices": get_args(kind)}
        elif get_origin(kind) is list:
            options = {
                "nargs": "+",
                "type": lambda text: load_yaml(text, "a wrapper"),
                "metavar": "WRAPPER",
            }
        elif get_origin(kind) is tuple:
            options = {"type": two_numbers, "metavar": "LOW,HIGH"}
        group.add_argument(f"--{name.replace('_', '-')}", **options, help=declared.doc)


def add_data(parser: Parser, storage: str = "--storage") -> None:
    """Add the flags of data and of environments.

    :param storage: name of the flag for the replay buffer's place.
    """
    group = parser.add_argument_group("data")
    group.add_argument(
        "--dataset",
        help="auto, download, generate, the path of a file or folder, or minari:ID",
    )
    group.add_argument(
        "--dataset-dir", help="where datasets live (default: where each benchmark keeps its own)"
    )
    group.add_argument(
        storage,
        dest="storage",
        choices=("auto", "device", "host"),
        help="where the replay buffer is kept: on the device if it fits, always, or never",
    )
    group = parser.add_argument_group("environments")
    group.add_argument(
        "--n-envs",
        type=COUNT,
        help="training environments (default: one per seed); one update per step of all environments",
    )
    group.add_argument(
        "--vec-env",
        choices=("dummy", "subproc"),
        help="how training environments are stepped",
    )
    keywords: dict[str, Any] = {"nargs": "+", "action": "extend", "metavar": "KEY=VALUE"}
    group.add_argument("--env-kwargs", **keywords, help="arguments of the environment")
    group.add_argument(
        "--eval-env-kwargs",
        **keywords,
        help="those of evaluation environments (default: --env-kwargs)",
    )
    group.add_argument(
        "--gym-packages", nargs="+", help="packages to import, for their environments"
    )


def add_protocol(parser: Parser, eval_seed: int = 0) -> argparse._ArgumentGroup:
    """Add the flags of evaluation and divergence; return their group.

    :param eval_seed: the default.
    """
    group = parser.add_argument_group("evaluation and saving")
    group.add_argument(
        "--n-eval-envs",
        type=COUNT,
        help="evaluation environments (default: two per core or eight, mazes one per episode)",
    )
    group.add_argument(
        "--eval-seed",
        type=SEED,
        default=eval_seed,
        help="decides the evaluation's starts and noise",
    )
    group.add_argument(
        "--on-divergence",
        choices=("stop", "warn"),
        help="a seed whose losses or Q are finite but beyond recovery fails (stop), or goes on after a warning (warn); "
        "NaN and infinity always fail",
    )
    return group


def add_output(parser: Parser) -> argparse._ArgumentGroup:
    """Add the flags of device, speed, log folder and messages; return the group of the last two."""
    add_speed(parser.add_argument_group("speed"), "CPU threads of PyTorch; -1: PyTorch's default")
    group = parser.add_argument_group("output")
    group.add_argument("-f", "--log-folder", type=a_path, help="where run folders are made")
    add_verbose(group)
    return group


def add_speed(group: argparse._ArgumentGroup, threads: str) -> None:
    """Add the flags of device and speed.

    :param threads: the help of ``--num-threads``.
    """
    group.add_argument("--device", default=TrainRequest.device, help="auto, cpu, cuda, cuda:1, ...")
    group.add_argument(
        "--precision",
        choices=("fp32", "tf32", "bf16"),
        help="matrix products (default: tf32 on CUDA)",
    )
    group.add_argument(
        "--compile", choices=("auto", "on", "off"), help="compile the update (default: auto)"
    )
    group.add_argument(
        "--num-threads", type=THREADS, default=TrainRequest.num_threads, help=threads
    )
