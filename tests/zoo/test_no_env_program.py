"""Data without an environment: trained on, judged by held-out trajectories, resumed, exported and compared."""

from pathlib import Path

import numpy as np
import pytest

import agents
from tests.common.toys import assert_same
from tests.zoo.datasets.own import episodes, write_npz
from tests.zoo.outcomes import config_of
from zoo.compare import main as compare
from zoo.export import main as export
from zoo.train import main

TINY = ["net_arch=[16,16]", "ensemble_size=2", "flow_steps=2", "batch_size=16", "horizon_length=2"]


def words(logs, data, *more):
    found = f"--algo qam --no-env --dataset {data} -f {logs} --seed 1 --device cpu".split()
    found += ["--offline-steps", "4", "--eval-freq", "2", "--save-freq", "1", "--verbose", "0", "--no-eval-at-start"]
    return [*found, *more, "-params", *TINY]


@pytest.mark.usefixtures("figures_on_demand")
def test_a_run_has_value_estimates_of_a_kind_of_their_own(tmp_path, call):
    data, logs = write_npz(tmp_path, episodes(12)), tmp_path / "logs"
    result, _ = call(main, *words(logs, data))
    assert result["success"] is None
    assert result["return"] is None
    folder = Path(result["run"])
    config = config_of(folder)
    assert config["score"] == "value"
    assert config["dataset"]["size"] == 200  # of 12 trajectories two are held out
    with np.load(folder / "evaluations.npz") as found:
        assert found["results"].shape == (2, 2)
        assert result["value_estimate"] == found["results"][-1].mean()
        assert {"low", "high", "behaviour", "behaviour_low", "behaviour_high", "q_data", "q_policy"} < set(found)
        assert np.isfinite(found["td_loss"]).all()
    limits = agents.load(folder, device="cpu").action_space
    assert limits.high.max() <= 2
    assert compare(f"{logs} -o {tmp_path / 'report'} --json {tmp_path / 'a.json'} --reps 50".split()) == 0
    assert "value estimate" in (tmp_path / "report" / "scores.csv").read_text()


@pytest.mark.slow
def test_a_killed_run_ends_as_one_that_never_was_and_is_exported(tmp_path, programs, call):
    data = write_npz(tmp_path, episodes(12))
    whole, killed = (words(tmp_path / name, data, "--resume") for name in ("whole", "killed"))
    assert programs.run("train", whole).code == 0
    assert programs.run("train", killed, kill=("update", 3)).code == -9
    assert programs.run("train", killed).code == 0
    first, second = (
        next(path.parent for path in (tmp_path / name).rglob("config.yml")) for name in ("whole", "killed")
    )
    assert (first / "evaluations.npz").read_bytes() == (second / "evaluations.npz").read_bytes()
    assert_same(*(agents.load(folder, device="cpu").policy.state_dict() for folder in (first, second)))
    call(export, second, "-o", tmp_path / "policy.onnx")


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ("--env Pendulum-v1", "`--no-env` takes the place of `--env`"),
        ("--online-steps 5", "nothing to play in"),
        ("--reference-scores 0,1", "nothing to play in"),
        ("--dataset auto", "needs data with rewards"),
    ],
)
def test_what_needs_an_environment_is_refused(tmp_path, refusal, more, reason):
    data = write_npz(tmp_path, episodes(2))
    assert reason in refusal(main, *words(tmp_path / "logs", data, *more.split()))
    assert not (tmp_path / "logs").exists()


def test_a_single_trajectory_is_refused(tmp_path, refusal):
    data = write_npz(tmp_path, episodes(1))
    assert "got one trajectory" in refusal(main, *words(tmp_path / "logs", data))
