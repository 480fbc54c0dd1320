"""Train every algorithm at small size on one maze, and compare its success with that of the reference's own agents."""

from __future__ import annotations

import argparse
import csv
import json
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

if __package__ in (None, ""):  # run as a file from anywhere
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from zoo.cli import run_program
from zoo.errors import UsageError
from zoo.terminal.arguments import Parser

ROOT = Path(__file__).resolve().parent.parent
ENV = "pointmaze-medium-navigate-singletask-task1-v0"
REFERENCE = ROOT / "results" / "published" / "quick_reference.csv"
CHECKPOINTS = (1_000, 2_000, 3_000)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program.

    :param arguments: the words after the program's name; None takes them from the command line.
    :return: exit code.
    """
    parser = Parser(description=__doc__)
    parser.add_argument("--algos", nargs="+", help="algorithm ids (default: all of the reference table)")
    parser.add_argument(
        "--seeds", nargs="+", default=["0-2"], help="seeds, trained together, one process per algorithm"
    )
    parser.add_argument("--dataset-dir", help="folder of the dataset (default: OGBench's)")
    parser.add_argument("-f", "--log-folder", type=Path, default=Path("logs/quick"), help="where run folders are")
    parser.add_argument("-o", "--output", type=Path, help="the table, Markdown (default: standard error)")
    parser.add_argument("--table-only", action="store_true", help="train nothing, read the runs that are there")
    args = parser.parse_args(arguments)
    return run_program(lambda: run(args), verbose=2)


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Train what is asked for, write the table, and return the result to print."""
    reference = {row["algorithm"]: row for row in csv.DictReader(REFERENCE.read_text(encoding="utf-8").splitlines())}
    algos = args.algos or list(reference)
    if not args.table_only:
        for algo in algos:
            train(algo, args)
    text = table(args.log_folder, algos, reference)
    if args.output is None:
        print(text, file=sys.stderr)
    else:
        args.output.write_text(text, encoding="utf-8")
    return {"algorithms": algos, "output": str(args.output)}


def train(algo: str, args: argparse.Namespace) -> None:
    """Run the training program for all seeds of one algorithm, and keep its last line beside the runs."""
    command = [sys.executable, str(ROOT / "zoo" / "train.py"), "--algo", algo, "--env", ENV, "--quick"]
    command += ["--verbose", "0", "--seeds", *args.seeds, "-f", str(args.log_folder)]
    command += ["--dataset-dir", args.dataset_dir] if args.dataset_dir else []
    found = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if found.returncode:
        raise UsageError(f"training {algo} ended with exit code {found.returncode}: {' '.join(command)}")
    result = json.loads(found.stdout.splitlines()[-1])
    (args.log_folder / algo / "result.json").write_text(json.dumps(result) + "\n", encoding="utf-8")


def table(folder: Path, algos: Iterable[str], reference: dict[str, dict[str, str]]) -> str:
    """Return the Markdown table of the newest finished run of every seed.

    :param folder: where run folders are.
    :param algos: ids of algorithms, one row each.
    :param reference: id -> the reference's results.
    """
    from zoo.runs.read import read_runs

    evaluations = read_runs([folder], merge_protocols=True).evaluations
    if evaluations.empty:
        raise UsageError(f"expected finished runs below {folder}, found none; leave out --table-only")
    head = ["algorithm", *(f"{step:,}" for step in CHECKPOINTS), "episode length", "seconds"]
    head += [f"reference {step:,}" for step in CHECKPOINTS] + ["reference length"]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for algo in algos:
        own = evaluations[evaluations["algorithm"] == algo].sort_values("seed")
        if own.empty:
            continue
        at = {step: own[own["step"] == step] for step in CHECKPOINTS}
        cells = ["/".join(f"{100 * score:.0f}" for score in part["score"]) for part in at.values()]
        length = at[CHECKPOINTS[-1]]["length"].mean()
        result = folder / algo / "result.json"
        seconds = f"{json.loads(result.read_text(encoding='utf-8'))['wall_s']:.0f}" if result.exists() else ""
        theirs = reference.get(algo, {})
        beside = [theirs.get(f"success_{step}", "") for step in CHECKPOINTS] + [theirs.get("steps", "")]
        lines.append("| " + " | ".join([algo, *cells, f"{length:.0f}", seconds, *beside]) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
