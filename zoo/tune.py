"""Search for an algorithm's best settings on an environment with Optuna; each trial trains one or more seeds.

The score of a trial is the mean over its seeds in the last evaluation, not in the best one. Studies and reports use
different seeds and evaluation episodes: to compare methods, train again with other seeds and the default --eval-seed.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

if not __package__:  # run as a file: let `import agents` and `import zoo` find the packages
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from zoo.algorithms.packages import import_optional
from zoo.envs.rendering import prepare_pictures
from zoo.settings.request import TUNING_SEED, StudyRequest, add_training, read_request
from zoo.terminal.cli import as_program
from zoo.terminal.parser import Parser, add_flags, given_flags

TRAINING = (
    "algo", "env", "profile", "quick", "hyperparams", "conf_file", "pretrained_actor", "behaviour", "dataset",
    "dataset_dir", "env_kwargs", "gym_packages", "device", "num_threads", "log_folder",
    "offline_steps", "online_steps", "eval_freq", "eval_episodes", "dataset_size",
)  # fmt: skip
"""Flags of ``zoo train`` that apply to trials; ``-params`` sets the remaining settings of a run."""


def make_parser() -> Parser:
    """Return the command-line parser."""
    parser = Parser("tune", description=__doc__)
    add_flags(parser, StudyRequest)
    add_training(parser, TUNING_SEED, TRAINING)
    parser.set_defaults(eval_seed=TUNING_SEED)
    return parser


def _tune(args: argparse.Namespace) -> dict[str, Any]:
    """Run the requested study; PyTorch and Optuna are imported only here."""
    import_optional("optuna", "Optuna", "`zoo tune`", "optuna>=5")
    prepare_pictures(args.env)
    from zoo.tuning.study import tune

    return tune(StudyRequest(run=read_request(args), **given_flags(args, StudyRequest)))


main = as_program(make_parser, _tune)

if __name__ == "__main__":
    sys.exit(main())
