from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from tests.zoo.report.samples import (
    NO_MEANS,
    SCENE,
    comparison_of_scene,
    content_of,
    evaluations,
    own_methods,
    scene_runs,
)
from zoo.report.comparison import MEAN_COLUMNS, ComparedMethod
from zoo.report.compute import compare
from zoo.report.page.results import to_json
from zoo.report.page.sentences import verdict_sentences
from zoo.report.significance import _without, decide
from zoo.report.statistics.estimates import Estimate
from zoo.report.tables import aggregates_table, pairs_table, verdict_table
from zoo.runs.read import EVALUATION_COLUMNS
from zoo.runs.scores import NORMALISED_RETURN, RETURN, SUCCESS

GOOD = [[0.9, 0.92, 0.94, 0.9]] * 5
ALIKE = [[0.9, 0.94, 0.92, 0.9]] * 5
BAD = [[0.5, 0.52, 0.54, 0.5]] * 4 + [[0.9, 0.92, 0.94, 0.9]]


def compared(scores, focus="ours", kind=SUCCESS, **methods):
    """Return a comparison of methods with given scores on the tasks of scene."""
    return decide(comparison_of_scene(scores, kind=kind, **methods), focus=focus)


def offline(comparison):
    return comparison.phases["offline"]


def outcomes(comparison):
    return {v.other: v.outcome for v in offline(comparison).decision.verdicts}


@pytest.mark.parametrize(
    ("ours", "other", "outcome"),
    [([0.2, 0.8, 0.3, 0.7], [0.8, 0.3, 0.2, 0.6], "unclear"), ([0.5], [0.6], "untested")],
)
def test_what_is_not_better_says_why(ours, other, outcome):
    comparison = compared({"ours": [ours] * 5, "other": [other] * 5})
    (found,) = offline(comparison).decision.verdicts
    assert found.outcome == outcome


@pytest.mark.parametrize(
    ("away", "outcome", "words"),
    [
        (0.10, "better", "Better by more than 3 points than other."),
        (0.03, "ahead", "Ahead of other."),
        (0.01, "slightly ahead", "Ahead by less than 3 points of other."),
        (0.00, "equal", "Equal to other."),
        (-0.01, "slightly behind", "Less than 3 points behind other."),
        (-0.10, "worse", "Worse by more than 3 points than other."),
    ],
)
def test_the_margin_decides_the_word(away, outcome, words):
    other = np.array([0.5, 0.51, 0.49, 0.5, 0.5, 0.5] * 4)  # without the least variance of episodes
    comparison = compared(
        {"other": [other] * 5, "ours": [other + away] * 5}, kind=NORMALISED_RETURN
    )
    assert outcomes(comparison) == {"other": outcome}
    assert words in verdict_sentences([comparison])[0][0]


@pytest.mark.parametrize(
    ("ours", "theirs", "outcome"), [(0.95, 1.0, "both solve"), (0.0, 0.04, "both fail")]
)
def test_no_method_is_better_where_both_solve_or_both_fail(ours, theirs, outcome):
    comparison = compared({"ours": [[ours + 0.001] * 12] * 5, "other": [[theirs] * 12] * 5})
    assert offline(comparison).decision.is_clear("ours", "other")
    assert outcomes(comparison) == {"other": outcome}


def test_where_all_fail_no_method_leads():
    comparison = compared({"ours": [[0.0] * 5] * 5, "other": [[0.0] * 5] * 5}, focus=None)
    assert verdict_sentences([comparison]) == [("No method succeeds offline, 5 tasks.", "")]


def test_short_own_runs_beside_published_ones_are_not_compared_yet():
    short, full = {"offline_steps": 300}, {"offline_steps": 1_000_000}
    methods = {"ours": ComparedMethod("ours", "QAM", "own", {SCENE[0]: short})}
    methods["QAM"] = ComparedMethod("QAM", "QAM", "a_set", {"scene-play": full})
    comparison = compared({"ours": [[0.0, 0.02]], "QAM": [[1.0] * 12]}, **methods)
    ((sentence, basis),) = verdict_sentences([comparison])
    assert sentence == (
        "Not comparable yet: 300 of 1,000,000 offline steps. QAM published 100.0%, yours 1.0%."
    )
    assert not basis
    assert outcomes(comparison) == {"QAM": "not comparable yet"}  # what strip and table say
    assert (
        "p value" not in verdict_table(comparison, comparison.phases["offline"]).caption
    )  # nothing is tested
    assert not offline(comparison).decision.p_values


