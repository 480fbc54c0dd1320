"""Files of models and policies: their format, where a run keeps them, and which algorithm saved them.

A model is a zip archive as SB3's: attributes as JSON, parameters as safetensors, and the state of optimisers as one
file of PyTorch's that is read with ``weights_only``. A policy by itself is tensors and texts in the safetensors format.
Nothing in them is a pickle, and both are compared with their checksum, so that a stranger's model can be looked at and
played without a risk.
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
from agents.registry import name_of

ATTRIBUTES, PARAMETERS, STATE = "data", "policy.safetensors", "state.pth"
"""The members of the archive: JSON, the policy's tensors, and what else has tensors."""
CHECKSUM = b"sha256:"
"""Start of the archive's comment, its last bytes; the SHA-256 of everything before the digits follows."""
_DIGITS = 64  # of a SHA-256 in hexadecimal

Source: TypeAlias = str | Path | io.BufferedIOBase | IO[bytes]


@dataclass(frozen=True)
class ModelFile:
    """A saved model that was read whole and compared with its checksum, before anything is made of it.

    :param name: of the file.
    :param members: what is in the archive, by name.
    :param described: the attributes, in which objects are described by texts.
    """

    name: str
    members: dict[str, bytes]
    described: dict[str, Any]

    @property
    def algorithm_id(self) -> str | None:
        """The algorithm as :func:`agents.get` takes it; None for a file that does not say."""
        id = self.described.get("algorithm_id")
        return id if isinstance(id, str) else None

    def require_algorithm(self, algorithm: type[Any]) -> None:
        """Refuse a model of another algorithm; a file that does not name its algorithm passes.

        :param algorithm: the method or the class of its models, perhaps a subclass of the one that saved the file.
        :raises ValueError: if it is another one.
        """
        saved = self.algorithm_id
        if saved is None:
            return
        algorithm = getattr(algorithm, "method_class", algorithm)
        for cls in algorithm.__mro__:
            if saved == name_of(cls) or saved.rpartition(":")[2] == cls.__qualname__:
                return
        raise ValueError(
            f"{self.name} is a model of {saved}, expected one of {algorithm.__name__}; "
            "`agents.load(path)` loads any"
        )

    def attributes(self, replaced: Collection[str] = ()) -> dict[str, Any]:
        """Return the attributes of the model, without running anything of the file.

        :param replaced: names of attributes that the caller replaces; they are not read.
        :return: values by name.
        :raises ValueError: if a value cannot be read.
        """
        values = {}
        for name, value in self.described.items():
            if name in replaced:
                continue
            try:
                values[name] = safe.from_json(value)
            except (TypeError, ValueError) as error:
                raise ValueError(
                    f"{self.name} cannot be used: `{name}`: {error}; or give the attribute in `custom_objects`"
                ) from error
        return values

    def parameters(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return the state dicts by name, and SB3's "variables": tensors outside of any state dict, all on the CPU.

        :return: both.
        :raises DamagedFileError: if they are not tensors.
        """
        with raising_damaged_file(self.name):
            state_dicts = {"policy": load(self.members[PARAMETERS])}
            state_dicts |= safe.load(self.members[STATE], "cpu")
        return state_dicts, state_dicts.pop("pytorch_variables", {})


def write_archive(members: Mapping[str, bytes]) -> bytes:
    """Return an archive with its checksum.

    :param members: content by name.
    :return: the content of the file.
    """
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in members.items():
            # without a date, so that equal models are equal files
            archive.writestr(zipfile.ZipInfo(name), content)
        archive.comment = CHECKSUM + bytes(_DIGITS)
    # the comment is the last thing in an archive
    content = file.getvalue()[:-_DIGITS]
    return content + hashlib.sha256(content).hexdigest().encode()


def tensor_members(
    state_dicts: Mapping[str, Any], variables: Mapping[str, Tensor]
) -> dict[str, bytes]:
    """Return the members of an archive that hold tensors.

    :param state_dicts: by name, that of the policy among them.
    :param variables: SB3's, by name.
    :return: content by name.
    """
    optimizers = {name: state for name, state in state_dicts.items() if name != "policy"}
    file = io.BytesIO()
    torch.save({**optimizers, "pytorch_variables": dict(variables)}, file)
    return {PARAMETERS: save(_separate(state_dicts["policy"])), STATE: file.getvalue()}


def _separate(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return copies of tensors on the CPU: two names of a tensor are two tensors in a file."""
    return {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}


def read_model_file(source: Source) -> ModelFile:
    """Read a saved model and compare it with its checksum.

    :param source: a path, see :func:`find_model`, or an open file.
    :return: what it holds.
    :raises TypeError: if it is neither.
    :raises FileNotFoundError: if there is no such file.
    :raises DamagedFileError: if it is damaged or no saved model.
    """
    if not isinstance(source, str | Path) and not hasattr(source, "read"):
        raise TypeError(f"expected the path of a saved model, or an open file, got {source!r}")
    if isinstance(source, str | Path):
        path = find_model(source)
        name = str(path)
        content = path.read_bytes()
    else:
        name = str(getattr(source, "name", "the file"))
        content = source.read()
    if content[8:9] == b"{":  # safetensors begin with the length of their header
        raise DamagedFileError(
            name, "it is no saved model", "load a policy with `agents.load_policy`"
        )
    with raising_damaged_file(name), zipfile.ZipFile(io.BytesIO(content)) as archive:
        if not archive.comment.startswith(CHECKSUM):
            raise DamagedFileError(
                name,
                "its checksum is missing; one of Stable-Baselines3 itself has none, and may hold code",
                "load it with the class that saved it",
            )
        digest = hashlib.sha256(content[:-_DIGITS]).hexdigest().encode()
        if content[-_DIGITS:] != digest:
            raise DamagedFileError(name, "its SHA-256 is not that of what was written")
        members = {member: archive.read(member) for member in archive.namelist()}
        return ModelFile(name, members, dict(json.loads(archive.read(ATTRIBUTES))))


# -- where saved models are


def find_checkpoints(folder: Path) -> list[Path]:
    """Return a run's checkpoints, newest first.

    :param folder: where they are; it need not exist.
    :return: their folders.
    """
    # not those that are being written or were set aside as damaged
    checkpoints = [
        path for path in folder.glob("*") if re.fullmatch(r"step_\d{9,}\.\d+", path.name)
    ]
    return sorted(checkpoints, key=lambda path: (step_of(path), int(path.suffix[1:])), reverse=True)


def step_of(checkpoint: Path) -> int:
    """Return the step at which a checkpoint was written.

    :param checkpoint: one of those that :func:`find_checkpoints` returns.
    :return: gradient steps offline and environment steps online, from the beginning of the run.
    """
    return int(checkpoint.stem.removeprefix("step_"))


def find_model(path: str | Path) -> Path:
    """Return the file of a saved model, given with or without ``.zip``, or as the folder of a run.

    A folder gives its final model, else that of the newest checkpoint; the best one must be named.
    """
    path = Path(path)
    for file in (path, Path(f"{path}.zip")):
        if file.is_file():
            return file
    # a folder is named ENV_NUMBER, also where the path to it is `.` or a link, unless somebody renamed it
    final = path / f"{path.resolve().name.rpartition('_')[0]}.zip"
    models = [file for file in path.glob("*.zip") if file.name != "best_model.zip"]
    if final not in models and len(models) == 1:
        final = models[0]
    checkpoints = [checkpoint / "model.zip" for checkpoint in find_checkpoints(path / "checkpoint")]
    for file in (final, *checkpoints):
        if file.is_file():
            return file
    raise FileNotFoundError(
        f"expected a saved model (.zip) or the folder of a run that has saved one, got {path}"
    )


# -- policies by themselves

FORMAT = "flow-rl-zoo policy 3"


def write_policy(
    path: str | Path,
    description: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
    about: Mapping[str, Any],
) -> None:
    """Write the file of a policy.

    :param path: file, usually with the ending ``.safetensors``.
    :param description: the policy's constructor arguments and class, from which loading builds it.
    :param tensors: parameters and buffers by name.
    :param about: further facts for readers, e.g. the environment: plain values that JSON takes.
    """
    copies = _separate(tensors)
    header = {
        "format": FORMAT,
        "policy": json.dumps(safe.to_json(description)),
        "sha256": _digest_of(copies),
        "about": json.dumps(dict(about)),
    }
    with atomic_path(Path(path)) as temporary:
        # safetensors' own way to write a file lets nobody else read it
        temporary.write_bytes(save(copies, header))


@contextlib.contextmanager
def _opened(path: str | Path) -> Iterator[tuple[Any, dict[str, str]]]:
    """Open the file of a policy and yield it with its texts; whatever is wrong with it names the file."""
    if zipfile.is_zipfile(path):
        raise DamagedFileError(str(path), "it is no policy", "load a model with `agents.load`")
    with raising_damaged_file(str(path)), safe_open(path, framework="pt") as file:
        header = dict(file.metadata() or {})
        if header.get("format") != FORMAT:
            problem = f"expected a policy as `save_policy` writes it, got {header.get('format')!r}"
            raise DamagedFileError(str(path), problem)
        yield file, header


def read_policy(path: str | Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return the description and the tensors in the file of a policy.

    :param path: a file of :func:`write_policy`.
    :return: description; tensors by name.
    :raises FileNotFoundError: if there is no such file.
    :raises DamagedFileError: if it is damaged, or something else.
    """
    with _opened(path) as (file, header):
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # it is no mapping
        if _digest_of(tensors) != header["sha256"]:
            raise DamagedFileError(str(path), "its SHA-256 is not that of what was written")
        return safe.from_json(json.loads(header["policy"])), tensors


def read_about(path: str | Path) -> dict[str, Any]:
    """Return the facts that :func:`write_policy` stored beside a policy, without reading its tensors.

    :param path: of the file.
    :return: fact by name.
    :raises DamagedFileError: as :func:`read_policy` does.
    """
    with _opened(path) as (_, header):
        return dict(json.loads(header["about"]))


def _digest_of(tensors: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 of tensors by name."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        # a tensor must not pass under another name, or with its numbers read as another type
        digest.update(f"{name} {tensors[name].dtype} {tuple(tensors[name].shape)}".encode())
        digest.update(tensors[name].numpy().tobytes())
    return digest.hexdigest()
