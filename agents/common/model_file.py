"""The file of a saved model: SB3's zip archive, in which each attribute is plain JSON or a file of PyTorch's.

SB3's own classes pickle every attribute that JSON lacks, and reading such a file runs whatever it holds. Ours are read
by :mod:`agents.common.files.safe`, so that a model of a stranger can be looked at and played without a risk.
"""

from __future__ import annotations

import hashlib
import io
import json
import warnings
import zipfile
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, TypeAlias

import torch
from stable_baselines3.common.save_util import json_to_data
from stable_baselines3.common.utils import get_device

from agents.common.files import DamagedFile, damage_named, open_file, safe
from agents.common.validation import UntrustedError

PICKLED = ":serialized:"
"""The key under which SB3's files hold a pickle."""
LEFT_OUT = ":left out:"
"""The key under which a file says what an attribute was that it does not hold."""
TENSORS, VALUE = ".pth", ".pt"
ATTRIBUTES = "data"
"""The member of the archive that holds the attributes."""
CHECKSUM = b"sha256:"
"""With what the comment at the end of an archive begins; the SHA-256 of all bytes before it follows."""
_DIGITS = 64

Source: TypeAlias = str | Path | io.BufferedIOBase | IO[bytes]


@dataclass(frozen=True)
class ModelFile:
    """A saved model that was read and checked whole, before anything is made of it.

    :param name: of the file.
    :param content: the archive.
    :param members: what is in it, by name.
    :param attributes: the model's attributes by name.
    :param left_out: names of attributes that could not be written, and what they were.
    :param names: of all attributes in the file, those that the caller replaces too.
    """

    name: str
    content: bytes
    members: dict[str, bytes]
    attributes: dict[str, Any]
    left_out: dict[str, str]
    names: list[str]

    def open(self) -> io.BytesIO:
        """Return the archive as an open file."""
        return io.BytesIO(self.content)

    def parameters(self, device: torch.device | str) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return the state dicts, and what SB3 calls variables: tensors that are in none.

        :param device: where to.
        :return: both by name.
        :raises ValueError: if they are not tensors.
        """
        return _load_tensors(self.members, device, self.name)


def encode_attributes(attributes: Mapping[str, Any]) -> dict[str, bytes]:
    """Return the members of an archive that hold a model's attributes.

    What can only be written as code, e.g. a function, is left out with a warning; whoever reads the file learns what it
    was.

    :param attributes: by name.
    :return: content by name.
    """
    members, plain = {}, {}
    for name, value in attributes.items():
        plain[name] = value
        if value is None or type(value) in (bool, int, float, str):
            continue
        try:
            members[name + VALUE] = safe.dumps(value)
            plain[name] = str(value)  # for people
        except TypeError as error:
            what = f"`{name}` is {error}"
            warnings.warn(f"a saved model holds no code, so `{name}` is left out: {what}", stacklevel=4)
            plain[name] = {LEFT_OUT: what}
    return {ATTRIBUTES: json.dumps(plain, indent=1).encode(), **members}


def write_archive(members: Mapping[str, bytes], tensors: Mapping[str, Any]) -> bytes:
    """Return an archive with its checksum. Members have no dates: a zip archive has none before 1980.

    :param members: content by name.
    :param tensors: state dicts by name.
    :return: the content of the file.
    """
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in members.items():
            with archive.open(name, "w") as member:
                member.write(content)
        for name, state in tensors.items():
            with archive.open(name + TENSORS, "w", force_zip64=True) as member:
                torch.save(state, member)
        archive.comment = CHECKSUM + bytes(_DIGITS)
    content = file.getvalue()[:-_DIGITS]
    return content + _digest(content)


def read_model_file(source: Source, trust: bool = False, given: Collection[str] = ()) -> ModelFile:
    """Read a saved model, without running anything of it.

    :param source: path or open file.
    :param trust: whether a file with code, of SB3's classes, is accepted.
    :param given: names of attributes that the caller replaces; they may hold anything.
    :return: what it holds.
    :raises FileNotFoundError: if there is no such file.
    :raises UntrustedError: if it holds code and is not trusted.
    :raises ValueError: if it is damaged, of an earlier version or no saved model.
    """
    name, content, members = _read_whole(source)
    every = parse_attributes(members.get(ATTRIBUTES, b""), name)
    found = {key: value for key, value in every.items() if key not in given}
    mappings = {key: value for key, value in found.items() if isinstance(value, dict)}
    pickled = {key: value for key, value in mappings.items() if PICKLED in value}
    left_out = {key: value[LEFT_OUT] for key, value in mappings.items() if LEFT_OUT in value}
    if pickled and not trust:
        raise UntrustedError(
            f"{name} holds code that would run on loading, as files of Stable-Baselines3 do; if you trust its author, "
            "say `trust=True`, or --trust on the command line"
        )
    attributes = {key: value for key, value in found.items() if key not in left_out and key not in pickled}
    attributes |= json_to_data(json.dumps(pickled))
    for key in attributes:
        if key + VALUE in members:
            attributes[key] = _value(members[key + VALUE], key, name)
    return ModelFile(name, content, members, attributes, left_out, list(every))


def _value(content: bytes, key: str, name: str) -> Any:
    """Return the value of an attribute."""
    try:
        return safe.loads(content)
    except ValueError as error:
        raise ValueError(
            f"{name} cannot be used: `{key}`: {error}; if it is a class of your own, import its module first, or give "
            "the attribute in `custom_objects`"
        ) from error


def _read_whole(source: Source) -> tuple[str, bytes, dict[str, bytes]]:
    """Return the name of a file, what it holds, and its members, compared with their checksum."""
    if isinstance(source, str | Path):
        name = str(source)
        with open_file(Path(source)) as file:
            content = file.read()
    else:
        name, content = str(getattr(source, "name", "the file")), source.read()
    with damage_named(name), zipfile.ZipFile(io.BytesIO(content)) as archive:
        if archive.comment.startswith(CHECKSUM) and content[-_DIGITS:] != _digest(content[:-_DIGITS]):
            raise DamagedFile(name, "its SHA-256 is not that of what was written")
        members = {member: archive.read(member) for member in archive.namelist()}
    written_here = any(member.endswith(VALUE) for member in members)
    if written_here and not archive.comment.startswith(CHECKSUM):
        raise DamagedFile(name, "its checksum is missing")
    if not written_here and b'":object:"' in members.get(ATTRIBUTES, b""):
        raise ValueError(
            f"{name} was saved by version 1.0.0rc1 or before, whose files this version does not read; load it with "
            "`pip install flow-rl-zoo==1.0.0rc1`, or train the model again"
        )
    return name, content, members


def _digest(content: bytes) -> bytes:
    return hashlib.sha256(content).hexdigest().encode()


def _load_tensors(
    members: Mapping[str, bytes], device: torch.device | str, name: str
) -> tuple[dict[str, Any], dict[str, Any]]:
    found: dict[str, Any] = {}
    for member in (each for each in members if each.endswith(TENSORS)):
        try:
            found[member.removesuffix(TENSORS)] = safe.load(io.BytesIO(members[member]), device=get_device(device))
        except ValueError as error:
            raise ValueError(f"{name} cannot be read: {member} holds no tensors, or more: {error}") from error
    variables = found.pop("pytorch_variables", None)
    return found, dict(variables or {})


def read_parameters(source: Source, device: torch.device | str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Read the tensors of a saved model of any kind; they never hold code.

    :param source: path or open file.
    :param device: where to.
    :return: see :meth:`ModelFile.parameters`.
    :raises ValueError: if it is damaged or no saved model.
    """
    name, _, members = _read_whole(source)
    return _load_tensors(members, device, name)


def parse_attributes(text: bytes, name: str) -> dict[str, Any]:
    """Return a model's attributes as JSON has them.

    :param text: JSON.
    :param name: of the file, for messages.
    :return: plain values by name.
    :raises ValueError: if it is something else.
    """
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"expected a saved model (.zip), got {name}, whose attributes cannot be read: {error}"
        ) from error
    if not isinstance(found, dict):
        raise ValueError(f"expected a saved model (.zip), got {name}, whose `{ATTRIBUTES}` is not a mapping")
    return found
