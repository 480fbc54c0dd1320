"""Images and Dicts in the programs: training, evaluation, resuming and display.

The environment draws its images with NumPy, so that these tests do not need OpenGL.
"""

import gymnasium
import numpy as np
import pytest

import agents
from tests.zoo.datasets.samples import episodes, write_npz
from tests.zoo.helpers import TINY
from tests.zoo.outcomes import config_of
from zoo.enjoy import main as enjoy
from zoo.evaluate import main as evaluate
from zoo.train import main

ENV = "tests.envs:Pictures-v0"
FOLDER = "tests.envs__Pictures-v0"
SMALL_ENCODER = "policy_kwargs={features_extractor_kwargs: {features_dim: 8, widths: [4, 4]}}"
OF_IMAGES = ("encoder=impala_small", SMALL_ENCODER, "random_crop=0.5")


def words(logs, data, *flags, params=()):
    line = (
        f"--algo qam --env {ENV} -f {logs} --device cpu --eval-episodes 2 "
        "--eval-freq 6 --save-freq 4 --n-eval-envs 2 --verbose 0"
    ).split()
    if "--seeds" not in flags:
        line += ["--seed", "1"]
    if data:
        line += f"--dataset {data} --offline-steps 12".split()
    return [*line, *flags, "-params", *TINY, *params]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    parts = episodes(5, 8, env=gymnasium.make(ENV))
    return write_npz(tmp_path_factory.mktemp("data"), parts)


@pytest.mark.few(1)
@pytest.mark.parametrize("frames", [3, 1])
def test_images_are_trained_on_evaluated_resumed_and_watched(data, tmp_path, call, frames):
    logs = tmp_path / "logs"
    arguments = words(logs, data, params=(*OF_IMAGES, f"frame_stack={frames}"))
    trained, _ = call(main, *arguments)
    folder = logs / "qam" / f"{FOLDER}_1"
    settings = config_of(folder)["settings"]
    assert settings["encoder"] == "impala_small"
    assert settings["frame_stack"] == frames
    assert agents.load(folder, device="cpu").observation_space.shape == (3 * frames, 16, 16)
    assert call(evaluate, folder)[0]["success"] == trained["success"]
    assert call(main, *arguments, "--resume")[0]["already_done"]
    video = f"{folder} --video {tmp_path / 'a.gif'} --episodes 2".split()
    assert call(enjoy, *video)[0]["success"] == trained["success"]
    assert (tmp_path / "a.gif").stat().st_size > 0


@pytest.mark.parametrize("option", ["norm_obs: false", "norm_obs_keys: []"])
def test_dicts_are_trained_on_online_evaluated_and_watched(tmp_path, call, option):
    # SB3's extractor rejects images below 36 pixels
    flags = ("--online-steps=12", "--gym-packages=json", "--env-kwargs", "as_dict=true", "side=36")
    params = "learning_starts=4", f"normalize={{{option}}}"
    arguments = words(tmp_path, None, *flags, "--verbose=1", params=params)
    trained, shown = call(main, *arguments)
    folder = tmp_path / "qam" / f"{FOLDER}_1"
    assert f"next: zoo enjoy {folder} --gym-packages json --trust --video run.gif" in shown
    assert call(evaluate, folder)[0]["return"] == trained["return"]


# -- arguments rejected before work starts ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "params", "message"),
    [
        ("", ("observation_scale=4",), "`observation_scale` needs vectors"),
        ("", (), "NatureCNN does not accept Box"),
        (
            "--offline-steps 0 --online-steps 5 --offline-data preload",
            ("normalize=true", "encoder=impala_small"),
            "`normalize` needs vectors, got observation",
        ),
        ("--seeds 1 2 --env-kwargs side=36", (), "ImpalaEncoder to train 2 seeds in parallel"),
        ("--dataset other.npz", OF_IMAGES, "must have rows of uint8 and shape (16, 16, 3) as"),
    ],
)
def test_what_does_not_fit_images_is_refused(
    data, tmp_path, monkeypatch, refusal, flags, params, message
):
    monkeypatch.chdir(tmp_path)
    with np.load(data) as arrays:
        lower = {name: arrays[name][:, 1:] for name in ("observations", "next_observations")}
        np.savez("other.npz", **{**arrays, **lower})
    assert message in refusal(main, *words(tmp_path, data, *flags.split(), params=params))
