"""The pages about data: their commands work in the page's order, at a small size."""

import os
import subprocess
import sys

import gymnasium
import pytest

from tests import ROOT, code_blocks
from tests.docs.commands import run_all
from tests.zoo.datasets.samples import (
    LIFT,
    demonstration,
    episodes,
    joined,
    write_d4rl,
    write_minari,
    write_parquet,
    write_robomimic,
)
from tests.zoo.outcomes import config_of
from zoo.datasets.formats.read import read_source
from zoo.datasets.formats.robomimic import FILE
from zoo.envs.rendering import PLATFORMS, VARIABLE, _works
from zoo.terminal.cli import main

TINY = "-params net_arch=[16,16] flow_steps=2 batch_size=8 buffer_size=1000 horizon_length=2"
EVALUATION = "--eval-freq 6 --eval-episodes 2 --n-eval-envs 1"
COMPARE = {"compare": "--reps 50"}
SMALL = {"--offline-steps": "12", "--episodes": "3", "--eval-episodes": "1", "--eval-freq": "6"}

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    """Return an empty folder that is both the current folder and the user's home."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    return tmp_path


def results_with(results, text):
    """Return the results of the commands that contain a text."""
    return [result for line, result in results.items() if text in line]


def recording(env="Pendulum-v1", file="my.npz"):
    """Return the page's code that records a dataset, with fewer episodes."""
    code, *_ = code_blocks("docs/data.md", "python")
    return code.replace('record("Pendulum-v1", 50, "my.npz")', f'record("{env}", 3, "{file}")')


def test_every_command_for_your_own_data_works(place, capsys, monkeypatch):
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(place / "minari"))
    env = gymnasium.make("Pendulum-v1")
    parts = episodes(2, 12, env=env)
    spaces = {"observation_space": env.observation_space, "action_space": env.action_space}
    write_minari(place / "minari", parts, "pendulum/mine-v0", env="Pendulum-v1", **spaces)
    write_parquet(place, parts)
    write_d4rl(place, parts)
    joints, torques = parts[0]["observations"][:-1], joined(parts[:1], "actions")
    table = pyarrow.table({"joints": list(joints), "torque": list(torques)})
    parquet.write_table(table, "robot.parquet")
    exec(recording(), {})
    _, naming, *_ = code_blocks("docs/data.md", "python")
    exec(naming, {})
    assert read_source("named.parquet").num_transitions == len(joints)
    name = "test_every_command_for_your_own_data_works"
    results = run_all(name, capsys, {"train": f"{EVALUATION} {TINY}", **COMPARE}, SMALL)
    assert len(results) >= 8
    assert all(result["sound"] for result in results_with(results, " check "))
    assert results_with(results, "--reference")[0]["normalised_return"] < 1
    assert results_with(results, "--success-return")[0]["success"] == 0.0
    assert (place / "report" / "report.html").is_file()


def test_every_command_for_your_own_images_works(capsys):
    values = {**SMALL, "--env": "tests.envs:Pictures-v0"}
    exec(recording("tests.envs:Pictures-v0", "camera.npz"), {})
    name = "test_every_command_for_your_own_images_works"
    results = run_all(name, capsys, {"train": f"{EVALUATION} {TINY}"}, values)
    checked, trained = results.values()
    assert checked["sound"]
    assert len(checked["observation"]) == 3
    assert config_of(trained["run"])["settings"]["frame_stack"] == 3


def test_every_command_for_ogbenchs_images_works(place, capsys):
    if not any(map(_works, PLATFORMS)):
        pytest.skip("MuJoCo can draw nothing here")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    environment.pop(VARIABLE, None)  # unset, so that the program chooses a renderer

    def run(words):
        if words[0] == "compare":  # draws no scene
            return main(words)
        code = "import sys, zoo.terminal.cli; sys.exit(zoo.terminal.cli.main())"
        program = [sys.executable, "-c", code, *words]
        ended = subprocess.run(program, env=environment, capture_output=True, text=True)
        sys.stdout.write(ended.stdout)
        sys.stderr.write(ended.stderr)
        return ended.returncode

    train = "--offline-steps 4 --eval-freq 4 --n-eval-envs 1 --env-kwargs max_episode_steps=3"
    extra = {"train": f"{train} {TINY} buffer_size=100", **COMPARE}
    name = "test_every_command_for_ogbenchs_images_works"
    results = run_all(name, capsys, extra, {"--dataset-size": "6", "--episode-steps": "6"}, run)
    generated, trained, resumed, evaluated, watched, _ = results.values()
    assert generated["rows"] == 7
    assert resumed["already_done"]
    assert trained["return"] == resumed["return"] == evaluated["return"] == watched["return"]
    assert (place / "cube.gif").stat().st_size > 0
    config = config_of(trained["run"])
    expected = {"frame_stack": 3, "random_crop": 0.5}
    assert config["settings"].items() >= expected.items()
    assert any("untuned" in source for source in config["sources"])


def test_every_command_of_robomimics_page_works(place, capsys):
    """Random numbers replace the original demonstrations, which can only be downloaded."""
    pytest.importorskip("robosuite", reason="needs `pip install 'flow-rl-zoo[robomimic]'`")
    folder = place / ".robomimic" / "lift" / "mh"
    folder.mkdir(parents=True)
    write_robomimic(folder / FILE, [demonstration(40, seed=number) for number in range(3)])
    train = "--offline-steps 4 --eval-freq 2 --eval-episodes 1 --n-eval-envs 1 --device cpu"
    tiny = "-params net_arch=[16,16] ensemble_size=2 flow_steps=2 batch_size=16 buffer_size=1000"
    extra = {
        "train": f"{train} --env-kwargs max_episode_steps=12 {tiny} learning_starts=1",
        "trqam": "--pretraining-steps 2",
        "evaluate": "--episodes 1",
        **COMPARE,
    }
    name = "test_every_command_of_robomimics_page_works"
    results = run_all(name, capsys, extra, {"--online-steps": "6"})
    trained = results_with(results, "zoo train")
    # success is reported, but cannot be reached within 12 steps
    assert [result["success"] for result in trained] == [0.0, 0.0]
    config = config_of(place / "logs_of_trqam" / "trqam" / f"{LIFT}_1")
    assert config["settings"]["observation_scale"] == "range"
    assert LIFT in (place / "report" / "report.html").read_text()
    assert results_with(results, " benchmark ")[0]["runs"] == 8 * 3 * 8
    assert results_with(results, " check ")[0]["sound"]
