"""Measure training speed: updates per second, and the fraction of the machine's peak FLOP per second."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import time
from pathlib import Path
from typing import Any

if not __package__:  # run as a file from anywhere
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import numpy as np
import pandas as pd
import torch
from gymnasium.spaces import Box
from gymnasium.vector.utils import batch_space
from torch.utils.benchmark import Timer
from torch.utils.flop_counter import FlopCounterMode

import agents
from agents import models
from agents.common.engine.execution import COMPILED_UPDATES
from agents.common.nets.mlp import matmul_precision
from agents.common.sb3.environments import DataOnly
from agents.common.sb3.model import FlowAlgorithm
from zoo.runs.versions import processor
from zoo.settings.config import load_config
from zoo.settings.request import MACHINE, TrainRequest, add_settings, given_settings
from zoo.terminal.cli import as_program
from zoo.terminal.errors import as_usage_error
from zoo.terminal.parser import COUNT, Parser, add_flags

ROUNDS = 5


def make_parser() -> Parser:
    """Return the parser of the command line."""
    parser = Parser(description=__doc__)
    parser.add_argument("--algo", default="qam", help="algorithm id")
    groups = add_flags(parser, TrainRequest, ("hyperparams", "device", "num_threads"))
    add_settings(groups["speed"], MACHINE)
    parser.add_argument("--seeds", type=COUNT, default=1, help="S, seeds trained in parallel")
    parser.add_argument(
        "--work",
        type=Path,
        metavar="FILE",
        help="only write the GFLOP per update of every algorithm, as CSV",
    )
    parser.add_argument("--batch", type=COUNT, default=256, help="B, sequences per seed")
    parser.add_argument(
        "--observations",
        type=COUNT,
        default=37,
        help="O, size of an observation (default: as in cube-double)",
    )
    parser.add_argument("--actions", type=COUNT, default=5, help="A, size of an action")
    parser.add_argument("--seconds", type=float, default=10.0, help="how long to measure")
    parser.set_defaults(verbose=2, hyperparams=[], precision="fp32", compile="auto")
    return parser


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Build the algorithm on random data and time its updates.

    :param args: parsed arguments.
    :return: the result to print.
    """
    if args.num_threads:
        torch.set_num_threads(args.num_threads)
        os.environ["OMP_NUM_THREADS"] = str(args.num_threads)  # otherwise training chooses a number
    if args.work is not None:
        return write_work(args)
    begin = time.perf_counter()
    model = make_model(args)
    # announce long training, so that `--compile auto` compiles
    model.trainer.planned_updates = max(COMPILED_UPDATES.values())
    model.trainer.update(args.batch)
    first = time.perf_counter() - begin
    flop = count_flop(model, args.batch)
    rounds = np.array(time_rounds(model, args.batch, args.precision, args.seconds))
    speed, rate, cpu_seconds = np.median(rounds, axis=0)
    speeds, rates, _ = rounds.T
    fractions = speeds * flop / rates
    device_name = processor()
    memory = None
    if model.device.type == "cuda":
        device_name = torch.cuda.get_device_name(model.device)
        memory = torch.cuda.max_memory_allocated(model.device)
    return {
        "algo": args.algo,
        "device": model.device.type,
        "device_name": device_name,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "precision": args.precision,
        "compile": args.compile,
        "mode": str(model.trainer.mode),
        "seeds": args.seeds,
        "batch_size": args.batch,
        "updates_per_s": speed,
        "updates_per_s_range": [min(speeds), max(speeds)],
        "cpu_s_per_update": cpu_seconds,
        "seed_updates_per_s": speed * args.seeds,
        "flop_per_update": flop,
        "matmul_peak_flop_per_s": rate,
        "fraction_of_peak": np.median(fractions),
        "fraction_of_peak_range": [min(fractions), max(fractions)],
        "seconds_to_first_update": first,
        "peak_memory_bytes": memory,
    }


def write_work(args: argparse.Namespace) -> dict[str, Any]:
    """Write the GFLOP per update of each algorithm with its default settings, as CSV."""
    gflop = {}
    for id in agents.algorithm_ids():
        args.algo = id
        gflop[id] = count_flop(make_model(args), args.batch) / 1e9
    table = pd.Series(gflop, name="gflop").rename_axis("algorithm")
    table.to_csv(args.work, float_format="%.3f", lineterminator="\n")
    return {"gflop": gflop, "work": str(args.work)}


