import json

import pandas as pd
import pytest

from tests.zoo.report.samples import NO_MEANS, SCENE, content_of, evaluations, runs_table, scene_runs
from tests.zoo.runs.test_read import write_run
from zoo.report.comparison import Method
from zoo.report.compute import compare
from zoo.report.page.caveats import warnings
from zoo.report.published_scores import load_set
from zoo.runs.read import read_runs


def warnings_of(content):
    return warnings(content.comparisons, content.inputs.own)


@pytest.mark.parametrize(
    ("seeds", "expected"),
    [(1, "One seed gives no interval: FQL, QAM."), (4, "Fewer than 5 seeds: FQL (4), QAM (4)."), (6, "")],
)
def test_too_few_seeds_are_warned_of(seeds, expected):
    found = " ".join(warnings_of(content_of(evaluations(["QAM", "FQL"], seeds=seeds))))
    assert expected in found
    assert bool(found) == bool(expected)


def test_unequal_seeds_left_out_tasks_and_different_steps_are_warned_of():
    table = pd.concat([evaluations(["QAM"], tasks=4), evaluations(["FQL"], tasks=2, steps=((500, "offline"),))])
    table = table[~((table["environment"] == SCENE[0]) & (table["seed"] == 5) & (table["method"] == "QAM"))]
    text = "\n".join(warnings_of(content_of(table)))
    assert "offline: unequal numbers of seeds between tasks: QAM (5 to 6)" in text
    assert "aggregates leave out tasks that some methods lack: cube-double-play task2, scene-play task2 (FQL)." in text
    assert "offline: methods were scored at different steps" in text


def test_departures_of_some_environments_name_them_also_beside_a_set_that_has_no_scores_there():
    short = "offline_steps 3,000 instead of 1,000,000"
    departures = {SCENE[0]: (short, "gamma 0.9 instead of 0.99"), SCENE[1]: (short,), SCENE[2]: ()}
    methods = {"qam": Method("qam", "QAM", "own", {env: {"profile": "qam"} for env in departures}, departures)}
    comparison = compare(methods, scene_runs([[0.5] * 6] * 3), NO_MEANS, reps=20)
    for sets in ((), [load_set("qam2026")]):
        assert [text for text in warnings([comparison], runs_table(), sets) if "departs" in text] == [
            "qam departs from the protocol of its profile: offline_steps 3,000 instead of 1,000,000 (2 tasks of "
            "scene-play); gamma 0.9 instead of 0.99 (scene-play task1)."
        ]


def test_seeds_of_a_method_with_other_rewards_are_told(tmp_path):
    for seed, version in enumerate(("1.1.0", "1.2.1")):
        run = write_run(tmp_path / str(seed), seed=seed)
        (run / "versions.json").write_text(json.dumps({"packages": {"ogbench": version}}))
    (sentence,) = warnings(content_of(evaluations(["qam"])).comparisons, read_runs([tmp_path]))
    assert sentence.endswith("may differ for that alone: qam (1.1.0), and qam (1.2.1).")


def test_different_thresholds_of_success_on_one_environment_are_told(tmp_path):
    for number, (env, threshold) in enumerate([("Pendulum-v1", -300), ("Pendulum-v1", -500.5), ("Hopper-v5", 1000)]):
        write_run(tmp_path / str(number), env=env, seed=number, success_return=threshold)
    found = warnings(content_of(evaluations(["qam"])).comparisons, read_runs([tmp_path], merge_protocols=True))
    assert "Pendulum-v1: runs count a success from different returns on, -500.5, -300" in "\n".join(found)
    assert "Hopper" not in "\n".join(found)
