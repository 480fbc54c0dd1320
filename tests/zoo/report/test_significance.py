"""The conclusions from a phase's numbers, and their wording in a report."""

from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from tests.zoo.report.samples import (
    SCENE,
    comparison_of_returns,
    comparison_of_runs,
    comparison_of_scene,
    content_of,
    evaluations,
    means_of_scene,
    own_methods,
    returns,
    scene_runs,
)
from zoo.report.comparison import ComparedMethod
from zoo.report.figures import all_figures
from zoo.report.sentences import verdict_sentences
from zoo.report.significance import are_comparable, rank_p_value
from zoo.report.statistics import holm
from zoo.report.tables import verdict_table
from zoo.runs.scores import NORMALISED_RETURN, RETURN

# 24 seeds, so that intervals are narrower than the margin
STEADY = np.array([0.5, 0.51, 0.49, 0.5, 0.5, 0.5] * 4)


def outcomes(comparison):
    return {v.method: v.outcome for v in comparison.phases["offline"].decision.verdicts}


def test_variance_over_tasks_is_that_of_every_division():
    x = {"a": np.array([0.1, 0.5, 0.5]), "b": np.array([0.0, 0.3])}
    y = {"a": np.array([0.2, 0.5]), "b": np.array([0.3, 0.9, 0.9])}
    chance = variance = 0.0
    for task, runs in x.items():
        pooled = np.append(runs, y[task])
        chances = []
        for chosen in combinations(range(5), len(runs)):
            lead = np.subtract.outer(pooled[list(chosen)], np.delete(pooled, chosen))
            chances.append(np.mean((np.sign(lead) + 1) / 2))
        chance += chances[0] / 2  # the first of all divisions into two groups is the observed one
        variance += np.var(chances) / 4
    expected = 2 * stats.norm.sf(abs(chance - 0.5) / np.sqrt(variance))
    assert rank_p_value(x, y) == pytest.approx(expected)
    assert rank_p_value({"a": np.zeros(5)}, {"a": np.zeros(5)}) == 1
    one = {**y, "b": np.zeros(1)}
    assert rank_p_value(x, one) is rank_p_value(one, x) is None


@pytest.mark.parametrize("focus", ["A", None, "without runs"])
def test_a_phase_has_one_family_of_tests(focus):
    family = ["AB", "AC"] if focus == "A" else ["AB", "AC", "BC"]
    scope = "with A" if focus == "A" else "between all methods"
    comparison = comparison_of_returns("ABC", environments=["Pendulum-v1"], focus=focus)
    decision = comparison.phases["online"].decision
    table = returns("ABC", environments=["Pendulum-v1"]).query("step == 2000")
    runs = dict(iter(table.groupby("method")["score"]))
    plain = {}
    for x, y in family:
        t = stats.ttest_ind(runs[x], runs[y], equal_var=False).statistic
        plain[x, y] = 2 * stats.t.sf(abs(t), 5)  # six seeds per method
    adjusted = dict(zip(plain, holm([*plain.values()]), strict=True))
    for verdict in decision.verdicts:
        pair = tuple(sorted((decision.subject, verdict.method)))
        assert verdict.p_value == pytest.approx(adjusted[pair])
    assert decision.tested.endswith(f"for the {len(family)} comparisons {scope}")


@pytest.mark.parametrize(
    ("away", "outcome"), [(0.10, "better"), (0.01, "better"), (0.0, "equal"), (-0.10, "worse")]
)
def test_outcomes(away, outcome):
    scores = {"rival": [STEADY] * 5, "ours": [STEADY + away] * 5}
    # for normalised returns, there is no lower bound of the variance between episodes
    comparison = comparison_of_scene(scores, kind=NORMALISED_RETURN, focus="ours")
    assert outcomes(comparison) == {"rival": outcome}
    assert comparison.phases["offline"].decision.seeds_needed is None


@pytest.mark.parametrize("focus", ["m0", None])
def test_an_interval_excludes_zero_where_a_difference_is_clear(focus):
    random = np.random.RandomState(2)
    clear = 0
    for _ in range(8):
        scores = {}
        for k, rate in enumerate(random.uniform(0.4, 0.6, 7)):
            scores[f"m{k}"] = rate + 0.05 * random.randn(5, 6)
        comparison = comparison_of_scene(scores, kind=NORMALISED_RETURN, focus=focus)
        for verdict in comparison.phases["offline"].decision.verdicts:
            low, high = verdict.difference.interval
            excludes_zero = low > 0 or high < 0
            assert excludes_zero == (verdict.outcome in ("better", "worse"))
            assert excludes_zero == (verdict.p_value <= 0.05)
            clear += excludes_zero
    assert clear


def test_false_words_of_a_phase_are_as_rare_as_the_page_says():
    random = np.random.RandomState(1)
    false_leads = false_equals = 0
    for _ in range(200):
        # three methods equal to ours, and three that differ by exactly the margin
        scores = {}
        for k in range(7):
            scores[f"m{k}"] = 0.5 + 0.03 * (k > 3) + 0.015 * random.randn(3, 4)
        comparison = comparison_of_scene(scores, kind=NORMALISED_RETURN, focus="m0")
        words = outcomes(comparison)
        false_leads += any(words[f"m{k}"] in ("better", "worse") for k in (1, 2, 3))
        false_equals += any(words[f"m{k}"] == "equal" for k in (4, 5, 6))
    # 5% and 2.5%, plus twice the standard error of the simulation
    assert false_leads <= 16
    assert false_equals <= 9


