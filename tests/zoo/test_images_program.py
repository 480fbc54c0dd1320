"""Images and Dicts through the programs: collected, trained on, evaluated, resumed, compared and watched.

The environment draws its pictures by NumPy, so that nothing here needs OpenGL.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml

import agents
from benchmarks.fault_suite.programs import Programs
from tests.zoo.outcomes import refusal, result_of
from zoo.compare import main as compare
from zoo.dataset import main as dataset
from zoo.enjoy import main as enjoy
from zoo.evaluate import main as evaluate
from zoo.train import main

ENV = "tests.envs:Pictures-v0"
FOLDER = "tests.envs__Pictures-v0"
TINY = ["net_arch=[16,16]", "ensemble_size=2", "flow_steps=2", "batch_size=16", "horizon_length=2", "buffer_size=100"]
SMALL_ENCODER = "policy_kwargs={features_extractor_kwargs: {features_dim: 8, widths: [4, 4]}}"
OF_IMAGES = ["encoder=impala_small", SMALL_ENCODER, "random_crop=0.5"]


def words(logs: Path, data: Path | None, *more: str, algo: str = "qam", params: tuple[str, ...] = ()) -> list[str]:
    found = ["--algo", algo, "--env", ENV, "-f", str(logs), "--seed", "1", "--device", "cpu", "--eval-episodes", "2"]
    found += ["--eval-freq", "6", "--save-freq", "4", "--n-eval-envs", "2", "--verbose", "0"]
    found += ["--dataset", str(data), "--offline-steps", "12"] if data else []
    return [*found, *more, "-params", *TINY, *params]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("data") / "pictures.npz"
    assert dataset(["collect", "random", "--env", ENV, "--episodes", "5", "-o", str(file), "--verbose", "0"]) == 0
    return file


@pytest.mark.few(1)
@pytest.mark.parametrize("frames", [3, 1])
def test_a_set_of_images_is_trained_on_evaluated_resumed_compared_and_watched(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], frames: int
) -> None:
    logs = tmp_path / "logs"
    mode = "async" if frames == 1 else "sync"
    arguments = words(logs, data, "--eval-mode", mode, params=(*OF_IMAGES, f"frame_stack={frames}"))
    assert main(arguments) == 0
    trained = result_of(capsys)
    folder = logs / "qam" / f"{FOLDER}_1"
    config = yaml.safe_load((folder / "config.yml").read_text())
    assert config["settings"]["encoder"] == "impala_small"
    assert config["settings"]["frame_stack"] == frames
    assert agents.load(folder, device="cpu").observation_space.shape == (3 * frames, 16, 16)
    assert evaluate([str(folder), "--verbose", "0"]) == 0
    assert result_of(capsys)["success"] == trained["success"]
    assert main([*arguments, "--resume"]) == 0
    assert result_of(capsys)["already_done"]
    assert enjoy([str(folder), "--video", str(tmp_path / "a.gif"), "--episodes", "2", "--verbose", "0"]) == 0
    assert result_of(capsys)["success"] == trained["success"]
    assert (tmp_path / "a.gif").stat().st_size > 0
    again = ["collect", str(folder), "--env", ENV, "--episodes", "2", "-o", str(tmp_path / "again.npz")]
    assert dataset([*again, "--verbose", "0"]) == 0
    with np.load(tmp_path / "again.npz") as found:
        assert found["observations"].shape == (18, 16, 16, 3)
    assert compare([str(logs), "--json", str(tmp_path / "report.json"), "--reps", "50"]) == 0
    assert ENV in (tmp_path / "report.json").read_text()


@pytest.mark.slow
def test_a_killed_run_on_frames_ends_as_an_uninterrupted_one(data: Path, tmp_path: Path) -> None:
    steps = ("--offline-steps", "4", "--online-steps", "20")
    params = (*OF_IMAGES, "frame_stack=3", "learning_starts=2")
    with Programs() as programs:
        assert programs.run("train", words(tmp_path / "whole", data, *steps, params=params)).code == 0
        killed = words(tmp_path / "killed", data, *steps, params=params)
        assert programs.run("train", killed, kill=("update", 9)).code == -9
        resumed = words(tmp_path / "killed", data, *steps, "--resume", params=params)
        assert programs.run("train", resumed).code == 0
    first, second = (tmp_path / name / "qam" / f"{FOLDER}_1" / "evaluations.npz" for name in ("whole", "killed"))
    assert first.read_bytes() == second.read_bytes()


def test_dicts_are_trained_on_online_evaluated_and_watched(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # SB3's extractor takes no images below 36 pixels
    arguments = words(
        tmp_path, None, "--online-steps", "12", "--env-kwargs", "as_dict=true", "side=36", params=("learning_starts=4",)
    )
    assert main(arguments) == 0
    trained = result_of(capsys)
    assert evaluate([str(tmp_path / "qam" / f"{FOLDER}_1"), "--verbose", "0"]) == 0
    assert result_of(capsys)["return"] == trained["return"]


# -- refused before any work ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("more", "params", "message"),
    [
        (("--env-kwargs", "fault=float space"), (), r"Box(16, 16, 3) of float32, expected a vector, an image (uint8"),
        ((), ("observation_scale=4",), "`observation_scale` is for vectors"),
        (("--seed", "-1", "--seeds", "1", "2", "--env-kwargs", "side=36"), (), "ImpalaEncoder for 2 seeds at once"),
    ],
)
def test_settings_that_do_not_fit_images_are_refused(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], more: tuple, params: tuple, message: str
) -> None:
    assert message in refusal(capsys, words(tmp_path, data, *more, params=params))


@pytest.mark.parametrize("setting", ["encoder=impala_small", "random_crop=0.5"])
def test_settings_of_images_are_refused_for_vectors(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], setting: str
) -> None:
    arguments = ["--algo", "qam", "--env", "Pendulum-v1", "--online-steps", "5", "-f", str(tmp_path), "--device", "cpu"]
    message = refusal(capsys, [*arguments, "-params", *TINY, setting])
    assert "images" in message
    assert setting.split("=")[0].removeprefix("encoder") in message


def test_an_environment_that_breaks_its_promise_is_at_fault(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = words(tmp_path, None, "--online-steps", "5", "--env-kwargs", "fault=float", params=tuple(OF_IMAGES))
    assert main(arguments) != 0
    assert "an image must be uint8 from 0 to 255 of shape (16, 16, 3)" in capsys.readouterr().err


def test_data_that_are_not_the_environments_images_are_refused(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with np.load(data) as found:
        arrays = dict(found)
    arrays["observations"] = arrays["observations"][:, 1:]
    np.savez(tmp_path / "other.npz", **arrays)
    message = refusal(capsys, words(tmp_path, tmp_path / "other.npz", params=tuple(OF_IMAGES)))
    assert "must have rows of shape (16, 16, 3) as in tests.envs:Pictures-v0, got (15, 16, 3)" in message
