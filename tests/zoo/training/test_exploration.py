"""Normalisation and action noise as settings of a run: recorded, resumed, and refused where they would not act."""

import gc
import os
import signal

import numpy as np
import pytest
from stable_baselines3.common.noise import OrnsteinUhlenbeckActionNoise

from tests.zoo.envs import toys  # noqa: F401  registers the environments
from zoo.algorithms.baselines import find_algorithm
from zoo.models.agent import agent_of_run, play
from zoo.runs.folder import RunFolder
from zoo.settings.config import Overrides, load_config
from zoo.terminal.errors import UsageError
from zoo.train import main
from zoo.training.callbacks import TrainingRun

TINY = {
    "qam": ["net_arch=[8]", "ensemble_size=2", "flow_steps=2", "horizon_length=2"],
    "sac": ["net_arch=[8]"],
}
NOISY = [
    "normalize={norm_reward: false, clip_obs: 5}",
    "noise_type=ornstein-uhlenbeck",
    "noise_std=0.2",
]


def train(logs, algo, *params, code=0, steps=24):
    words = f"--algo {algo} --env Toy-v0 --online-steps {steps} --seed 1 --verbose 0 -f {logs} --eval-freq 8".split()
    words += [
        "--eval-episodes",
        "2",
        "--n-eval-envs",
        "1",
        "--device",
        "cpu",
        "--resume",
        "--score",
        "return",
    ]
    settings = [*TINY[algo], "batch_size=8", "buffer_size=100", "learning_starts=4"]
    assert main([*words, "-params", *settings, *NOISY, *params]) == code
    return RunFolder(logs / algo / "Toy-v0_1")


def test_a_run_records_them_and_its_model_is_played_with_its_statistics(tmp_path):
    folder = train(tmp_path, "sac")
    run = folder.read_config().run
    assert run.normalize == {"norm_reward": False, "clip_obs": 5}
    assert (run.noise_type, run.noise_std) == ("ornstein-uhlenbeck", None)
    assert (
        folder.read_config().settings["noise_std"] == 0.2
    )  # of SB3's algorithms it is a setting of their own
    model = find_algorithm("sac").algorithm.load(folder.model, device="cpu")
    assert isinstance(model.action_noise, OrnsteinUhlenbeckActionNoise)
    assert model.normalization.clip_obs == 5
    results, _ = play(agent_of_run(folder.path, "cpu"), n_envs=1)
    assert np.array_equal(results.returns[0], folder.read_evaluations()["results"][-1])


@pytest.mark.parametrize("algo", ["qam", pytest.param("sac", marks=pytest.mark.slow)])
def test_a_run_goes_on_with_its_statistics_and_its_noise(algo, tmp_path, monkeypatch):
    uninterrupted = train(tmp_path / "uninterrupted", algo).read_evaluations()
    record = TrainingRun._record

    def stop_after(training, *arguments):
        record(training, *arguments)
        os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(TrainingRun, "_record", stop_after)
        train(tmp_path / "stopped", algo, code=3)
    gc.collect()  # frees the lock of the run, which a process does when it ends
    resumed = train(tmp_path / "stopped", algo).read_evaluations()
    assert {name: values.tolist() for name, values in resumed.items()} == {
        name: values.tolist() for name, values in uninterrupted.items()
    }


@pytest.mark.parametrize("algo", ["qam", "sac"])
@pytest.mark.parametrize(
    ("params", "message"),
    [
        (["noise_type=normal"], "`noise_type` = normal needs `noise_std` > 0"),
        (["noise_std=-1"], "`noise_std` must be"),
        (
            ["noise_type=pink", "noise_std=1"],
            "`noise_type` must be one of normal, ornstein-uhlenbeck",
        ),
        (["normalize=yes"], "`normalize` must be true or false, got 'yes'"),
        (["normalize={norm_obbs: true}"], "closest: norm_obs"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_what_is_no_noise_or_normalisation_is_refused(algo, params, message):
    steps = ["offline_steps=0", "online_steps=9"]
    with pytest.raises(UsageError, match=message):
        load_config(algo, "x", overrides=Overrides(params=[*steps, *params]))


@pytest.mark.parametrize(
    ("params", "message"),
    [
        (["normalize=true", "online_steps=9"], "there are none in offline training"),
        (["noise_std=0.1"], "`online_steps` is 0"),
    ],
    ids=["normalize", "noise"],
)
def test_what_would_not_act_offline_is_refused(params, message):
    with pytest.raises(UsageError, match=message):
        load_config("qam", "x", overrides=Overrides(params=["offline_steps=9", *params]))


def test_seeds_that_would_share_them_are_refused_before_work(tmp_path, refusal):
    words = f"--algo qam --env Toy-v0 --online-steps 9 --seeds 1 2 --verbose 0 -f {tmp_path} --normalize".split()
    assert "2 replicas would share the statistics" in refusal(main, *words, "-params", *TINY["qam"])