def make_model(args: argparse.Namespace) -> FlowAlgorithm:
    """Return the algorithm with a random dataset of trajectories of 200 steps."""
    machine = given_settings(args)
    config = load_config(TrainRequest(algo=args.algo, hyperparams=args.hyperparams, run=machine))
    settings = {**config.settings, "batch_size": args.batch, "seeds": list(range(args.seeds))}
    rows = 100_000
    space: Box[Any] = Box(-np.inf, np.inf, (args.observations,), seed=0)
    actions = Box(-1, 1, (args.actions,), seed=0)
    model_type = models.get(config.algo).algorithm
    with as_usage_error():
        model = model_type("MlpPolicy", DataOnly(space, actions), **settings, device=args.device)
    observations = batch_space(space, rows).sample()
    model.load_dataset(
        {
            "observations": observations,
            "next_observations": np.roll(observations, -1, axis=0),
            "actions": batch_space(actions, rows).sample(),
            "rewards": np.full(rows, -1, np.float32),
            "masks": np.ones(rows, np.float32),
            "terminals": np.arange(rows) % 200 == 199,
        }
    )
    return model


class UntrackedModules(contextlib.nullcontext[None]):
    """Replaces PyTorch's module tracker, whose hooks break gradients inside losses."""

    parents = ("Global",)


def count_flop(model: FlowAlgorithm, batch: int) -> int:
    """Run one update, and return the floating-point operations of its matrix products.

    The number does not depend on the machine. An operation whose result is used twice counts once.
    """
    counter = FlopCounterMode(display=False)
    counter.mod_tracker = UntrackedModules()  # type: ignore[assignment]
    # a dispatch mode does not see operations inside compiled code
    with torch.compiler.set_stance("force_eager"), counter:
        model.trainer.update_on(model.trainer.draw_batch(batch), model.trainer.draw_noise(batch))
    return counter.get_total_flops()


def time_rounds(
    model: FlowAlgorithm, batch: int, precision: str, seconds: float
) -> list[tuple[float, float, float]]:
    """Return updates per second, FLOP per second of matrix products and CPU seconds per update, in several rounds.

    Updates and matrix products are timed alternately, because a machine's speed changes from minute to minute. CPU
    seconds are summed over all threads; if other programs run, they are more reliable than wall-clock time.

    :param model: the algorithm.
    :param batch: B.
    :param precision: precision of the matrix products.
    :param seconds: total duration of the updates in all rounds.
    """

    def time_updates(count: int) -> float:
        begin = time.perf_counter()
        for _ in range(count):
            model.trainer.update(batch)
        if model.device.type == "cuda":
            torch.cuda.synchronize(model.device)
        return time.perf_counter() - begin

    time_updates(5)  # on CUDA the fourth update is captured
    count = max(1, int(seconds / ROUNDS / time_updates(1)))
    rounds = []
    for _ in range(ROUNDS):
        cpu_before = time.process_time()
        speed = count / time_updates(count)
        cpu_seconds = (time.process_time() - cpu_before) / count
        rate = matmul_rate(model.device, precision, min(0.3, seconds / ROUNDS))
        rounds.append((speed, rate, cpu_seconds))
    return rounds


def matmul_rate(device: torch.device, precision: str, seconds: float) -> float:
    """Return the FLOP per second of large matrix products with the fastest of PyTorch's backends.

    :param device: device of the matrix products.
    :param precision: precision of the matrix products.
    :param seconds: duration of each backend's measurement.
    """
    size = 8192 if device.type == "cuda" else 1024
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    products = [lambda: a @ b]
    # in bf16, PyTorch's default matrix product already uses oneDNN
    if device.type == "cpu" and precision != "bf16" and torch.backends.mkldnn.is_available():
        products.append(lambda: torch.ops.mkldnn._linear_pointwise(a, b, None, "none", [], ""))
    threads = torch.get_num_threads()
    with matmul_precision(precision, device):
        seconds_of_products = []
        for product in products:
            timer = Timer("product()", globals={"product": product}, num_threads=threads)
            seconds_of_products.append(timer.blocked_autorange(min_run_time=seconds).median)
    return 2 * size**3 / min(seconds_of_products)


main = as_program(make_parser, measure)

if __name__ == "__main__":
    sys.exit(main())
