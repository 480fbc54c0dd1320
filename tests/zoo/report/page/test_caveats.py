import json

import pandas as pd
import pytest

from tests.zoo.report.samples import (
    SCENE,
    compared,
    comparison_of_runs,
    content_of,
    evaluations,
    runs_table,
    scene_runs,
)
from tests.zoo.runs.helpers import write_run
from zoo.report.comparison import ComparedMethod
from zoo.report.page.sentences import warnings
from zoo.report.published_scores import load_set
from zoo.runs.read import read_runs


@pytest.mark.parametrize(
    ("seeds", "expected"), [(1, "One seed of FQL, QAM"), (3, "FQL (3), QAM (3)"), (6, None)]
)
def test_too_few_seeds_are_warned_of(seeds, expected):
    sentences = content_of(evaluations(["QAM", "FQL"], seeds=seeds)).warnings
    assert len(sentences) == bool(expected)
    assert all(expected in text for text in sentences)


def test_left_out_tasks_and_different_steps_are_warned_of():
    short = evaluations(["FQL"], tasks=2, steps=((500, "offline"),))
    text = "\n".join(content_of(pd.concat([evaluations(["QAM"], tasks=4), short])).warnings)
    assert "lack: cube-double-play task2, scene-play task2 (FQL)" in text
    assert "offline: methods were scored at different steps" in text


@pytest.mark.parametrize("names", [[], ["qam2026"]])
def test_departures_name_their_environments_also_beside_a_set_without_scores_there(names):
    short = "3,000 of 1,000,000 offline steps"
    steps = "offline_steps 3000 instead of 1000000"
    departures = {SCENE[0]: ("gamma 0.9 instead of 0.99", steps), SCENE[1]: (steps,), SCENE[2]: ()}
    protocols = {env: {"profile": "qam"} for env in departures}
    methods = {"qam": ComparedMethod("qam", "QAM", "own", protocols, departures)}
    comparison = comparison_of_runs(scene_runs([[0.5] * 6] * 3), methods=methods)
    sentences = warnings([comparison], runs_table(), [load_set(name) for name in names])
    (sentence,) = (text for text in sentences if "Departs" in text)
    gamma = "gamma 0.9 instead of 0.99 (scene-play task1)"
    assert sentence.endswith(f"profile: {short} (2 tasks of scene-play); {gamma}.")


QUICK = {
    "sources": ["hyperparams/qam.yml quick (tuned here)"],
    "departures": ["gamma 0.995 instead of 0.99", "offline_steps 3000 instead of 1000000"],
}


@pytest.mark.parametrize("algos", [("qam",), ("qam", "bc")])
def test_departures_of_quick_runs_are_said_once_with_their_steps_first(tmp_path, algos):
    for algo in algos:
        write_run(tmp_path / algo, algo=algo, env="Pendulum-v1", **QUICK)
    inputs, comparisons = compared(paths=[tmp_path])
    sentences = list(warnings(comparisons, inputs.own_runs))
    quick = [text for text in sentences if "--quick" in text]
    names = "bc, qam t" if len(algos) > 1 else "T"
    steps = "rained with `--quick`: 3,000 of 1,000,000 offline steps, gamma 0.995 instead of 0.99"
    assert quick == [f"{names}{steps} (Pendulum-v1)."]


def test_seeds_with_rewards_or_code_of_other_versions_are_told(tmp_path):
    for seed, version in enumerate(("1.1.0", "1.2.1", "1.2.1")):
        agent = {"class": "mine:Mine", "code": version[:3] * 4}
        run = write_run(tmp_path / str(seed), seed=seed, agent=agent)
        (run / "versions.json").write_text(json.dumps({"packages": {"ogbench": version}}))
    comparisons = content_of(evaluations(["qam"])).comparisons
    rewards, code = warnings(comparisons, read_runs([tmp_path]))
    assert rewards.endswith("may differ for that alone: qam (1.1.0), and qam (1.2.1).")
    assert code == "qam: runs were trained by 2 versions of the algorithm's file."


def test_what_sets_runs_apart_on_an_environment_that_is_shown_is_told(tmp_path):
    played = {"eval_env_kwargs": ["at=1"], "env_kwargs": ["at=2"]}
    runs = [
        ("Pendulum-v1", {"success_return": -300}),
        ("Pendulum-v1", {"success_return": -500.5}),
        ("Hopper-v5", played),
        ("Hopper-v5", {}),
        ("Left-out-v1", played),
        ("Left-out-v1", {}),
        ("Ant-v5", {"dataset": {"fingerprint": "f" * 64}}),
        ("Ant-v5", {}),
        ("Reacher-v5", {}),
    ]
    for number, (env, options) in enumerate(runs):
        write_run(tmp_path / str(number), algo=f"mine{number}", env=env, **options)
    inputs, comparisons = compared(paths=[tmp_path], envs=["[!L]*"])
    sentences = warnings(comparisons, inputs.own_runs)
    apart = [text.partition(". That alone")[0] for text in sentences if text.endswith("apart.")]
    assert [text.rpartition(": ")[2] for text in apart] == [
        "-500.5 (mine1); -300.0 (mine0)",
        "['at=1'] (mine2); none (mine3)",
        "01234567 (mine7); ffffffff (mine6)",
    ]
