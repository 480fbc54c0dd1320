"""Compare the speed of updates of two checkouts, in CPU seconds, in alternation: a busy machine slows both alike.

Each checkout trains in a process of its own, with one thread; a few updates of one follow a few of the other. The last
line is JSON.

    git worktree add ../before HEAD~1
    OMP_NUM_THREADS=1 python benchmarks/alternate.py ../before . --algo qam
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

if __package__ in (None, ""):  # run as a file from anywhere
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from zoo.cli import run_program
from zoo.errors import UsageError
from zoo.terminal.arguments import Parser, whole_number

WORKER = """
import sys, time
sys.path.insert(0, ".")
import torch
from benchmarks import throughput
torch.set_num_threads(1)
args = throughput.make_parser().parse_args(sys.argv[1:])
model = throughput.make_model(args)
model.trainer.update(args.batch)
print(flush=True)
for line in sys.stdin:
    begin = time.process_time()
    for _ in range(int(line)):
        model.trainer.update(args.batch)
    print((time.process_time() - begin) / int(line), flush=True)
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program.

    :param arguments: the words after the program's name; None takes them from the command line.
    :return: exit code.
    """
    parser = Parser(description=__doc__)
    parser.add_argument("before", type=Path, help="root of a checkout")
    parser.add_argument("after", type=Path, help="root of another one")
    parser.add_argument("--algo", default="qam", help="algorithm id")
    parser.add_argument("--seeds", type=whole_number, default=1, help="S, seeds trained at once")
    parser.add_argument("-params", nargs="+", action="extend", default=[], help="settings, key=value")
    parser.add_argument("--rounds", type=whole_number, default=12, help="how often they take turns")
    parser.add_argument("--updates", type=whole_number, default=3, help="updates of a turn")
    args = parser.parse_args(arguments)
    return run_program(lambda: compare(args), verbose=2)


def compare(args: argparse.Namespace) -> dict[str, Any]:
    """Measure, and return the result to print.

    :param args: parsed arguments.
    :raises UsageError: if a checkout is none, or cannot train this.
    """
    words = ["--algo", args.algo, "--seeds", str(args.seeds), "--device", "cpu", "--compile", "off"]
    words += ["-params", *args.params] if args.params else []
    workers = [start(root, words) for root in (args.before, args.after)]
    try:
        pairs = [take_turns(workers, args.updates, is_odd=bool(k % 2)) for k in range(args.rounds)]
    finally:
        for worker in workers:
            worker.kill()
            worker.communicate()
    before, after = (statistics.median(seconds) for seconds in zip(*pairs, strict=True))
    ratios = sorted(new / old for old, new in pairs)
    quartiles = statistics.quantiles(ratios) if len(ratios) > 1 else ratios * 3
    return {
        "algo": args.algo,
        "seeds": args.seeds,
        "cpu_seconds_per_update": [before, after],
        "after_by_before": statistics.median(ratios),
        "middle_half": [quartiles[0], quartiles[2]],
    }


def start(root: Path, words: Sequence[str]) -> subprocess.Popen[str]:
    """Start training in a checkout, and return its process after the first update.

    :param root: of the checkout.
    :param words: arguments of the throughput benchmark.
    :raises UsageError: if that fails; its own message has been printed by then.
    """
    if not (root / "benchmarks" / "throughput.py").is_file():
        raise UsageError(f"expected the root of a checkout of this repository, got {root}")
    command = [sys.executable, "-c", WORKER, *words]
    worker = subprocess.Popen(command, cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert worker.stdout is not None
    if not worker.stdout.readline():
        worker.wait()
        raise UsageError(f"{root} could not train with {' '.join(words)}; its message is above")
    return worker


def take_turns(workers: Sequence[subprocess.Popen[str]], updates: int, is_odd: bool) -> tuple[float, float]:
    """Let both take some updates, and return the CPU seconds of one update of each.

    :param workers: before and after.
    :param updates: how many.
    :param is_odd: whether the second one begins.
    """
    seconds = [0.0, 0.0]
    for k in (1, 0) if is_odd else (0, 1):
        given, taken = workers[k].stdin, workers[k].stdout
        assert given is not None
        assert taken is not None
        given.write(f"{updates}\n")
        given.flush()
        seconds[k] = float(taken.readline())
    return seconds[0], seconds[1]


if __name__ == "__main__":
    sys.exit(main())
