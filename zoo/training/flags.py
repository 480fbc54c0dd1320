"""The command line of the training program, which other programs that train share."""

import argparse
from collections.abc import Collection, Mapping
from dataclasses import fields

from zoo.algorithms.packages import import_optional
from zoo.settings.layers import load_yaml
from zoo.settings.record import RunSettings
from zoo.settings.request import TrainRequest
from zoo.terminal.errors import UsageError
from zoo.terminal.parser import (
    SEED,
    SEED_OR_ANY,
    Parser,
    add_flags,
    add_verbose,
    given_flags,
    options_of,
    parse_seeds,
)

PURPOSE = "Train an algorithm on an environment's dataset, then online: one run folder per seed."


def make_parser() -> Parser:
    """Return the parser of the command line."""
    parser = Parser("train", description=PURPOSE)
    add_training(parser)
    return parser


def add_training(
    parser: Parser,
    seed: int = -1,
    names: Collection[str] | None = None,
    renamed: Mapping[str, str] | None = None,
) -> None:
    """Add the flags of a training request, its seeds, and the settings of a run, which override the YAML files.

    :param seed: the default; -1 draws one.
    :param names: of the fields; None takes all.
    :param renamed: field -> its flag, where that has another name.
    """
    groups = add_flags(parser, TrainRequest, names, renamed)
    add_verbose(groups["output"])
    seed_help = "seed of everything random"
    kind = SEED
    if seed < 0:
        kind = SEED_OR_ANY
        seed_help += "; -1 draws one"
    seeds = groups["what to train"].add_mutually_exclusive_group()
    seeds.add_argument("--seed", type=kind, default=seed, help=seed_help)
    seeds.add_argument("--seeds", nargs="+", help="several seeds at once, e.g. 0-11 or 3 7 9")
    group = parser.add_argument_group(
        "steps, data, evaluations and checkpoints (default: from YAML)"
    )
    for name, declared in RunSettings.declared().items():
        options = options_of(declared.type, declared.bounds.get("at_least", 1))
        if "action" in options:  # with `--no-...`, to override a YAML file's `true`
            options["action"] = argparse.BooleanOptionalAction
        elif "nargs" in options:
            options["type"] = lambda text: load_yaml(text, "a wrapper")
            options["metavar"] = "WRAPPER"
        group.add_argument(f"--{name.replace('_', '-')}", **options, help=declared.doc)


def read_request(args: argparse.Namespace) -> TrainRequest:
    """Return the run that a command line asks for; flags that a program does not have keep their defaults.

    :raises UsageError: if flags contradict each other.
    """
    entries = given_flags(args, TrainRequest)
    if args.seeds is not None:
        entries["seeds"] = tuple(parse_seeds(args.seeds, "--seeds"))
    elif args.seed >= 0:
        entries["seeds"] = (args.seed,)
    # left out: the YAML files decide
    run = {name: getattr(args, name) for name in RunSettings.declared()}
    entries["run"] = {name: value for name, value in run.items() if value is not None}
    request = TrainRequest(**entries)
    trackers = [name.name for name in fields(TrainRequest) if name.name.startswith("wandb_")]
    if request.track:  # refused now, and not when the model is built
        import_optional("wandb", "Weights & Biases", "`--track`", "wandb")
    elif any(getattr(request, name) for name in trackers):
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
