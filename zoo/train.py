"""Train an algorithm on an environment's dataset, then online: one run folder per seed."""

import argparse
import sys
from pathlib import Path
from typing import Any

if not __package__:  # run as a file: let `import agents` and `import zoo` find the packages
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from zoo.algorithms.packages import require_optuna
from zoo.envs.rendering import prepare_pictures
from zoo.terminal.cli import as_program, signals_deferred
from zoo.terminal.errors import UsageError
from zoo.training.flags import make_parser


def _train(args: argparse.Namespace) -> dict[str, Any]:
    """Do what the command line asks for; PyTorch is imported only here."""
    prepare_pictures(args.env)
    with signals_deferred():
        from zoo.training.start import train

    if args.study is None and args.trial_id is None:
        return train(args)
    if args.study is None or args.trial_id is None:
        raise UsageError("`--study` and `--trial-id` belong together, got one of them; add the other, e.g. best")
    require_optuna("--study")
    from zoo.tuning.study import read_trial, tell_of_other_settings

    args.trial = read_trial(args.study, args.trial_id, args.log_folder, args.algo)
    tell_of_other_settings(args)
    return train(args)


main = as_program(make_parser, _train)

if __name__ == "__main__":
    sys.exit(main())
