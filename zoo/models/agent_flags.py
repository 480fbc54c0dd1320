"""Command-line flags that select an agent, shared by the `zoo` commands that load one."""

import argparse
from pathlib import Path

from zoo.settings.request import TrainRequest
from zoo.terminal.errors import UsageError
from zoo.terminal.parser import ZERO_OR_MORE, Parser, a_path, add_flags, add_verbose


def add_agent(parser: Parser, is_own: bool = False) -> None:
    """Add the flags that name an agent.

    :param is_own: whether to accept only the user's own agents: the final or the best model of a run, or a file.
    """
    group = parser.add_argument_group("which agent")
    source = group.add_mutually_exclusive_group()
    source.add_argument(
        "model",
        nargs="?",
        type=a_path,
        metavar="MODEL",
        help="saved model, policy or run folder; without MODEL, the flags name the agent",
    )
    if not is_own:
        source.add_argument(
            "--trained", action="store_true", help="use a trained agent that comes with the zoo"
        )
        source.add_argument(
            "--from-hub",
            metavar="REPO[@REVISION]",
            help="agent on the Hugging Face hub, e.g. my-name/qam-maze@main",
        )
    group.add_argument(
        "--algo",
        help="algorithm id, e.g. qam, or module:Class of a custom algorithm; allowed with MODEL too",
    )
    group.add_argument("--env", help="environment, e.g. cube-double-play-singletask-task2-v0")
    group.add_argument(
        "-f",
        "--folder",
        "--log-folder",
        type=a_path,
        default=Path("logs"),
        help="folder of runs; the newest matching run is used",
    )
    which = group.add_mutually_exclusive_group()
    which.add_argument(
        "--load-best", action="store_true", help="load the best model instead of the final model"
    )
    if not is_own:
        which.add_argument(
            "--load-checkpoint",
            type=_checkpoint,
            metavar="STEP",
            help="load the checkpoint of this step, or the `last` one, instead of the final model",
        )
    group.add_argument(
        "--trust",
        action="store_true",
        help="trust the author of the files: import the modules named in the files, which runs their code",
    )
    # defaults for commands that lack some of these flags
    parser.set_defaults(
        trained=False, from_hub=None, load_checkpoint=None, behaviour=None, device="auto"
    )


def _checkpoint(text: str) -> int:
    return -1 if text == "last" else int(ZERO_OR_MORE(text))


def add_machine(parser: Parser, *names: str) -> None:
    """Add the flags ``--verbose`` and ``--gym-packages``, and flags for other fields of a training request."""
    add_flags(parser, TrainRequest, ("gym_packages", *names))
    add_verbose(parser)


def check_agent(args: argparse.Namespace) -> None:
    """Raise UsageError if no agent is named, or a flag that selects a run's model is used without a run."""
    if not (args.model or args.from_hub or (args.algo and args.env)):
        raise UsageError("expected a MODEL, or --algo and --env")
    # without MODEL the flags name a run, unless they name a trained agent or one on the hub
    is_other = args.model.is_file() if args.model else args.from_hub or args.trained
    # compare with None, because 0 is a valid step
    if is_other and (args.load_best or args.load_checkpoint is not None):
        raise UsageError(
            "`--load-best` and `--load-checkpoint` choose among the models of a run; pass a run's folder, or omit "
            "these flags"
        )
