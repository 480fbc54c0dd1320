"""Data of one's own through the programs: trained on, evaluated, resumed and compared, scored as was asked."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import yaml

import agents
from tests.zoo.datasets.own import ENV, WRITERS, episodes, metadata_of, write_minari, write_npz
from tests.zoo.outcomes import refusal, result_of
from zoo.compare import main as compare
from zoo.dataset import main as dataset
from zoo.train import main

TINY = ["net_arch=[16,16]", "ensemble_size=2", "flow_steps=2", "batch_size=16", "horizon_length=2", "buffer_size=100"]
FOLDER = "tests.zoo.envs.toys__Spring-v0"


def words(logs: Path, data: str | Path, *more: str, env: str = ENV) -> list[str]:
    found = ["--algo", "qam", "--env", env, "--dataset", str(data), "-f", str(logs), "--seed", "1", "--device", "cpu"]
    found += ["--offline-steps", "12", "--eval-freq", "6", "--save-freq", "4", "--eval-episodes", "2"]
    return [*found, "--n-eval-envs", "1", "--verbose", "0", "-params", *TINY, *more]


@pytest.fixture(autouse=True)
def _minari_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))


@pytest.mark.few(1)
@pytest.mark.parametrize("kind", ["minari", "parquet", "npz"])
def test_a_set_is_trained_on_evaluated_resumed_and_compared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    source, logs = WRITERS[kind](tmp_path, episodes(3)), tmp_path / "logs"
    assert main(words(logs, source)) == 0
    assert result_of(capsys)["success"] is not None  # the environment says `is_success`
    folder = logs / "qam" / f"{FOLDER}_1"
    config = yaml.safe_load((folder / "config.yml").read_text())
    assert config["dataset"]["size"] == (57 if kind == "parquet" else 59)
    assert len(config["dataset"]["fingerprint"]) == 64
    assert not {"score", "success_return", "reference_scores", "action_range"} & set(config)
    with np.load(folder / "evaluations.npz") as found:
        assert found["timesteps"].tolist() == [6, 12]
    assert agents.load(folder, device="cpu").action_space.high[0] == 2
    assert main([*words(logs, source), "--resume"]) == 0
    assert result_of(capsys)["already_done"]
    assert compare([str(logs), "--json", str(tmp_path / "report.json"), "--reps", "50"]) == 0
    assert ENV in (tmp_path / "report.json").read_text()


def test_a_set_is_converted_and_described(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = write_minari(tmp_path, episodes(3))
    assert dataset(["convert", source, "-o", str(tmp_path / "a.npz")]) == 0
    assert result_of(capsys) == {
        "file": str(tmp_path / "a.npz"),
        "trajectories": 3,
        "transitions": 59,
        "terminated": 1,
        "observation": 4,
        "action": 2,
        "recorded_in": "Spring-v0",
    }


def test_each_kind_of_score_is_recorded_and_compared_apart(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, logs = write_npz(tmp_path, episodes(3)), tmp_path / "logs"
    kinds = {
        "a": [],
        "b": ["--success-return", "-1e9"],
        "c": ["--score", "return"],
        "d": ["--reference-scores", "-1000,-100"],
    }
    results = {}
    for label, more in kinds.items():
        assert main([*words(logs, data), *more, "--label", label]) == 0
        results[label] = result_of(capsys)
    assert results["b"]["success"] == 1.0
    assert results["c"]["success"] is results["d"]["success"] is None
    assert results["d"]["normalised_return"] == pytest.approx((results["d"]["return"] + 1000) / 900)
    configs = {
        label: yaml.safe_load((Path(found["run"]) / "config.yml").read_text()) for label, found in results.items()
    }
    assert configs["b"]["success_return"] == -1e9
    assert configs["c"]["score"] == configs["d"]["score"] == "return"
    assert configs["d"]["reference_scores"] == [-1000.0, -100.0]
    assert compare([str(logs), "--json", str(tmp_path / "report.json"), "--reps", "50"]) == 0
    report = json.loads((tmp_path / "report.json").read_text())
    methods = {kind: set(report[kind]["offline"]["tasks"][ENV]) for kind in ("success_by_return", "normalised_return")}
    assert methods == {"success_by_return": {"b"}, "normalised_return": {"c", "d"}}  # a scale is its environment's
    assert set(report["offline"]["tasks"][ENV]) == {"a"}


@pytest.mark.parametrize(
    ("more", "text"),
    [
        (["--success-return", "1", "--score", "return"], "give one of the two"),
        (["--action-range", "-1,1"], "`actions` must lie in [-1, 1], got -1.836"),
        (["--reference-scores", "-100,-1000"], "must be a number and a higher one, got [-100.0, -1000.0]"),
        (["--dataset-size", "1000"], "at most 59"),
        (["sparse=true"], "`sparse` belongs to OGBench's rewards"),
        (["--env", "Pendulum-v1"], "rows of shape (3,) as in Pendulum-v1, got (4,)"),
    ],
)
def test_what_contradicts_the_set_or_itself_is_refused_before_any_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], more: list[str], text: str
) -> None:
    assert text in refusal(capsys, words(tmp_path / "logs", write_npz(tmp_path, episodes(3)), *more))


def test_an_environment_without_data_asks_for_a_set(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "give your own with --dataset" in refusal(capsys, words(tmp_path / "logs", "auto"))


def test_a_minari_set_whose_environment_is_missing_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = write_minari(tmp_path, episodes())
    path, metadata = metadata_of(tmp_path)
    spec = json.loads(metadata["env_spec"]) | {"id": "AdroitHandPen-v1"}
    path.write_text(json.dumps(metadata | {"env_spec": json.dumps(spec)}))
    said = refusal(capsys, words(tmp_path / "logs", name, env="AdroitHandPen-v1"))
    assert f"{name} was recorded in `AdroitHandPen-v1`, which is not installed; install the package" in said
