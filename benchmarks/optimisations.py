"""Measure what each optimisation of the networks' evaluation gains: QAM's updates with and without it, in turn."""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest.mock import patch

if __package__ in (None, ""):  # run as a file from anywhere
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import torch
from torch import Tensor

from agents.common.maths import adjoint
from agents.common.nets import fast, mlp
from agents.common.nets.mlp import Layer
from benchmarks import throughput
from zoo.cli import run_program
from zoo.terminal.arguments import Parser, whole_number

Change = tuple[object, str, Any]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program.

    :param arguments: the words after the program's name; None takes them from the command line.
    :return: exit code.
    """
    parser = Parser(description=__doc__)
    parser.add_argument("--only", nargs="+", choices=OFF, default=list(OFF), help="optimisations (default: all)")
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32", help="matrix products")
    parser.add_argument("--pairs", type=whole_number, default=24, help="pairs of updates of each optimisation")
    parser.add_argument("--num-threads", type=whole_number, default=1, help="CPU threads")
    parser.add_argument("-params", nargs="+", action="extend", default=[], help="settings, key=value")
    args = parser.parse_args(arguments)
    return run_program(lambda: measure(args), verbose=2)


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Time updates with and without each optimisation.

    :param args: parsed arguments.
    :return: the result to print; ratios are speed with over speed without: quartiles.
    """
    torch.set_num_threads(args.num_threads)
    words = ["--device", "cpu", "--compile", "off", "--precision", args.precision]
    sizes = throughput.make_parser().parse_args([*words, *(["-params", *args.params] if args.params else [])])
    model = throughput.make_model(sizes)
    # with one thread, its own time, in which what other processes do hardly counts
    clock = time.process_time if args.num_threads == 1 else time.perf_counter

    def seconds(changes: Sequence[Change]) -> float:
        with ExitStack() as stack:
            for change in changes:
                stack.enter_context(patch.object(*change))
            begin = clock()
            model.trainer.update(sizes.batch)
            return clock() - begin

    seconds([])
    ratios = {name: [ratio(seconds, OFF[name], bool(i % 2)) for i in range(args.pairs)] for name in args.only}
    return {
        "processor": throughput.cpu_name(),
        "precision": args.precision,
        "threads": args.num_threads,
        "pairs": args.pairs,
        "speed_ratio_quartiles": {name: statistics.quantiles(found, n=4) for name, found in ratios.items()},
    }


def ratio(seconds: Callable[[Sequence[Change]], float], off: Sequence[Change], off_first: bool) -> float:
    """Return by what an optimisation multiplies the speed, from two updates one after the other."""
    first = seconds(off if off_first else [])
    second = seconds([] if off_first else off)
    return first / second if off_first else second / first


# -- how each optimisation is switched off ----------------------------------------------------------------------------


def _evaluate_stacked(layers: Sequence[Layer], x: Tensor) -> Tensor:
    """Evaluate all members together where no gradient is recorded."""
    if torch.is_grad_enabled() or layers[0].weight.shape[:-2].numel() == 1:
        return fast.evaluate(layers, x)
    return mlp.evaluate(fast._in_low_precision(layers, x), x, fast.dense)


def _product_then_gelu(*args: Any, with_gelu: bool = False) -> Tensor:
    """Multiply by oneDNN, then activate."""
    product = _by_onednn(*args)
    return fast.gelu(product) if with_gelu else product


def _pull_back_with_forward_pass(velocity: Any, states: Tensor, times: Tensor) -> Any:
    """Evaluate the flow again for every product of the lean adjoint."""
    return _velocity_pull_back(lambda x, t: velocity(x, t), states, times)


class _PlainGelu:
    apply = staticmethod(mlp.gelu)


_by_onednn, _velocity_pull_back = fast._by_onednn, adjoint.velocity_pull_back
OFF: dict[str, list[Change]] = {
    "nothing": [],
    "oneDNN for products of 2^24 multiplications and more": [
        (fast, "onednn_is_faster", lambda of_weights=False: False)
    ],
    "oneDNN where gradients are recorded": [(fast, "_recorded_onednn", mlp.dense)],
    "oneDNN for gradients of weights": [(fast, "onednn_is_faster", lambda of_weights=False: not of_weights)],
    "members one by one": [(fast.FastMLP, "evaluate", staticmethod(_evaluate_stacked))],
    "GELU in oneDNN's product or by a sigmoid": [
        (fast, "_by_onednn", _product_then_gelu),
        (fast, "_gelu_by_sigmoid", mlp.gelu),
        (fast, "_RecordedGelu", _PlainGelu),
    ],
    "hidden layers kept in low precision": [(fast, "_in_low_precision", lambda layers, x: layers)],
    "forward pass of the lean adjoint once for all states": [
        (adjoint, "velocity_pull_back", _pull_back_with_forward_pass)
    ],
}

if __name__ == "__main__":
    sys.exit(main())