def test_own_runs_of_as_many_steps_as_published_ones_are_compared():
    protocol = {SCENE[0]: {"offline_steps": 1000}}
    methods = {
        "ours": ComparedMethod("ours", "QAM", "own", protocol),
        "QAM": ComparedMethod("QAM", "QAM", "a", protocol),
    }
    assert outcomes(compared({"ours": [[0.5] * 12], "QAM": [[1.0] * 12]}, **methods)) == {
        "QAM": "worse"
    }


def test_equivalence_is_two_one_sided_welch_tests_of_the_margin():
    random = np.random.RandomState(4)
    ours, other = (mean + 0.02 * random.randn(6) for mean in (0.5, 0.6))
    found = compared(
        {"ours": [ours], "other": [other]}, kind=NORMALISED_RETURN
    )  # has no least variance
    away = abs(ours.mean() - other.mean())
    for margin, expected in ((away + 0.005, False), (away + 0.05, True)):
        tests = [stats.ttest_ind(ours + sign * margin, other, equal_var=False, alternative=side).pvalue
                 for sign, side in ((1, "greater"), (-1, "less"))]  # fmt: skip
        assert (max(tests) <= 0.05) == expected
        for focus in ("ours", "other"):
            (verdict,) = offline(decide(found, focus=focus, resolve=margin)).decision.verdicts
            assert (verdict.outcome in ("equal", "slightly ahead", "slightly behind")) == expected


def test_p_values_are_welchs_and_adjusted_for_the_number_of_methods():
    scores = {"ours": [0.1, 0.4, 0.3, 0.6], "a": [0.2, 0.6, 0.7, 0.6], "b": [0.4, 0.7, 0.9, 0.8]}
    comparison = compared(
        {name: [found] for name, found in scores.items()}, kind=RETURN
    )  # without a floor
    found = {v.other: v.p_value for v in offline(comparison).decision.verdicts}
    p = {
        name: stats.ttest_ind(scores["ours"], scores[name], equal_var=False).pvalue for name in "ab"
    }
    assert p["b"] < p["a"]
    assert found == pytest.approx({"b": 2 * p["b"], "a": max(p["a"], 2 * p["b"])})


def test_sentence_has_score_outcomes_and_the_best_rival():
    comparison = compared({"ours": GOOD, "alike": ALIKE, "bad": BAD, "worse": [[0.0] * 4] * 5})
    ((sentence, basis),) = verdict_sentences([comparison])
    assert sentence.startswith("ours, offline, 5 tasks: 91.5% [")
    assert "Better by more than 3 points than bad, worse; equal to alike" in sentence
    assert "Against alike: 0.0 [" in sentence
    assert "tasks won 0, lost 0, undecided 5." in basis


def phases_with(scores, focus=None):
    """Return a comparison of methods that have these scores offline and online."""
    steps = ((1000, "offline"), (2000, "online"))
    runs = pd.concat([evaluations([name], steps=steps) for name in scores])
    runs["score"] = [
        scores[name][phase == "online"]
        for name, phase in zip(runs["method"], runs["phase"], strict=True)
    ]
    return runs, decide(compare(own_methods(sorted(scores)), runs, NO_MEANS, reps=20), focus=focus)


def test_without_a_focus_the_verdict_is_on_the_leader_of_each_phase_among_all_pairs():
    _, comparison = phases_with({"a": (0.9, 0.2), "b": (0.5, 0.8), "c": (0.3, 0.3)})
    (first, basis), (then, _) = verdict_sentences([comparison])
    assert first.startswith("a leads offline, 2 tasks: 90.0% [")
    assert "Better by more than 3 points than b, c. Against b: +40.0 [" in first
    assert then.startswith("b leads online")
    assert "3 comparisons between all methods" in basis
    assert to_json([comparison], [])["offline"]["verdict_on"] == "a"


