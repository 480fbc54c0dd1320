"""Check a GPU, then measure it, in one command of at most nine minutes.

The tests marked `gpu` come first: captured and compiled updates must equal plain ones. Updates a second, kernels and
memory at the papers' sizes follow. The page `benchmarks/results/<GPU>.md` is written after the tests and after each
measurement. `--device cpu --small` runs the same program without a GPU, where those tests are skipped.

Exit codes: 1 a test or a measurement failed, 3 the time was too short for all, 4 updates are not captured or below a
floor.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

if not __package__:  # run as a file from anywhere
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import pandas as pd
import torch

from tools import ROOT
from tools.tables import to_markdown
from zoo.evaluation.workers import available_cores
from zoo.runs.versions import describe_versions, processor
from zoo.terminal.cli import as_program
from zoo.terminal.errors import FAILED, INTERRUPTED, SUCCEEDED, UsageError
from zoo.terminal.messages import log
from zoo.terminal.parser import Parser

TESTS = ("tests/parity/test_algorithms.py", "tests/common/engine/test_on_cuda.py")
"""The fast ones first: where the time is short, the last tests, which compile, are not reached."""
LONGEST = 540.0  # seconds of the whole program
TEST_SHARE = 0.55  # of the time; the rest is for the measurements
LONGEST_TEST = 30.0  # seconds in which a test that has begun ends
LONGEST_MEASUREMENT = 75.0  # seconds; on an H100 one took 36
RESERVE = 15.0  # seconds in which the program must end after its last measurement
BELOW_FLOOR = 4
TOO_LONG = (None, 2)  # killed; pytest's exit code for its own limit
FLOOR_GPU = "H200"
SETTINGS = {
    ("qam", 1, "tf32"): 450, ("qam", 12, "tf32"): 1_350, ("fql", 1, "tf32"): 0, ("fql", 12, "tf32"): 0,
    ("qam", 1, "bf16"): 600, ("qam", 12, "bf16"): 1_800, ("qam_e", 12, "tf32"): 0, ("fawac", 12, "tf32"): 0,
}  # fmt: skip
"""Algorithm, seeds trained at once and precision of each measurement, in this order, with the least updates a second
of all seeds together on `FLOOR_GPU`: `benchmarks/results/notebook.md` says why. 0 is no floor.
"""
SMALL = (
    "--compile off --observations 4 --actions 2 --batch 16 -params net_arch=[16,16] flow_steps=2"
)
TEXT = """# {device}

Written by `python benchmarks/gpu.py`, commit `{commit}`, PyTorch {torch}. {sizes} Floors hold on an NVIDIA {gpu}.

{lines}

