"""Simulate how often 95% intervals of mean success cover the truth.

``python benchmarks/coverage.py`` simulates runs whose true rate of success is known, computes the intervals with the
code of the report, and writes ``results/coverage.md``. It takes some seconds.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

if __package__ in (None, ""):  # run as a file: let `import zoo` find the package
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from zoo.report.statistics.means import mean

RATES = (0.0, 0.05, 0.2, 0.5, 0.8, 0.95, 0.99)
SEEDS = (3, 5, 8, 12)
EPISODES = (10, 50, 100)
TRIALS = 4_000
SPREADS = ("none", "moderate", "rare failures")
OUTPUT = Path(__file__).resolve().parent.parent / "results" / "coverage.md"

_WIDTH = 0.1  # of the moderate spread, on either side
_CORRELATION = 0.1  # between the episodes of a seed, where failures are rare
_INTRODUCTION = """\
# Coverage of the intervals of mean success

Each number says in how many of 100 simulated experiments the 95% interval of the report contains the true mean success.
Made by `python benchmarks/coverage.py` with {trials:,} experiments a cell (standard error at 95: {error:.1f}).

A seed has a true rate of success, and its episodes succeed with that rate. There are three spreads between seeds:

| spread | rate of a seed, for a mean rate p |
| --- | --- |
| none | p |
| moderate | uniform, at most {width:g} from p and within [0, 1] |
| rare failures | beta with mean p, where two episodes of a seed correlate by {correlation:g} |

The first column of numbers of each spread is the interval with the least variance of the episodes, the second that
without it. Lowest with it: {lowest}.

Where the rate is near 0 or 1 and a few seeds are very different from the others, no interval from a handful of seeds
can know of those that were not drawn: there 95% is not what you get. Look at the scores of single runs, and use more
seeds.
"""


@dataclass(frozen=True)
class Cell:
    """One simulated kind of experiment, with the fraction of intervals that contain the truth.

    :param covered: with the least variance of the episodes.
    :param bare: from the variance between seeds alone.
    """

    spread: str
    rate: float
    seeds: int
    episodes: int
    covered: float
    bare: float


def simulate(spread: str, rate: float, seeds: int, episodes: int, trials: int, tasks: int = 1) -> Cell:
    """Return the coverage of the mean over some tasks of the same rate."""
    random = np.random.default_rng([SPREADS.index(spread), round(1000 * rate), seeds, episodes, tasks])
    shape = (tasks, seeds, trials)
    scores = random.binomial(episodes, _seed_rates(random, spread, rate, shape)) / episodes
    by_task = {str(task): values for task, values in enumerate(scores)}
    known = dict.fromkeys(by_task, episodes)
    covered, bare = (
        float(((bounds[0] <= rate + 1e-12) & (rate - 1e-12 <= bounds[1])).mean())
        for bounds in (mean(by_task, episodes=known).bounds, mean(by_task).bounds)
        if bounds is not None
    )
    return Cell(spread, rate, seeds, episodes, covered, bare)


def _seed_rates(random: np.random.Generator, spread: str, rate: float, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Return the true rate of each seed."""
    if spread == "none" or rate in (0.0, 1.0):
        return np.full(shape, rate)
    if spread == "moderate":
        width = min(_WIDTH, rate, 1 - rate)
        return random.uniform(rate - width, rate + width, shape)
    weight = 1 / _CORRELATION - 1
    return random.beta(rate * weight, (1 - rate) * weight, shape)


def to_markdown(cells: Sequence[Cell], trials: int) -> str:
    """Return the page with the table of all cells."""
    lowest = ", ".join(
        f"{spread} {100 * min(cell.covered for cell in cells if cell.spread == spread):.1f}" for spread in SPREADS
    )
    error = 100 * (0.95 * 0.05 / trials) ** 0.5
    text = _INTRODUCTION.format(trials=trials, error=error, width=_WIDTH, correlation=_CORRELATION, lowest=lowest)
    rows: dict[tuple[float, int, int], dict[str, str]] = {(cell.rate, cell.seeds, cell.episodes): {} for cell in cells}
    for cell in cells:
        rows[cell.rate, cell.seeds, cell.episodes][cell.spread] = f"{100 * cell.covered:.1f} | {100 * cell.bare:.1f}"
    heads = " | ".join(f"{spread} | without" for spread in SPREADS)
    lines = [f"| rate | seeds | episodes | {heads} |", "|" + " --- |" * (3 + 2 * len(SPREADS))]
    for (rate, seeds, episodes), found in rows.items():
        lines.append(f"| {rate:g} | {seeds} | {episodes} | {' | '.join(found[spread] for spread in SPREADS)} |")
    return text + "\n" + "\n".join(lines) + "\n"


def main(words: Sequence[str] | None = None) -> None:
    """Simulate every cell and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=TRIALS, help="experiments a cell")
    parser.add_argument("-o", "--output", type=Path, default=OUTPUT, metavar="FILE")
    args = parser.parse_args(words)
    cells = [
        simulate(spread, rate, seeds, episodes, args.trials)
        for spread in SPREADS
        for rate in RATES
        for seeds in SEEDS
        for episodes in EPISODES
    ]
    args.output.write_text(to_markdown(cells, args.trials))


if __name__ == "__main__":
    main()
