"""The file of a policy: tensors by name, and texts that say what they are, in the safetensors format.

Reading one runs nothing of it, and compares its tensors with their checksum.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from agents.common.files import DamagedFile, atomic_path, regular_file, safe

FORMAT = "flow-rl-zoo policy 2"


def write_policy(
    path: str | Path, description: Mapping[str, Any], tensors: Mapping[str, Tensor], about: Mapping[str, Any]
) -> None:
    """Write the file of a policy.

    :param path: file, usually with the ending ``.safetensors``.
    :param description: what makes an equal policy but for its tensors.
    :param tensors: by name.
    :param about: what else is to be said about it: plain values that JSON takes.
    """
    # two names of a tensor are two tensors in the file
    own = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
    header = {
        "format": FORMAT,
        "policy": base64.b64encode(safe.dumps(description)).decode(),
        "sha256": _digest(own),
        "about": json.dumps(dict(about)),
    }
    with atomic_path(Path(path)) as temporary:
        temporary.write_bytes(save(own, header))  # its own way to write keeps a file from all others


def read_policy(path: str | Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return the description and the tensors in the file of a policy.

    :param path: what :func:`write_policy` wrote.
    :return: both.
    :raises FileNotFoundError: if there is no such file.
    :raises ValueError: if it is damaged, or something else.
    """
    with _opened(Path(path)) as file:
        header = _header_of(file, path)
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # it is no mapping
    if _digest(tensors) != header["sha256"]:
        raise DamagedFile(str(path), "its SHA-256 is not that of what was written")
    try:
        return safe.loads(base64.b64decode(header["policy"])), tensors
    except ValueError as error:
        raise DamagedFile(str(path), f"what it says about its policy cannot be read: {error}") from error


def read_about(path: str | Path) -> dict[str, Any]:
    """Return what is said about a policy; its tensors are not read.

    :param path: of the file.
    :return: by name.
    :raises ValueError: as :func:`read_policy` does.
    """
    with _opened(Path(path)) as file:
        text = _header_of(file, path)["about"]
    try:
        return dict(json.loads(text))
    except (TypeError, ValueError, RecursionError) as error:
        raise DamagedFile(str(path), f"what it says about its policy is no mapping: {error}") from error


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