{speeds}
"""


def make_parser() -> Parser:
    """Return the parser of the command line."""
    parser = Parser(description=__doc__)
    parser.add_argument("--device", default="cuda", help="cuda, cuda:1, ..., or cpu")
    parser.add_argument("--small", action="store_true", help="tiny sizes, to try the program")
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        default=ROOT / "benchmarks" / "results",
        help="folder of the page",
    )
    return parser


def check(args: argparse.Namespace) -> dict[str, Any]:
    """Run the tests, measure speeds, write the page, and return the result to print.

    :param args: parsed arguments.
    :raises UsageError: if the device or the folder of the page is missing.
    """
    begin = time.monotonic()
    deadline = begin + LONGEST - RESERVE
    name = device_name(args.device)
    if not args.output.is_dir():
        raise UsageError(f"`--output` must be a folder, got {args.output}; make it first")
    with contextlib.ExitStack() as stack:
        # Compiling takes about a minute a setting, so it happens beside the tests, whose time does not matter.
        # What these processes compile stays in the compiler's cache.
        warm_ups = [
            stack.enter_context(running(throughput_words(setting, args, 0.1)))
            for setting in SETTINGS
        ]
        test_deadline = begin + TEST_SHARE * (deadline - begin)
        lines, code = run_tests(test_deadline)
        for process in warm_ups:
            wait(process, test_deadline)
    stem = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    if args.small:
        stem += "-small"
    path = args.output / f"{stem}.md"
    path.write_text(page(name, lines, [], args), encoding="utf-8")
    rows = []
    problems = []
    for setting in SETTINGS:
        # one that hangs leaves time for the next
        limit = min(deadline, time.monotonic() + LONGEST_MEASUREMENT)
        row, texts, code_of_one = measure(setting, args, name, limit)
        if row is not None:
            rows.append(row)
        problems += texts
        code = code or code_of_one
        path.write_text(page(name, [*lines, *problems], rows, args), encoding="utf-8")
    for text in problems:
        log.error("%s", text)
    args.exit_code = code
    result = {"device": name, "tests": lines[-1], "problems": problems, "results": str(path)}
    return result | {"exit_code": code}


def device_name(device: str) -> str:
    """Return the name of a device, or refuse one that is missing."""
    if not device.startswith("cuda"):
        return processor() or device
    if not torch.cuda.is_available():
        raise UsageError(
            "PyTorch finds no CUDA device; `--device cpu --small` tries the program without one"
        )
    return torch.cuda.get_device_name(device)


@contextlib.contextmanager
def running(
    words: Sequence[str], output: IO[str] | int = subprocess.DEVNULL
) -> Iterator[subprocess.Popen[str]]:
    """Run Python with some words in the repository's folder, and kill it with all its children at the end."""
    command = [sys.executable, *words]
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        stdout=output,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            # pytest and the compiler have processes of their own
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def wait(process: subprocess.Popen[str], deadline: float) -> int | None:
    """Return a process's exit code, or None if it has not ended by a deadline of `time.monotonic`."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        return process.wait(max(0.0, deadline - time.monotonic()))
    return None


def run_python(words: Sequence[str], deadline: float) -> tuple[int | None, str]:
    """Run Python with some words; return its exit code, None if it has not ended by then, and what it has said."""
    with (
        tempfile.TemporaryFile("w+", encoding="utf-8") as output,
        running(words, output) as process,
    ):
        code = wait(process, deadline)
        output.seek(0)
        return code, output.read()


def run_tests(deadline: float) -> tuple[list[str], int]:
    """Run the tests marked `gpu`; return pytest's lines on failures, its summary as the last, and an exit code."""
    workers = max(1, min(8, available_cores() // 2))
    # pytest begins no test after this, and still says which have failed
    seconds = max(1.0, deadline - LONGEST_TEST - time.monotonic())
    line = f"-m pytest -m gpu -q --tb=short --numprocesses {workers} --session-timeout {seconds}"
    code, text = run_python([*line.split(), *TESTS], deadline)
    if code:
        log.error("%s", text)
    lines = [line for line in text.splitlines() if line.startswith(("FAILED", "ERROR"))]
    has_failed = bool(lines)
    if code in TOO_LONG:
        lines.append("the tests did not end in their time")
    if code is not None:
        lines.append(text.strip().rpartition("\n")[2])
    if has_failed or code not in (SUCCEEDED, *TOO_LONG):
        return lines, FAILED
    return lines, INTERRUPTED if code in TOO_LONG else SUCCEEDED


def throughput_words(
    setting: tuple[str, int, str], args: argparse.Namespace, seconds: float
) -> list[str]:
    """Return the words with which Python runs the throughput benchmark of a setting."""
    algo, seeds, precision = setting
    line = f"--algo {algo} --seeds {seeds} --precision {precision} --device {args.device} --seconds {seconds}"
    if args.small:
        line += f" {SMALL}"
    return [str(ROOT / "benchmarks" / "throughput.py"), *line.split()]


def measure(
    setting: tuple[str, int, str], args: argparse.Namespace, name: str, deadline: float
) -> tuple[dict[str, Any] | None, list[str], int]:
    """Run the throughput benchmark with a setting.

    :param name: of the device.
    :return: its result if there is one, what is wrong in words, and an exit code.
    """
    label = "{} with {} seed(s) in {}".format(*setting)
    words = throughput_words(setting, args, 0.05 if args.small else 5.0)
    code, text = run_python(words, deadline)
    if code is None:
        return None, [f"{label}: no time was left to measure it"], INTERRUPTED
    results = [line for line in text.splitlines() if line.startswith("{")]
    if code or not results:
        log.error("`python %s` ended with exit code %d:\n%s", " ".join(words), code, text)
        return None, [f"{label}: the benchmark failed, see above"], FAILED
    row = json.loads(results[-1])
    problems = []
    if row["device"] == "cuda" and not row["mode"].startswith("compiled and captured"):
        problems.append(f"{label}: updates are {row['mode']}, expected compiled and captured ones")
    floor = SETTINGS[setting]
    if FLOOR_GPU in name and not args.small and row["seed_updates_per_s"] < floor:
        problems.append(
            f"{label}: {row['seed_updates_per_s']:,.0f} updates/s of all seeds, expected at least {floor:,}"
        )
    return row, problems, BELOW_FLOOR if problems else SUCCEEDED


def page(
    name: str, lines: Sequence[str], rows: Sequence[dict[str, Any]], args: argparse.Namespace
) -> str:
    """Return the page of a device: lines on tests and problems, and a table of measurements."""
    measurements = []
    for row in rows:
        memory = ""
        if row["peak_memory_bytes"] is not None:
            memory = f"{row['peak_memory_bytes'] / 2**30:.1f}"
        cells = {
            "algorithm": row["algo"],
            "seeds": row["seeds"],
            "precision": row["precision"],
            "updates/s": f"{row['updates_per_s']:,.0f}",
            "of all seeds": f"{row['seed_updates_per_s']:,.0f}",
            "floor": SETTINGS[row["algo"], row["seeds"], row["precision"]] or "",
            "of the peak": f"{row['fraction_of_peak']:.0%}",
            "kernels": row["kernels_per_update"] or "",
            "memory, GiB": memory,
            "mode": row["mode"].partition(" (")[0],
        }
        measurements.append(cells)
    sizes = "Sizes are the papers' for cube-double."
    if args.small:
        sizes = "Sizes are tiny, so speeds say nothing."
    return TEXT.format(
        device=name,
        commit=describe_versions(name, None)["git_commit"],
        torch=torch.__version__,
        sizes=sizes,
        gpu=FLOOR_GPU,
        lines="\n".join(f"- {line}" for line in lines),
        speeds=to_markdown(pd.DataFrame(measurements)),
    )


main = as_program(make_parser, check)

if __name__ == "__main__":
    sys.exit(main())