def test_short_own_runs_are_not_comparable():
    published = ComparedMethod("QAM", "a_set", {"scene-play": {"offline_steps": 1000}})
    scores = {"ours": [[0.0, 0.02]] * 2, "QAM": [[1.0] * 12] * 2}
    for steps, outcome in ((0, "not comparable"), (1000, "worse")):
        protocol = {SCENE[0]: {"offline_steps": 1000}, SCENE[1]: {"offline_steps": steps}}
        ours = ComparedMethod("QAM", "own", protocol)
        comparison = comparison_of_scene(scores, focus="ours", ours=ours, QAM=published)
        is_tested = outcome == "worse"
        phase = comparison.phases["offline"]
        table = verdict_table(comparison, phase)
        ((_, *entries, verdict),) = table.rows
        assert verdict.text == outcome
        assert verdict.is_bold == is_tested
        assert bool(entries) == ("P(better)" in table.caption) == is_tested
        for name in ("verdict_offline", "improvement_offline"):
            assert bool(all_figures(comparison, only=name)) == is_tested
        text = verdict_sentences([comparison])[0]
        assert ("Not comparable" in text) != is_tested
        assert ("Against" in text) == ("Against QAM: \N{MINUS SIGN}9" in text) == is_tested
    short = ComparedMethod("FQL", "a_set", {"scene-play": {"offline_steps": 10}})
    assert are_comparable(phase, {"QAM": published, "FQL": short}, "QAM", "FQL")


def test_without_a_focus_the_verdict_is_on_the_leader():
    scores = {"a": (0.9, 0.2), "b": (0.5, 0.8), "c": (0.3, 0.8)}  # offline, online
    runs = evaluations(scores, steps=((1000, "offline"), (2000, "online")))
    pairs = zip(runs["method"], runs["phase"], strict=True)
    runs["score"] = [scores[name][phase == "online"] for name, phase in pairs]
    comparison = comparison_of_runs(runs)
    first, then = verdict_sentences([comparison])
    assert first.startswith("a, offline")
    assert "Against b: +40" in first
    assert then.startswith("b, online")  # c has the same mean
    assert [p.decision.subject for p in comparison.phases.values()] == ["a", "b"]


def test_the_verdict_is_on_the_only_own_method_or_the_leader():
    methods = {**own_methods("b"), "QAM": ComparedMethod("QAM", "a_set")}
    inputs = content_of(evaluations(["QAM", "b"]), methods).inputs
    assert inputs.focus("") == "b"
    assert inputs.focus("QAM") == "QAM"


def test_seeds_are_planned_for_the_undecided_pair_shown():
    runs = [0.2, 0.8, 0.3, 0.7, 0.5]
    comparison = comparison_of_scene({"ours": [runs], "rival": [[0.3, 0.8, 0.4, 0.9, 0.5]]})
    decision = comparison.phases["offline"].decision
    assert decision.rival.outcome == "undecided"
    assert decision.seeds_needed > 5
    assert decision.rival.difference.interval[0] < 0


def test_means_without_single_runs_cannot_be_tested():
    published = {name: ComparedMethod(name, "a_set") for name in "AB"}
    of_domain = means_of_scene("AB").assign(environment="scene-play")  # no mean of a task
    beside = [scene_runs([[0.4] * 3] * 5, name) for name in "CD"]
    for runs in (scene_runs([]), pd.concat(beside)):
        comparison = comparison_of_runs(runs, of_domain, published)
        assert all_figures(comparison, only="aggregates_offline")
        (text,) = verdict_sentences([comparison])
        assert "40.0%" in text
        assert "cannot be tested" in text


def test_the_interval_over_tasks_is_students():
    away = np.array([0.4, 0.15, 0.55])
    scores = {"ours": STEADY + away[:, None] / 2, "rival": [STEADY - shift / 2 for shift in away]}
    comparison = comparison_of_scene(scores, kind=NORMALISED_RETURN, focus="ours")
    (verdict,) = comparison.phases["offline"].decision.verdicts
    expected = stats.ttest_1samp(away, 0).confidence_interval()
    assert verdict.over_tasks.interval == pytest.approx(tuple(expected))


@pytest.mark.parametrize(
    ("kind", "seeds", "end"), [(RETURN, 1, ". Undecided"), (NORMALISED_RETURN, 3, ": 40.0. ")]
)
def test_single_or_equal_seeds_are_not_tested(kind, seeds, end):
    # the mean of three equal numbers 0.7 or 0.1 is not exactly this number
    scores = {"ours": [[0.7] * seeds, [0.1] * seeds], "rival": [[0.1] * seeds, [0.7] * seeds]}
    (text,) = verdict_sentences([comparison_of_scene(scores, kind=kind)])
    assert text.startswith(f"ours, offline, {kind.name}, 2 common tasks{end}")
    assert "The two are not tested, because a task has only one seed or all its scores" in text


def test_where_all_fail_all_are_equal_and_one_alone_has_no_verdict():
    comparison = comparison_of_scene({"ours": [[0.0] * 5] * 5, "rival": [[0.0] * 5] * 5})
    (text,) = verdict_sentences([comparison])
    assert text.startswith(
        "ours, offline, 5 common tasks: 0.0% [0.0, 0.7] success. Equal to rival."
    )
    caption = verdict_table(comparison, comparison.phases["offline"]).caption
    assert "Equal: significantly less than 3 points apart." in caption
    alone = comparison_of_returns(["SAC"])  # on two environments
    assert not verdict_sentences([alone])
