"""The page that compares our scores with the originals', algorithm by algorithm, by rank tests."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.rank_tests import (
    detectable_shift,
    difference_of_means,
    rank_test,
    seeds_for_equivalence,
    smallest_p,
)
from zoo.report.statistics.estimates import holm

LEVEL = 0.05
MARGIN = 10
"""Points of mean success within which two sides count as equal."""
COLUMNS = ["algorithm", "task", "seed", "step", "successes", "episodes", "mean_length", "diverged"]
"""Of a table of scores: one row is one evaluation of one seed."""
SCORES = ("success", "length")
MEAN = "mean"

Gaps = Mapping[tuple[str, int], Sequence[int]]
"""(Algorithm, task) -> seeds that lack an evaluation."""


@dataclass(frozen=True)
class Design:
    """What is compared.

    :param checkpoints: algorithm -> the steps of its evaluations.
    """

    checkpoints: Mapping[str, Sequence[int]]
    tasks: Sequence[int]
    seeds: Sequence[int]

    @property
    def tests(self) -> int:
        """How many tests there are when nothing is missing."""
        return len(SCORES) * sum(len(self.tasks) * len(steps) + 1 for steps in self.checkpoints.values())


def find_missing(scores: pd.DataFrame, design: Design) -> Gaps:
    """Return (algorithm, task) -> seeds of the design that lack an evaluation; complete ones are left out."""
    keys = ("algorithm", "task", "seed", "step")
    known = set(zip(*(scores[key] for key in keys), strict=True))
    missing: dict[tuple[str, int], list[int]] = {}
    for algorithm, steps in design.checkpoints.items():
        for task in design.tasks:
            seeds = [s for s in design.seeds if any((algorithm, task, s, step) not in known for step in steps)]
            if seeds:
                missing[algorithm, task] = seeds
    return missing


def compare(ours: pd.DataFrame, theirs: pd.DataFrame, design: Design) -> pd.DataFrame:
    """Test every cell of the design that both sides have.

    A cell is an algorithm, a task and a step; another one for each algorithm, with task and step `MEAN`, has the mean
    of a seed's cells. Each cell has a test of success and one of episode length. All tests of the design are one
    family, so that a result does not depend on what is still missing, but for those that no division of the pooled
    runs into two groups would make significant (Tarone 1990): most runs are at the floor or the ceiling there.

    :param ours: table with `COLUMNS`.
    :param theirs: likewise.
    :return: one row a test: ``algorithm, task, step, score, ours, theirs`` (means), ``seeds`` (of both groups),
        ``spread`` (pooled standard deviation), ``difference, half_width, is_within, p, smallest_p``, and
        ``adjusted``, NaN for those outside the family.
    """
    rows = []
    both = [_prepare(table, design) for table in (ours, theirs)]
    for algorithm in design.checkpoints:
        cells = [table[table["algorithm"] == algorithm] for table in both]
        for task in design.tasks:
            for step in design.checkpoints[algorithm]:
                groups = [table[(table["task"] == task) & (table["step"] == step)] for table in cells]
                rows += _test_cell(groups, algorithm=algorithm, task=str(task), step=f"{step:,}")
        groups = [_average(table, len(design.tasks) * len(design.checkpoints[algorithm])) for table in cells]
        rows += _test_cell(groups, algorithm=algorithm, task=MEAN, step=MEAN)
    if not rows:
        return pd.DataFrame()
    tests = pd.DataFrame(rows).assign(adjusted=np.nan)
    within = tests["smallest_p"] <= LEVEL
    tests.loc[within, "adjusted"] = holm(tests.loc[within, "p"], design.tests - int((~within).sum()))
    return tests


def _prepare(scores: pd.DataFrame, design: Design) -> pd.DataFrame:
    """Return the rows of the design's algorithms and seeds, with success in percent."""
    own = scores[scores["algorithm"].isin(design.checkpoints) & scores["seed"].isin(design.seeds)]
    return own.assign(success=100 * own["successes"] / own["episodes"], length=own["mean_length"])


