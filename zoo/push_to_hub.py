"""Upload an agent to the Hugging Face hub: its policy (safetensors), settings and a model card.

`zoo push-to-hub --algo qam --env pointmaze-medium-navigate-singletask-task1-v0 --repo my-name/qam-maze`

Unless the policy's file contains a score, the policy is evaluated before the upload, under the protocol of its run. The
commands enjoy, evaluate and export load the uploaded agent with `--from-hub`.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

if not __package__:  # run as a file: let `import agents` and `import zoo` find the packages
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from zoo.models.agent_flags import add_agent, add_machine, check_agent
from zoo.terminal.cli import as_program
from zoo.terminal.messages import log
from zoo.terminal.parser import Parser


def make_parser() -> Parser:
    """Return the command-line parser."""
    parser = Parser("push-to-hub", description=__doc__)
    add_agent(parser, is_own=True)
    parser.add_argument(
        "--repo",
        required=True,
        metavar="NAME/AGENT",
        help="repository; created if it does not exist",
    )
    add_machine(parser)
    return parser


def _run(args: argparse.Namespace) -> dict[str, Any]:
    """Upload the agent; return the repository's address and the agent's score."""
    check_agent(args)
    from zoo.models.agent import find_agent, hub_library
    from zoo.models.upload import upload

    hub_library()  # raise an error before loading the agent if the library is missing
    agent = find_agent(args)
    url, score = upload(agent, args.repo)
    log.info("uploaded to %s", url)
    return {
        "algo": agent.algo,
        "env": agent.env,
        "repository": args.repo,
        score.kind: score.mean,
        "interval": score.interval,
        "episodes": score.episodes,
        "url": url,
    }


main = as_program(make_parser, _run)

if __name__ == "__main__":
    sys.exit(main())
