"""Tables and sentences of the page that compares our scores with the originals'."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import permutations, product
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats
from statsmodels.stats.power import normal_sample_size_one_tail
from statsmodels.stats.weightstats import CompareMeans

from agents.common.validation import count
from tools.tables import to_markdown

KEY = ["algorithm", "task", "seed", "step"]
COLUMNS = [*KEY, "successes", "episodes", "mean_length", "diverged"]
"""Columns of a table of scores, in which one row is one evaluation of one seed."""
CELLS = 6
"""Evaluations of one seed of one algorithm: two tasks, three checkpoints."""
STEPS = (700, 1_400, 2_100)
"""Updates before each evaluation."""
ONLINE_STEPS = (1_000, 2_000, 3_000, 5_000)
"""The end of an offline phase, and 1,000, 2,000 and 4,000 environment steps later; the last three are scored."""
MARGINS = (10, 5)
"""Points of mean success within which two sides count as equal."""
LEVEL = 0.9
"""Of the intervals. One inside a margin is equivalence at 5%: two one-sided t-tests."""

Sides = Sequence[pd.DataFrame]
"""Our scores and the originals', tables with `COLUMNS`."""


def seed_means(scores: pd.DataFrame, algorithms: Sequence[str], cells: int = CELLS) -> pd.DataFrame:
    """Return one observation a seed: mean ``success`` in percent and mean episode ``length`` over some algorithms.

    Algorithms share random numbers by seed, so a seed counts once. Where an algorithm lacks a seed, the deviations of
    the other algorithms stand in for it: the mean over seeds is the mean of the algorithms' means, and its variance is
    clustered by seed. A seed that lacks an evaluation of an algorithm is left out of that algorithm.

    :param scores: table with `COLUMNS`.
    :param cells: evaluations of one seed of one algorithm.
    """
    scores = scores.assign(
        success=100 * scores["successes"] / scores["episodes"], length=scores["mean_length"]
    )
    groups = scores[scores["algorithm"].isin(algorithms)].groupby(["algorithm", "seed"])
    means = groups[["success", "length"]].mean()[groups.size() == cells]
    by_algorithm = means.groupby("algorithm")
    deviations = (means - by_algorithm.transform("mean")) / by_algorithm.transform("count")
    by_seed = deviations.groupby("seed").sum()
    # each algorithm weighs the same, however many seeds it has
    centre = by_algorithm.mean().mean()
    means = centre + by_seed * (len(by_seed) / len(algorithms))
    return means.round(9)  # equal scores stay equal ranks


def compare(ours: pd.DataFrame, originals: pd.DataFrame) -> dict[str, Any] | None:
    """Compare the seeds of two sides by Welch's t and by ranks; return None if a side has fewer than two seeds.

    :param ours: as `seed_means` returned them.
    :param originals: likewise.
    :return: ``ours, originals`` (mean success), ``success, length`` (difference, low and high end of its interval),
        ``differs`` (whether the interval of success excludes 0), ``seeds`` (a text), ``p`` (Mann-Whitney, success),
        and ``spread`` (pooled standard deviation of success).
    """
    if min(len(ours), len(originals)) < 2:
        return None
    comparison: dict[str, Any] = {"seeds": f"{len(ours)} / {len(originals)}"}
    for score in ("success", "length"):
        means = CompareMeans.from_data(ours[score], originals[score])
        interval = means.tconfint_diff(alpha=1 - LEVEL, usevar="unequal")
        comparison[score] = (ours[score].mean() - originals[score].mean(), *interval)
    _, low, high = comparison["success"]
    comparison["differs"] = low > 0 or high < 0
    ours, originals = ours["success"], originals["success"]
    comparison["ours"], comparison["originals"] = ours.mean(), originals.mean()
    comparison["p"] = stats.mannwhitneyu(ours, originals).pvalue
    comparison["spread"] = np.sqrt((ours.var() + originals.var()) / 2)
    return comparison