def _average(scores: pd.DataFrame, cells: int) -> pd.DataFrame:
    """Return each seed's mean over its cells, for the seeds that have all of them."""
    groups = scores.groupby("seed")[list(SCORES)]
    return groups.mean()[groups.size() == cells]


def _test_cell(groups: Sequence[pd.DataFrame], **cell: str) -> list[dict[str, Any]]:
    """Return the tests of a cell; none if a side has fewer than two seeds."""
    sizes = [len(group) for group in groups]
    if min(sizes) < 2:
        return []
    rows = []
    for score in SCORES:
        ours, theirs = (group[score].to_numpy(float) for group in groups)
        difference, half_width = difference_of_means(ours, theirs)
        _, narrow = difference_of_means(ours, theirs, 0.9)
        rows.append(
            {
                **cell,
                "score": score,
                "ours": ours.mean(),
                "theirs": theirs.mean(),
                "seeds": tuple(sizes),
                "spread": float(np.sqrt((ours.var(ddof=1) + theirs.var(ddof=1)) / 2)),
                "difference": difference,
                "half_width": half_width,
                "is_within": abs(difference) + narrow < MARGIN,
                "p": rank_test(ours, theirs),
                "smallest_p": smallest_p(ours, theirs),
            }
        )
    return rows


def describe_control(ours: pd.DataFrame, theirs: pd.DataFrame, design: Design, earlier: Collection[str] = ()) -> str:
    """Return how often the same tests tell our algorithm from the original of another one on the same file.

    :param ours: table with `COLUMNS`.
    :param theirs: likewise.
    :param earlier: algorithms whose scores are of another file than those of the rest.
    """
    means = [
        {name: _average(rows, len(design.tasks) * len(design.checkpoints[name])) for name, rows in groups}
        for groups in (_prepare(table, design).groupby("algorithm") for table in (ours, theirs))
    ]
    found = [
        min(rank_test(means[0][one][score], means[1][other][score]) for score in SCORES) <= LEVEL / design.tests
        for one in means[0]
        for other in means[1]
        if one != other and (one in earlier) == (other in earlier) and min(len(means[0][one]), len(means[1][other])) > 1
    ]
    return (
        "- **Control.** Ours against the original of another algorithm: the means of "
        f"{sum(found)} of {len(found)} such pairs differ in success or length at Holm's first level."
    )


def summarise(tests: pd.DataFrame, gaps: Mapping[str, Gaps], design: Design) -> str:
    """Return what the tests say, what they can say, and what is missing.

    :param tests: as `compare` returned it.
    :param gaps: side -> what `find_missing` returned for it.
    """
    lines = [_describe_missing(side, missing, design) for side, missing in gaps.items()]
    if tests.empty:
        return "\n".join([*lines, "- No cell has both sides yet."])
    found, left_out = tests[tests["adjusted"] <= LEVEL], int(tests["adjusted"].isna().sum())
    below, size = (tests["p"] <= LEVEL).sum(), design.tests - left_out
    outcome = "; ".join(_name(row) for row in found.to_dict("records"))
    lines.append(
        f"- **{len(found)} of {len(tests) - left_out} tests are significant at 5% after Holm's correction** for {size}"
        + (f": {outcome}." if outcome else ".")
    )
    lines.append(
        f"- {left_out} more tests are left out of that family: both sides' runs together are so near the floor or the "
        f"ceiling that no division of them into two groups has p at most {LEVEL:g} (Tarone's rule, which looks at the "
        "pooled runs only and not at which side they are from). They say nothing."
    )
    lines.append(
        f"- Without correction {below} p values are at most {LEVEL:g}; at most {LEVEL * (len(tests) - left_out):.0f} "
        f"would be expected by chance alone, out of {len(tests) - left_out}."
    )
    lines.append(_describe_equivalence(tests))
    return "\n".join([*lines, _describe_power(tests, design)])


