"""Write a submission to the registry from run folders.

``python zoo/submit.py logs/my_method --about about.yml``
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

if __package__ in (None, ""):  # run as a file: let `import agents` and `import zoo` find the packages
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from zoo.cli import as_program
from zoo.errors import UsageError
from zoo.terminal.arguments import Parser, a_path, add_verbose
from zoo.terminal.messages import log

PURPOSE = """Write a submission to the registry from the finished runs of one method: what it scored in every run, its
settings and commands, and what you say about it. Everything is checked first, as `zoo verify` does."""


def make_parser() -> Parser:
    """Return the parser of the command line."""
    parser = Parser("submit", description=PURPOSE)
    parser.add_argument("paths", nargs="*", type=a_path, metavar="PATH", help="folders to search for run folders")
    parser.add_argument("--about", type=a_path, metavar="FILE", help="YAML file with what only you know")
    parser.add_argument("--example", action="store_true", help="print an example of that file, and do nothing else")
    parser.add_argument(
        "-o", "--output", type=a_path, default=Path("results/community"), metavar="DIR",
        help="the registry (default: results/community)",
    )  # fmt: skip
    add_verbose(parser)
    return parser


def _run(args: argparse.Namespace) -> dict[str, Any]:
    from zoo.registry.submit import ABOUT, submit
    from zoo.settings import plain_yaml

    if args.example:
        print(plain_yaml.write(ABOUT), end="")
        return {"example": ABOUT}
    if not args.paths or args.about is None:
        raise UsageError(
            "expected folders of runs and --about FILE; `zoo submit --example > about.yml` begins that file"
        )
    folder = submit(args.paths, args.about, args.output)
    log.info("wrote %s; add it to a pull request", folder)
    return {"submission": str(folder)}


main = as_program(make_parser, _run)

if __name__ == "__main__":
    sys.exit(main())
