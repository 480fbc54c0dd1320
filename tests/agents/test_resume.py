"""Checkpoints: training resumed in a new model and new environments gives bitwise identical results."""

import contextlib
import os
import random
import re
import subprocess
import sys
from functools import partial
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.noise import OrnsteinUhlenbeckActionNoise
from stable_baselines3.common.vec_env import SubprocVecEnv, VecNormalize

from agents.common import files
from agents.common.engine import checkpoint
from agents.common.engine.checkpoint import load_checkpoint, save_checkpoint
from agents.common.files import DamagedFileError, write_manifest
from agents.common.model_file import find_checkpoints
from tests.common.data.helpers import assert_same_sequences
from tests.common.toys import (
    NormedFeatures,
    assert_same,
    assert_same_parameters,
    parameters_of,
    refuses,
    tiny_model,
    toy_dataset,
    toy_shards,
)
from tests.zoo.envs.toys import ToyEnv

STEPS = 40


def environments(count=1, **arguments):
    """Return copies of the chaotic environment."""
    return make_vec_env(ToyEnv, n_envs=count, seed=0, **arguments)


def disturb_global_generators():
    """Put the global generators into another state, as in a new process."""
    random.seed(11)
    np.random.seed(12)
    torch.manual_seed(13)


def model_on(env, dataset=None, **settings):
    """Return a model on a vectorised environment, with a dataset."""
    model = tiny_model(env=env, **{"learning_starts": 6, "buffer_size": 24, **settings})
    model.load_dataset(dataset or toy_dataset(30, 3))
    return model


def require_resumable(folder, *, envs=1, make=environments, offline=8, **settings):
    """Train in both phases, once without a break and once resumed from an offline checkpoint; compare both models."""
    middle = offline // 2
    straight = model_on(make(envs), **settings)
    straight.learn_offline(middle)
    disturb_global_generators()  # as a callback may do; a new model would seed them as before
    save_checkpoint(straight, folder, note="kept")
    straight.learn_offline(offline - middle)
    straight.learn(STEPS, reset_num_timesteps=False)
    number = random.random()
    disturb_global_generators()
    resumed = model_on(make(envs), **settings)
    assert load_checkpoint(resumed, find_checkpoints(folder)[0]) == {"note": "kept"}
    assert resumed.num_timesteps == middle
    resumed.learn_offline(offline - middle)
    resumed.learn(STEPS, reset_num_timesteps=False)
    assert random.random() == number
    assert_same_parameters(straight, resumed)
    assert_same_sequences(straight.replay_buffer, resumed.replay_buffer)
    assert straight.num_timesteps == resumed.num_timesteps
    assert straight._n_updates == resumed._n_updates
    np.testing.assert_array_equal(straight._last_obs, resumed._last_obs)
    for info in (*straight.ep_info_buffer, *resumed.ep_info_buffer):
        del info["t"]  # a time of day, which differs between runs
    assert straight.ep_info_buffer == resumed.ep_info_buffer


@pytest.mark.few(6)
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"envs": 2, "seeds": [1, 2]},
        {
            "balanced_sampling": True,
            "batch_size": 8,
            "action_noise": OrnsteinUhlenbeckActionNoise(np.zeros(2), np.ones(2)),
        },
        {"replay_buffer_kwargs": {"storage": "host"}, "train_freq": 4, "gradient_steps": 4},
        {"policy_kwargs": {"features_extractor_class": NormedFeatures}},
        {"best_of_n": 3, "learning_rate": lambda left: 1e-3 * left},
        {"make": partial(environments, vec_env_cls=SubprocVecEnv), "envs": 2},
    ],
    ids=lambda settings: "-".join(settings) or "default",
)
def test_resumed_training_is_the_same_to_the_last_bit(tmp_path, settings):
    require_resumable(tmp_path, **settings)


# numbers of updates, so that different files are in use at the checkpoint
@pytest.mark.parametrize("offline", [4, 8])
@pytest.mark.parametrize("storage", ["device", "host"])
def test_dataset_of_several_parts_takes_its_turns_after_resuming(tmp_path, offline, storage):
    parts = [toy_dataset(rows, 3, seed=seed) for seed, rows in enumerate((36, 24, 48))]
    dataset = toy_shards(tmp_path, *parts, replace_interval=4)
    settings = {"seeds": [1, 2], "envs": 2, "replay_buffer_kwargs": {"storage": storage}}
    require_resumable(tmp_path / "checkpoints", dataset=dataset, offline=offline, **settings)


@contextlib.contextmanager
def refusal(model, error, message):
    """Check that a checkpoint is rejected, and that the model is unchanged."""
    old_parameters = parameters_of(model)
    with refuses(message, error):
        yield
    assert_same(parameters_of(model), old_parameters)


@pytest.mark.parametrize(
    ("name", "space"),
    [
        ("observation_space", spaces.Box(-9.0, 9.0, (3,), np.float64)),
        ("action_space", spaces.Box(-2.0, 2.0, (2,))),
    ],
)
def test_a_checkpoint_of_other_spaces_is_refused(tmp_path, name, space):
    saved = save_checkpoint(model_on(environments()), tmp_path)
    changed_env = type("Changed", (ToyEnv,), {name: space})
    model = model_on(make_vec_env(changed_env))
    with refusal(model, ValueError, re.escape(f"{getattr(ToyEnv, name)} != {space}")):
        load_checkpoint(model, saved)


