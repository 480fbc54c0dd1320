"""A policy saved for acting plays as its model does, holds no more than that needs, and runs nothing on loading."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file

import agents
from agents.common.sb3 import acting
from agents.common.sb3.acting import read_about
from agents.common.sb3.policy import FlowPolicy
from agents.common.validation import UntrustedError
from agents.registry import BUILT_IN
from tests.common.toys import tiny_model


def observations(policy: FlowPolicy, rows: int = 3) -> NDArray[np.float32]:
    return np.random.default_rng(0).standard_normal((policy.num_replicas, rows, 4)).astype(np.float32)


def planned(policy: FlowPolicy, rows: int = 3) -> NDArray[Any]:
    draws = policy.draw_action_noise(rows, torch.Generator().manual_seed(1))
    noise = {name: draw.expand(policy.num_replicas, *draw.shape) for name, draw in draws.items()}
    return policy.plan(observations(policy, rows), noise)


def saved(folder: Path, **settings: Any) -> Path:
    tiny_model(**settings).save_policy(folder / "policy.safetensors", {"env": "Pendulum-v1"})
    return folder / "policy.safetensors"


@pytest.mark.parametrize("id", agents.algorithm_ids())
def test_a_loaded_policy_plans_the_same_bits(id: str, tmp_path: Path) -> None:
    model = tiny_model(id)
    model.save_policy(tmp_path / "policy.safetensors")
    loaded = agents.load_policy(tmp_path / "policy.safetensors")
    np.testing.assert_array_equal(planned(loaded), planned(model.policy))
    assert loaded.predict(observations(loaded)[0])[0].shape == (3, *model.action_space.shape)


def test_several_candidates_are_rated_by_the_same_critic(tmp_path: Path) -> None:
    model = tiny_model("ifql", best_of_n=4)
    model.save_policy(tmp_path / "policy.safetensors")
    (tmp_path / "other").touch()
    assert (tmp_path / "policy.safetensors").stat().st_mode == (tmp_path / "other").stat().st_mode  # not for us alone
    np.testing.assert_array_equal(planned(agents.load_policy(tmp_path / "policy.safetensors")), planned(model.policy))


def test_statistics_of_observations_are_kept(tmp_path: Path) -> None:
    model = tiny_model(observation_scale=2.0)
    model.policy.set_observation_statistics(torch.randn(50, 4) * 3 + 1, 2.0)
    model.save_policy(tmp_path / "policy.safetensors")
    np.testing.assert_array_equal(planned(agents.load_policy(tmp_path / "policy.safetensors")), planned(model.policy))


@pytest.mark.parametrize(
    ("id", "settings", "networks"),
    [
        ("qam", {}, {"critic", "fine_tuned"}),
        ("qam", {"inverse_temperature": 0.0}, {"critic", "behaviour"}),
        ("fql", {}, {"critic", "one_step"}),
        ("bc", {}, {"behaviour"}),
        ("rql", {}, {"critic", "flow_target"}),
    ],
)
def test_only_networks_that_act_and_rate_actions_are_kept(
    id: str, settings: dict[str, Any], networks: set[str], tmp_path: Path
) -> None:
    path = saved(tmp_path, id=id, **settings)
    assert {name.split(".")[1] for name in load_file(path) if name.startswith("nets.")} == networks
    loaded = agents.load_policy(path)
    assert set(loaded.nets) == networks
    assert not hasattr(loaded, "optimizer")


def test_a_flipped_bit_is_found(tmp_path: Path) -> None:
    path = saved(tmp_path)
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"policy\.safetensors cannot be read: its SHA-256 is not that"):
        agents.load_policy(path)


def test_other_tensors_are_refused(tmp_path: Path) -> None:
    save_file({"weight": torch.zeros(2)}, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match="expected a policy as `save_policy` writes it"):
        agents.load_policy(tmp_path / "other.safetensors")


def rewrite(path: Path, **changes: str) -> None:
    """Change texts in a policy's file; an empty one is removed."""
    with acting._opened(path) as file:
        header = {**file.metadata(), **changes}
    save_file(load_file(path), path, {name: text for name, text in header.items() if text})


