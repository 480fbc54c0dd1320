"""Loading a model file executes no code, and any damage to the file is detected."""

import io
import json
import sys
import zipfile

import gymnasium
import numpy as np
import pytest
import torch
from safetensors.torch import load
from stable_baselines3 import SAC
from stable_baselines3.common.noise import NormalActionNoise
from stable_baselines3.common.save_util import save_to_pkl
from stable_baselines3.common.vec_env import DummyVecEnv
from torch import nn

import agents
from agents.common.model_file import write_archive
from tests.common.toys import (
    SpacesEnv,
    Trap,
    assert_same,
    assert_same_parameters,
    refuses,
    reloaded,
    tiny_model,
    toy_dataset,
    warns,
)
from zoo.algorithms.catalogue import SB3, find_algorithm


def rewrite(path, members=None, **changes):
    """Change members of a saved model, or its attributes, and write a matching checksum."""
    with zipfile.ZipFile(path) as archive:
        contents = {name: archive.read(name) for name in archive.namelist()} | dict(members or {})
    contents["data"] = json.dumps(json.loads(contents["data"]) | changes).encode()
    path.write_bytes(write_archive(contents))
    return path


def saved(folder, **settings):
    tiny_model(**settings).save(folder / "model.zip")
    return folder / "model.zip"


def test_a_saved_model_holds_no_pickle_and_every_attribute(tmp_path):
    noise = NormalActionNoise(np.zeros(2), np.ones(2))
    kwargs = {"optimizer_kwargs": {"eps": 1e-6}, "activation_fn": nn.ReLU}
    model = tiny_model(policy_kwargs=kwargs, action_noise=noise, seeds=[3])
    model.learn(12)
    loaded = reloaded(model, tmp_path)
    with zipfile.ZipFile(tmp_path / "model.zip") as archive:
        assert set(json.loads(archive.read("data"))) >= {"class", "flow_steps", "num_timesteps"}
        load(archive.read("policy.safetensors"))
        torch.load(io.BytesIO(archive.read("state.pth")), weights_only=True)
    assert_same_parameters(loaded, model)
    for name in ("policy_kwargs", "observation_space", "ep_info_buffer", "num_timesteps"):
        assert getattr(loaded, name) == getattr(model, name)
    assert loaded.ep_info_buffer.maxlen == model.ep_info_buffer.maxlen
    np.testing.assert_array_equal(loaded.action_noise._sigma, noise._sigma)


@pytest.mark.parametrize("id", SB3)
def test_models_of_sb3s_algorithms_are_saved_without_code_too(tmp_path, id):
    algorithm = find_algorithm(id).algorithm
    settings = {"net_arch": [8], "learning_starts": 5, "batch_size": 4}
    model = algorithm("MlpPolicy", SpacesEnv(), seed=1, **settings)
    model.learn(12)
    model.save(tmp_path / "model.zip")
    loaded = algorithm.load(tmp_path / "model.zip", env=SpacesEnv())
    assert_same(loaded.policy.state_dict(), model.policy.state_dict())
    loaded.learn(8)


ENTRIES = {
    "agents.load": agents.load,
    "load of a class": lambda path: type(tiny_model()).load(path),
    "pretrained actor": lambda path: tiny_model().load_pretrained_actor(path),
    "open file": lambda path: type(tiny_model()).load(io.BytesIO(path.read_bytes())),
}


@pytest.mark.parametrize("entry", ENTRIES.values(), ids=ENTRIES)
def test_a_model_of_sb3_itself_which_may_hold_code_is_refused(tmp_path, entry):
    model = SAC("MlpPolicy", SpacesEnv(), buffer_size=10, device="cpu")
    model.trap = Trap()
    model.save(tmp_path / "model.zip")
    with refuses("may contain code; load it with the class that saved it"):
        entry(tmp_path / "model.zip")


def test_code_among_the_tensors_is_not_run(tmp_path):
    content = io.BytesIO()
    torch.save({"a": Trap()}, content)
    path = rewrite(saved(tmp_path), {"state.pth": content.getvalue()})
    with refuses(r"model\.zip cannot be read: .*unsupported objects"):
        agents.load(path)


