"""A model's file runs nothing on loading, and no damage of it goes unnoticed."""

from __future__ import annotations

import io
import json
import sys
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from stable_baselines3.common.noise import NormalActionNoise
from stable_baselines3.common.save_util import data_to_json, save_to_pkl
from torch import nn

import agents
from agents.common.model_file import read_model_file
from agents.common.sb3.model import FlowQLearning
from agents.common.validation import UntrustedError
from tests.common.toys import SpacesEnv, assert_same, parameters_of, tiny_model, toy_dataset
from zoo import baselines

ran: list[str] = []


def note() -> None:
    ran.append("ran")


class Trap:
    """Notes that it was unpickled."""

    def __reduce__(self) -> Any:
        return note, ()


@pytest.fixture(autouse=True)
def _nothing_has_run() -> None:
    ran.clear()


def rewrite(path: Path, change: Callable[[dict[str, bytes]], None]) -> Path:
    """Change the members of a saved model."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    change(members)
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def trapped(path: Path) -> Path:
    """Put a pickle with code among a saved model's attributes."""

    def change(members: dict[str, bytes]) -> None:
        attributes = json.loads(members["data"]) | json.loads(data_to_json({"verbose_": Trap()}))
        members["data"] = json.dumps(attributes).encode()

    return rewrite(path, change)


def saved(folder: Path, **settings: Any) -> Path:
    tiny_model(**settings).save(folder / "model.zip")
    return folder / "model.zip"


def test_a_saved_model_holds_no_pickle_of_ours(tmp_path: Path) -> None:
    model = tiny_model(env=SpacesEnv(4, 2), policy_kwargs={"activation_fn": nn.ReLU}, seeds=[3], seed=None)
    model.learn(12)
    model.save(tmp_path / "model.zip")
    with zipfile.ZipFile(tmp_path / "model.zip") as archive:
        assert b":serialized:" not in archive.read("data")
        assert {name.rpartition(".")[2] for name in archive.namelist()} <= {
            "data",
            "pth",
            "txt",
            archive.namelist()[-2],
        }


def test_every_attribute_of_a_loaded_model_is_as_it_was(tmp_path: Path) -> None:
    noise = NormalActionNoise(np.zeros(2), np.ones(2))
    model = tiny_model(env=SpacesEnv(4, 2), policy_kwargs={"optimizer_kwargs": {"eps": 1e-6}}, action_noise=noise)
    model.learn(12)
    model.save(tmp_path / "model")
    loaded = type(model).load(tmp_path / "model", device="cpu")
    assert_same(parameters_of(loaded), parameters_of(model))
    assert loaded.policy_kwargs == model.policy_kwargs
    assert loaded.observation_space == model.observation_space
    assert loaded.ep_info_buffer == model.ep_info_buffer
    assert loaded.ep_info_buffer.maxlen == model.ep_info_buffer.maxlen  # type: ignore[union-attr]
    assert loaded.num_timesteps == 12
    np.testing.assert_array_equal(loaded.action_noise._sigma, noise._sigma)  # type: ignore[union-attr]


@pytest.mark.parametrize("algorithm", [baselines.SAC, baselines.TD3, baselines.TQC, baselines.CrossQ])
def test_models_of_sb3s_algorithms_are_saved_without_code_too(tmp_path: Path, algorithm: type[Any]) -> None:
    model = algorithm("MlpPolicy", SpacesEnv(4, 2), seeds=[1], net_arch=[8], learning_starts=5, batch_size=4)
    model.learn(12)
    model.save(tmp_path / "model.zip")
    assert "verbose" in read_model_file(tmp_path / "model.zip").attributes
    loaded = algorithm.load(tmp_path / "model.zip", env=SpacesEnv(4, 2))
    assert_same(loaded.policy.state_dict(), model.policy.state_dict())
    loaded.learn(8)
    with pytest.raises(UntrustedError):
        algorithm.load(trapped(tmp_path / "model.zip"))
    assert ran == []