def policy_text(path: Path) -> dict[str, Any]:
    with acting._opened(path) as file:
        return dict(json.loads(file.metadata()["policy"]))


def test_a_policy_of_an_algorithm_that_is_not_imported_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path)
    rewrite(path, policy=json.dumps(policy_text(path) | {"method": "os:system"}))
    with pytest.raises(UntrustedError, match="of `os:system`"):
        agents.load_policy(path)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"sha256": ""}, "expected a policy as `save_policy` writes it"),
        ({"policy": "[1]"}, "expected a policy as `save` writes it"),
        ({"policy": "["}, "expected a policy as `save` writes it"),
        ({"policy": "[" * 100_000}, "expected a policy as `save` writes it"),
    ],
)
def test_texts_that_are_missing_or_nonsense_are_refused(change: dict[str, str], text: str, tmp_path: Path) -> None:
    path = saved(tmp_path)
    rewrite(path, **change)
    with pytest.raises(ValueError, match=text):
        agents.load_policy(path)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"settings": {"flow_stepz": 3}}, "describes a policy that cannot be built"),
        ({"net_arch": [4]}, "describes a policy that cannot be built"),
        ({"settings": {"net_arch": [1 << 30, 1 << 30]}}, "describes a policy that cannot be built"),
        ({"settings": {"net_arch": [4]}}, "its tensors are not those of its settings"),
    ],
)
def test_settings_that_do_not_fit_are_refused(change: dict[str, Any], text: str, tmp_path: Path) -> None:
    path = saved(tmp_path)
    rewrite(path, policy=json.dumps(policy_text(path) | change))
    with pytest.raises(ValueError, match=text):
        agents.load_policy(path)


@pytest.mark.parametrize("width", [10**5, 10**12, 10**30])
def test_networks_that_are_larger_than_the_file_are_refused_before_they_are_made(width: int, tmp_path: Path) -> None:
    path = saved(tmp_path)
    settings = policy_text(path)["settings"] | {"net_arch": [width, width]}
    rewrite(path, policy=json.dumps(policy_text(path) | {"settings": settings}))
    with pytest.raises(ValueError, match=r"its tensors are not those of its settings|cannot be built"):
        agents.load_policy(path)  # the narrower of them would take 80 GB


def test_networks_that_would_be_dropped_must_fit_into_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(tmp_path)
    monkeypatch.setattr("agents.common.files.bounded.available_memory", lambda: 10**9)
    settings = policy_text(path)["settings"] | {"net_arch": {"pi": [16, 16], "qf": [10**5, 10**5]}}
    kept = {name: value for name, value in load_file(path).items() if "critic" not in name}
    save_file(kept, path, {"format": acting.FORMAT, "policy": json.dumps(policy_text(path) | {"settings": settings}),
                           "sha256": acting._digest(kept), "about": "{}"})  # fmt: skip
    with pytest.raises(ValueError, match=r"it claims .* of content, expected at most the 1\.0 GB of memory"):
        agents.load_policy(path)


@pytest.mark.parametrize("id", sorted(BUILT_IN))
def test_the_size_of_every_algorithm_is_known_without_making_it(id: str, tmp_path: Path) -> None:
    tiny_model(id).save_policy(tmp_path / "policy.safetensors")
    header, tensors = acting._read(tmp_path / "policy.safetensors")
    with torch.device("meta"):
        shapes = acting.ActingPolicy.build(header["policy"], "policy").state_dict()
    assert all(shapes[name].device.type == "meta" or "table" in name for name in tensors)
    assert all(shapes[name].shape == value.shape for name, value in tensors.items())


@pytest.mark.parametrize("text", ["[1]", "{", "7"])
def test_what_is_said_about_a_policy_is_a_mapping(text: str, tmp_path: Path) -> None:
    path = saved(tmp_path)
    rewrite(path, about=text)
    with pytest.raises(ValueError, match="what it says about its policy is no mapping"):
        read_about(path)
