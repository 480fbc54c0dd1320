"""Train an algorithm on an environment's dataset, then online: one run folder per seed."""

import argparse
import sys
from pathlib import Path
from typing import Any

if not __package__:  # run as a file: let `import agents` and `import zoo` find the packages
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from zoo.algorithms.packages import require_optuna
from zoo.envs.rendering import prepare_pictures
from zoo.settings.request import add_training, read_request
from zoo.terminal.cli import as_program, signals_deferred
from zoo.terminal.parser import Parser


def make_parser() -> Parser:
    """Return the parser of the command line."""
    parser = Parser("train", description=__doc__)
    add_training(parser)
    return parser


def _train(args: argparse.Namespace) -> dict[str, Any]:
    """Do what the command line asks for; PyTorch is imported only here."""
    request = read_request(args)
    prepare_pictures(request.env)
    with signals_deferred():
        from zoo.training.start import train

    if request.study is not None:
        require_optuna("--study")
        from zoo.tuning.study import with_trial

        request = with_trial(request)
    return train(request)


main = as_program(make_parser, _train)

if __name__ == "__main__":
    sys.exit(main())
