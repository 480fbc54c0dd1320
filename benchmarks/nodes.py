"""Count the nodes of the CUDA graph that an update is recorded into, for every algorithm, without a GPU.

Updates run on fake tensors of the papers' sizes, which have shapes and no numbers, with the networks as they are
evaluated on CUDA. Kernels are counted by operation (`benchmarks/kernels.py`); those of compiled losses are what
Inductor's scheduler makes of them for an H200, which need not be there (`benchmarks/absent_gpu.py`).
"""

from __future__ import annotations

import argparse
import gc
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if __package__ in (None, ""):  # run as a file from anywhere
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from benchmarks import throughput
from benchmarks.absent_gpu import require_triton
from benchmarks.kernels import KernelCounter, networks_as_on_cuda, scheduled_kernels
from zoo.cli import run_program
from zoo.terminal.arguments import Parser, whole_number

if TYPE_CHECKING:
    from agents.common.sb3.model import FlowQLearning

RESULTS = Path(__file__).resolve().parent / "results"
PARTS = ("batch", "noise", "losses", "step")
TEXT = """# Graph nodes per update

How many nodes the CUDA graph of one update has, counted without a GPU by `python benchmarks/nodes.py` (rows of bf16:
`--precision bf16 --seeds 1 --compiled`; compiled QAM of 12 seeds: `--algos qam --seeds 12 --compiled 12`). Sizes are
the papers' (cube-double, 512 x 4, 10 critics, 10 flow steps, chunks of 5, batches of 256). Tests compare some of these
numbers with the code.

`batch` draws the batch, `noise` draws the noise, `losses` evaluates losses and gradients, and `step` clips, moves the
targets and takes Adam's step; `plain` is their sum. Compiled losses are counted after the fusions of Inductor's
scheduler for an H200, which need not be there (PyTorch 2.13; `pip install triton` first); `compiled` has the other
three parts with them. No GPU has confirmed the counts yet.

"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program.

    :param arguments: the words after the program's name; None takes them from the command line.
    :return: exit code.
    """
    parser = Parser(description=__doc__)
    parser.add_argument("--algos", nargs="+", help="algorithm ids (default: all)")
    parser.add_argument("--seeds", type=whole_number, nargs="+", default=[1, 12], help="numbers of seeds at once")
    parser.add_argument("--precision", choices=("tf32", "bf16"), nargs="+", default=["tf32"])
    parser.add_argument(
        "--compiled", type=whole_number, nargs="*", default=[1], help="of these, count compiled losses (needs Triton)"
    )
    parser.add_argument("-params", nargs="+", action="extend", default=[], help="settings, key=value")
    parser.add_argument(
        "-o", "--output", type=Path, default=RESULTS / "nodes.json", help="JSON; the table is beside it"
    )
    args = parser.parse_args(arguments)
    return run_program(lambda: run(args), verbose=2)


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Count, write the JSON file and the table, and return the result to print.

    :param args: parsed arguments.
    """
    from agents import algorithm_ids

    if set(args.seeds) & set(args.compiled):
        require_triton()
    known = read(args.output)
    for id in args.algos or algorithm_ids():
        for seeds in args.seeds:
            for precision in args.precision:
                row = count(id, seeds, precision, seeds in args.compiled, args.params)
                known[id, seeds, precision] = {**known.get((id, seeds, precision), {}), **row}
                write(args.output, known)
                gc.collect()  # models are part of cycles, and take gigabytes
    return {"rows": len(known), "output": str(args.output)}


Rows = dict[tuple[str, int, str], dict[str, Any]]


def read(path: Path) -> Rows:
    """Return the rows of a JSON file by algorithm, number of seeds and precision; none where there is no file.

    :param path: the file.
    """
    rows = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    return {(row["algo"], row["seeds"], row["precision"]): row for row in rows}


def write(path: Path, rows: Rows) -> None:
    """Write the JSON file, and the table beside it.

    :param path: of the JSON file.
    :param rows: what was counted.
    """
    ordered = [row for _, row in sorted(rows.items())]
    lines = ",\n".join(json.dumps(row) for row in ordered)
    path.write_text(f"[\n{lines}\n]\n", encoding="utf-8")
    path.with_suffix(".md").write_text(TEXT + table(ordered), encoding="utf-8")


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Return the Markdown table.

    :param rows: what was counted.
    """
    head = ["algorithm", "seeds", "precision", *PARTS, "plain", "losses, compiled", "compiled"]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for row in rows:
        compiled = row.get("losses_compiled")
        total = "" if compiled is None else f"{compiled + sum(row[part] for part in PARTS if part != 'losses'):,}"
        cells = [row["algo"], row["seeds"], row["precision"], *(f"{row[part]:,}" for part in PARTS)]
        cells += [f"{sum(row[part] for part in PARTS):,}", "" if compiled is None else f"{compiled:,}", total]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines) + "\n"


def count(id: str, seeds: int, precision: str, compiled: bool = False, params: Sequence[str] = ()) -> dict[str, Any]:
    """Count the kernels of one update of a model that trains on a dataset.

    :param id: algorithm.
    :param seeds: S.
    :param precision: of the matrix products.
    :param compiled: whether to count those of compiled losses too.
    :param params: further settings, ``key=value``.
    :return: the arguments, and the number of every part.
    """
    words = ["--algo", id, "--device", "cpu", "--compile", "off", "--seeds", str(seeds), "--precision", precision]
    args = throughput.make_parser().parse_args([*words, *(["-params", *params] if params else [])])
    row: dict[str, Any] = {"algo": id, "seeds": seeds, "precision": precision}
    with networks_as_on_cuda():
        model = throughput.make_model(args)
        row |= count_parts(model, args.batch)
        if compiled:
            row["losses_compiled"] = count_compiled(model, args.batch)
    return row


def count_parts(model: FlowQLearning, batch_size: int) -> dict[str, int]:
    """Count the kernels of every part of an update as it is without the compiler.

    :param model: the model; its numbers stay as they are.
    :param batch_size: B.
    :return: part -> kernels.
    """
    update = model.trainer

    def counted(part: Callable[[], Any]) -> tuple[Any, int]:
        with KernelCounter() as counter:
            result = part()
        return result, counter.found.total()

    with FakeTensorMode(allow_non_fake_inputs=True):
        update.select(model.trainer.skipped_networks())
        model.policy.set_training_mode(True)
        batch, of_batch = counted(lambda: model.trainer.draw_batch(batch_size))
        noise, of_noise = counted(lambda: model.trainer.draw_noise(batch_size))
        (info, found), of_losses = counted(lambda: update.differentiate(batch, noise))
        pairs = list(zip(update.parameters, found, strict=True))
        grads = [torch.zeros_like(p) if grad is None else grad for p, grad in pairs]
        update.apply(list(grads), dict(info))  # makes the optimiser's state, which is not part of an update
        _, of_step = counted(lambda: update.apply(list(grads), info))
        _, of_rest = counted(lambda: model.trainer._finish(info))
    missing = sum(grad is None for grad in found)
    return {"batch": of_batch, "noise": of_noise, "losses": of_losses + missing, "step": of_step + of_rest}


def count_compiled(model: FlowQLearning, batch_size: int) -> int:
    """Count the kernels of compiled losses and their gradients.

    :param model: the model.
    :param batch_size: B.
    :return: the number.
    """
    batch, noise = model.trainer.draw_batch(batch_size), model.trainer.draw_noise(batch_size)
    return scheduled_kernels(lambda: model.trainer.losses(batch, noise)[0].sum())


if __name__ == "__main__":
    sys.exit(main())
