"""D4RL through Minari: trained on, benchmarked and compared on the scale that the data say."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.zoo.datasets.d4rl import record
from tests.zoo.outcomes import refusal, result_of
from zoo.benchmark import main as benchmark
from zoo.compare import main as compare
from zoo.dataset import main as dataset
from zoo.train import main as train

HOPPER, CHEETAH, PEN = "mujoco/hopper/medium-v0", "mujoco/halfcheetah/simple-v0", "D4RL/pen/human-v2"
REFERENCES = {"ref_min_score": -20.0, "ref_max_score": 3230.0}
SMALL = {"net_arch": [16, 16], "flow_steps": 2, "batch_size": 16, "buffer_size": 100}
STEPS = {"offline_steps": 4, "eval_freq": 2, "eval_episodes": 2}


@pytest.fixture(autouse=True)
def minari(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder where Minari looks."""
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    return tmp_path / "minari"


def words(logs: Path, name: str, **more: Any) -> list[str]:
    found = ["--algo", "fql", "--env", name, "--profile", "d4rl", "--seed", "0", "-f", str(logs), "--device", "cpu"]
    settings = [f"{key}={json.dumps(value)}" for key, value in {**SMALL, **STEPS, **more}.items()]
    return [*found, "--n-eval-envs", "1", "-params", *settings]


def test_returns_are_normalised_by_what_the_data_say(
    minari: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record(minari, HOPPER, **REFERENCES)
    assert train(words(tmp_path, HOPPER)) == 0
    found = result_of(capsys)
    assert found["normalised_return"] == pytest.approx((found["return"] + 20) / 3250)
    config = yaml.safe_load((Path(found["run"]) / "config.yml").read_text())
    assert config["dataset"]["reference_scores"] == [-20.0, 3230.0]
    assert (config["score"], config["settings"]["horizon_length"], config["settings"]["rho"]) == ("return", 1, 1.0)
    assert train([*words(tmp_path, HOPPER), "--resume"]) == 0
    again = result_of(capsys)
    assert (again["already_done"], again["normalised_return"]) == (True, found["normalised_return"])


def test_data_without_references_leave_returns_as_they_are_and_say_so_once(
    minari: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record(minari, HOPPER, ref_min_score=1.0)
    assert train(words(tmp_path, HOPPER)) == 0
    out, err = capsys.readouterr()
    assert "normalised_return" not in json.loads(out.splitlines()[-1])
    assert err.count("returns stay as they are; give `--reference-scores`") == 1
    assert train([*words(tmp_path, HOPPER), "--reference-scores", "-20,3230"]) == 0
    out, err = capsys.readouterr()
    assert "normalised_return" in json.loads(out.splitlines()[-1])
    assert "returns stay" not in err


def test_data_that_are_not_there_name_the_command_that_gets_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_internet(name: str) -> None:
        raise ConnectionError("no route to host")

    monkeypatch.setattr(pytest.importorskip("minari"), "download_dataset", no_internet)
    text = refusal(capsys, words(tmp_path, HOPPER))
    assert f"run `minari download {HOPPER}` where there is internet" in text
    assert str(tmp_path / "minari" / HOPPER) in text


@pytest.mark.parametrize("where", [[], ["--dataset-dir", "FOLDER"]])
def test_data_are_converted_by_their_name(
    minari: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], where: list[str]
) -> None:
    record(minari, HOPPER)
    if where:
        where = ["--dataset-dir", str(minari.rename(tmp_path / "elsewhere"))]
    assert dataset(["convert", HOPPER, *where, "-o", str(tmp_path / "a.npz")]) == 0
    assert result_of(capsys)["recorded_in"] == "Hopper-v5"


def test_data_are_not_generated(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = refusal(capsys, [*words(tmp_path, HOPPER), "--dataset", "generate"])
    assert f"the data of {HOPPER} cannot be generated; leave out `--dataset generate` to download them" in text


def test_without_gymnasium_robotics_its_tasks_name_the_extra(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "gymnasium_robotics", None)
    text = refusal(capsys, words(tmp_path, PEN))
    assert "needs Gymnasium-Robotics; install it with `pip install 'flow-rl-zoo[d4rl]'`" in text


@pytest.mark.parametrize("name", [PEN, "D4RL/antmaze/umaze-v1"])
def test_the_tasks_of_gymnasium_robotics_are_scored_as_papers_do(
    minari: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    robotics = pytest.importorskip("gymnasium_robotics", reason="needs `pip install 'flow-rl-zoo[d4rl]'`")
    env = None
    if "antmaze" in name:
        pytest.importorskip("gymnasium").register_envs(robotics)
        env = pytest.importorskip("gymnasium").make("AntMaze_UMaze-v4", continuing_task=True)
    record(minari, name, env, **REFERENCES)
    assert train(words(tmp_path, name)) == 0
    found = result_of(capsys)
    assert (found["success"] is None, "normalised_return" in found) == ((True, True) if name == PEN else (False, False))


@pytest.mark.slow
def test_d4rl_is_trained_on_benchmarked_and_compared_on_its_own_scale(
    minari: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in (HOPPER, CHEETAH):
        record(minari, name, **REFERENCES)
    assert train(words(tmp_path / "logs", HOPPER)) == 0
    found = result_of(capsys)
    suite = {"profile": "d4rl", "algorithms": ["fql"], "environments": [HOPPER, CHEETAH], "seeds": 0}
    (tmp_path / "suite.yml").write_text(yaml.safe_dump({**suite, "params": {**SMALL, **STEPS}}))
    options = ["-f", str(tmp_path / "suite"), "--workers", "1", "--device", "cpu", "--no-report"]
    assert benchmark([str(tmp_path / "suite.yml"), *options]) == 0
    assert result_of(capsys)["done"] == 2
    assert benchmark([str(tmp_path / "suite.yml"), *options]) == 0  # what a job finds in its data does not change it
    assert result_of(capsys)["done"] == 2
    output = ["--json", str(tmp_path / "out.json"), "--print", "--reps", "50"]
    assert compare([str(tmp_path / "suite"), *output]) == 0
    report = json.loads((tmp_path / "out.json").read_text())
    assert report["reference_scores"] == {CHEETAH: [-20.0, 3230.0], HOPPER: [-20.0, 3230.0]}
    assert "return" not in report
    scores = report["normalised_return"]["offline"]
    assert scores["tasks"][HOPPER]["fql"]["mean"] == pytest.approx(found["normalised_return"])
    assert f"{100 * scores['aggregates']['fql']['mean']['point']:.1f}" in capsys.readouterr().out
