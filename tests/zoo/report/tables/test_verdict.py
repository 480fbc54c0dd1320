from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from tests.zoo.report.samples import (
    SCENE,
    comparison_of_runs,
    comparison_of_scene,
    content_of,
    evaluations,
    means_of_scene,
    own_methods,
    scene_runs,
)
from zoo.report.comparison import ComparedMethod
from zoo.report.figures.plots import all_figures
from zoo.report.page.report import to_json
from zoo.report.page.sentences import verdict_sentences
from zoo.report.significance import _without, decide
from zoo.report.statistics.estimates import Estimate
from zoo.report.tables import aggregates_table, verdict_table
from zoo.runs.read import EVALUATION_COLUMNS
from zoo.runs.scores import NORMALISED_RETURN, SUCCESS

GOOD = [[0.9, 0.92, 0.94, 0.9]] * 5
ALIKE = [[0.9, 0.94, 0.92, 0.9]] * 5
BAD = [[0.5, 0.52, 0.54, 0.5]] * 4 + [[0.9, 0.92, 0.94, 0.9]]
# 24 seeds, so that intervals are narrower than the distances from the margin
STEADY = np.array([0.5, 0.51, 0.49, 0.5, 0.5, 0.5] * 4)


def compared(scores, focus="ours", kind=SUCCESS, **methods):
    """Return a comparison of methods with given scores on the tasks of scene."""
    return decide(comparison_of_scene(scores, kind=kind, **methods), focus=focus)


def offline(comparison):
    return comparison.phases["offline"]


def first_column(table):
    return [row[0].text for row in table.rows]


def outcomes(comparison):
    return {v.other: v.outcome for v in offline(comparison).decision.verdicts}


def sentences(*scores, **options):
    """Return the verdict on the first phase in one text."""
    return " ".join(verdict_sentences([compared(*scores, **options)])[0])


@pytest.mark.parametrize(
    ("ours", "rival", "outcome"),
    [
        ([0.2, 0.8, 0.3, 0.7], [0.8, 0.3, 0.2, 0.6], "undecided"),
        ([0.5], [0.6], "untested"),
        ([0.951] * 12, [1.0] * 12, "both solve"),
        ([0.001] * 12, [0.04] * 12, "both fail"),
    ],
)
def test_what_is_not_better_says_why(ours, rival, outcome):
    comparison = compared({"ours": [ours] * 5, "rival": [rival] * 5})
    assert outcomes(comparison) == {"rival": outcome}


@pytest.mark.parametrize(
    ("away", "outcome"),
    [
        (0.10, "better"),
        (0.03, "ahead"),
        (0.01, "slightly ahead"),
        (0.00, "equal"),
        (-0.01, "slightly behind"),
        (-0.10, "worse"),
    ],
)
def test_the_margin_decides_the_word(away, outcome):
    scores = {"rival": [STEADY] * 5, "ours": [STEADY + away] * 5}
    # normalised returns have no least variance of episodes
    assert outcomes(compared(scores, kind=NORMALISED_RETURN)) == {"rival": outcome}


def test_where_all_fail_no_method_leads():
    scores = {"ours": [[0.0] * 5] * 5, "rival": [[0.0] * 5] * 5}
    assert "No method succeeds" in sentences(scores, focus=None)


def test_short_own_runs_beside_published_ones_are_not_compared_yet():
    published = ComparedMethod("QAM", "QAM", "a_set", {"scene-play": {"offline_steps": 1000}})
    scores = {"ours": [[0.0, 0.02]], "QAM": [[1.0] * 12]}
    for steps, outcome in ((300, "not comparable yet"), (1000, "worse")):
        ours = ComparedMethod("ours", "QAM", "own", {SCENE[0]: {"offline_steps": steps}})
        comparison = compared(scores, ours=ours, QAM=published)
        assert outcomes(comparison) == {"QAM": outcome}
        is_tested = outcome == "worse"
        phase = offline(comparison)
        table = verdict_table(comparison, phase)
        assert bool(phase.decision.p_values) == bool(table.rows) == is_tested
        assert ("p value" in table.caption) == is_tested
        assert bool(all_figures(comparison, evaluations([]), only="verdict_offline")) == is_tested
        text = "300 of 1,000 offline steps"
        assert (text in verdict_sentences([comparison])[0][0]) != is_tested


