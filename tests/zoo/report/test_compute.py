import pandas as pd
import pytest

from tests.zoo.report.samples import NO_MEANS, evaluations, own_methods
from zoo.report.compute import compare, compare_kinds


def test_methods_without_a_common_task_have_no_aggregates_and_say_what_they_have():
    table = pd.concat([evaluations(["QAM"], tasks=1), evaluations(["FQL"], tasks=2).query("domain != 'scene-play'")])
    methods = own_methods(("QAM", "FQL"))
    phase = compare(methods, table, NO_MEANS, reps=20).phases["offline"]
    assert phase.tasks == ()
    assert phase.aggregates == phase.improvements == phase.profiles == phase.curves == {}
    scene, cube = "scene-play-singletask-task1-v0", "cube-double-play-singletask-task1-v0"
    assert phase.coverage == {"QAM": [scene], "FQL": [cube]}
    assert set(phase.domains["scene-play"]) == {"QAM"}
    assert set(phase.per_task[cube]) == {"FQL"}


def test_curves_of_a_domain_leave_out_a_task_that_lacks_a_phase():
    table = evaluations(["QAM"], tasks=3)  # two of scene, one of cube
    first, second = sorted(set(table.loc[table["domain"] == "scene-play", "environment"]))
    keep = (table["environment"] != first) | ((table["phase"] == "offline") & (table["seed"] < 3))
    (found,) = compare_kinds(own_methods(["QAM"]), table[keep], NO_MEANS, reps=20)
    phase = found.phases["offline"]
    assert phase.domain_tasks["scene-play"] == [first, second]
    curve = phase.domain_curves["scene-play"]["QAM"]
    of_second = table[(table["environment"] == second) & (table["phase"] == "offline")]
    assert curve.mean.points == pytest.approx(of_second.groupby("step")["score"].mean().to_numpy())
    assert (curve.seeds, phase.curves["QAM"].seeds, phase.aggregates["QAM"].seeds) == ((6, 6), (6, 6), (3, 6))


def test_evaluation_at_step_0_begins_the_curve_and_is_no_score():
    steps = ((0, "offline"), (1000, "offline"), (2000, "offline"))
    table = evaluations(["QAM"], steps=steps)
    (found,) = compare_kinds(own_methods(["QAM"]), table, NO_MEANS, reps=20)
    (without,) = compare_kinds(own_methods(["QAM"]), table[table["step"] > 0], NO_MEANS, reps=20)
    curve = found.phases["offline"].curves["QAM"]
    assert curve.steps.tolist() == [0, 1000, 2000]
    assert curve.mean.points[0] == pytest.approx(table.loc[table["step"] == 0, "score"].mean())
    assert found.phases["offline"].aggregates == without.phases["offline"].aggregates
    assert found.phases["offline"].steps == {"QAM": 2000}
