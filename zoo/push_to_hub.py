"""Upload an agent to the Hugging Face hub, with a model card that states its score and how it was trained.

``python zoo/push_to_hub.py --algo qam --env pointmaze-medium-navigate-singletask-task1-v0 --repo my-name/qam-maze``
"""

import argparse
import sys
from pathlib import Path
from typing import Any

if not __package__:  # run as a file: let `import agents` and `import zoo` find the packages
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from zoo.models.agent_flags import add_agent, add_machine, check_agent
from zoo.terminal.cli import as_program
from zoo.terminal.errors import UsageError
from zoo.terminal.messages import log
from zoo.terminal.parser import Parser, a_path

PURPOSE = """Upload an agent to the Hugging Face hub: its policy (safetensors), settings and a model card. The policy is
played under its run's protocol first, for the score on the card. `--from-hub` of zoo enjoy, evaluate and export plays
what is uploaded."""


def make_parser() -> Parser:
    """Return the parser of the command line."""
    parser = Parser("push-to-hub", description=PURPOSE)
    add_agent(parser, is_own=True)
    target = parser.add_argument_group("target")
    target.add_argument(
        "--repo", required=True, metavar="NAME/AGENT", help="the repository, made if it is new"
    )
    target.add_argument(
        "--private", action="store_true", help="make the repository private, if it is new"
    )
    target.add_argument(
        "-o", "--output", type=a_path, help="write the files to this new folder, and upload nothing"
    )
    add_machine(parser)
    return parser


def _run(args: argparse.Namespace) -> dict[str, Any]:
    """Write the files, upload them, and return where they are."""
    check_agent(args)
    from agents.common.files import atomic_folder
    from zoo.models.agent import find_agent
    from zoo.models.hub import hub_library
    from zoo.models.upload import upload, write_upload

    hub_library()  # refuses before an agent is loaded
    if args.output is not None and args.output.exists():
        raise UsageError(f"`-o` must be a new folder, and {args.output} exists already")
    agent = find_agent(args)
    if args.output is None:
        url, score = upload(agent, args.repo, args.private)
        place = {"url": url}
        log.info("uploaded to %s", url)
    else:
        with atomic_folder(args.output) as folder:  # it appears when all files are written
            score = write_upload(agent, folder, args.repo)
        place = {"folder": str(args.output)}
        log.info("wrote %s; nothing is uploaded", args.output)
    result = {"algo": agent.algo, "env": agent.env, "repository": args.repo, score.kind: score.mean}
    return result | {"interval": score.interval, "episodes": score.episodes} | place


main = as_program(make_parser, _run)

if __name__ == "__main__":
    sys.exit(main())
