"""Policies that only act, in a small file for other people and programs.

The file has the networks that acting needs, and texts that say what they are, in the safetensors format. Reading one
runs nothing of it.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from stable_baselines3.common.utils import get_device
from torch import Tensor

from agents.common.files import DamagedFile, atomic_path, regular_file, safe
from agents.common.nets.watched import WatchedNetworks
from agents.common.sb3.policy import FlowPolicy

FORMAT = "flow-rl-zoo policy 2"
_NETWORKS = "nets."
_LAST_EXTRACTOR = "features_extractor."  # under which a policy has that of its last network once more


class ActingPolicy(FlowPolicy):
    """A policy without the networks that only training needs; :func:`load_policy` makes it."""


def find_acting_networks(policy: FlowPolicy) -> set[str]:
    """Return the names of the networks that acting uses, and of those by which the algorithm rates actions."""
    used = policy.acting_networks()
    if policy.method.rates_actions:
        watched = WatchedNetworks(policy.nets)
        shape = policy.num_replicas, 1
        rows = policy.layout.blank(*shape).to(policy.device)
        actions = torch.zeros(*shape, policy.chunk_size, device=policy.device)
        with torch.no_grad():
            policy.method.score(policy.preprocess(rows), actions, watched)  # type: ignore[arg-type]
        used |= watched.used
    return used


def save_policy(policy: FlowPolicy, path: str | Path, about: Mapping[str, Any] | None = None) -> None:
    """Save what acting needs of a policy.

    :param policy: of a model, ``model.policy``.
    :param path: file, usually with the ending ``.safetensors``.
    :param about: what else is to be said about it, e.g. its environment and score: plain values that JSON takes.
    """
    kept = find_acting_networks(policy)
    tensors = {
        name: value.detach().cpu().contiguous()
        for name, value in policy.state_dict().items()
        if not name.startswith((_NETWORKS, _LAST_EXTRACTOR)) or name.split(".")[1] in kept
    }
    header = {
        "format": FORMAT,
        "policy": base64.b64encode(safe.dumps(policy.describe())).decode(),
        "sha256": _digest(tensors),
        "about": json.dumps(dict(about or {})),
    }
    with atomic_path(Path(path)) as temporary:
        temporary.write_bytes(save(tensors, header))  # its own way to write keeps a file from all others


def load_policy(path: str | Path, device: torch.device | str = "auto", *, trust: bool = False) -> ActingPolicy:
    """Load a policy that acts: ``predict`` and ``plan`` work as in the model that it is of, to the last bit.

    :param path: what :func:`save_policy` wrote.
    :param device: where to; one that is not there stands for the CPU.
    :param trust: whether the file may name a module to import.
    :return: the policy. It cannot be trained.
    :raises FileNotFoundError: if there is no such file.
    :raises ValueError: if it is damaged, something else, or of an algorithm that is not there or must be trusted.
    """
    header, tensors = _read(Path(path))
    try:
        description = safe.loads(base64.b64decode(header["policy"]))
    except ValueError as error:
        raise DamagedFile(str(path), f"what it says about its policy cannot be read: {error}") from error
    _require_shapes(description, tensors, str(path), trust)
    policy = ActingPolicy.build(description, str(path), trust)
    policy.keep_networks({name.split(".")[1] for name in tensors if name.startswith(_NETWORKS)})
    own = {name: value for name, value in policy.state_dict().items() if name.startswith(_LAST_EXTRACTOR)}
    try:
        policy.load_state_dict(own | tensors)
    except RuntimeError as error:
        raise DamagedFile(str(path), f"its tensors are not those of its settings: {error}") from error
    return policy.to(device=get_device(device))


def read_about(path: str | Path) -> dict[str, Any]:
    """Return what :func:`save_policy` was told about a policy; its tensors are not read.

    :param path: of the file.
    :return: by name.
    :raises ValueError: as :func:`load_policy` does.
    """
    with _opened(Path(path)) as file:
        text = _header_of(file, path)["about"]
    try:
        return dict(json.loads(text))
    except (TypeError, ValueError, RecursionError) as error:
        raise DamagedFile(str(path), f"what it says about its policy is no mapping: {error}") from error


def _read(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Return the texts and the tensors of a file, compared with their sum."""
    with _opened(path) as file:
        header = _header_of(file, path)
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # it is no mapping
    if _digest(tensors) != header["sha256"]:
        raise DamagedFile(str(path), "its SHA-256 is not that of what was written")
    return header, tensors


def _require_shapes(description: Mapping[str, Any], tensors: Mapping[str, Tensor], name: str, trust: bool) -> None:
    """Refuse tensors that are not those of the settings before networks are made, whose size the settings decide."""
    try:
        with torch.device("meta"):  # shapes without memory
            expected = ActingPolicy.build(description, name, trust).state_dict()
    except ValueError as error:
        if isinstance(error.__cause__, RuntimeError):  # somebody's own network looks at its values
            return
        raise
    other = [key for key, value in tensors.items() if key not in expected or expected[key].shape != value.shape]
    if other:
        raise DamagedFile(name, f"its tensors are not those of its settings: `{other[0]}` differs")


def _opened(path: Path) -> Any:
    """Open a file of tensors."""
    try:
        return safe_open(regular_file(path), framework="pt")
    except SafetensorError as error:
        raise DamagedFile(str(path), f"it is no file of tensors as `save_policy` writes it: {error}") from error


def _header_of(file: Any, path: str | Path) -> dict[str, str]:
    """Return the texts in a file, which must be a policy."""
    header = dict(file.metadata() or {})
    if header.get("format") != FORMAT or not header.keys() >= {"policy", "sha256", "about"}:
        raise ValueError(
            f"expected a policy as `save_policy` writes it, got {path}, whose format is {header.get('format')!r}"
        )
    return header


def _digest(tensors: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 of tensors by name."""
    found = hashlib.sha256()
    for name in sorted(tensors):
        found.update(f"{name} {tensors[name].dtype} {tuple(tensors[name].shape)}".encode())
        found.update(tensors[name].numpy().tobytes())
    return found.hexdigest()
