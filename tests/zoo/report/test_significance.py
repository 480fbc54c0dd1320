from itertools import combinations

import numpy as np
import pytest
from scipy import stats

from tests.zoo.report.samples import (
    comparison_of,
    comparison_of_returns,
    comparison_of_scene,
    returns,
)
from zoo.report.comparison import Decision, ranking
from zoo.report.statistics.pairs import rank_p_value
from zoo.report.tables import pairs_table


@pytest.mark.parametrize("seeds", [(6, 6), (4, 9)])
def test_one_task_has_scipys_p_value_with_ties(seeds):
    random = np.random.RandomState(1)
    x, y = (
        random.randint(low, low + 5, size) / 10 for low, size in zip((0, 2), seeds, strict=True)
    )
    expected = stats.mannwhitneyu(x, y, method="asymptotic", use_continuity=False).pvalue
    assert rank_p_value({"task": x}, {"task": y}) == pytest.approx(expected, rel=1e-12)
    assert (
        rank_p_value({"task": np.zeros(5)}, {"task": np.zeros(5)}) == 1
    )  # no sign of a difference


def test_variance_over_tasks_is_that_of_every_division_of_their_runs():
    x = {"a": np.array([0.1, 0.5, 0.5]), "b": np.array([0.0, 0.3])}
    y = {"a": np.array([0.2, 0.5]), "b": np.array([0.3, 0.9, 0.9])}
    chance, variance = 0.0, 0.0
    for task in x:
        pooled, size = np.array([*x[task], *y[task]]), len(x[task])
        found = []
        for chosen in combinations(range(5), size):
            ours, theirs = pooled[list(chosen)], np.delete(pooled, chosen)
            found.append(np.mean((ours[:, None] > theirs) + 0.5 * (ours[:, None] == theirs)))
        chance += found[0] / 2  # the first division is the true one
        variance += np.var(found) / 4
    expected = 2 * stats.norm.sf(abs(chance - 0.5) / np.sqrt(variance))
    assert rank_p_value(x, y) == pytest.approx(expected)


def test_difference_has_scipys_welch_test_adjusted_for_all_pairs():
    comparison = comparison_of_returns(["A", "B", "C"], environments=("Pendulum-v1",))
    phase = comparison.phases["online"]
    p_values = phase.decision.p_values
    table = returns(["A", "B", "C"], environments=("Pendulum-v1",)).query("step == 2000")
    runs = {name: part["score"] for name, part in table.groupby("method")}
    found = {
        pair: stats.ttest_ind(*(runs[name] for name in pair), equal_var=False).pvalue
        for pair in ("AB", "AC", "BC")
    }
    adjusted = 0.0
    for others, pair in zip((3, 2, 1), sorted(found, key=found.get), strict=True):
        adjusted = max(adjusted, min(1, others * found[pair]))
        assert p_values[tuple(pair)] == pytest.approx(adjusted)
        assert p_values[tuple(pair)] == p_values[tuple(reversed(pair))]


@pytest.mark.parametrize(("p_value", "is_clear"), [(0.05, True), (0.051, False)])
def test_a_pair_is_clear_at_five_per_cent(p_value, is_clear):
    assert Decision(p_values={("A", "B"): p_value}).is_clear("A", "B") == is_clear


def test_one_seed_tests_nothing_and_two_methods_need_no_matrix():
    two = comparison_of(["A", "B"])
    assert not pairs_table(two, two.phases["offline"]).rows
    for comparison in (
        comparison_of(["A", "B", "C"], seeds=1),
        comparison_of_returns(["A", "B"], seeds=1),
    ):
        assert not comparison.phases["online"].decision.p_values


def test_matrix_is_in_the_order_of_the_ranking_and_marks_what_is_clear():
    scores = {
        "good": [1.0] * 8,
        "middle": [0.5, 0.52, 0.5, 0.48] * 2,
        "same": [0.5, 0.48, 0.52, 0.5] * 2,
    }
    comparison = comparison_of_scene({name: [values] * 5 for name, values in scores.items()})
    table = pairs_table(comparison, comparison.phases["offline"])
    names = ranking(comparison)
    assert table.header == ["method", *names]
    assert [row[0].text for row in table.rows] == names
    shown = [
        [(entry.text, entry.detail, entry.is_bold) for entry in row[1:]] for row in table.rows[:2]
    ]
    minus = "\N{MINUS SIGN}50.0"
    assert shown[0] == [("-", "", False), ("1.00", "+50.0", True), ("1.00", "+50.0", True)]
    assert [shown[1][0], shown[1][2]] == [("0.00", minus, True), ("0.50", "+0.0", False)]
    assert comparison.phases["offline"].decision.p_values["good", "same"] < 1e-6