def _describe_equivalence(tests: pd.DataFrame) -> str:
    """Return how many rows are shown to be equal within the margin, and what it would take for the others."""
    means = tests[(tests["task"] == MEAN) & (tests["score"] == "success")]
    shown = means["is_within"].astype(bool)
    needed = [seeds_for_equivalence(spread, MARGIN) for spread in means.loc[~shown, "spread"]]
    others = ""
    if needed:
        others = (
            f" For the others it would take {min(needed)} to {max(needed)} seeds a side, {np.median(needed):.0f} in "
            "the median, to show equal means 8 times of 10."
        )
    return (
        f"- **{shown.sum()} of {len(means)} rows are shown to be equal within {MARGIN} points of mean success**: the "
        f"90% interval of the difference lies inside (two one-sided tests at 5% each, not corrected). The margin "
        "was set before these intervals were computed, but after differences of the earlier file stood on this page."
        f"{others}"
    )


def describe_pooled(
    ours: pd.DataFrame, theirs: pd.DataFrame, families: Mapping[str, Sequence[str]], design: Design
) -> str:
    """Return the differences of rows that are not independent, pooled: the mean of a seed's rows is one observation.

    :param families: what the rows share -> their names.
    """
    parts = []
    for what, rows in families.items():
        groups, cells = [], sum(len(design.tasks) * len(design.checkpoints[name]) for name in rows)
        for table in (ours, theirs):
            own = _prepare(table, design)
            groups.append(_average(own[own["algorithm"].isin(rows)], cells)["success"])
        if min(map(len, groups)) > 1:
            difference, half_width = difference_of_means(*groups)
            _, narrow = difference_of_means(groups[0], groups[1], 0.9)
            verdict = "within" if abs(difference) + narrow < MARGIN else "not shown within"
            parts.append(f"{what} {difference:+.1f} ± {half_width:.1f} points ({verdict} {MARGIN})")
    return f"- **Pooled**, with one mean a seed: {'; '.join(parts) or 'no family is complete'}."


def fault_table(ours: pd.DataFrame, theirs: pd.DataFrame, faults: Mapping[str, str], design: Design) -> str:
    """Return one Markdown row for each fault that was planted in our code, and whether the tests see it.

    :param faults: label of ours -> the original's.
    """
    rows = []
    for label, original in faults.items():
        own = ours[ours["algorithm"] == label].assign(algorithm=original)
        tests = compare(own, theirs, Design({original: design.checkpoints[original]}, design.tasks, design.seeds))
        if len(tests) < 2 or tests["task"].iloc[-1] != MEAN:
            rows.append([label, "not trained yet", *[""] * 6])
            continue
        seen = "yes" if tests["p"].min() <= LEVEL / design.tests else "no"
        mean = tests[(tests["task"] == MEAN) & (tests["score"] == "success")].to_dict("records")[0]
        rows.append([label, *_describe(mean)[:4], _within(mean), _number(tests["p"].min()), seen])
    head = ["fault", "success %, ours", "original", "difference", "p", f"within {MARGIN}", "smallest p", "seen"]
    return _markdown(head, rows)


def _describe_missing(side: str, missing: Gaps, design: Design) -> str:
    """Return a sentence about what one side lacks."""
    total = len(design.checkpoints) * len(design.tasks)
    if not missing:
        return f"- {side}: complete, {len(design.seeds)} seeds of {total} pairs of algorithm and task."
    lacking: dict[str, list[str]] = {}
    for (algorithm, task), seeds in missing.items():
        which = "" if len(seeds) == len(design.seeds) else f" (seeds {', '.join(map(str, seeds))})"
        lacking.setdefault(algorithm, []).append(f"task {task}{which}")
    everything = [f"task {task}" for task in design.tasks]
    texts = [name if tasks == everything else f"{name} {' and '.join(tasks)}" for name, tasks in lacking.items()]
    return f"- {side}: {total - len(missing)} of {total} pairs of algorithm and task; **missing**: {', '.join(texts)}."


