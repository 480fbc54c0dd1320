"""Custom data, and D4RL's data through Minari: training, evaluation, and resuming with the requested settings."""

import gymnasium
import pytest

import agents
from tests.zoo.datasets.samples import (
    ENV,
    WRITERS,
    episodes,
    write_d4rl_task,
    write_npz,
)
from tests.zoo.helpers import TINY
from tests.zoo.outcomes import config_of
from zoo.dataset import main as dataset
from zoo.train import main

FOLDER = "tests.zoo.envs.toys__Spring-v0"


def words(logs, data, *flags):
    line = (
        f"--algo qam --env {ENV} --dataset {data} -f {logs} --seed 1 --device cpu --offline-steps 12 --eval-freq 6 "
        "--save-freq 4 --eval-episodes 2 --n-eval-envs 1 --verbose 0"
    ).split()
    return [*line, "-params", *TINY, *flags]


@pytest.fixture(autouse=True)
def minari(tmp_path, monkeypatch):
    """Return the folder in which Minari looks for datasets."""
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    return tmp_path


@pytest.mark.few(1)
@pytest.mark.parametrize("kind", ["minari", "parquet", "npz"])
def test_a_set_is_trained_on_evaluated_and_resumed(tmp_path, call, kind):
    source, logs = WRITERS[kind](tmp_path, episodes(3)), tmp_path / "logs"
    result, _ = call(main, *words(logs, source))
    assert result["success"] is not None  # the environment reports `is_success`
    folder = logs / "qam" / f"{FOLDER}_1"
    config = config_of(folder)
    assert config["dataset"]["size"] == (57 if kind == "parquet" else 59)
    assert len(config["dataset"]["fingerprint"]) == 64
    assert not {"score", "success_return", "reference_scores", "action_range"} & set(config)
    assert agents.load(folder, device="cpu").action_space.high[0] == 2
    assert call(main, *words(logs, source), "--resume")[0]["already_done"]


def test_paths_are_below_the_commands_folder(tmp_path, call, monkeypatch):
    monkeypatch.chdir(tmp_path)
    source = write_npz(tmp_path, episodes(3)).name
    result, _ = call(main, *words("logs", source), "--env-kwargs", "folder=/")
    assert result["run"] == str(tmp_path / "logs" / "qam" / f"{FOLDER}_1")


@pytest.mark.parametrize(
    ("flags", "text"),
    {
        "--success-return 1 --score return": "omit either",
        "--action-range -1,1": "`actions` must lie in [-1, 1], got -1.836",
        "--dataset-size 1000": "exceeds the 59",
        "policy_kwargs.activation_fn=PReLU --dataset-size 1000": "must have no parameters",
        "policy_kwargs.activation=ReLU --dataset-size 1000": "allowed are activation_fn",
        "sparse=true": "`sparse` applies to OGBench's rewards",
        "--env Pendulum-v1": "shape (3,) as in Pendulum-v1, got float32 and (4,)",
        "--env mujoco/hopper/medium-v0 --dataset generate": "cannot be generated",
        "--offline-steps 0 --online-steps 5 --offline-data none": "npz would not be used",
        "--reward-from success --online-steps 5": "may differ online",
        "--reward-from success": "missing: success",
    }.items(),
)  # fmt: skip
def test_what_contradicts_a_set_is_refused_before_any_work(tmp_path, refusal, flags, text):
    data = write_npz(tmp_path, episodes(3))
    assert text in refusal(main, *words(tmp_path / "logs", data), *flags.split())


HOPPER, PEN = "mujoco/hopper/medium-v0", "D4RL/pen/human-v2"
REFERENCES = {"ref_min_score": -20.0, "ref_max_score": 3230.0}


def d4rl_words(logs, name):
    return (
        f"--algo fql --env {name} --profile d4rl --seed 0 -f {logs / 'logs'} --device cpu --n-eval-envs 1 -params "
        "net_arch=[16,16] flow_steps=2 batch_size=16 buffer_size=100 offline_steps=4 eval_freq=2 eval_episodes=2"
    ).split()


def test_returns_are_normalised_by_what_the_data_say(minari, tmp_path, call):
    write_d4rl_task(minari, HOPPER, **REFERENCES)
    assert call(dataset, "check", HOPPER)[0]["observation"] == [11]
    words = d4rl_words(tmp_path, HOPPER)
    result, errors = call(main, *words)
    assert result["normalised_return"] == pytest.approx((result["return"] + 20) / 3250)
    assert f", normalised return {result['normalised_return']:.1%}, mean length" in errors
    config = config_of(result["run"])
    assert config["dataset"]["reference_scores"] == [-20.0, 3230.0]
    assert config["score"] == "return"
    assert config["settings"]["horizon_length"] == 1
    assert config["settings"]["rho"] == 1.0
    resumed = call(main, *words, "--resume", "--dataset-dir", minari)[0]  # the data may have moved
    assert resumed["already_done"]
    assert resumed["normalised_return"] == result["normalised_return"]


@pytest.mark.parametrize("name", [PEN, "D4RL/antmaze/umaze-v1"])
def test_the_tasks_of_gymnasium_robotics_are_scored_as_papers_do(minari, tmp_path, call, name):
    robotics = pytest.importorskip("gymnasium_robotics", reason="needs the extra d4rl")
    env = None
    if "antmaze" in name:
        gymnasium.register_envs(robotics)
        env = gymnasium.make("AntMaze_UMaze-v4", continuing_task=True)
    write_d4rl_task(minari, name, env, **REFERENCES)
    result, _ = call(main, *d4rl_words(tmp_path, name))
    assert (result["success"] is None) == (name == PEN)
    assert ("normalised_return" in result) == (name == PEN)
