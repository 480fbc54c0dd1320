"""Statistics of random scores: against direct formulas, and what must not change them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import trim_mean

from zoo.report.statistics import bootstrap
from zoo.report.statistics.means import Scores, Spread, mean
from zoo.report.statistics.pairs import improvements

REPS = 20
BOTH = (-np.inf, np.inf)


@st.composite
def success_rates(draw: st.DrawFn, least_runs: int = 1, tasks: int | None = None) -> Scores:
    """Draw the success rates of one method: task -> runs, as many for every task or not."""
    tasks = tasks or draw(st.integers(1, 5))
    episodes = draw(st.sampled_from([1, 7, 50]))
    runs = draw(st.one_of(st.integers(least_runs, 9).map(lambda n: [n] * tasks), layouts(tasks, least_runs)))
    rate = st.integers(0, episodes).map(lambda wins: wins / episodes)
    return {f"task{k}": np.array(draw(st.lists(rate, min_size=n, max_size=n))) for k, n in enumerate(runs)}


def layouts(tasks: int, least_runs: int) -> st.SearchStrategy[list[int]]:
    return st.lists(st.integers(least_runs, 9), min_size=tasks, max_size=tasks)


@given(success_rates())
def test_points_are_those_of_the_direct_formulas(scores: Scores) -> None:
    found = bootstrap.aggregates({"x": scores}, ["iqm", "median"], REPS)["x"]
    task_means = [np.mean(runs) for runs in scores.values()]
    assert mean(scores).points == pytest.approx([np.mean(task_means)], abs=1e-9)
    assert found["median"].points == pytest.approx([np.median(task_means)], abs=1e-9)
    # each run weighs one over its task's number of runs: repeat runs until all tasks have the same number
    common = int(np.lcm.reduce([len(runs) for runs in scores.values()]))
    repeated = np.concatenate([np.repeat(runs, common // len(runs)) for runs in scores.values()])
    whole = 4 * common  # so that a quarter of them is a whole number
    if len({len(runs) for runs in scores.values()}) == 1:
        assert found["iqm"].points == pytest.approx([trim_mean(np.concatenate(list(scores.values())), 0.25)], abs=1e-9)
    else:
        assert found["iqm"].points == pytest.approx([trim_mean(np.tile(repeated, whole // common), 0.25)], abs=1e-9)


@given(success_rates(least_runs=2), st.floats(0.1, 100), st.floats(-50, 50))
def test_returns_in_another_unit_have_aggregates_in_that_unit(scores: Scores, scale: float, shift: float) -> None:
    moved = {task: scale * runs + shift for task, runs in scores.items()}
    for curve_of in (lambda x: mean(x, BOTH), lambda x: bootstrap.aggregates({"": x}, ["iqm"], REPS)[""]["iqm"]):
        found, wanted = curve_of(moved), curve_of(scores)
        assert found.points == pytest.approx(scale * wanted.points + shift, rel=1e-6, abs=1e-4)
        assert found.bounds == pytest.approx(scale * wanted.bounds + shift, rel=1e-6, abs=1e-4)


@st.composite
def rivals(draw: st.DrawFn) -> tuple[Scores, Scores]:
    """Draw two methods on the same tasks."""
    tasks = draw(st.integers(1, 4))
    return draw(success_rates(tasks=tasks)), draw(success_rates(tasks=tasks))


@given(rivals())
def test_the_probability_of_improvement_counts_every_meeting_and_turns_with_the_pair(
    methods: tuple[Scores, Scores],
) -> None:
    x, y = methods
    found = improvements({"x": x, "y": y}, {"x": Spread.of(x), "y": Spread.of(y)}, REPS)
    each = [np.mean([(a > b) + (a == b) / 2 for a in x[task] for b in y[task]]) for task in x]
    assert found["x", "y"].probability.point == pytest.approx(np.mean(each), abs=1e-6)
    assert found["y", "x"].probability.point == pytest.approx(1 - np.mean(each), abs=1e-6)
    difference = np.mean([np.mean(x[task]) - np.mean(y[task]) for task in x])
    assert found["x", "y"].difference.point == pytest.approx(difference, abs=1e-9)
