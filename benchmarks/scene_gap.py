"""Find out whether data or simulator cause QAM's low score on scene task 4, from the runs of `make gap`.

After 50,000 updates, eight runs on data of seed 0 in MuJoCo 4.0.0 (six of our code, two of the authors' code) have a
mean success of 13.8%, and 24 published runs have 39.5%. Arm A changes the data (seed 1), arm B the simulator (MuJoCo
3.4.0). Each arm has four runs, and counts as high if their mean is at least 26%. Four runs resampled with replacement
have a lower mean in 3% of cases if they are published ones, and a higher one in 9% if they are from the eight.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

if not __package__:  # run as a file from anywhere
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from benchmarks.full_size import read_scores
from tools.tables import to_markdown
from zoo.terminal.cli import as_program
from zoo.terminal.errors import UsageError
from zoo.terminal.parser import Parser

STEPS = (40_000, 45_000, 50_000)
SPLIT = 26.0  # percent
CONCLUSIONS = {
    (
        True,
        True,
    ): "the first eight runs were unlucky, or only data of seed 0 in MuJoCo 4.0.0 gives low scores",
    (True, False): "the cause is the data file",
    (False, True): "the cause is the simulator",
    (False, False): "the published runs differ in something else: try float32 next",
}
"""(Whether arm A is high, whether arm B is high) -> conclusion."""


def make_parser() -> Parser:
    """Return the parser of the command line."""
    parser = Parser(description=__doc__)
    parser.add_argument("-f", "--log-folder", type=Path, required=True, help="folder of both arms")
    return parser


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Print success in percent by arm, seed and step, and return the arms' means and the conclusion.

    :param args: parsed arguments.
    :raises UsageError: if an arm has no score after the last step.
    """
    means = {}
    for arm in ("A-1", "B-0"):
        scores = read_scores(args.log_folder / arm)
        scores = scores.assign(success=100 * scores["successes"] / scores["episodes"])
        table = scores[scores["step"].isin(STEPS)].pivot(
            index="seed", columns="step", values="success"
        )
        if STEPS[-1] not in table:
            raise UsageError(
                f"arm {arm} has no score after {STEPS[-1]:,} updates; run `make gap` again"
            )
        simulator = scores["mujoco"].iloc[0]
        print(
            f"arm {arm[0]}: data of seed {arm[-1]}, MuJoCo {simulator}\n\n{to_markdown(table.reset_index())}"
        )
        means[arm[0]] = float(table[STEPS[-1]].mean())
    conclusion = CONCLUSIONS[means["A"] >= SPLIT, means["B"] >= SPLIT]
    return {"means": means, "split": SPLIT, "conclusion": conclusion}


main = as_program(make_parser, run)

if __name__ == "__main__":
    sys.exit(main())
