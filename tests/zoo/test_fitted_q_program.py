"""``zoo evaluate --fitted-q``: values from data alone, and arguments that are rejected before work starts."""

import numpy as np
import pytest

from tests.zoo.datasets.samples import ENV, episodes, regular, write_npz
from tests.zoo.helpers import TINY
from zoo.evaluate import main as evaluate
from zoo.export import main as export
from zoo.push_to_hub import main as push
from zoo.train import main as train


@pytest.fixture(autouse=True)
def _few_steps(monkeypatch):
    monkeypatch.setattr("zoo.training.fitted_q.STEPS", 3)


def trained(folder, call, where="--no-env", *flags):
    """Train for two steps; return the run folder."""
    data = write_npz(folder, episodes(4))
    line = (
        f"--algo qam {where} --dataset {data} -f {folder / 'logs'} --seed 1 --device cpu --offline-steps 2 "
        "--eval-freq 2 --eval-episodes 1 --n-eval-envs 1 --eval-seed 6 --verbose 0"
    )
    call(train, *line.split(), "-params", *TINY, *flags)
    return next((folder / "logs").rglob("config.yml")).parent


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Return the folder of a run without an environment; tests may only add its estimate."""
    folder = tmp_path_factory.mktemp("run")
    return trained(folder, lambda program, *words: program(list(map(str, words))))


def test_a_run_without_an_environment_has_a_value(run, call, refusal):
    result, shown = call(evaluate, run, "--fitted-q")
    assert "updates 2/3" in shown
    assert "--fitted-q` estimates the value" in refusal(evaluate, run, "--env", "data-other")
    assert (len(result["critics"]), result["seed"]) == (5, 6)
    low, high = result["interval"]
    assert low < result["value"] < high


def test_a_run_with_an_environment_is_fitted_to_data_of_others(tmp_path, call):
    run = trained(tmp_path, call, f"--env {ENV}", "execution_horizon=1", "dataset_size=50")
    (tmp_path / "other").mkdir()
    other_data = write_npz(tmp_path / "other", episodes(2, seed=5))
    expected, _ = call(evaluate, run, "--fitted-q", "--seed", 4)
    result, _ = call(evaluate, run, "--fitted-q", "--dataset", other_data, "--seed", 4)
    assert (result["dataset"], result["seed"]) == (str(other_data), 4)
    own_data_result, _ = call(evaluate, run, "--fitted-q", "--seed", 4)
    assert own_data_result["value"] == expected["value"] != result["value"]


@pytest.mark.parametrize(
    ("flags", "reason"),
    {
        "--fitted-q --episodes 5": "runs no episodes, got --episodes",
        "--fitted-q --dataset auto": "was trained without an environment",
        f"--fitted-q --env {ENV}": "needs a run folder",
        "--fitted-q --dataset single.npz": "needs at least two trajectories",
    }.items(),
)  # fmt: skip
def test_what_cannot_be_fitted_is_refused(run, tmp_path, refusal, monkeypatch, flags, reason):
    monkeypatch.chdir(tmp_path)
    np.savez("single.npz", **regular(episodes(1)))
    old_files = sorted(run.iterdir())
    assert reason in refusal(evaluate, run, *flags.split())
    assert sorted(run.iterdir()) == old_files


def test_a_policy_of_stable_baselines3_is_refused(tmp_path, call, refusal, hub):
    line = (
        f"--algo sac --env {ENV} -f {tmp_path / 'logs'} --seed 1 --device cpu --online-steps 2 --eval-freq 2 "
        "--eval-episodes 1 --n-eval-envs 1 --verbose 0"
    )
    run = call(train, *line.split())[0]["run"]
    for program, words in (
        (evaluate, "--fitted-q"),
        (export, f"-o {tmp_path}/policy.onnx"),
        (push, "--repo me/sac"),
    ):
        assert "got sac of Stable-Baselines3" in refusal(program, run, *words.split())
    assert not hub.repositories
