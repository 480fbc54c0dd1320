import numpy as np
import pandas as pd
import pytest
from scipy import stats

from tests.zoo.report.samples import comparison_of, comparison_of_returns, comparison_of_scene
from zoo.report.significance import decide
from zoo.report.statistics.means import plan_seeds
from zoo.report.tables import seeds_needed_table
from zoo.runs.scores import NORMALISED_RETURN, RETURN


def plan(x, y, resolve, seeds=5):
    """Return the plan for two methods whose scores have these variances on each task."""
    variances = pd.DataFrame({"x": x, "y": y})
    numbers = pd.DataFrame(seeds, variances.index, ["x", "y"])
    return plan_seeds({"variance": variances, "seeds": numbers}, ("x", "y"), resolve)


def half_width(x, y, seeds):
    """Return half the width of Welch's interval with so many seeds of each method on each task, from its formula."""
    parts = np.array([*x, *y]) / len(x) ** 2 / seeds
    freedom = parts.sum() ** 2 / (parts**2 / (seeds - 1)).sum()
    return stats.t.ppf(0.975, freedom) * np.sqrt(parts.sum())


@pytest.mark.parametrize(
    ("x", "y"),
    [([0.0004], [0.0001]), ([0.2, 0.0, 0.05], [0.01, 0.1, 0.0]), ([0.25] * 50, [0.1] * 50)],
)
@pytest.mark.parametrize("resolve", [0.03, 0.1])
def test_seeds_are_the_first_number_with_a_narrow_enough_interval(x, y, resolve):
    planned = plan(x, y, resolve)
    expected = 2
    while half_width(x, y, expected) >= resolve:
        expected += 1
    assert planned.seeds == expected
    assert planned.half_width == pytest.approx(half_width(x, y, 5))


def test_seeds_of_a_poorly_known_variance_have_a_wide_interval():
    few = plan([0.02], [0.02], 0.05, seeds=2)
    many = plan([0.02], [0.02], 0.05, seeds=50)
    assert few.seeds == many.seeds
    assert few.interval[0] < many.interval[0] <= many.seeds <= many.interval[1] < few.interval[1]
    scale = 2 / stats.chi2.ppf(0.025, 2)  # two seeds of each method: one degree of freedom each
    assert few.interval[1] == plan([0.02 * scale], [0.02 * scale], 0.05).seeds


def test_what_no_number_of_seeds_resolves_is_said_and_runs_that_agree_exactly_give_no_plan():
    planned = plan([0.25], [0.25], 1e-6)
    assert planned.seeds is None
    assert planned.half_width > 0
    assert plan([0.0], [0.0], 0.03) is None


def test_one_seed_tells_nothing_and_unequal_seeds_count_as_they_are():
    scores = {
        "base": [[0.4, 0.5, 0.6]] * 5,
        "one": [[0.5]] * 5,
        "many": [[0.2, 0.3, 0.4, 0.8, 0.9]] * 5,
    }
    comparison = decide(comparison_of_scene(scores), baseline="base")
    phase = comparison.phases["offline"]
    table = seeds_needed_table(comparison, phase)
    rows = {row[0].text: [entry.text for entry in row] for row in table.rows}
    assert rows["one"] == ["one", "1", "-", "unknown"]
    low, high = phase.improvements["many", "base"].difference.interval
    assert rows["many"][1:3] == ["5", f"{50 * (high - low):.1f}"]


def test_method_in_focus_stands_in_for_the_baseline():
    comparison = comparison_of(["A", "B", "C"])
    phase = comparison.phases["offline"]
    for focus, baseline, others in (("C", "C", {"A", "B"}), ("has other tasks", "A", {"B", "C"})):
        table = seeds_needed_table(decide(comparison, focus=focus), phase)
        assert f"difference of means from {baseline} is" in table.caption
        assert {row[0].text for row in table.rows} == others


@pytest.mark.parametrize(("kind", "has_rows"), [(RETURN, False), (NORMALISED_RETURN, True)])
def test_points_need_a_scale(kind, has_rows):
    comparison = comparison_of_returns(["A", "B"], kind=kind, environments=("Pendulum-v1",))
    assert bool(seeds_needed_table(comparison, comparison.phases["online"]).rows) == has_rows
