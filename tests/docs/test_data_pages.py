"""The pages on your own data and on images: their commands work in the order of the page, at a small size."""

import json
import os
import subprocess
import sys
from pathlib import Path

import gymnasium
import pytest
import yaml

from tests.docs.commands import ROOT, commands_run_by, run_all, with_values
from tests.zoo.datasets.samples import episodes, joined, write_d4rl, write_minari, write_parquet
from zoo.envs.rendering import PLATFORMS, VARIABLE, _works

TINY = [
    "-params",
    "net_arch=[16,16]",
    "flow_steps=2",
    "batch_size=8",
    "horizon_length=2",
    "buffer_size=1000",
]
SHORT = ["--eval-freq", "6", "--eval-episodes", "2", "--n-eval-envs", "1"]
VISUAL = [
    "--offline-steps",
    "4",
    "--eval-freq",
    "4",
    "--n-eval-envs",
    "1",
    "--env-kwargs",
    "max_episode_steps=6",
]
SMALL = {"--offline-steps": "12", "--episodes": "3"}


def smaller(words):
    """Return what makes a command quick."""
    return {"train": [*SHORT, *TINY], "compare": ["--reps", "50", "--format", "svg"]}.get(
        words[1], []
    )


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Return a folder with what the page takes as given, which is the current one."""
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    env = gymnasium.make("Pendulum-v1")
    parts = episodes(2, 12, env=env)
    spaces = {"observation_space": env.observation_space, "action_space": env.action_space}
    write_minari(tmp_path / "minari", parts, "pendulum/mine-v0", env="Pendulum-v1", **spaces)
    write_parquet(tmp_path, parts)
    write_d4rl(tmp_path, parts)
    table = {
        "joints": list(parts[0]["observations"][:-1]),
        "torque": list(joined(parts[:1], "actions")),
    }
    parquet.write_table(pyarrow.table(table), "logs_of_a_robot.parquet")
    Path("my_controller.py").write_text("def swing_up(observation):\n    return -observation[2:]\n")
    return tmp_path


@pytest.mark.slow
def test_every_command_for_your_own_data_works(place, capsys):
    results = run_all("test_every_command_for_your_own_data_works", capsys, smaller, SMALL)
    assert len(results) >= 13
    assert all(result["sound"] for line, result in results.items() if " check " in line)
    assert [
        result["already_done"] for line, result in results.items() if line.endswith("--resume")
    ] == [True]
    assert [
        result["normalised_return"] < 1 for line, result in results.items() if "--reference" in line
    ] == [True]
    assert [
        result["success"] for line, result in results.items() if "--success-return" in line
    ] == [0.0]
    assert (place / "report" / "report.html").is_file()


@pytest.mark.slow
def test_every_command_for_your_own_images_works(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    values = {**SMALL, "--env": "tests.envs:Pictures-v0"}
    name = "test_every_command_for_your_own_images_works"
    _, checked, trained = run_all(name, capsys, smaller, values).values()
    assert checked["sound"]
    config = yaml.safe_load((Path(trained["run"]) / "config.yml").read_text())
    assert config["settings"]["frame_stack"] == 3


@pytest.mark.slow
def test_every_command_for_ogbenchs_images_works(tmp_path):
    if not any(map(_works, PLATFORMS)):
        pytest.skip("MuJoCo can draw nothing here")
    fixed = {"HOME": str(tmp_path), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    environment = {name: value for name, value in os.environ.items() if name != VARIABLE} | fixed
    results = []
    for line, words in commands_run_by("test_every_command_for_ogbenchs_images_works").items():
        extra = {"train": [*VISUAL, *TINY, "buffer_size=100"], "compare": ["--reps", "50"]}.get(
            words[1], []
        )
        small = [*with_values(words[1:], {"--episode-steps": "12"}), *extra]
        program = [
            sys.executable,
            "-c",
            "import sys, zoo.terminal.cli; sys.exit(zoo.terminal.cli.main())",
            *small,
        ]
        ended = subprocess.run(
            program, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600
        )
        assert ended.returncode == 0, (line, ended.stderr)
        results.append(json.loads(ended.stdout.splitlines()[-1]))
    generated, trained, resumed, evaluated, watched, _ = results
    assert generated["rows"] == 26
    assert resumed["already_done"]
    assert trained["return"] == resumed["return"] == evaluated["return"] == watched["return"]
    assert (tmp_path / "cube.gif").stat().st_size > 0
    config = yaml.safe_load((tmp_path / trained["run"] / "config.yml").read_text())
    values = [config["settings"][name] for name in ("encoder", "frame_stack", "random_crop")]
    assert values == ["impala_debug", 3, 0.5]  # the encoder is that of `--quick`
    assert any("untuned" in source for source in config["sources"])