@pytest.mark.parametrize(
    ("id", "text"),
    [(None, "it does not name an algorithm"), ("antigravity:Fly", "import antigravity first")],
)
def test_no_module_is_imported_for_the_algorithm_of_a_model(tmp_path, id, text):
    with refuses(text):
        agents.load(rewrite(saved(tmp_path), algorithm_id=id))
    assert "antigravity" not in sys.modules


def test_an_archive_without_model_is_refused_with_what_it_lacks(tmp_path):
    path = tmp_path / "other.zip"
    path.write_bytes(write_archive({"policy.pth": b""}))
    with refuses(r"other\.zip cannot be read: .*no item named 'data'"):
        agents.load(path)


def test_what_cannot_be_loaded_is_not_written(tmp_path):
    model = tiny_model(learning_rate=lambda left: 1e-3 * left)
    model.own = lambda: None
    with warns("`learning_rate` is replaced by its value 0.001") as warned:
        model.save(tmp_path / "model.zip", include=["replay_buffer"])
    omitted = [str(warning.message) for warning in warned if "omitted" in str(warning.message)]
    assert ["`own`" in omitted[0], "`replay_buffer`" in omitted[1]] == [True, True]
    # as in SB3, custom objects that the file does not contain are ignored
    loaded = agents.load(tmp_path / "model.zip", custom_objects={"dummy": 1})
    assert loaded.learning_rate == 0.001
    assert not hasattr(loaded, "dummy")
    model.save_policy(tmp_path / "policy")
    assert agents.load_policy(tmp_path / "policy").method.learning_rate == 3e-4


@pytest.mark.parametrize(("offset", "saved"), [(0.5, 0.5), (1, 3e-4)])
def test_a_learning_rate_that_has_fallen_below_zero_is_saved_as_its_first_value(
    tmp_path, offset, saved
):
    model = tiny_model(learning_rate=lambda left: left - offset)
    model._current_progress_remaining = -0.1
    with warns(f"its value {saved}"):
        model.save(tmp_path / "model.zip")
    assert agents.load(tmp_path / "model.zip").learning_rate == saved


def flipped(path, positions):
    """Flip single bits of a file, one after the other, and yield each time."""
    content = path.read_bytes()
    for position in positions:
        changed = bytearray(content)
        changed[position] ^= 1 << position % 8
        path.write_bytes(changed)
        yield


def test_every_flipped_bit_of_model_is_found_or_changes_nothing(tmp_path):
    path = saved(tmp_path)
    model = agents.load(path)
    size = path.stat().st_size
    names_the_file = []
    for _ in flipped(path, np.random.default_rng(0).integers(size, size=60).tolist()):
        try:
            loaded = agents.load(path)
        except ValueError as error:
            names_the_file.append(str(path) in str(error))
            continue
        assert_same_parameters(loaded, model)
        assert loaded.method.settings() == model.method.settings()
    assert all(names_the_file)
    assert len(names_the_file) > 40


# -- replay buffers and policies --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("env", "named"),
    [
        (DummyVecEnv([SpacesEnv] * 2), "`n_envs` = 2, expected 1"),
        (gymnasium.make("MountainCarContinuous-v0"), "`observation_space`"),
    ],
)
def test_a_replay_buffer_of_other_environments_is_refused(tmp_path, env, named):
    tiny_model(env=env).save_replay_buffer(tmp_path / "buffer.npz")
    model = tiny_model()
    with refuses(named):
        model.load_replay_buffer(tmp_path / "buffer.npz")
    model.learn(12)


@pytest.mark.parametrize("damage", ["a flipped bit", "a pickle"])
def test_damaged_or_pickled_replay_buffer_is_refused_and_not_run(tmp_path, damage):
    model = tiny_model()
    model.load_dataset(toy_dataset())
    path, old_buffer = tmp_path / "buffer.npz", model.replay_buffer
    model.save_replay_buffer(path)
    if damage == "a pickle":
        save_to_pkl(path, [Trap(), old_buffer])
    else:
        next(flipped(path, [path.stat().st_size // 3]))
    with refuses(r"buffer\.npz cannot be read: (?!.*allow_pickle)"):
        model.load_replay_buffer(path)
    assert model.replay_buffer is old_buffer


def test_code_in_a_policys_file_is_not_run(tmp_path):
    torch.save({"state_dict": {}, "data": Trap()}, tmp_path / "old.pt")
    with refuses(r"old\.pt cannot be read"):
        agents.load_policy(tmp_path / "old.pt")
