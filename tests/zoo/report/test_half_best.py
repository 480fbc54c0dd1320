import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from tests.zoo.report.samples import NO_MEANS, SCENE, comparison_of_returns, own_methods
from zoo.report.analysis_tables import half_best_table
from zoo.report.compute import compare
from zoo.runs.scores import NORMALISED_RETURN, RETURN


def runs_of(method, scores, *, task=SCENE[0], steps=(100, 200, 300), phases=None):
    """Return evaluations of a method on a task: a list of scores for each seed."""
    phases = phases or ["offline"] * len(steps)
    fixed = {"method": method, "environment": task, "domain": "scene-play", "episodes": 50, "kind": "success"}
    fixed |= {"source": "own"}
    return pd.DataFrame(
        [
            {**fixed, "seed": seed, "step": step, "phase": phase, "score": score, "run": f"{method}/{task}/{seed}"}
            for seed, curve in enumerate(scores)
            for step, phase, score in zip(steps, phases, curve, strict=True)
        ]
    )


def compared(*tables):
    table = pd.concat(tables)
    return compare(own_methods(sorted(set(table["method"]))), table, NO_MEANS, reps=20)


def half_best(*tables, phase="offline"):
    return compared(*tables).phases[phase].half_best


def test_runs_are_reduced_before_they_are_averaged():
    found = half_best(
        runs_of("best", [[0.5, 0.7, 0.8], [0.3, 0.5, 0.8]]),  # 0.4 is reached at 100 and at 200
        runs_of("other", [[0.0, 0.0, 0.4], [0.1, 0.39, 0.1], [0.4, 0.0, 0.0]]),  # at 300, never, at 100
    )
    assert found.thresholds == {SCENE[0]: pytest.approx(0.4)}
    assert found.budgets == {SCENE[0]: 300}
    assert found.steps["best"].point == 150
    assert found.steps["other"].point == pytest.approx((300 + 300 + 100) / 3)
    assert found.reached["best"].point == 1
    assert found.reached["other"].point == pytest.approx(2 / 3)


def test_interval_of_the_mean_is_students():
    values = [100, 200, 300, 100, 300]
    curves = [[0.8 if step >= first else 0.0 for step in (100, 200, 300)] for first in values]
    found = half_best(runs_of("a", curves)).steps["a"]
    half = stats.t.ppf(0.975, 4) * np.std(values, ddof=1) / math.sqrt(5)
    assert found.interval == pytest.approx((200 - half, min(300, 200 + half)))


def test_runs_that_agree_are_known_no_better_than_their_evaluations():
    found = half_best(runs_of("a", [[0.0, 0.8, 0.8]] * 4))
    half = stats.t.ppf(0.975, 3) * 100 / math.sqrt(12) / math.sqrt(4)
    assert found.steps["a"].interval == pytest.approx((200 - half, 200 + half))
    low, high = found.reached["a"].interval
    assert low < 1
    assert high == 1


def test_method_that_never_gets_there_has_no_interval():
    comparison = compared(runs_of("a", [[0.8] * 3] * 3), runs_of("b", [[0.1] * 3] * 3))
    found = comparison.phases["offline"].half_best
    assert (found.steps["b"].point, found.steps["b"].interval) == (300, None)
    rows = {row[0].text: row for row in half_best_table(comparison, comparison.phases["offline"]).rows}
    assert rows["b"][1].plain == "never"
    assert rows["b"][2].text == "0"
    assert rows["a"][1].text == "0.100"


def test_one_seed_has_no_interval():
    found = half_best(runs_of("a", [[0.0, 0.6, 0.8]]))
    assert (found.steps["a"].point, found.steps["a"].interval, found.reached["a"].interval) == (200, None, None)


def test_all_methods_have_the_steps_of_the_shortest():
    found = half_best(runs_of("long", [[0.1, 0.1, 0.8]] * 2), runs_of("short", [[0.1, 0.6]] * 2, steps=(100, 200)))
    assert found.budgets == {SCENE[0]: 200}
    assert found.steps["long"].point == 200
    assert found.reached["long"].point == 0
    assert found.reached["short"].point == 1


def test_tasks_count_equally_and_those_that_nobody_solves_are_left_out():
    comparison = compared(
        runs_of("a", [[0.8] * 3] * 4), runs_of("a", [[0.0, 0.0, 0.8]], task=SCENE[1]),
        runs_of("a", [[0.0, 0.0, 0.04]], task=SCENE[2]),
    )  # fmt: skip
    found = comparison.phases["offline"].half_best
    assert set(found.thresholds) == set(SCENE[:2])
    assert found.steps["a"].point == 200
    table = half_best_table(comparison, comparison.phases["offline"])
    assert "2 of the 3 common tasks; left out where the best mean is below 5%" in table.caption
    assert table.caption.count("task3") == 1
    assert table.rows[0][3].text == "1 to 4"


def test_online_steps_begin_where_the_run_goes_online():
    steps, phases = (100, 200, 300, 400), ["offline", "offline", "online", "online"]
    found = half_best(
        runs_of("a", [[0.0, 0.5, 0.1, 0.8], [0.0, 0.1, 0.5, 0.8]], steps=steps, phases=phases),  # at 0 and at 100
        runs_of("own clock", [[0.1, 0.1, 0.8]] * 2, steps=(100, 150, 200), phases=["online"] * 3),
        runs_of("shared clock", [[0.1, 0.8]] * 2, steps=(300, 400), phases=["online"] * 2),
        phase="online",
    )
    assert found.budgets == {SCENE[0]: 200}
    assert {name: estimate.point for name, estimate in found.steps.items()} == {
        "a": 50, "own clock": 200, "shared clock": 200,
    }  # fmt: skip


def test_an_evaluation_at_step_0_may_be_enough():
    found = half_best(runs_of("a", [[0.5, 0.6, 0.8]] * 2, steps=(0, 100, 200)))
    assert found.steps["a"].point == 0


@pytest.mark.parametrize(("kind", "is_there"), [(RETURN, False), (NORMALISED_RETURN, True)])
def test_half_of_a_return_means_nothing(kind, is_there):
    comparison = comparison_of_returns(["A", "B"], kind=kind, environments=("HalfCheetah-v5",))
    phase = comparison.phases["online"]
    assert (phase.half_best is not None) == is_there
    assert bool(half_best_table(comparison, phase).rows) == is_there
