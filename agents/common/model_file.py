"""The file of a saved model: SB3's zip archive, whose attributes are JSON and whose tensors are read as data only.

SB3's own classes pickle every attribute that JSON lacks, and reading such a file runs whatever it holds. Ours are
written by :mod:`agents.common.files.plain`, so that a model of a stranger can be looked at and played without a risk.
"""

from __future__ import annotations

import io
import json
import warnings
import zipfile
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, TypeAlias

import torch
from gymnasium import spaces
from stable_baselines3.common import noise, utils
from stable_baselines3.common.buffers import BaseBuffer
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.running_mean_std import RunningMeanStd
from stable_baselines3.common.save_util import json_to_data
from stable_baselines3.common.type_aliases import TrainFreq, TrainFrequencyUnit
from stable_baselines3.common.utils import get_device
from torch import nn

from agents.common.files import damage_named, open_file, plain
from agents.common.validation import UntrustedError

PICKLED = ":serialized:"
"""The key under which SB3's files hold a pickle."""
LEFT_OUT = ":left out:"
"""The key under which a file says what an attribute was that it does not hold."""
TENSORS = ".pth"
ATTRIBUTES = "data"
"""The member of the archive that holds the attributes."""

SPACES = (spaces.Box, spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary, spaces.Dict)
INSTANCES = (
    *SPACES, TrainFreq, RunningMeanStd, noise.NormalActionNoise,
    noise.OrnsteinUhlenbeckActionNoise, noise.VectorizedActionNoise, utils.FloatSchedule, utils.ConstantSchedule,
    utils.LinearSchedule,
)  # fmt: skip
"""Classes of objects among a model's attributes, none of which does anything but compute."""
_INSTANCES: dict[str, type] = {plain.path_of(kind): kind for kind in (*INSTANCES, TrainFrequencyUnit)}
_BASES = (BasePolicy, BaseBuffer, nn.Module, torch.optim.Optimizer)


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


def encode_attributes(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Return a model's attributes as JSON takes them.

    What can only be written as code, e.g. a function, is left out with a warning; whoever reads the file learns what it
    was.

    :param attributes: by name.
    :return: the same names with encoded values.
    """
    encoded = {}
    for name, value in attributes.items():
        try:
            encoded[name] = plain.encode(value, lambda each: isinstance(each, INSTANCES), name)
        except plain.NotPlainError as error:
            warnings.warn(f"a saved model holds no code, so `{name}` is left out: {error}", stacklevel=4)
            encoded[name] = {LEFT_OUT: str(error)}
    return encoded


def decode_attributes(found: Mapping[str, Any]) -> dict[str, Any]:
    """Return what :func:`encode_attributes` was given.

    :param found: by name.
    :return: the same names with their values.
    :raises NotReadableError: if one is no encoded value, or needs a class that is not imported or may not be used.
    """
    return {name: plain.decode(value, _find_class) for name, value in found.items()}


def read_model_file(source: Source, trust: bool = False, given: Collection[str] = ()) -> ModelFile:
    """Read a saved model, without running anything of it.

    :param source: path or open file.
    :param trust: whether a file with code, of SB3's classes, is accepted.
    :param given: names of attributes that the caller replaces; they may hold anything.
    :return: what it holds.
    :raises FileNotFoundError: if there is no such file.
    :raises UntrustedError: if it holds code and is not trusted.
    :raises ValueError: if it is damaged or no saved model.
    """
    name, content = _read_whole(source)
    members = _read_members(name, content)
    every = parse_attributes(members.get(ATTRIBUTES, b""), name)
    found = {key: value for key, value in every.items() if key not in given}
    pickled = {key: value for key, value in found.items() if isinstance(value, dict) and PICKLED in value}
    if pickled and not trust:
        raise UntrustedError(
            f"{name} holds code that would run on loading, as files of Stable-Baselines3 do; if you trust its author, "
            "say `trust=True`, or --trust on the command line"
        )
    left_out = {key: value[LEFT_OUT] for key, value in found.items() if isinstance(value, dict) and LEFT_OUT in value}
    try:
        plain_ones = {key: value for key, value in found.items() if key not in left_out and key not in pickled}
        attributes = decode_attributes(plain_ones) | json_to_data(json.dumps(pickled))
    except plain.NotReadableError as error:
        raise ValueError(
            f"{name} cannot be used: {error}; if it is a class of your own, import its module first, or give the "
            "attribute in `custom_objects`"
        ) from error
    return ModelFile(name, content, members, attributes, left_out, list(every))


def _read_whole(source: Source) -> tuple[str, bytes]:
    """Return the name of a file and what it holds."""
    if not isinstance(source, str | Path):
        return str(getattr(source, "name", "the file")), source.read()
    with open_file(Path(source)) as file:
        return str(source), file.read()


def _read_members(name: str, content: bytes) -> dict[str, bytes]:
    """Return what is in an archive, each compared with its checksum, which PyTorch does not look at."""
    with damage_named(name), zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {member: archive.read(member) for member in archive.namelist()}


def _load_tensors(
    members: Mapping[str, bytes], device: torch.device | str, name: str
) -> tuple[dict[str, Any], dict[str, Any]]:
    found: dict[str, Any] = {}
    for member in (each for each in members if each.endswith(TENSORS)):
        found[member.removesuffix(TENSORS)] = _load(members[member], device, f"{name} cannot be read: {member}")
    variables = found.pop("pytorch_variables", None)
    return found, dict(variables or {})


def _load(content: bytes, device: torch.device | str, where: str) -> Any:
    """Return what `torch.save` has written, if it is tensors and plain values."""
    try:
        return torch.load(io.BytesIO(content), map_location=get_device(device), weights_only=True)
    except Exception as error:  # a damaged file raises nearly anything
        raise ValueError(f"{where} holds no tensors, or more than tensors: {error}") from error


def read_tensors(source: Source, device: torch.device | str) -> Any:
    """Read what ``torch.save`` has written, after comparing it with its checksums, which PyTorch does not look at.

    :param source: path or open file.
    :param device: where to.
    :return: tensors and plain values.
    :raises ValueError: if it is damaged or holds anything else; the message names it.
    """
    name, content = _read_whole(source)
    _read_members(name, content)
    return _load(content, device, name)


def read_parameters(source: Source, device: torch.device | str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Read the tensors of a saved model of any kind; they never hold code.

    :param source: path or open file.
    :param device: where to.
    :return: see :meth:`ModelFile.parameters`.
    :raises ValueError: if it is damaged or no saved model.
    """
    name, content = _read_whole(source)
    return _load_tensors(_read_members(name, content), device, name)


def parse_attributes(text: bytes, name: str) -> dict[str, Any]:
    """Return a model's encoded attributes.

    :param text: JSON.
    :param name: of the file, for messages.
    :return: encoded values by name.
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


def _find_class(path: str) -> type | None:
    """Return a class that a model may name: one of ours, or a policy, buffer, layer or optimiser that is imported.

    Importing a module, or calling a class that is none of these, would run what the file's author wants.
    """
    found = _INSTANCES.get(path) or plain.imported_class(path, _BASES)
    if found is not None and path.startswith("torch.") and not path.startswith(("torch.nn.modules.", "torch.optim.")):
        return None
    return found
