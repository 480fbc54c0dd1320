"""Comparisons: common tasks, learning curves and order; a method with more data does not hide the others."""

import numpy as np
import pandas as pd
import pytest

from tests.zoo.report.samples import (
    SCENE,
    comparison_of_runs,
    content_of,
    evaluations,
    means_of_scene,
    scene_runs,
)
from zoo.report.comparison import ranking
from zoo.report.compute import compare_kinds
from zoo.report.scores import ScoreTables
from zoo.runs.scores import RETURN


def test_curves_of_a_domain_leave_out_a_task_that_lacks_a_phase():
    table = evaluations(["QAM"], tasks=3)  # two tasks of scene and one of cube
    first, second = sorted(set(table.loc[table["domain"] == "scene-play", "environment"]))
    # the first task lacks three seeds and the online phase
    is_missing = table.eval("environment == @first and (phase != 'offline' or seed > 2)")
    comparison = comparison_of_runs(table[~is_missing])
    phase = comparison.phases["offline"]
    assert phase.domain_tasks["scene-play"] == [first, second]
    curve = phase.curves.query("where == 'scene-play'")
    runs = table.query("environment == @second and phase == 'offline'")
    assert curve["value"].tolist() == pytest.approx(runs.groupby("step")["score"].mean().tolist())
    assert set(phase.curves["seeds"]) == {6}
    assert phase.aggregates["QAM"].seeds == (3, 6)
    # each environment of returns has its own curve
    comparison = comparison_of_runs(table[~is_missing], kind=RETURN)
    assert first in set(comparison.phases["offline"].curves["where"])
    assert comparison.margin == 0  # no returns are equal


def test_learning_curves_are_over_the_same_tasks_in_both_phases(monkeypatch):
    monkeypatch.setattr("zoo.report.compute.suite_of", lambda tasks: f"suite{len(tasks)}")
    table = evaluations(["QAM"], tasks=6)
    offline_only = evaluations(["FQL"], steps=((1000, "offline"), (2000, "offline")))
    comparison = comparison_of_runs(pd.concat([table, offline_only]))
    offline, online = comparison.phases.values()
    assert (len(offline.tasks), len(online.tasks)) == (2, 6)
    assert comparison.curves_label == "2 tasks of suite2"
    last = table.query("phase == 'online'")
    curve = online.curves.query("method == 'QAM' and where == 'all'")
    expected = last.loc[last["environment"].isin(offline.tasks), "score"].mean()
    assert curve["value"].iloc[-1] == pytest.approx(expected)


def test_evaluation_at_step_0_begins_the_curve_and_is_no_score():
    steps = ((0, "offline"), (1000, "offline"), (2000, "offline"))
    table = evaluations(["QAM"], steps=steps)
    phase = comparison_of_runs(table).phases["offline"]
    trained = comparison_of_runs(table[table["step"] > 0]).phases["offline"]
    curve = phase.curves.query("where == 'all'")
    assert curve["step"].tolist() == [0, 1000, 2000]
    assert curve["value"].iloc[0] == pytest.approx(table.loc[table["step"] == 0, "score"].mean())
    assert phase.aggregates == trained.aggregates
    without = comparison_of_runs(table.drop(index=0)).phases["offline"]  # one run's start
    assert without.curves.query("where == 'all'")["step"].tolist() == [1000, 2000]
    longer = table.assign(step=table["step"] * np.where(table["environment"] == SCENE[0], 1, 5))
    shorter = evaluations(["FQL"], steps=steps, tasks=1)  # only on the first task
    phase = comparison_of_runs(pd.concat([longer, shorter])).phases["offline"]
    assert phase.step_ranges == {"QAM": (2000, 2000), "FQL": (2000, 2000)}


def test_ranking_puts_the_best_first_and_methods_without_a_mean_last():
    runs = evaluations(["QAM", "FQL"])
    runs.loc[runs["method"] == "QAM", "score"] = 0.9
    of_domain = means_of_scene(["Domain"]).assign(environment="scene-play")  # no common mean
    phase = comparison_of_runs(runs, of_domain).phases["offline"]
    assert ranking(phase) == ["QAM", "FQL", "Domain"]


def test_methods_are_compared_on_the_tasks_they_share():
    counts = {"a": 3, "b": 5, "c": 5}
    runs = [scene_runs([[0.5] * 5] * tasks, name) for name, tasks in counts.items()]
    content = content_of(pd.concat(runs))
    phase = content.comparisons[0].phases["offline"]
    assert phase.tasks == tuple(SCENE[:3])
    assert "left out: 2 tasks of scene-play (no scores of a)." in content.notes[0]
    assert set(phase.per_task) == set(SCENE)


def test_means_of_single_tasks_hide_no_mean_of_their_domain():
    of_domain = means_of_scene(["Domain"]).assign(environment="scene-play", score=0.9)
    of_tasks = means_of_scene(["Tasks"] * 2).assign(environment=SCENE[:2])
    for means in (of_domain, pd.concat([of_domain, of_tasks])):
        runs = scene_runs([[0.5, 0.6]] * 2, "a")
        phase = comparison_of_runs(runs, means, curves=False).phases["offline"]
        (cell,) = phase.domains["scene-play, whole"].values()
        assert cell.mean.point == 0.9
        assert "a" in phase.domains["scene-play"]  # which has scores on two tasks
        assert "Domain" not in phase.aggregates  # two of its five tasks have scores
        assert phase.coverage["Domain"] == SCENE[:2]


def test_published_means_of_domains_count_once_for_each_task():
    domains = ["d4rl-adroit", "scene-play"]
    means = means_of_scene("AA").assign(environment=domains, domain=domains, score=[0.2, 1.0])
    phase = comparison_of_runs(scene_runs([]), means).phases["offline"]
    assert phase.aggregates["A"].mean.point == pytest.approx((12 * 0.2 + 5 * 1.0) / 17)
    assert list(phase.domain_tasks) == domains
    assert not phase.per_task
    apart = comparison_of_runs(scene_runs([[0.5]]), means[:1])
    assert not apart.phases["offline"].aggregates
    assert len(compare_kinds(ScoreTables({}, means), reps=20)) == 1


def test_the_fewest_episodes_and_seeds_of_a_task_count():
    runs = scene_runs([[0.5] * 3, [0.5] * 4]).assign(episodes=[50, 20, 50, 20, 20, 20, 20])
    phase = comparison_of_runs(runs).phases["offline"]
    with_20 = comparison_of_runs(runs.assign(episodes=20)).phases["offline"]
    assert phase.aggregates == with_20.aggregates
    assert len(phase.profiles) == 50  # thresholds between the multiples of 1 / 50
    assert {*phase.profiles["seeds"], *phase.curves["seeds"]} == {3}


@pytest.mark.parametrize("scores", [[-2.0, 5.0], [0.0, 0.0]])
def test_profiles_of_returns_begin_at_1_and_end_at_0(scores):
    phase = comparison_of_runs(scene_runs([scores]), kind=RETURN).phases["offline"]
    assert phase.profiles["fraction"].iloc[[0, -1]].tolist() == [1, 0]
