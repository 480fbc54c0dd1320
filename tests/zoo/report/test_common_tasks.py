"""More data hides no other: stray methods, and means of domains beside means of some of their tasks."""

from dataclasses import replace

import pandas as pd

from tests.zoo.report.samples import NO_MEANS, SCENE, own_methods, runs_table, scene_runs
from zoo.report.comparison import MEAN_COLUMNS, Method, baseline_of
from zoo.report.compute import compare
from zoo.report.page.caveats import warnings


def scene_comparison(have, means=NO_MEANS):
    """Return a comparison of methods that have the given tasks of scene."""
    runs = [scene_runs([[0.5, 0.6, 0.7]] * 5, name) for name in have]
    table = pd.concat([part[part["environment"].isin(have[name])] for name, part in zip(have, runs, strict=True)])
    methods = own_methods(have) | {name: Method(name, name, "paper") for name in set(means["method"])}
    return compare(methods, table, means, reps=20, curves=False)


def test_stray_method_takes_no_task_from_the_others_and_is_named():
    comparison = scene_comparison({"a stray": SCENE[:1], "b": SCENE, "c": SCENE})
    phase = comparison.phases["offline"]
    assert phase.tasks == tuple(SCENE)
    assert phase.strays == ("a stray",)
    assert set(phase.aggregates) == {"b", "c"}
    assert phase.per_task[SCENE[0]]["a stray"].estimates["mean"].point > 0
    assert (
        "offline: a stray has only scene-play task1; aggregates leave it out, so that the others keep their 5 common "
        "tasks."
    ) in warnings([comparison], runs_table())


def test_stray_method_does_not_become_the_baseline():
    comparison = scene_comparison({"a stray": SCENE[:1], "b": SCENE, "c": SCENE})
    assert baseline_of(replace(comparison, baseline="a stray")) in {"b", "c"}
    assert baseline_of(replace(comparison, baseline="c")) == "c"


def test_methods_with_about_as_many_tasks_are_compared_on_those_they_share():
    phase = scene_comparison({"a": SCENE[:3], "b": SCENE, "c": SCENE}).phases["offline"]
    assert (phase.tasks, phase.strays) == (tuple(SCENE[:3]), ())


def test_means_of_single_tasks_hide_no_mean_of_their_domain():
    fixed = {"phase": "offline", "step": 1_000_000, "domain": "scene-play", "sd": 0.1, "seeds": 8}
    whole = fixed | {"method": "Whole", "environment": "scene-play", "mean": 0.9}
    single = [fixed | {"method": "Single", "environment": task, "mean": 0.3} for task in SCENE[:2]]
    for rows in ([whole], [whole, *single]):
        means = pd.DataFrame(rows, columns=list(MEAN_COLUMNS))
        phase = scene_comparison({"a": SCENE[:2]}, means).phases["offline"]
        assert phase.domains["scene-play, whole"]["Whole"].estimates["mean"].point == 0.9
        assert set(phase.domains["scene-play, whole"]) == {"Whole"}
        assert phase.domains["scene-play"]["a"].tasks == 2
