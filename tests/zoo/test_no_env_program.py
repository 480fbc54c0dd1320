"""Data without an environment: training, evaluation on held-out trajectories, resuming, export and comparison."""

from pathlib import Path

import gymnasium
import numpy as np
import pandas as pd
import pytest
from gymnasium.spaces import Box

import agents
from tests.common.toys import assert_same
from tests.zoo.datasets.samples import episodes, regular, write_npz
from tests.zoo.helpers import TINY as TINY_RUN
from tests.zoo.outcomes import config_of
from tests.zoo.programs import run_program
from zoo.compare import main as compare
from zoo.export import main as export
from zoo.settings.request import read_request
from zoo.train import main, make_parser
from zoo.training.plan import plan_run

TINY = [*TINY_RUN[:-1], "gamma=0.5"]


def words(logs, data, *flags):
    fixed = (
        f"--algo qam --no-env --dataset {data} -f {logs} --seed 1 --device cpu "
        "--offline-steps 4 --eval-freq 2 --save-freq 1 --verbose 0"
    )
    return [*fixed.split(), *flags, "-params", *TINY]


def test_a_run_logs_held_out_losses_and_has_no_score(tmp_path, call, refusal):
    data, logs = write_npz(tmp_path, episodes(12)), tmp_path / "logs"
    result, shown = call(main, *words(logs, data, "--verbose", "1"))
    assert result["success"] is result["return"] is None
    folder = Path(result["run"])
    assert f"next: zoo evaluate {folder} --fitted-q" in shown
    assert config_of(folder)["dataset"]["size"] == 200  # two of the 12 trajectories are held out
    rows = pd.read_csv(folder / "progress.csv")
    assert rows["eval/held_out_loss"].notna().sum() == 2
    assert not (folder / "evaluations.npz").exists()
    assert not (folder / "best_model.zip").exists()
    assert "trained without an environment" in refusal(compare, logs, "-o", tmp_path / "report")
    # `zoo evaluate` says what is missing, and warns of nothing else
    assert gymnasium.spec(config_of(folder)["env"]).max_episode_steps


def test_limits_of_actions_are_the_datas_range_and_include_0(tmp_path):
    ends = np.array([1, 0, 1, 0], np.float32)
    rows = {name: np.ones(4, np.float32) for name in ("rewards", "masks")}
    # rows without an action do not count
    actions = np.outer([0.5, 20, 1, 20], [5, -3, 0])
    np.savez(
        tmp_path / "my.npz",
        observations=actions,
        actions=actions,
        terminals=ends,
        valids=ends,
        **rows,
    )
    line = words(tmp_path / "logs", tmp_path / "my.npz")
    plan = plan_run(read_request(make_parser().parse_args(line)))
    assert gymnasium.make(plan.spec).action_space == Box(np.array([0, -3, 0]), np.array([5, 0, 1]))


def test_rewards_and_limits_of_actions_can_be_told(tmp_path):
    arrays = regular(episodes(12))
    del arrays["rewards"]
    states = arrays["observations"]
    np.savez(tmp_path / "my.npz", **arrays, success=arrays["terminals"], qpos=states, qvel=states)
    flags = ["--reward-from", "success", "--action-range", "-3,5"]
    line = words(tmp_path / "logs", tmp_path / "my.npz", *flags)
    plan = plan_run(read_request(make_parser().parse_args(line)))
    assert plan.config.plain()["reward_from"] == "success"
    assert set(plan.content.arrays["rewards"]) == {-1, 0}
    assert gymnasium.make(plan.spec).action_space == Box(-3, 5, (2,))


@pytest.mark.slow
def test_a_killed_run_ends_as_one_that_never_was_and_is_exported(tmp_path, call):
    data = write_npz(tmp_path, episodes(12))
    undisturbed, killed = (words(tmp_path / name, data, "--resume") for name in "ab")
    assert run_program("train", undisturbed).code == 0
    assert run_program("train", killed, kill=("update", 3)).code == -9
    assert run_program("train", killed).code == 0
    folders = [next((tmp_path / name).rglob("config.yml")).parent for name in "ab"]
    models = (agents.load(folder, device="cpu") for folder in folders)
    assert_same(*(model.policy.state_dict() for model in models))
    call(export, folders[1], "-o", tmp_path / "policy.onnx")


PAIR = episodes(2)


@pytest.mark.parametrize(
    ("flags", "parts", "reason"),
    [
        ("--online-steps 5", PAIR, "does not support online training"),
        ("--score return", PAIR, "does not support online training or evaluation"),
        ("--dataset auto", PAIR, "needs your data"),
        ("", PAIR[:1], "got only one trajectory"),
        ("", [*episodes(1, steps=2), *episodes(4)], "held-out trajectories"),
    ],
)
def test_what_needs_an_environment_or_more_data_is_refused(tmp_path, refusal, flags, parts, reason):
    data = write_npz(tmp_path, parts)
    assert reason in refusal(main, *words(tmp_path / "logs", data, *flags.split()))
