"""Algorithms of SB3 and its contrib package through the training program."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.logger import configure

from tests.common.toys import toy_dataset, toy_shards
from tests.envs import SpacesEnv
from tests.zoo.envs.toys import ToyEnv
from tests.zoo.test_train_program import ENV, EVALUATIONS
from zoo import baselines
from zoo.baselines import BASELINES, planner_of, settings_of
from zoo.config import load_config
from zoo.envs.snapshot import ResumableEnv
from zoo.errors import UsageError
from zoo.layers import DEFAULT_PROFILE, read_profiles
from zoo.playing.evaluate import Evaluator
from zoo.train import main

pytestmark = pytest.mark.filterwarnings("ignore:no state in:UserWarning")


def small(id: str = "sac", env: Any = None, **settings: Any) -> Any:
    arguments = {"net_arch": [16, 16], "buffer_size": 50, "learning_starts": 5, "batch_size": 8, "device": "cpu"}
    algorithm = BASELINES[id][0]
    model = algorithm("MlpPolicy", env or SpacesEnv(4, 2), seeds=[0], **{**arguments, **settings})
    model.set_logger(configure(None, []))
    return model


@pytest.mark.parametrize("id", BASELINES)
def test_a_baseline_learns_with_a_dataset_in_its_buffer(id: str) -> None:
    model = small(id)
    model.load_dataset(toy_dataset())
    before = {name: value.clone() for name, value in model.policy.state_dict().items()}
    model.learn(15)
    assert model.replay_buffer.dataset_size == 60
    assert model._n_updates == 10
    assert any(not torch.equal(value, before[name]) for name, value in model.policy.state_dict().items())


def test_a_baseline_refuses_clips_and_scales_actions_like_the_other_algorithms(tmp_path: Path) -> None:
    dataset = toy_dataset()
    dataset["actions"] *= 3
    for source in (dataset, toy_shards(tmp_path, dataset)):
        with pytest.raises(
            ValueError, match=r"must lie in \[-1, 1\], got .* e\.g\. `load_dataset\(dataset, action_range="
        ):
            small().load_dataset(source)
        model = small()
        model.load_dataset(source, action_range=(-3, 3))
        np.testing.assert_allclose(model.replay_buffer.actions[:60], dataset["actions"] / 3, atol=1e-6)
    dataset["actions"] /= 3
    dataset["actions"][7] = 1 + 5e-6
    with pytest.warns(UserWarning, match="are clipped: 1 of 60 rows"):
        small().load_dataset(dataset)


@pytest.mark.parametrize("id", BASELINES)
def test_a_baseline_trains_on_one_part_of_a_dataset_after_the_other(id: str, tmp_path: Path) -> None:
    first, second = toy_dataset(seed=1), toy_dataset(seed=2)
    model = small(id)
    model.load_dataset(toy_shards(tmp_path, first, second, replace_interval=4))
    model.learn(9)  # updates 1 to 4
    np.testing.assert_array_equal(model.replay_buffer.rewards[:60], first["rewards"])
    model.learn(1, reset_num_timesteps=False)
    np.testing.assert_array_equal(model.replay_buffer.rewards[:60], second["rewards"])


def test_balanced_batches_are_half_from_the_dataset() -> None:
    model = small(balanced_sampling=True)
    model.load_dataset({**toy_dataset(), "rewards": np.full(60, 7, np.float32)})
    model.learn(12)
    assert (model.replay_buffer.sample(20).rewards == 7).sum() == 10


def test_exploration_noise_is_added_where_it_is_asked_for() -> None:
    assert small("td3").action_noise is None
    assert "sigma=[0.2 0.2]" in str(small("td3", noise_std=0.2).action_noise)


def test_an_evaluation_plays_the_most_likely_action() -> None:
    env_id = "tests.zoo.envs.toys:Toy-v0"
    model = small(env=ToyEnv())
    with Evaluator(env_id, episodes=3, n_envs=1, seed=0) as evaluator:
        first, second = (evaluator.evaluate(planner_of(model.policy), [0]) for _ in range(2))
    np.testing.assert_array_equal(first.returns, second.returns)
    assert first.lengths.shape == (1, 3)


@pytest.mark.parametrize("id", BASELINES)
def test_shipped_settings_are_settings_with_a_source(id: str) -> None:
    for name, entry in read_profiles(id)[DEFAULT_PROFILE].items():
        assert entry["source"]
        config = load_config(id, "any", quick=name == "quick")
        effective = {**vars(config.run), **config.settings}
        for key, value in entry.items():
            assert key in ("source", "status") or effective[key] == value, key
        assert set(config.settings) == set(settings_of(BASELINES[id][0]))


def test_a_run_with_tqc_leaves_the_same_files_as_any_other(data: Path, tmp_path: Path) -> None:
    words = ["--algo", "tqc", "--env", ENV, "--dataset-dir", str(data), "-f", str(tmp_path), "--seed", "3"]
    words += ["--online-steps", "30", *EVALUATIONS, "--verbose", "1"]
    words += ["--env-kwargs", "max_episode_steps=12", "--device", "cpu", "--save-freq", "10"]
    words += ["-params", "net_arch=[16,16]", "learning_starts=5", "batch_size=8", "buffer_size=100"]
    assert main(words) == 0
    folder = tmp_path / "tqc" / f"{ENV}_1"
    names = {path.name.partition(".tfevents")[0] for path in folder.iterdir()}
    assert names == {
        "config.yml", "args.yml", "command.txt", "versions.json", "status.json", "progress.csv", "events.out",
        "evaluations.npz", "checkpoint", f"{ENV}.zip", "best_model.zip", "learning_curve.png", "run.log",
        "manifest.json",
    }  # fmt: skip
    with np.load(folder / "evaluations.npz") as found:
        assert found["timesteps"].tolist() == [10, 20, 30]
        assert found["phase"].tolist() == [1, 1, 1]
    config = yaml.safe_load((folder / "config.yml").read_text())
    assert config["offline_data"] == "preload"
    assert config["dataset"]["size"] == 2000
    assert json.loads((folder / "status.json").read_text())["online_step"] == 30
    model = baselines.TQC.load(folder / f"{ENV}.zip", device="cpu")
    assert model.action_space.contains(model.predict(np.zeros(2, np.float32))[0])


def test_a_baseline_resumes_to_the_last_bit(tmp_path: Path) -> None:
    from agents.common.engine.checkpoint import find_checkpoints, load_checkpoint
    from tests.agents.test_resume import SaveAt, forget_all_randomness

    def made() -> Any:
        env = make_vec_env(ToyEnv, n_envs=1, seed=0, wrapper_class=ResumableEnv)
        model = small(env=env)
        model.load_dataset(toy_dataset(30, 3))
        return model

    whole = made().learn(30, SaveAt(17, tmp_path), reset_num_timesteps=False)
    forget_all_randomness()
    other = made()
    load_checkpoint(other, find_checkpoints(tmp_path)[0])
    other.learn(13, reset_num_timesteps=False)
    assert other.num_timesteps == whole.num_timesteps == 30
    for name, value in whole.policy.state_dict().items():
        assert torch.equal(value, other.policy.state_dict()[name]), name
    assert torch.equal(whole.log_ent_coef, other.log_ent_coef)


@pytest.mark.parametrize(
    ("id", "flags", "message"),
    [
        ("sac", {"offline_steps": 5}, "`sac` trains online only, got `offline_steps` = 5; set it to 0"),
        ("sac", {"tua": 0.1}, "unknown setting of sac `tua`; closest: tau"),
        ("crossq", {"tau": 0.1}, "unknown setting of crossq `tau`"),
        ("td3", {"gamma": 1.5}, "`gamma` must be a finite number >= 0 and <= 1, got 1.5"),
        ("td3", {"batch_size": 0}, "`batch_size` must be an int >= 1, got 0"),
        ("td3", {"noise_std": -1}, "`noise_std` must be a finite number >= 0, got -1"),
        ("qam", {"offline_data": "none"}, "`offline_data` is none, but `offline_steps` = 1000000 need data"),
        ("qam", {"offline_data": "half"}, "`offline_data` must be one of preload, balanced, none, got 'half'"),
    ],
)
def test_wrong_settings_are_refused(id: str, flags: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as error:
        load_config(id, "any", flags=flags)
    assert message in str(error.value)


def test_several_seeds_at_once_are_refused() -> None:
    with pytest.raises(ValueError, match="`SAC` trains one seed at a time, got 2"):
        baselines.SAC("MlpPolicy", SpacesEnv(4, 2), seeds=[0, 1])