def compare_sides(
    sides: Sides, algorithms: Sequence[str], originals: Sequence[str] = (), cells: int = CELLS
) -> dict[str, Any] | None:
    """Compare both sides of some algorithms, one observation a seed.

    :param originals: names of the originals to compare with, if they are not those of the algorithms.
    :param cells: evaluations of one seed of one algorithm.
    """
    return compare(
        seed_means(sides[0], algorithms, cells),
        seed_means(sides[1], originals or algorithms, cells),
    )


def compare_each(sides: Sides, algorithms: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Compare both sides of each algorithm that has them: name -> result of `compare_sides`."""
    comparisons = {name: compare_sides(sides, [name]) for name in algorithms}
    return {name: comparison for name, comparison in comparisons.items() if comparison}


def compare_pooled(sides: Sides, algorithms: Sequence[str], cells: int = CELLS) -> dict[str, Any]:
    """Compare both sides of algorithms that have them, without ranks: these need one number a seed and row."""
    comparison = compare_sides(sides, algorithms, cells=cells)
    assert comparison is not None
    return comparison | {"p": None}


def describe_fresh(sides: Sides, algorithms: Sequence[str], family: Sequence[str]) -> str:
    """Return the table of algorithms on fresh seeds, and the tests over all of them.

    :param family: algorithms whose originals share weights, batches and noise, so that their signs count once.
    """
    rows = compare_each(sides, algorithms)
    if not rows:
        return "No row has both sides yet."
    pooled = compare_pooled(sides, list(rows))
    table = describe_rows({**rows, f"**all {len(rows)}**": pooled})
    groups = [[name] for name in rows if name not in family]
    shared = [name for name in family if name in rows]
    if shared:
        groups.append(shared)
    signs = []
    for names in groups:
        comparison = compare_sides(sides, names)
        if comparison and comparison["success"][0]:  # a sign test leaves ties out
            signs.append(comparison["success"][0] > 0)
    apart = [name for name, row in rows.items() if row["differs"]]
    text = [
        f"- **All {len(rows)} together**: {_interval(pooled['success'])} points. A seed counts once, because rows "
        "share random numbers by seed.",
        f"- **Sign test**: ours is ahead in {sum(signs)} of {len(signs)} independent rows, two-sided "
        f"p = {_number(stats.binomtest(sum(signs), len(signs)).pvalue)}; {', '.join(family)} count as one row.",
        f"- **Intervals without 0**: {len(apart)} of {len(rows)} ({', '.join(apart) or 'none'}); chance alone gives "
        f"{(1 - LEVEL) * len(rows):.1f} where both sides are equal.",
        f"- **Not trained yet** on both tasks: {', '.join(name for name in algorithms if name not in rows) or 'none'}.",
        describe_control(sides, list(rows)),
        describe_diverged(sides, list(rows)),
    ]
    return table + "\n\n" + "\n".join(text)


def describe_rows(rows: Mapping[str, Mapping[str, Any]]) -> str:
    """Return a table of differences.

    :param rows: name -> result of `compare_sides`.
    """
    lines = []
    for name, row in rows.items():
        cells = {
            "algorithm": name,
            "seeds, ours / original": row["seeds"],
            "success %, ours": f"{row['ours']:.1f}",
            "original": f"{row['originals']:.1f}",
            "difference [90% interval]": _interval(row["success"]),
        }
        for margin in MARGINS:
            cells[f"within {margin}"] = _verdict(row, margin)
        cells["difference in length"] = _interval(row["length"], 0)
        cells["p (ranks)"] = "" if row["p"] is None else _number(row["p"])
        lines.append(cells)
    return to_markdown(pd.DataFrame(lines))


def describe_control(sides: Sides, algorithms: Sequence[str]) -> str:
    """Return how often the same interval tells our algorithm from the original of another one."""
    pairs = [
        compare_sides(sides, [ours], [original]) for ours, original in permutations(algorithms, 2)
    ]
    apart = sum(pair["differs"] for pair in pairs if pair)
    return (
        f"- **Control**: of the {len(pairs)} pairs of our algorithm and the original of another one, {apart} have an "
        "interval without 0."
    )


def describe_diverged(sides: Sides, algorithms: Sequence[str]) -> str:
    """Return which seeds of some algorithms diverged."""
    parts = []
    for side, scores in zip(("ours", "originals"), sides, strict=True):
        diverged = scores[(scores["diverged"] == 1) & scores["algorithm"].isin(algorithms)]
        seeds = diverged.groupby(["algorithm", "task"])["seed"].nunique()
        parts += [
            f"{side}: {name} task {task} ({count(number, 'seed')})"
            for (name, task), number in seeds.items()
        ]
    return f"- **Diverged** (NaN), counted as never arriving: {', '.join(parts) or 'none'}."


def describe_online(sides: Sides, algorithms: Sequence[str], family: Sequence[str]) -> str:
    """Return the tables of algorithms that learnt offline, then online: online, at each checkpoint, and of each task.

    :param family: as `describe_fresh` takes it.
    """
    online = [scores[scores["step"] > ONLINE_STEPS[0]] for scores in sides]
    text = describe_fresh(online, algorithms, family)
    trained = list(compare_each(online, algorithms))
    if not trained:
        return text
    rows = {}
    for step in ONLINE_STEPS:
        at_step = [scores[scores["step"] == step] for scores in sides]
        rows[f"after {step:,}"] = compare_pooled(at_step, trained, CELLS // len(STEPS))
    return "\n\n".join(
        [
            text,
            "All of them at each checkpoint; the first one ends the offline phase:",
            describe_rows(rows),
            "Each task, mean success in percent at each checkpoint, ours / original, and the difference over all four:",
            describe_tasks(sides, trained, ONLINE_STEPS),
        ]
    )


def describe_tasks(sides: Sides, algorithms: Sequence[str], steps: Sequence[int] = STEPS) -> str:
    """Return the table of each task: mean success at every checkpoint, ours / original, and the difference."""
    rows = []
    tasks = sorted({task for scores in sides for task in scores["task"]})
    for name, task in product(algorithms, tasks):
        tables = [
            scores[(scores["algorithm"] == name) & (scores["task"] == task)] for scores in sides
        ]
        comparison = compare_sides(tables, [name], cells=len(steps))
        if comparison is None:
            continue
        cells = {"algorithm": name, "task": task, "seeds, ours / original": comparison["seeds"]}
        for step in steps:
            at_step = [table[table["step"] == step] for table in tables]
            means = [100 * (scores["successes"] / scores["episodes"]).mean() for scores in at_step]
            cells[f"after {step:,}"] = "{:.0f} / {:.0f}".format(*means)
        cells["difference [90% interval]"] = _interval(comparison["success"])
        rows.append(cells)
    return to_markdown(pd.DataFrame(rows))


def _verdict(row: Mapping[str, Any], margin: float) -> str:
    """Return whether the interval lies inside a margin, or the seeds that it would take."""
    _, low, high = row["success"]
    if np.isnan(low):
        return "not tested"
    if -margin < low and high < margin:
        return "yes"
    return f"not shown ({seeds_for_equivalence(row['spread'], margin)} seeds)"


def seeds_for_equivalence(spread: float, margin: float) -> int:
    """Return the seeds a side with which two equal means are shown within a margin 8 times of 10 (normal scores).

    :param spread: standard deviation of the seeds.
    """
    # of a difference of two means, whose variances add up
    deviation = np.sqrt(2) * spread
    seeds = normal_sample_size_one_tail(margin, 0.9, (1 - LEVEL) / 2, deviation)
    return max(2, int(np.ceil(seeds)))


def _interval(numbers: Sequence[float], digits: int = 1) -> str:
    if np.isnan(numbers[1]):
        return f"{numbers[0]:+.{digits}f} (no spread)"
    return "{:+.{d}f} [{:+.{d}f}, {:+.{d}f}]".format(*numbers, d=digits)


def _number(p: float) -> str:
    return f"{p:.2g}" if p >= 0.001 else f"{p:.0e}".replace("e-0", "e-")
