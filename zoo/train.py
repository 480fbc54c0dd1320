"""Train an algorithm on an environment's dataset, then online: one run folder per seed."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

if __package__ in (None, ""):  # run as a file: let `import agents` and `import zoo` find the packages
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from zoo.cli import run_program
from zoo.training.arguments import make_parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program on the words after its name, by default those of the command line; return its exit code."""
    args = make_parser().parse_args(arguments)
    return run_program(lambda: _train(args), args.verbose)


def _train(args: argparse.Namespace) -> dict[str, Any]:
    """Do what the command line asks for; PyTorch is imported only here."""
    from zoo.training.start import train

    return train(args)


if __name__ == "__main__":
    sys.exit(main())