ENTRIES: dict[str, Callable[[Path], Any]] = {
    "agents.load": lambda path: agents.load(path),
    "load of a class": lambda path: type(tiny_model()).load(path),
    "pretrained actor": lambda path: tiny_model().load_pretrained_actor(path),
    "open file": lambda path: type(tiny_model()).load(io.BytesIO(path.read_bytes())),
}


@pytest.mark.parametrize("entry", ENTRIES.values(), ids=ENTRIES)
def test_code_in_a_model_is_refused_and_not_run(tmp_path: Path, entry: Callable[[Path], Any]) -> None:
    path = trapped(saved(tmp_path))
    with pytest.raises(UntrustedError, match=r"holds code that would run on loading.*`trust=True`, or --trust"):
        entry(path)
    assert ran == []


def test_code_in_a_model_runs_if_it_is_trusted(tmp_path: Path) -> None:
    path = trapped(saved(tmp_path))
    assert isinstance(agents.load(path, trust=True), FlowQLearning)
    assert ran == ["ran"]


def test_parameters_of_a_model_with_code_are_read_without_it(tmp_path: Path) -> None:
    model, other = tiny_model(seed=1), tiny_model(seed=2)
    model.save(tmp_path / "model.zip")
    other.set_parameters(trapped(tmp_path / "model.zip"))
    assert_same(parameters_of(other), parameters_of(model))
    assert ran == []


def test_code_among_the_tensors_is_not_run(tmp_path: Path) -> None:
    def change(members: dict[str, bytes]) -> None:
        content = io.BytesIO()
        torch.save({"a": Trap()}, content)
        members["policy.pth"] = content.getvalue()

    path = rewrite(saved(tmp_path), change)
    with pytest.raises(ValueError, match=r"model\.zip cannot be read: policy\.pth holds no tensors, or more than"):
        agents.load(path)
    assert ran == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("policy_class", {":class:": "antigravity:Policy"}),
        ("policy_class", {":class:": "subprocess:Popen"}),
        ("policy_kwargs", {"activation_fn": {":class:": "torch.jit._script:RecursiveScriptModule"}}),
        ("observation_space", {":object:": "subprocess:Popen", "attributes": {}}),
    ],
)
def test_a_model_imports_nothing_and_calls_only_what_a_model_is_made_of(tmp_path: Path, name: str, value: Any) -> None:
    def change(members: dict[str, bytes]) -> None:
        members["data"] = json.dumps(json.loads(members["data"]) | {name: value}).encode()

    path = rewrite(saved(tmp_path), change)
    with pytest.raises(ValueError, match=r"model.zip cannot be used: it needs the class .*import its module first"):
        agents.load(path)
    assert "antigravity" not in sys.modules


def test_a_model_does_not_choose_a_module_to_import(tmp_path: Path) -> None:
    def change(members: dict[str, bytes]) -> None:
        members["data"] = json.dumps(json.loads(members["data"]) | {"algorithm_id": "antigravity:Fly"}).encode()

    path = rewrite(saved(tmp_path), change)
    with pytest.raises(UntrustedError, match=r"antigravity:Fly.*import antigravity first.*`trust=True`"):
        agents.load(path)
    assert "antigravity" not in sys.modules


def test_a_function_is_left_out_and_asked_for(tmp_path: Path) -> None:
    model = tiny_model(learning_rate=lambda left: 1e-3 * left)
    with pytest.warns(UserWarning, match="holds no code, so `learning_rate` is left out"):
        model.save(tmp_path / "model.zip")
    with pytest.raises(
        ValueError, match=r"lacks what was `learning_rate` is a .*function.*`custom_objects`, with the key"
    ):
        agents.load(tmp_path / "model.zip")
    assert agents.load(tmp_path / "model.zip", custom_objects={"learning_rate": 0.5}).learning_rate == 0.5


