import json

import pandas as pd
import pytest

from tests.zoo.report.samples import (
    NO_MEANS,
    SCENE,
    collected,
    content_of,
    evaluations,
    runs_table,
    scene_runs,
)
from tests.zoo.runs.helpers import write_run
from zoo.report.comparison import ComparedMethod
from zoo.report.compute import compare, compare_kinds
from zoo.report.page.sentences import warnings
from zoo.report.published_scores import load_set
from zoo.runs.read import read_runs


def warnings_of(content):
    return warnings(content.comparisons, content.inputs.own)


@pytest.mark.parametrize(
    ("seeds", "expected"),
    [
        (1, "Fewer than 5 seeds: FQL (1), QAM (1)."),
        (4, "Fewer than 5 seeds: FQL (4), QAM (4)."),
        (6, ""),
    ],
)
def test_too_few_seeds_are_warned_of(seeds, expected):
    found = " ".join(warnings_of(content_of(evaluations(["QAM", "FQL"], seeds=seeds))))
    assert expected in found
    assert bool(found) == bool(expected)


def test_left_out_tasks_and_different_steps_are_warned_of():
    table = pd.concat(
        [evaluations(["QAM"], tasks=4), evaluations(["FQL"], tasks=2, steps=((500, "offline"),))]
    )
    text = "\n".join(warnings_of(content_of(table)))
    assert (
        "aggregates leave out tasks that some methods lack: cube-double-play task2, scene-play task2 (FQL)."
        in text
    )
    assert "offline: methods were scored at different steps" in text


def test_departures_of_some_environments_name_them_also_beside_a_set_that_has_no_scores_there():
    short = "offline_steps 3,000 instead of 1,000,000"
    departures = {SCENE[0]: (short, "gamma 0.9 instead of 0.99"), SCENE[1]: (short,), SCENE[2]: ()}
    methods = {
        "qam": ComparedMethod(
            "qam", "QAM", "own", {env: {"profile": "qam"} for env in departures}, departures
        )
    }
    comparison = compare(methods, scene_runs([[0.5] * 6] * 3), NO_MEANS, reps=20)
    for sets in ((), [load_set("qam2026")]):
        assert [
            text for text in warnings([comparison], runs_table(), sets) if "departs" in text
        ] == [
            "qam departs from the protocol of its profile: offline_steps 3,000 instead of 1,000,000 (2 tasks of "
            "scene-play); gamma 0.9 instead of 0.99 (scene-play task1)."
        ]


def test_seeds_of_a_method_with_other_rewards_are_told(tmp_path):
    for seed, version in enumerate(("1.1.0", "1.2.1")):
        run = write_run(tmp_path / str(seed), seed=seed)
        (run / "versions.json").write_text(json.dumps({"packages": {"ogbench": version}}))
    (sentence,) = warnings(content_of(evaluations(["qam"])).comparisons, read_runs([tmp_path]))
    assert sentence.endswith("may differ for that alone: qam (1.1.0), and qam (1.2.1).")


def test_runs_of_other_versions_of_an_algorithms_file_are_told(tmp_path):
    for seed, code in enumerate(("1", "2", "2")):
        write_run(tmp_path / str(seed), seed=seed, agent={"class": "mine:Mine", "code": code * 12})
    found = warnings(content_of(evaluations(["qam"])).comparisons, read_runs([tmp_path]))
    assert "qam: runs were trained by 2 versions of the algorithm's file." in found


def test_what_sets_runs_apart_on_an_environment_that_is_shown_is_told(tmp_path):
    easy, other = (
        {"eval_env_kwargs": ["at=1"], "env_kwargs": ["at=2"]},
        {"dataset": {"fingerprint": "f" * 64}},
    )
    apart = [("Pendulum-v1", {"success_return": -300}), ("Pendulum-v1", {"success_return": -500.5})]
    apart += [(env, more) for env in ("Hopper-v5", "Left-out-v1") for more in (easy, {})]
    for number, (env, more) in enumerate(
        [*apart, ("Ant-v5", other), ("Ant-v5", {}), ("Reacher-v5", {})]
    ):
        write_run(tmp_path / str(number), algo=f"mine{number}", env=env, **more)
    inputs = collected(paths=[tmp_path], envs=["[!L]*"])
    found = warnings(
        compare_kinds(inputs, 20, curves=False),
        inputs.own,
    )
    assert [text.partition(". That alone")[0] for text in found if text.endswith("apart.")] == [
        "Pendulum-v1: runs count a success from different returns on: -500.5 (mine1); -300.0 (mine0)",
        "Hopper-v5: runs were evaluated with different arguments of the environment: ['at=1'] (mine2); none (mine3)",
        "Ant-v5: runs were trained on different data: 01234567 (mine7); ffffffff (mine6)",
    ]
