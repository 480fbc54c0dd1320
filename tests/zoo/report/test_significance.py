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
from zoo.report.compute import rank_p_value
from zoo.report.page.report import to_json
from zoo.report.significance import decide
from zoo.report.tables import pairs_table
from zoo.runs.scores import NORMALISED_RETURN


@pytest.mark.parametrize("seeds", [(6, 6), (4, 9)])
def test_one_task_has_scipys_p_value_with_ties(seeds):
    random = np.random.RandomState(1)
    x = random.randint(0, 5, seeds[0]) / 10
    y = random.randint(2, 7, seeds[1]) / 10
    expected = stats.mannwhitneyu(x, y, method="asymptotic", use_continuity=False).pvalue
    assert rank_p_value({"task": x}, {"task": y}) == pytest.approx(expected, rel=1e-12)
    assert rank_p_value({"task": np.zeros(5)}, {"task": np.zeros(5)}) == 1


def test_variance_over_tasks_is_that_of_every_division_of_their_runs():
    x = {"a": np.array([0.1, 0.5, 0.5]), "b": np.array([0.0, 0.3])}
    y = {"a": np.array([0.2, 0.5]), "b": np.array([0.3, 0.9, 0.9])}
    chance, variance = 0.0, 0.0
    for task, runs in x.items():
        pooled = np.append(runs, y[task])
        chances = []
        for chosen in combinations(range(5), len(runs)):
            lead = np.subtract.outer(pooled[list(chosen)], np.delete(pooled, chosen))
            chances.append(np.mean((np.sign(lead) + 1) / 2))
        chance += chances[0] / 2  # the first division is the true one
        variance += np.var(chances) / 4
    expected = 2 * stats.norm.sf(abs(chance - 0.5) / np.sqrt(variance))
    assert rank_p_value(x, y) == pytest.approx(expected)


@pytest.mark.parametrize(("focus", "family"), [(None, ("AB", "AC", "BC")), ("A", ("AB", "AC"))])
def test_difference_has_scipys_welch_test_adjusted_for_its_family(focus, family):
    comparison = comparison_of_returns("ABC", environments=["Pendulum-v1"])
    p_values = decide(comparison, focus=focus).phases["online"].decision.p_values
    table = returns("ABC", environments=["Pendulum-v1"]).query("step == 2000")
    runs = dict(iter(table.groupby("method")["score"]))
    plain = {(x, y): stats.ttest_ind(runs[x], runs[y], equal_var=False).pvalue for x, y in family}
    adjusted = 0.0
    for k, (x, y) in enumerate(sorted(plain, key=plain.get)):
        adjusted = max(adjusted, min(1, (len(family) - k) * plain[x, y]))
        assert p_values[x, y] == p_values[y, x] == pytest.approx(adjusted)
    assert len(p_values) == 2 * len(family)


@pytest.mark.parametrize(("p_value", "is_clear"), [(0.05, True), (0.051, False)])
def test_a_pair_is_clear_at_five_per_cent(p_value, is_clear):
    assert Decision(p_values={("A", "B"): p_value}).is_clear("A", "B") == is_clear


def test_one_seed_tests_nothing_and_two_methods_need_no_matrix():
    two = comparison_of(["A", "B"])
    assert not pairs_table(two, two.phases["offline"]).rows
    for comparison in (comparison_of("ABC", seeds=1), comparison_of_returns("AB", seeds=1)):
        assert not comparison.phases["online"].decision.p_values


def test_matrix_is_in_the_order_of_the_ranking_and_marks_what_is_clear():
    scores = {
        "good": [[1.0] * 8] * 5,
        "middle": [[0.5, 0.52] * 4] * 5,
        "same": [[0.52, 0.5] * 4] * 5,
    }
    comparison = comparison_of_scene(scores)
    table = pairs_table(comparison, comparison.phases["offline"])
    names = ranking(comparison)
    assert table.header == ["method", *names]
    assert [row[0].text for row in table.rows] == names
    first, second, _ = [[(e.text, e.detail, e.is_bold) for e in row[1:]] for row in table.rows]
    assert first == [("-", "", False), ("1.00", "+49.0", True), ("1.00", "+49.0", True)]
    assert second[0] == ("0.00", "\N{MINUS SIGN}49.0", True)
    assert second[2] == ("0.50", "+0.0", False)
    focused = decide(comparison, focus=names[1])
    phase = focused.phases["offline"]
    table = pairs_table(focused, phase)
    assert phase.decision.tested in table.caption
    # the pair of the first and the third method is not tested then
    assert [entry.is_bold for entry in table.rows[0][1:]] == [False, True, False]


@pytest.mark.parametrize("focus", ["m0", None])
def test_an_interval_excludes_zero_exactly_where_the_difference_is_clear(focus):
    random = np.random.RandomState(2)
    contradictions = 0
    for _ in range(8):
        scores = {}
        for k, rate in enumerate(random.uniform(0.4, 0.6, 7)):
            scores[f"m{k}"] = rate + 0.05 * random.randn(5, 6)
        comparison = decide(comparison_of_scene(scores, kind=NORMALISED_RETURN), focus=focus)
        phase = comparison.phases["offline"]
        for verdict in phase.decision.verdicts:
            low, high = verdict.improvement.difference.interval
            excludes_zero = low > 0 or high < 0
            assert excludes_zero == verdict.outcome.is_clear
            assert excludes_zero == (verdict.p_value <= 0.05)
            if verdict.outcome == "better":
                assert low > comparison.resolve
            unadjusted = phase.improvements[phase.decision.subject, verdict.other].difference
            contradictions += (min(unadjusted.interval) > 0) != (low > 0)
    assert contradictions  # of intervals that are not adjusted


def test_interval_over_tasks_is_students_of_the_differences_of_tasks():
    scores = {"a": [[0.5, 0.6], [0.4, 0.8], [0.9, 0.7]], "b": [[0.1, 0.2], [0.5, 0.4], [0.3, 0.2]]}
    comparison = comparison_of_scene(scores)
    (verdict,) = comparison.phases["offline"].decision.verdicts
    expected = stats.ttest_1samp([0.4, 0.15, 0.55], 0).confidence_interval()
    assert verdict.over_tasks.interval == pytest.approx(tuple(expected))
    written = to_json([comparison], [])["offline"]["verdicts"]["b"]
    assert written["interval_over_tasks"] == verdict.over_tasks.interval
    assert written["verdict_interval"] == verdict.improvement.difference.interval
    one_task = comparison_of_scene({name: runs[:1] for name, runs in scores.items()})
    assert one_task.phases["offline"].decision.verdicts[0].over_tasks is None