def test_every_flipped_bit_of_a_model_is_found_or_changes_nothing(tmp_path: Path) -> None:
    path = saved(tmp_path)
    model, content = agents.load(path), bytearray(path.read_bytes())
    wanted = parameters_of(model)
    found = 0
    for position in np.random.default_rng(0).integers(len(content), size=60):
        content[position] ^= 1 << int(position % 8)
        path.write_bytes(content)
        loaded = error = None
        try:
            loaded = agents.load(path)
        except ValueError as raised:
            error = raised
            found += 1
        if loaded is None:
            assert str(path) in str(error)
        else:
            assert_same(parameters_of(loaded), wanted)
            assert loaded.method.settings() == model.method.settings()
        content[position] ^= 1 << int(position % 8)
    assert found > 40


@pytest.mark.parametrize("member", ["data", "policy.pth", "zeros"])
def test_a_model_that_claims_more_than_its_size_is_refused_before_it_is_unpacked(tmp_path: Path, member: str) -> None:
    path = saved(tmp_path)
    zeros = io.BytesIO()
    with zipfile.ZipFile(zeros, "w", zipfile.ZIP_DEFLATED) as inner:
        inner.writestr("archive/data.pkl", bytes(50_000_000))
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    is_nested = member == "policy.pth"
    members[member] = zeros.getvalue() if is_nested else bytes(50_000_000)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED if is_nested else zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    tracemalloc.start()
    with pytest.raises(ValueError, match=r"model\.zip.* it claims .*, and no model does"):
        agents.load(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20_000_000


# -- replay buffers and policies --------------------------------------------------------------------------------------


def test_a_pickled_replay_buffer_is_refused_and_not_run(tmp_path: Path) -> None:
    model = tiny_model()
    before = model.replay_buffer
    save_to_pkl(tmp_path / "buffer.pkl", [Trap(), before])
    with pytest.raises(ValueError, match=r"buffer\.pkl"):
        model.load_replay_buffer(tmp_path / "buffer.pkl")
    assert ran == []
    assert model.replay_buffer is before


def test_a_damaged_replay_buffer_is_refused_and_the_old_one_kept(tmp_path: Path) -> None:
    model = tiny_model()
    model.load_dataset(toy_dataset())
    model.save_replay_buffer(tmp_path / "buffer")
    path, before = tmp_path / "buffer.npz", model.replay_buffer
    content = bytearray(path.read_bytes())
    for position in range(200, len(content), len(content) // 40):
        content[position] ^= 8
        path.write_bytes(content)
        error = None
        try:
            model.load_replay_buffer(path)
        except ValueError as raised:
            error = raised
        if error is not None:
            assert "buffer.npz" in str(error)
            assert model.replay_buffer is before
        else:
            assert torch.equal(model.replay_buffer.observations, before.observations)
            assert torch.equal(model.replay_buffer.rewards, before.rewards)
            model.replay_buffer = before
        content[position] ^= 8


def test_a_policy_is_saved_by_itself_without_code(tmp_path: Path) -> None:
    policy = tiny_model(seed=3).policy
    policy.save(str(tmp_path / "policy.pt"))
    loaded = type(policy).load(str(tmp_path / "policy.pt"))
    assert_same(loaded.state_dict(), policy.state_dict())
    assert loaded.method.settings() == policy.method.settings()
    torch.save({"state_dict": {}, "data": Trap()}, tmp_path / "old.pt")
    with pytest.raises(ValueError, match=r"old\.pt holds no tensors, or more than tensors"):
        type(policy).load(str(tmp_path / "old.pt"))
    assert ran == []
    torch.save({"state_dict": {}}, tmp_path / "other.pt")
    with pytest.raises(ValueError, match="expected a policy as `save` writes it"):
        type(policy).load(str(tmp_path / "other.pt"))


def test_a_flipped_bit_of_a_policy_is_found(tmp_path: Path) -> None:
    policy = tiny_model().policy
    path = tmp_path / "policy.pt"
    policy.save(str(path))
    content = bytearray(path.read_bytes())
    value = max(policy.state_dict().values(), key=torch.numel).numpy().tobytes()
    content[content.index(value)] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"policy\.pt cannot be read"):
        type(policy).load(str(path))