def describe_diverged(scores: Mapping[str, pd.DataFrame], design: Design) -> str:
    """Return which seeds diverged.

    :param scores: side -> table with `COLUMNS`.
    """
    parts = []
    for side, table in scores.items():
        diverged = table[(table["diverged"] == 1) & table["seed"].isin(design.seeds)]
        counts = diverged.groupby(["algorithm", "task"])["seed"].nunique()
        names = [f"{name} task {task} ({count} of {len(design.seeds)} seeds)" for (name, task), count in counts.items()]
        parts += [f"{side}: {', '.join(names)}"] if names else []
    return f"- **Diverged** (NaN), counted as never arriving: {'; '.join(parts)}." if parts else "- No seed diverged."


def _name(test: Mapping[str, Any]) -> str:
    where = "mean of all" if test["task"] == MEAN else f"task {test['task']} at {test['step']}"
    return f"{test['algorithm']}, {test['score']}, {where} (p = {_number(test['adjusted'])})"


def _describe_power(tests: pd.DataFrame, design: Design) -> str:
    """Return what difference the tests would have found."""
    size, corrected = len(design.seeds), LEVEL / design.tests
    alone, family = (detectable_shift(size, level) for level in (LEVEL, corrected))
    success = tests[(tests["score"] == "success") & (tests["spread"] > 0)]
    spreads = {
        "one cell": success.loc[success["task"] != MEAN, "spread"].median(),
        "the mean of an algorithm's cells": success.loc[success["task"] == MEAN, "spread"].median(),
    }
    points = [
        f"{alone * spread:.0f} and {family * spread:.0f} points for {what}, where seeds typically differ by "
        f"{spread:.0f} points"
        for what, spread in spreads.items()
        if np.isfinite(spread)
    ]
    return (
        f"- **What could be seen.** With {size} seeds a side and 80% probability, a test finds a shift of {alone:.1f} "
        f"standard deviations of the seeds (normal scores) at p = 0.05, and of {family:.1f} at Holm's first level, "
        f"0.05 / {design.tests}. In success this is {'; '.join(points)} (median standard deviation). Smaller "
        "differences are compatible with this table."
    )


def mean_table(tests: pd.DataFrame, settings: Mapping[str, str]) -> str:
    """Return one Markdown row an algorithm: the means of its cells.

    :param settings: algorithm -> its own settings, as text.
    """
    head = ["algorithm", "own settings", f"within {MARGIN} points", *_score_head()]
    rows = _cells(
        tests[tests["task"] == MEAN], lambda row: [row["algorithm"], settings[row["algorithm"]], _within(row)]
    )
    return _markdown(head, rows)


def cell_table(tests: pd.DataFrame) -> str:
    """Return one Markdown row a cell."""
    rows = _cells(tests[tests["task"] != MEAN], lambda row: [row["algorithm"], row["task"], row["step"]])
    return _markdown(["algorithm", "task", "steps", *_score_head()], rows)


def _score_head() -> list[str]:
    return [
        text
        for name in ("success %", "length")
        for text in (f"{name}, ours", "original", "difference", "p", "after Holm")
    ]


def _cells(tests: pd.DataFrame, name: Callable[[Mapping[str, Any]], list[str]]) -> list[list[str]]:
    """Return the rows of a table: each cell's test of success beside that of length."""
    found = tests.to_dict("records")
    return [
        name(success) + _describe(success) + _describe(length)
        for success, length in zip(found[::2], found[1::2], strict=True)
    ]


def _describe(test: Mapping[str, Any]) -> list[str]:
    adjusted = _number(test["adjusted"])
    return [
        f"{test['ours']:.0f}",
        f"{test['theirs']:.0f}",
        f"{test['difference']:+.0f} ± {test['half_width']:.0f}",
        _number(test["p"]),
        f"**{adjusted}**" if test["adjusted"] <= LEVEL else adjusted,
    ]


def _within(test: Mapping[str, Any]) -> str:
    """Return whether a difference of success is shown to be within the margin, or the seeds that it would take."""
    if test["is_within"]:
        return "within"
    return f"not shown ({seeds_for_equivalence(test['spread'], MARGIN)} seeds)"


def _number(p: float) -> str:
    if np.isnan(p):
        return "left out"
    return f"{p:.2g}" if p >= 0.001 else f"{p:.0e}".replace("e-0", "e-")


def _markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])