def test_equivalence_is_two_one_sided_welch_tests_of_the_margin():
    random = np.random.RandomState(4)
    ours = 0.5 + 0.02 * random.randn(6)
    rival = 0.6 + 0.02 * random.randn(6)
    comparison = compared({"ours": [ours], "rival": [rival]}, kind=NORMALISED_RETURN)
    away = abs(ours.mean() - rival.mean())
    for margin, is_small in ((away + 0.005, False), (away + 0.05, True)):
        above = stats.ttest_ind(ours + margin, rival, equal_var=False, alternative="greater")
        below = stats.ttest_ind(ours - margin, rival, equal_var=False, alternative="less")
        assert (max(above.pvalue, below.pvalue) <= 0.05) == is_small
        for focus in ("ours", "rival"):
            (outcome,) = outcomes(decide(comparison, focus=focus, resolve=margin)).values()
            assert (outcome in ("equal", "slightly ahead", "slightly behind")) == is_small


def test_sentence_has_score_outcomes_and_the_best_rival():
    text = sentences({"ours": GOOD, "alike": ALIKE, "bad": BAD, "worse": [[0.0] * 4] * 5})
    assert text.startswith("ours, offline, 5 tasks: 91.5% [")
    for part in ("than bad, worse;", "equal to alike", "Against alike: 0.0 [", "undecided 5."):
        assert part in text


def phases_with(scores, focus=None):
    """Return runs of methods that have these scores offline and online, and their comparison."""
    runs = evaluations(scores, steps=((1000, "offline"), (2000, "online")))
    pairs = zip(runs["method"], runs["phase"], strict=True)
    runs["score"] = [scores[name][phase == "online"] for name, phase in pairs]
    return runs, comparison_of_runs(runs, focus=focus)


def test_without_a_focus_the_verdict_is_on_the_leader_of_each_phase_among_all_pairs():
    _, comparison = phases_with({"a": (0.9, 0.2), "b": (0.5, 0.8), "c": (0.3, 0.3)})
    (first, basis), (then, _) = verdict_sentences([comparison])
    assert first.startswith("a leads offline, 2 tasks: 90.0% [")
    assert "Against b: +40.0 [" in first
    assert then.startswith("b leads online")
    assert "3 comparisons between all methods" in basis
    assert to_json([comparison], [])["offline"]["verdict_on"] == "a"


def test_two_own_methods_are_set_against_each_other_first():
    published = ComparedMethod("best", "QAM", "a_set")
    assert "Against old: +" in sentences({"old": BAD, "ours": ALIKE, "best": GOOD}, best=published)
    methods = {**own_methods("bc"), "QAM": published}
    inputs = content_of(evaluations(["QAM", "b", "c"]), methods).inputs
    assert [inputs.default_focus(baseline) for baseline in ("QAM", "b", "c")] == ["c", "c", "b"]


def test_one_seed_decides_nothing_and_says_how_many_do():
    text = sentences({"ours": [[0.5]] * 5, "rival": [[0.2, 0.4, 0.6]] * 5})
    assert "Tested by" not in text
    assert "at least 5 seeds" in text
    many = {"ours": [[0.7] * 12] * 5, "rival": [[0.684] * 12] * 5}
    assert "It takes" not in sentences(many)  # its interval is narrower already


def test_verdict_says_what_changes_without_a_domain():
    runs = evaluations(["ours", "rival"], tasks=4)
    is_ours = runs["method"] == "ours"
    is_cube = runs["domain"].str.startswith("cube")
    texts = []
    for is_better in (is_ours, is_ours & is_cube):
        table = runs.assign(score=0.5 + 0.01 * (runs["seed"] % 2) + 0.4 * is_better)
        comparison = comparison_of_runs(table, focus="ours")
        texts.append(verdict_sentences([comparison])[0][1])
    assert "Leaving out any one domain changes nothing" in texts[0]
    assert "cube-double-play turns 'better' against rival into 'undecided'" in texts[1]
    scene = comparison_of_runs(table[~is_cube])
    reduced = _without(offline(comparison), [*table.loc[is_cube, "environment"]])
    pair = reduced.improvements["rival", "ours"]
    expected = offline(scene).improvements["rival", "ours"]
    assert pair.p_value == pytest.approx(expected.p_value)
    assert pair.difference.point == pytest.approx(expected.difference.point)


