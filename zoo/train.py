"""Train an algorithm on an environment's dataset, then online: one run folder per seed."""

import argparse
import ctypes
import sys
from pathlib import Path
from typing import Any

if not __package__:  # run as a file: let `import agents` and `import zoo` find the packages
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from zoo.envs.rendering import prepare_pictures
from zoo.settings.request import add_training, read_request
from zoo.terminal.cli import as_program
from zoo.terminal.parser import Parser

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # from glibc's malloc.h


def make_parser() -> Parser:
    """Return the command-line parser."""
    parser = Parser("train", description=__doc__)
    add_training(parser)
    return parser


def _prepare_process() -> None:
    """Configure malloc for faster updates on a CPU."""
    # An update often allocates and frees arrays of a few megabytes. By default, glibc returns their memory to the
    # system, which zeroes the pages of every new allocation; this took 8% of an update's time.
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):  # glibc
        libc.mallopt(M_MMAP_THRESHOLD, 1 << 25)  # the largest value that glibc accepts
        libc.mallopt(M_TRIM_THRESHOLD, (1 << 31) - 1)


def _train(args: argparse.Namespace) -> dict[str, Any]:
    """Train the requested run; PyTorch is imported only here."""
    _prepare_process()
    request = read_request(args)
    prepare_pictures(request.env)
    from zoo.training.start import train

    return train(request)


main = as_program(make_parser, _train)

if __name__ == "__main__":
    sys.exit(main())
