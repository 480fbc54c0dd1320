"""Upload an agent to the Hugging Face hub, with a model card that says how good it is and how it was made.

``python zoo/push_to_hub.py --algo qam --env pointmaze-medium-navigate-singletask-task1-v0 -f logs -orga my-name``
"""

import argparse
import contextlib
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

if not __package__:  # run as a file: let `import agents` and `import zoo` find the packages
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from zoo.models.agent_flags import add_agent, add_machine, check_agent
from zoo.terminal.cli import as_program, signals_deferred
from zoo.terminal.errors import UsageError
from zoo.terminal.messages import log
from zoo.terminal.parser import Parser, a_path

PURPOSE = """Upload an agent to the Hugging Face hub: its policy (safetensors), settings, learning curve and a model
card. The policy is played under its run's protocol first, for the score on the card. `--from-hub` of zoo enjoy,
evaluate and export plays what is uploaded."""


def make_parser() -> Parser:
    """Return the parser of the command line."""
    parser = Parser("push-to-hub", description=PURPOSE)
    add_agent(parser, from_hub=False)
    target = parser.add_argument_group("where to, and what")
    target.add_argument(
        "-orga", "--organization", required=True, help="your name on the hub, or an organisation's"
    )
    target.add_argument("-name", "--repo-name", help="name of the repository (default: ALGO-ENV)")
    target.add_argument(
        "-m", "--commit-message", default="Upload an agent", help="message of the commit"
    )
    target.add_argument(
        "--private", action="store_true", help="make the repository private, if it is new"
    )
    target.add_argument(
        "--license", default="mit", help="licence of the agent, as the hub calls it"
    )
    target.add_argument(
        "--with-model", action="store_true", help="upload the whole model too, to train on"
    )
    target.add_argument(
        "-o", "--output", type=a_path, help="write the files to this new folder, and upload nothing"
    )
    add_machine(parser, "n_eval_envs")
    parser.set_defaults(from_hub=None)
    return parser


def _run(args: argparse.Namespace) -> dict[str, Any]:
    """Write the files, upload them, and return where they are."""
    check_agent(args)
    with signals_deferred():
        from agents.common.files import atomic_folder
        from zoo.models.agent import find_agent
        from zoo.models.hub import LOG_IN, hub_library, push
        from zoo.models.upload import write_upload

    library = hub_library()  # refuses before an agent is loaded
    if args.with_model and args.load_checkpoint is not None:
        raise UsageError(
            "`--with-model`: a checkpoint has the models of all seeds; leave out one of the flags"
        )
    if args.output is not None and args.output.exists():
        raise UsageError(f"expected `-o` to be a folder that does not exist yet, got {args.output}")
    if args.output is None and library.get_token() is None:  # before the episodes are played
        raise UsageError(
            f"uploading to the hub needs a token that may write; {LOG_IN}; `-o DIR` uploads nothing"
        )
    agent = find_agent(args)
    # the characters that the hub allows in a name
    usual_name = re.sub(r"[^A-Za-z0-9_.-]+", "-", f"{agent.algo}-{agent.env}")
    repo = f"{args.organization}/{args.repo_name or usual_name}"
    chosen = ""
    if args.load_best:
        chosen = "the best model of its run"
    elif args.load_checkpoint is not None:
        chosen = "a checkpoint of its run"
    target: contextlib.AbstractContextManager[str | Path] = tempfile.TemporaryDirectory()
    if args.output is not None:
        target = atomic_folder(args.output)  # it appears when all files are written
    with target as name:
        folder = Path(name)
        score = write_upload(
            agent,
            folder,
            repo,
            licence=args.license,
            chosen=chosen,
            with_model=args.with_model,
            n_envs=args.n_eval_envs,
        )
        if args.output is None:
            place = {"url": push(folder, repo, args.commit_message, private=args.private)}
            log.info("uploaded to %s", place["url"])
    if args.output is not None:
        place = {"folder": str(args.output)}
        log.info("wrote %s; nothing is uploaded", args.output)
    result = {"algo": agent.algo, "env": agent.env, "repository": repo, score.kind: score.mean}
    return result | {"interval": score.interval, "episodes": score.episodes} | place


main = as_program(make_parser, _run)

if __name__ == "__main__":
    sys.exit(main())