def test_means_without_single_runs_decide_nothing():
    published = {"A": ComparedMethod("A", "A", "a_set")}
    no_runs = scene_runs([]).reindex(columns=EVALUATION_COLUMNS)
    alone = comparison_of_runs(no_runs, means_of_scene("A"), published)
    ((text, basis),) = verdict_sentences([alone])
    assert ("40.0%" in text, basis) == (True, "")
    comparison = compared({"ours": BAD, "rival": BAD})
    phase = offline(comparison)
    better = replace(phase.aggregates["ours"], estimates={"mean": Estimate(0.99)})
    phase = replace(phase, aggregates={**phase.aggregates, "A": better})
    methods = {**comparison.methods, **published}
    comparison = replace(comparison, methods=methods, phases={"offline": phase})
    assert "cannot be tested: A." in verdict_sentences([comparison])[0][0]


def test_table_shows_what_the_verdict_is_made_from():
    comparison = compared({"ours": GOOD, "bad": BAD})
    table = verdict_table(comparison, offline(comparison))
    assert table.name == "verdict_offline"
    ((against, _, over_tasks, p_value, _, tasks, verdict),) = table.rows
    assert over_tasks.interval == offline(comparison).decision.verdicts[0].over_tasks.interval
    assert against.text == "bad"
    assert tasks.text == "4 / 0 / 1"
    assert p_value.text == "< 0.001"
    assert p_value.value < 0.001
    assert (verdict.text, verdict.is_bold) == ("better", True)
    turned = decide(comparison, focus="bad")
    assert verdict_table(turned, offline(turned)).rows[0][5].text == "0 / 4 / 1"
    for text in (
        table.caption,
        verdict_sentences([comparison])[0][1],
        to_json([comparison], [])["offline"]["tests"],
    ):
        assert offline(comparison).decision.tested in text


def test_online_the_rival_and_the_order_are_those_of_the_online_phase():
    scores = {"first": (0.9, 0.6), "later": (0.5, 0.8), "ours": (0.3, 0.3)}
    runs, comparison = phases_with(scores, focus="ours")
    shown = replace(content_of(runs), comparisons=[comparison])
    tables = {table.name: table for table in shown.tables}
    orders = {"offline": ["first", "later", "ours"], "online": ["later", "first", "ours"]}
    sentences = dict(zip(orders, verdict_sentences([comparison]), strict=True))
    for phase, order in orders.items():
        assert f"Against {order[0]}" in sentences[phase][0]
        assert tables[f"tasks_{phase}"].header[1:] == order
        for name, names in (("aggregates", order), ("pairs", order), ("verdict", order[:2])):
            assert first_column(tables[f"{name}_{phase}"]) == names


def test_seeds_that_agree_have_no_interval_that_looks_certain():
    comparison = compared({"ours": [[1.0] * 5] * 5, "bad": [[0.0] * 5] * 5})
    phase = offline(comparison)
    estimates = phase.aggregates["ours"].estimates
    assert estimates["iqm"].interval is None
    assert estimates["mean"].interval is not None
    for table in (verdict_table(comparison, phase), aggregates_table(comparison, phase)):
        assert "says nothing about other seeds" in table.caption
        assert any(entry.detail == "(no interval)" for row in table.rows for entry in row)
    assert "probability of improvement 1.00 (no interval)" in verdict_sentences([comparison])[0][1]
    chance = to_json([comparison], [])["offline"]["probability_of_improvement"]["ours"]["bad"]
    assert (chance["point"], chance["ci95"], chance["interval"]) == (1.0, None, "unsure")