def test_online_checkpoints_lose_no_transition_or_statistic(tmp_path):
    def make():
        return model_on(VecNormalize(environments(2)), learning_starts=6)

    model, resumed = make(), make()
    first_start = resumed.env.reset()
    model.learn(20)
    resumed.method.rho = 0.9  # the checkpoint's value replaces it
    load_checkpoint(resumed, save_checkpoint(model, tmp_path))
    assert resumed.method.settings() == model.method.settings()
    assert_same_parameters(model, resumed)
    for name in ("num_timesteps", "_n_updates", "_episode_num"):
        assert getattr(model, name) == getattr(resumed, name)
    for statistics in ("obs_rms", "ret_rms"):
        for part in ("mean", "var", "count"):
            values = [
                getattr(getattr(trained.env, statistics), part) for trained in (model, resumed)
            ]
            np.testing.assert_array_equal(*values)
    model.replay_buffer.end_episodes()
    assert_same_sequences(model.replay_buffer, resumed.replay_buffer)
    assert not np.array_equal(resumed.env.reset(), first_start)
    resumed.learn(6, reset_num_timesteps=False)


# -- the files --------------------------------------------------------------------------------------------------------


def test_a_checkpoint_of_another_version_changes_nothing(tmp_path):
    saved = save_checkpoint(tiny_model("bc"), tmp_path)
    (saved / "manifest.json").unlink()
    write_manifest(saved, format=3)
    model = tiny_model("bc", seed=1)
    with refusal(model, ValueError, "format 3, expected"):
        load_checkpoint(model, saved)


def test_a_failed_write_leaves_the_old_files(tmp_path, monkeypatch):
    model, file = tiny_model("bc"), tmp_path / "model.zip"
    first = save_checkpoint(model, tmp_path)
    model.save(file)
    saved = file.read_bytes()
    full = OSError(28, "No space left on device")
    monkeypatch.setattr(files, "sync", Mock(side_effect=full))
    with refuses("No space left", OSError):
        save_checkpoint(model, tmp_path)
    for path in (file, tmp_path / "new.zip"):
        with refuses("No space left", OSError):
            model.save(path)
    assert sorted(tmp_path.iterdir()) == [file, first]
    assert file.read_bytes() == saved


@pytest.mark.parametrize("name", ["manifest.json", "model.zip", "state.pt"])
def test_a_checkpoint_that_differs_in_a_bit_changes_nothing(tmp_path, name):
    source = tiny_model(env=environments())
    source.learn(4)
    saved = save_checkpoint(source, tmp_path)
    content = bytearray((saved / name).read_bytes())
    model = tiny_model(env=environments(), seed=7)
    for position in range(0, len(content), max(len(content) // 7, 1)):
        content[position] ^= 4
        (saved / name).write_bytes(content)
        with refusal(model, DamagedFileError, "cannot be read: "):
            load_checkpoint(model, saved)
        content[position] ^= 4
    (saved / name).unlink()
    with refusal(model, DamagedFileError, f"{name} cannot be read"):
        load_checkpoint(model, saved)


def test_the_last_two_checkpoints_are_kept_also_of_one_step(tmp_path):
    model = tiny_model("bc").learn_offline(2, dataset=toy_dataset())
    names = [save_checkpoint(model, tmp_path).name for _ in range(12)]
    assert names == [f"step_000000002.{number}" for number in range(12)]
    assert [path.name for path in find_checkpoints(tmp_path)] == [names[11], names[10]]
    newest = save_checkpoint(model.learn_offline(1), tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {newest.name, names[11]}
    restarted = save_checkpoint(model.learn_offline(1, reset_num_timesteps=True), tmp_path)
    assert restarted in find_checkpoints(tmp_path)


def test_a_checkpoint_replaces_none_that_was_set_aside(tmp_path):
    model = tiny_model("bc")
    (tmp_path / "step_000000000.0.copy").mkdir()  # made by the user
    damaged = [checkpoint.set_aside(save_checkpoint(model, tmp_path)).name for _ in range(2)]
    assert damaged == ["damaged_step_000000000.0", "damaged_step_000000000.1"]


# -- compiled ---------------------------------------------------------------------------------------------------------


COMPILED = """
import hashlib
from tests.common.toys import tiny_model, toy_dataset

model = tiny_model("bc", compile="on")
model.load_dataset(toy_dataset())
for _ in range(3):
    model.trainer.update(16)
assert model.trainer.mode.compiled
print(hashlib.sha256(b"".join(value.numpy().tobytes() for value in model.policy.state_dict().values())).hexdigest())
"""


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_compiling_again_in_another_process_gives_the_same_bits(tmp_path):
    hashes = set()
    for cache in ("first", "second"):
        environment = {**os.environ, "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / cache)}
        command = [sys.executable, "-c", COMPILED]
        hashes.add(subprocess.check_output(command, env=environment, text=True))
    assert len(hashes) == 1
