"""The conclusion from two sets of runs that differ from earlier runs in data or simulator."""

import json

from benchmarks import scene_gap
from tests.zoo.runs.helpers import write_run

TASK = "scene-play-singletask-task4-v0"


def write_arm(folder, successes, mujoco):
    for seed, count in enumerate(successes, start=20):
        run = folder / f"qam_{seed}"
        options = {"interval": 5_000, "settings": {"precision": "tf32"}}
        write_run(run, env=TASK, seed=seed, offline=[0] * 9 + [count], **options)
        versions = {"processor": "CPU", "device": "cpu", "git_commit": "c5fbd7b9", "data": {}}
        versions["packages"] = {"mujoco": mujoco}
        (run / "versions.json").write_text(json.dumps(versions))


def test_the_arm_above_the_split_names_the_cause(tmp_path, capsys):
    write_arm(tmp_path / "A-1", [5, 6, 7, 8], "4.0.0")
    write_arm(tmp_path / "B-0", [20, 22, 10, 12], "3.4.0")
    assert scene_gap.main(["-f", str(tmp_path)]) == 0
    *tables, result = capsys.readouterr().out.strip().split("\n")
    assert "arm B: data of seed 0, MuJoCo 3.4.0" in tables
    assert json.loads(result) == {
        "means": {"A": 13.0, "B": 32.0},
        "split": 26.0,
        "conclusion": "the cause is the simulator",
    }


def test_an_arm_that_is_not_finished_is_refused(tmp_path, capsys):
    write_arm(tmp_path / "A-1", [5], "4.0.0")
    (tmp_path / "B-0").mkdir()
    assert scene_gap.main(["-f", str(tmp_path)]) == 2
    assert "run `make gap` again" in capsys.readouterr().err
