"""Search for an algorithm's best settings on an environment with Optuna; every trial is a training run.

The score of a trial is that of its last evaluation, never the best one, and the mean over its seeds. Seeds and
evaluation episodes are others than those of a report: compare methods with new seeds and the default --eval-seed.
"""

import argparse
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

if not __package__:  # run as a file: let `import agents` and `import zoo` find the packages
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from zoo.algorithms.packages import require_optuna
from zoo.envs.rendering import prepare_pictures
from zoo.terminal.cli import as_program, signals_deferred
from zoo.terminal.parser import AMOUNT, COUNT, ZERO_OR_MORE, Parser
from zoo.training import flags
from zoo.tuning import TUNING_SEED


def _tune(args: argparse.Namespace) -> dict[str, Any]:
    """Do what the command line asks for; PyTorch and Optuna are imported only here."""
    require_optuna("zoo tune")
    prepare_pictures(args.env)
    with signals_deferred():
        from zoo.tuning.options import StudyRequest
        from zoo.tuning.study import tune

    # The parser's other flags are those of the training runs.
    names = {option.name for option in fields(StudyRequest)} & {*vars(args)} - {"run"}
    return tune(
        StudyRequest(run=flags.read_request(args), **{name: getattr(args, name) for name in names})
    )


def make_parser() -> Parser:
    """Return the parser of the command line."""
    parser = Parser("tune", description=__doc__)
    group = parser.add_argument_group("study")
    group.add_argument(
        "--search",
        nargs="+",
        action="extend",
        default=[],
        metavar="NAME",
        help="settings to search, each NAME, NAME=low:high, NAME=low:high:log or NAME=[a,b,c] (default: those that "
        "the algorithm declares; `zoo agents show ALGO` lists them)",
    )
    group.add_argument("--n-trials", type=COUNT, default=100, help="trials that this call begins")
    group.add_argument(
        "--max-total-trials",
        type=COUNT,
        help="trials of the whole study, whichever calls begin them; takes the place of --n-trials",
    )
    group.add_argument(
        "--timeout", type=AMOUNT, metavar="SECONDS", help="begin no trial after this time"
    )
    group.add_argument(
        "--sampler",
        choices=("tpe", "random", "qmc"),
        default="tpe",
        help="how settings are proposed",
    )
    group.add_argument(
        "--pruner",
        choices=("median", "halving", "none"),
        default="median",
        help="which trials are ended early",
    )
    group.add_argument(
        "--n-startup-trials",
        type=ZERO_OR_MORE,
        default=10,
        help="trials before tpe and the median pruner begin",
    )
    group.add_argument(
        "--n-evaluations",
        type=COUNT,
        help="evaluations of each trial, phase ends included (default: by --eval-freq)",
    )
    group.add_argument(
        "--study-name",
        help="name of the study, which is continued if it exists (default: ALGO_ENV)",
    )
    group.add_argument(
        "--storage",
        dest="study_storage",
        metavar="DATABASE",
        help="SQLite file of the study, or the URL of another database (default: LOG-FOLDER/studies/NAME/study.db)",
    )
    flags.add_task(parser, seed=TUNING_SEED)
    flags.add_data(parser, storage="--buffer-storage")
    flags.add_protocol(parser, eval_seed=TUNING_SEED)
    flags.add_output(parser)
    return parser


main = as_program(make_parser, _tune)

if __name__ == "__main__":
    sys.exit(main())
