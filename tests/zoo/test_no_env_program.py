"""Data without an environment: trained on, judged by held-out trajectories, resumed, exported and compared."""

from pathlib import Path

import gymnasium
import numpy as np
import pandas as pd
import pytest
from gymnasium.spaces import Box

import agents
from tests.common.toys import assert_same
from tests.zoo.datasets.samples import episodes, regular, write_npz
from tests.zoo.outcomes import config_of
from zoo.compare import main as compare
from zoo.export import main as export
from zoo.train import main
from zoo.training.flags import make_parser, read_request
from zoo.training.plan import plan_run

TINY = [
    "net_arch=[16,16]",
    "ensemble_size=2",
    "flow_steps=2",
    "batch_size=16",
    "horizon_length=2",
    "gamma=0.5",
]


def words(logs, data, *more):
    found = (
        f"--algo qam --no-env --dataset {data} -f {logs} --seed 1 --device cpu "
        "--offline-steps 4 --eval-freq 2 --save-freq 1 --verbose 0 --no-eval-at-start"
    ).split()
    return [*found, *more, "-params", *TINY]


@pytest.mark.usefixtures("figures_on_demand")
def test_a_run_has_critic_values_of_a_kind_of_their_own(tmp_path, call):
    data, logs = write_npz(tmp_path, episodes(12)), tmp_path / "logs"
    result, _ = call(main, *words(logs, data))
    assert result["success"] is None
    assert result["return"] is None
    folder = Path(result["run"])
    config = config_of(folder)
    assert config["score"] == "critic"
    assert config["dataset"]["size"] == 200  # of 12 trajectories two are held out
    with np.load(folder / "evaluations.npz") as found:
        assert found["results"].shape == (2, 2)
        assert result["critic_value"] == found["results"][-1].mean()
        assert {"held_out_loss", "held_out_td_loss", "q_data", "q_policy"} < set(found)
        for name in ("held_out_loss", "q_data", "q_policy"):
            assert np.isfinite(found[name]).all()
    limits = agents.load(folder, device="cpu").action_space
    assert limits.high.max() <= 2
    scores = compared(tmp_path, logs)
    assert set(scores["kind"]) == {"critic value"}
    assert scores[["successes", "return", "length"]].isna().all(axis=None)
    # releases until 1.0 wrote the estimates of fitted Q evaluation
    text = (folder / "config.yml").read_text()
    (folder / "config.yml").write_text(text.replace("score: critic", "score: value"))
    with np.load(folder / "evaluations.npz") as evaluations:
        bounds = {
            name: np.zeros(2)
            for name in ("low", "high", "behaviour", "behaviour_low", "behaviour_high")
        }
        np.savez(folder / "evaluations.npz", **evaluations, **bounds)
    assert set(compared(tmp_path, logs)["kind"]) == {"value estimate"}


def compared(folder, logs):
    """Return the scores that a comparison writes."""
    assert (
        compare(f"{logs} -o {folder / 'report'} --json {folder / 'a.json'} --reps 50".split()) == 0
    )
    return pd.read_csv(folder / "report" / "scores.csv")


def test_an_algorithm_without_a_critic_is_scored_by_its_loss(tmp_path, call):
    data, logs = write_npz(tmp_path, episodes(12)), tmp_path / "logs"
    settings = [word for word in TINY if not word.startswith("ensemble")]
    result, _ = call(main, *words(logs, data, "--algo", "bc")[: -len(TINY)], *settings)
    assert config_of(result["run"])["score"] == "loss"
    assert result["negative_loss"] < 0


def test_spaces_and_rewards_can_be_told(tmp_path):
    arrays = regular(episodes(12))
    del arrays["rewards"]
    np.savez(tmp_path / "my.npz", **arrays, success=arrays["terminals"])
    (tmp_path / "spaces.yml").write_text(
        "actions: {low: [-3, -2], high: 5}\nobservations: {low: -9, high: 9}"
    )
    more = f"--reward-from success --spaces {tmp_path / 'spaces.yml'}".split()
    plan = plan_run(
        read_request(make_parser().parse_args(words(tmp_path / "logs", tmp_path / "my.npz", *more)))
    )
    assert plan.config.plain()["reward_from"] == "success"
    assert set(plan.content.arrays["rewards"]) == {-1, 0}
    env = gymnasium.make(plan.env_id)
    assert env.action_space == Box(np.float32([-3, -2]), 5)
    assert env.observation_space == Box(-9, 9, (4,))


@pytest.mark.parametrize(
    ("spaces", "reason"),
    [
        ("actions: {low: 1, high: [1, 2]}", "`low` below a `high`"),
        ("actions: {low: [0], high: 1}", "`low` below a `high`"),
        ("actions: {low: false, high: 5}", "`low` below a `high`"),
        ("action: {low: 0, high: 1}", "`low` below a `high`"),
        ("[1, 2]", "`low` below a `high`"),
        ("observations: {low: 0, high: 1}", "limits that hold in the data"),
    ],
)
def test_spaces_that_do_not_fit_are_refused(tmp_path, refusal, spaces, reason):
    (tmp_path / "spaces.yml").write_text(spaces)
    data = write_npz(tmp_path, episodes(2))
    assert reason in refusal(
        main, *words(tmp_path / "logs", data, "--spaces", str(tmp_path / "spaces.yml"))
    )
    assert not (tmp_path / "logs").exists()


@pytest.mark.slow
def test_a_killed_run_ends_as_one_that_never_was_and_is_exported(tmp_path, programs, call):
    data = write_npz(tmp_path, episodes(12))
    whole, killed = (words(tmp_path / name, data, "--resume") for name in ("whole", "killed"))
    assert programs.run("train", whole).code == 0
    assert programs.run("train", killed, kill=("update", 3)).code == -9
    assert programs.run("train", killed).code == 0
    first, second = (
        next(path.parent for path in (tmp_path / name).rglob("config.yml"))
        for name in ("whole", "killed")
    )
    assert (first / "evaluations.npz").read_bytes() == (second / "evaluations.npz").read_bytes()
    assert_same(
        *(agents.load(folder, device="cpu").policy.state_dict() for folder in (first, second))
    )
    call(export, second, "-o", tmp_path / "policy.onnx")


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ("--online-steps 5", "cannot train online or evaluate"),
        ("--reference-scores 0,1", "cannot train online or evaluate"),
        ("--dataset auto", "needs data of your own"),
    ],
)
def test_what_needs_an_environment_is_refused(tmp_path, refusal, more, reason):
    data = write_npz(tmp_path, episodes(2))
    assert reason in refusal(main, *words(tmp_path / "logs", data, *more.split()))
    assert not (tmp_path / "logs").exists()


def test_images_are_refused(tmp_path, refusal):
    arrays = regular(episodes(2))
    pictures = np.zeros((len(arrays["actions"]), 8, 8, 3), np.uint8)
    np.savez(
        tmp_path / "my.npz", **arrays | {"observations": pictures, "next_observations": pictures}
    )
    assert "judges policies by vectors, got images" in refusal(
        main, *words(tmp_path / "logs", tmp_path / "my.npz")
    )
    assert not (tmp_path / "logs").exists()


def test_a_single_trajectory_is_refused(tmp_path, refusal):
    data = write_npz(tmp_path, episodes(1))
    assert "got one trajectory" in refusal(main, *words(tmp_path / "logs", data))