def test_two_own_methods_are_set_against_each_other_first():
    published = ComparedMethod("best", "QAM", "a_set")
    comparison = compared({"old": BAD, "ours": ALIKE, "best": GOOD}, best=published)
    assert "Against old: +" in verdict_sentences([comparison])[0][0]
    inputs = content_of(
        evaluations(["QAM", "b", "c"]), {**own_methods("bc"), "QAM": published}
    ).inputs
    assert inputs.default_focus("QAM") == inputs.default_focus("b") == "c"
    assert inputs.default_focus("c") == "b"


def test_one_seed_decides_nothing_and_says_how_many_do():
    comparison = compared({"ours": [[0.5]] * 5, "other": [[0.2, 0.4, 0.6]] * 5})
    sentence, basis = verdict_sentences([comparison])[0]
    assert "Tested by" not in basis
    assert (
        "Not to be decided, since a task has one seed or all seeds agree, against other" in sentence
    )
    assert "It takes at least 5 seeds to decide that." in sentence
    many = compared({"ours": [[0.7] * 12] * 5, "other": [[0.684] * 12] * 5})
    assert outcomes(many) == {"other": "unclear"}
    assert "It takes" not in verdict_sentences([many])[0][0]  # its interval is narrower already


def test_verdict_says_what_changes_without_a_domain():
    runs = pd.concat([evaluations([name], tasks=4) for name in ("ours", "other")])
    is_cube, is_ours = runs["domain"].str.startswith("cube"), runs["method"] == "ours"
    wobble = 0.01 * (runs["seed"] % 2)
    found = []
    for rate in (0.9, 0.5):
        runs["score"] = np.where(is_ours & is_cube, 0.9, np.where(is_ours, rate, 0.5)) + wobble
        comparison = decide(
            compare(own_methods(["other", "ours"]), runs, NO_MEANS, reps=20), focus="ours"
        )
        found.append(verdict_sentences([comparison])[0][1])
    assert "Leaving out any one domain changes nothing that is clear." in found[0]
    assert (
        "Fragile: leaving out cube-double-play turns 'better' against other into 'unclear'."
        in found[1]
    )
    alone = compare(own_methods(["other", "ours"]), runs[~is_cube], NO_MEANS, reps=20)
    phase, part = comparison.phases["offline"], alone.phases["offline"]
    reduced = _without(phase, [task for task in phase.tasks if task.startswith("cube")])
    pair, expected = (p.improvements["other", "ours"] for p in (reduced, part))
    assert pair.p_value == pytest.approx(expected.p_value)
    assert pair.difference.point == pytest.approx(expected.difference.point)


def test_means_without_single_runs_decide_nothing():
    means = pd.DataFrame(
        [["A", "offline", 9, SCENE[0], "scene-play", 0.4, 0.1, 3]], columns=MEAN_COLUMNS
    )
    published, no_runs = (
        {"A": ComparedMethod("A", "A", "a_set")},
        scene_runs([]).reindex(columns=EVALUATION_COLUMNS),
    )
    comparison = compare(published, no_runs, means, reps=10)
    assert verdict_sentences([comparison]) == [("A, offline, 1 task: 40.0% success.", "")]
    comparison = compared({"ours": BAD, "other": BAD})
    phase = offline(comparison)
    better = replace(phase.aggregates["ours"], estimates={"mean": Estimate(0.99)})
    phase = replace(phase, aggregates={**phase.aggregates, "A": better})
    comparison = replace(
        comparison, methods={**comparison.methods, **published}, phases={"offline": phase}
    )
    assert (
        "Higher means without single runs cannot be tested: A."
        in verdict_sentences([comparison])[0][0]
    )


