"""Files of models and policies: their format, and the paths of a run's models.

A model is a zip archive: attributes as JSON (as in SB3), parameters as safetensors, and optimiser state as a PyTorch
file read with ``weights_only``. A policy alone is a safetensors file with metadata. Reading either file
verifies its checksum and executes no code from it, so models from untrusted sources can be loaded and run safely.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import re
import zipfile
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, TypeAlias

import torch
from safetensors import safe_open
from safetensors.torch import load, save
from torch import Tensor

from agents.common.files import DamagedFileError, atomic_path, raising_damaged_file, safe
from agents.registry import Entry, find_named_by_file, name_of

ATTRIBUTES, PARAMETERS, STATE = "data", "policy.safetensors", "state.pth"
"""Members of the archive: JSON, the policy's tensors, and other tensors such as optimiser state."""
CHECKSUM = b"sha256:"
"""Start of the comment at the end of the archive; the comment ends with the SHA-256 of all preceding bytes."""
_DIGITS = 64  # hexadecimal digits of a SHA-256

Source: TypeAlias = str | Path | io.BufferedIOBase | IO[bytes]


@dataclass(frozen=True)
class ModelFile:
    """The content of a saved model's file, verified by its checksum; no object has been created from it yet.

    :param name: name of the file, for messages.
    :param members: contents of the archive's members by name.
    :param described: the attributes in JSON form; ``algorithm_id`` is the algorithm, as :func:`agents.get` accepts it.
    """

    name: str
    members: dict[str, bytes]
    described: dict[str, Any]

    def require_algorithm(self, algorithm: type[Any]) -> None:
        """Raise if the file contains a model of another algorithm.

        :param algorithm: expected method or model class; it may be a subclass of the class that saved the file.
        :raises ValueError: for a model of another algorithm.
        """
        saved = self.described["algorithm_id"]
        algorithm = getattr(algorithm, "method_class", algorithm)
        for cls in algorithm.__mro__:
            if saved == name_of(cls) or saved.rpartition(":")[2] == cls.__qualname__:
                return
        raise ValueError(
            f"{self.name} is a model of {saved}, not of {algorithm.__name__}; `agents.load(path)` loads any model"
        )

    def attributes(self, replaced: Collection[str] = ()) -> dict[str, Any]:
        """Return the attributes of the model, without executing code from the file.

        :param replaced: attributes that the caller replaces; they are not read.
        :return: values by name.
        :raises ValueError: if a value cannot be read.
        """
        values = {}
        for name, value in self.described.items():
            # the class is not an attribute; a model may be loaded as another class
            if name in replaced or name == "class":
                continue
            try:
                values[name] = safe.from_json(value)
            except (TypeError, ValueError) as error:
                raise ValueError(
                    f"{self.name} cannot be loaded: `{name}`: {error}; or pass `{name}` in `custom_objects`"
                ) from error
        return values

    def parameters(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return, on the CPU, the state dicts by name, and SB3's "variables" (tensors outside any state dict).

        :return: state dicts and variables.
        :raises DamagedFileError: if a member cannot be read.
        """
        with raising_damaged_file(self.name):
            state_dicts = {"policy": load(self.members[PARAMETERS])}
            state_dicts |= safe.load(self.members[STATE])
        return state_dicts, state_dicts.pop("pytorch_variables", {})


def write_archive(members: Mapping[str, bytes]) -> bytes:
    """Return the bytes of an archive with its checksum.

    :param members: content by name.
    :return: content of the file.
    """
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in members.items():
            # without a date, so that equal models give equal files
            archive.writestr(zipfile.ZipInfo(name), content)
        archive.comment = CHECKSUM + bytes(_DIGITS)
    # the comment is the end of the file; its last bytes are replaced by the digest
    content = file.getvalue()[:-_DIGITS]
    return content + hashlib.sha256(content).hexdigest().encode()


def tensor_members(
    state_dicts: Mapping[str, Any], variables: Mapping[str, Tensor]
) -> dict[str, bytes]:
    """Return the members of an archive that contain tensors.

    :param state_dicts: state dicts by name, including "policy".
    :param variables: SB3's variables by name.
    :return: content by name.
    """
    optimizers = {name: state for name, state in state_dicts.items() if name != "policy"}
    file = io.BytesIO()
    torch.save({**optimizers, "pytorch_variables": dict(variables)}, file)
    return {PARAMETERS: save(_separate(state_dicts["policy"])), STATE: file.getvalue()}


def _separate(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return separate copies of tensors on the CPU, because safetensors rejects tensors that share memory."""
    return {name: value.cpu().contiguous().clone() for name, value in tensors.items()}


def read_model_file(source: Source) -> ModelFile:
    """Read a saved model and verify its checksum.

    :param source: a path, see :func:`find_model`, or an open file.
    :return: the content of the file.
    :raises TypeError: if ``source`` is neither.
    :raises FileNotFoundError: if the file does not exist.
    :raises DamagedFileError: if it is damaged or not a saved model.
    """
    if isinstance(source, str | Path):
        path = find_model(source)
        name = str(path)
        content = path.read_bytes()
    elif hasattr(source, "read"):
        name = str(getattr(source, "name", "the file"))
        source.seek(0)
        content = source.read()
    else:
        raise TypeError(f"expected the path of a saved model, or an open file, got {source!r}")
    if content[8:9] == b"{":  # safetensors: 8 bytes of length, then JSON
        raise DamagedFileError(
            name, "it is a policy, not a model", "load it with `agents.load_policy`"
        )
    with raising_damaged_file(name), zipfile.ZipFile(io.BytesIO(content)) as archive:
        if not archive.comment.startswith(CHECKSUM):
            raise DamagedFileError(
                name,
                "it has no checksum; files of Stable-Baselines3 have none, and may contain code",
                "load it with the class that saved it",
            )
        digest = hashlib.sha256(content[:-_DIGITS]).hexdigest().encode()
        if content[-_DIGITS:] != digest:
            raise DamagedFileError(name, "its SHA-256 does not match its content")
        members = {member: archive.read(member) for member in archive.namelist()}
        described = dict(json.loads(archive.read(ATTRIBUTES)))
        if not isinstance(described.get("algorithm_id"), str):
            raise DamagedFileError(name, "it does not name an algorithm")
        return ModelFile(name, members, described)


# -- paths of saved models --------------------------------------------------------------------------------------------

MODEL = "model.zip"
"""File of the model in a checkpoint's folder."""


def find_checkpoints(folder: Path) -> list[Path]:
    """Return a run's checkpoints, newest first.

    :param folder: folder of the checkpoints; it may be missing.
    :return: their folders.
    """
    # the pattern excludes folders that are being written or were set aside as damaged
    checkpoints = [
        path for path in folder.glob("*") if re.fullmatch(r"step_\d{9,}\.\d+", path.name)
    ]
    return sorted(checkpoints, key=lambda path: (step_of(path), int(path.suffix[1:])), reverse=True)


def step_of(checkpoint: Path) -> int:
    """Return the step at which a checkpoint was written.

    :param checkpoint: a folder from :func:`find_checkpoints`.
    :return: total of offline gradient steps and online environment steps.
    """
    return int(checkpoint.stem.removeprefix("step_"))


def find_model(path: str | Path) -> Path:
    """Return the file of a saved model, given the model's path, with or without ``.zip``, or a run's folder.

    For a folder, this is the run's final model or, if there is none, the model of the newest checkpoint. For the best
    model, pass its path.
    """
    path = Path(path)
    for file in (path, Path(f"{path}.zip")):
        if file.is_file():
            return file
    # files that are being written start with a dot
    models = [file for file in path.glob("[!.]*.zip") if file.name != "best_model.zip"]
    if len(models) > 1:
        raise FileNotFoundError(f"{path} contains several models; pass the path of one of them")
    checkpoints = [checkpoint / MODEL for checkpoint in find_checkpoints(path / "checkpoint")]
    for file in (*models, *checkpoints):
        if file.is_file():
            return file
    raise FileNotFoundError(
        f"no saved model at {path}; pass a .zip file, or a run's folder that contains a model"
    )


# -- policies alone ---------------------------------------------------------------------------------------------------

FORMAT = "flow-rl-zoo policy 3"


def write_policy(
    path: str | Path,
    description: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
    about: Mapping[str, Any],
) -> None:
    """Write a policy file.

    :param path: file, usually with the suffix ``.safetensors``.
    :param description: constructor arguments and class of the policy.
    :param tensors: parameters and buffers by name.
    :param about: metadata in plain JSON values, e.g. the environment.
    """
    copies = _separate(tensors)
    header = {
        "format": FORMAT,
        "policy": json.dumps(safe.to_json(description)),
        "sha256": _digest_of(copies),
        "about": json.dumps(dict(about)),
    }
    with atomic_path(Path(path)) as temporary:
        # safetensors' `save_file` would create a file that other users cannot read
        temporary.write_bytes(save(copies, header))


@contextlib.contextmanager
def _opened(path: str | Path) -> Iterator[tuple[Any, dict[str, str]]]:
    """Open a policy file, and yield it with its metadata; errors name the file."""
    if zipfile.is_zipfile(path):
        raise DamagedFileError(
            str(path), "it is a model, not a policy", "load it with `agents.load`"
        )
    with raising_damaged_file(str(path)), safe_open(path, framework="pt") as file:
        header = dict(file.metadata() or {})
        if header.get("format") != FORMAT:
            problem = (
                f"its format is {header.get('format')!r}, expected the format of `save_policy`"
            )
            raise DamagedFileError(str(path), problem)
        yield file, header


def read_policy(path: str | Path, trust: bool) -> tuple[Entry, dict[str, Any], dict[str, Tensor]]:
    """Return the algorithm, the description and the tensors of a saved policy.

    :param path: a file written by :func:`write_policy`.
    :param trust: whether to import the module named in the file.
    :return: the algorithm's entry; description; tensors by name.
    :raises FileNotFoundError: if the file does not exist.
    :raises DamagedFileError: if it is damaged or not a policy.
    :raises ValueError: if its algorithm is unknown or not trusted, or a value in its description cannot be read.
    """
    with _opened(path) as (file, header):
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # not a mapping
        if _digest_of(tensors) != header["sha256"]:
            raise DamagedFileError(str(path), "its SHA-256 does not match its content")
        description = json.loads(header["policy"])
        algorithm = description.pop("method")
    # first, because the algorithm's module may define classes that the description names
    entry = find_named_by_file(algorithm, path, trust=trust)
    try:
        return entry, safe.from_json(description), tensors
    except Exception as error:  # e.g. a class that is not imported, which is no damage
        raise ValueError(f"{path} cannot be loaded: {error}") from error


def read_about(path: str | Path) -> dict[str, Any]:
    """Return the metadata of a saved policy, without reading its tensors.

    :param path: a file written by :func:`write_policy`.
    :return: metadata by name.
    :raises DamagedFileError: as :func:`read_policy` does.
    """
    with _opened(path) as (_, header):
        return dict(json.loads(header["about"]))


def _digest_of(tensors: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 of tensors by name."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        # name, dtype and shape are hashed too, so that renamed or reinterpreted tensors are detected
        digest.update(f"{name} {tensors[name].dtype} {tuple(tensors[name].shape)}".encode())
        digest.update(tensors[name].numpy().tobytes())
    return digest.hexdigest()
