"""Write a policy as an ONNX file, which programs without PyTorch can run.

`zoo export --algo fql --env pointmaze-medium-navigate-singletask-task1-v0 --trained -o policy.onnx`

The file's inputs are observations and noise, its output is a chunk of actions in the environment's units. It is written
only if its actions equal PyTorch's up to rounding.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

if not __package__:  # run as a file: let `import agents` and `import zoo` find the packages
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from zoo.models.agent_flags import add_agent, add_machine, check_agent
from zoo.terminal.cli import as_program
from zoo.terminal.errors import as_usage_error
from zoo.terminal.messages import log
from zoo.terminal.parser import Parser, a_path, check_output


def make_parser() -> Parser:
    """Return the command-line parser."""
    parser = Parser("export", description=__doc__)
    add_agent(parser)
    output = parser.add_argument_group("output")
    output.add_argument(
        "-o", "--output", type=a_path, required=True, help="file to write, e.g. policy.onnx"
    )
    add_machine(parser, "behaviour")
    return parser


def _run(args: argparse.Namespace) -> dict[str, Any]:
    """Load the agent, export it, and return the file's description."""
    check_agent(args)
    # check the path before the export, because tracing takes a minute
    check_output("-o", args.output)
    from agents.common.sb3.exporting import export_onnx
    from zoo.models.agent import find_agent

    agent = find_agent(args)
    policy = agent.flow_policy()
    about: dict[str, Any] = {"env": agent.env, "env_kwargs": agent.env_kwargs}
    if agent.stated is not None:
        about["score"] = agent.stated.text
    with as_usage_error(ImportError, ValueError):  # onnx and its runtime are optional packages
        largest_error = export_onnx(policy, args.output, about)
    size = args.output.stat().st_size
    log.info(
        "%s: %d kB, differs from PyTorch by at most %.1e of the action range",
        args.output,
        size // 1000,
        largest_error,
    )
    return {
        "file": str(args.output),
        "algo": agent.algo,
        "env": agent.env,
        "bytes": size,
        "largest_error": largest_error,
    }


main = as_program(make_parser, _run)

if __name__ == "__main__":
    sys.exit(main())