def test_table_shows_what_the_verdict_is_made_from():
    comparison = compared({"ours": GOOD, "bad": BAD})
    table = verdict_table(comparison, offline(comparison))
    assert table.name == "verdict_offline"
    assert [table.rows[0][k].text for k in (0, 2, 4)] == [
        "bad",
        "< 0.001",
        "4 / 0 / 1",
    ]  # won, lost, undecided
    assert table.rows[0][5].is_bold
    assert table.rows[0][5].text == "better"
    assert table.rows[0][2].value < 0.001
    turned = decide(comparison, focus="bad")
    (other_way,) = verdict_table(turned, offline(turned)).rows
    assert other_way[4].text == "0 / 4 / 1"


def test_online_the_rival_and_the_order_are_those_of_the_online_phase():
    runs, comparison = phases_with(
        {"first": (0.9, 0.6), "later": (0.5, 0.8), "ours": (0.3, 0.3)}, focus="ours"
    )
    (offline, _), (online, _) = verdict_sentences([comparison])
    assert "Against first" in offline
    assert "Against later" in online
    shown = replace(content_of(runs), comparisons=[comparison])
    for phase, order in (
        ("offline", ["first", "later", "ours"]),
        ("online", ["later", "first", "ours"]),
    ):
        tables = {table.name: table for table in shown.tables}
        rows = [row[0].text for row in tables[f"aggregates_{phase}"].rows]
        assert rows == order
        assert tables[f"tasks_{phase}"].header[1:] == order
        assert [row[0].text for row in tables[f"pairs_{phase}"].rows] == order
        assert [row[0].text for row in tables[f"verdict_{phase}"].rows] == order[:2]


def test_words_marks_and_bold_of_a_page_never_contradict_each_other():
    random = np.random.RandomState(0)
    rates = {"ours": 0.80, "near": 0.77, "other": 0.5, "far": 0.2}
    scores = {
        name: np.clip(rate + 0.01 * random.randn(5, 6), 0, 1).tolist()
        for name, rate in rates.items()
    }
    comparison = compared(scores)
    phase = offline(comparison)
    words = {v.other: v.outcome for v in phase.decision.verdicts}
    assert words["near"] == "ahead"  # though it has more than 95% of the best mean
    for name, outcome in words.items():
        assert phase.decision.is_clear("ours", name) == (outcome in ("better", "ahead"))
    tables = {
        t.name: t for t in (aggregates_table(comparison, phase), pairs_table(comparison, phase))
    }
    bold = [row[0].text for row in tables["aggregates_offline"].rows if row[1].is_bold]
    assert bold == ["ours"]
    pairs = tables["pairs_offline"]
    marked = {
        (row[0].text, pairs.header[k])
        for row in pairs.rows
        for k, entry in enumerate(row)
        if entry.is_bold
    }
    assert marked == {pair for name in words for pair in (("ours", name), (name, "ours"))}
    family = "Welch's t-test of the difference of means, 5% after Holm's correction for the 3 comparisons with ours"
    texts = [
        pairs.caption,
        verdict_table(comparison, phase).caption,
        verdict_sentences([comparison])[0][1],
    ]
    assert all(family in text for text in texts)
    assert family in to_json([comparison], [])["offline"]["tests"]


def test_seeds_that_agree_have_no_interval_that_looks_certain():
    comparison = compared({"ours": [[1.0] * 3] * 5, "bad": [[0.0] * 3] * 5})
    phase = offline(comparison)
    assert phase.improvements["ours", "bad"].probability.interval is None
    assert phase.aggregates["ours"].estimates["iqm"].interval is None
    assert phase.aggregates["ours"].estimates["mean"].interval is not None
    for table in (verdict_table(comparison, phase), aggregates_table(comparison, phase)):
        assert "says nothing about other seeds" in table.caption
        assert any(entry.detail == "(no interval)" for row in table.rows for entry in row)
    assert "probability of improvement 1.00 (no interval)" in verdict_sentences([comparison])[0][1]
    chance = to_json([comparison], [])["offline"]["probability_of_improvement"]["ours"]["bad"]
    assert chance["point"] == 1.0
    assert chance["ci95"] is None
    assert chance["interval"] == "unsure"
