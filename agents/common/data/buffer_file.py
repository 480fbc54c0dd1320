"""The file of a replay buffer: its tensors as arrays of an ``.npz`` file, and everything else as JSON beside them."""

from __future__ import annotations

import io
import json
from typing import IO, Any

import numpy as np
import torch

from agents.common import plain
from agents.common.bounded import read_npz
from agents.common.data.action_range import ActionRange
from agents.common.data.buffer import SequenceReplayBuffer
from agents.common.data.shards import Shard, Shards
from agents.common.data.storage import Placement
from agents.common.data.transitions import RING_TENSORS
from agents.common.files import DamagedFile
from agents.common.model_file import SPACES

DESCRIPTION = "description"
_INSTANCES = {plain.path_of(kind): kind for kind in (ActionRange, Placement, Shard, Shards, *SPACES)}


def write_buffer(buffer: SequenceReplayBuffer, file: IO[bytes]) -> None:
    """Write a replay buffer.

    :param buffer: the buffer.
    :param file: open for writing.
    :raises NotPlainError: if a subclass has an attribute that can only be written as code.
    """
    state = buffer.__getstate__()
    arrays = {name: state.pop(name).numpy() for name in RING_TENSORS}
    kept = {"class": plain.path_of(type(buffer)), "state": state}
    encoded = plain.encode(kept, lambda value: isinstance(value, tuple(_INSTANCES.values())), "replay_buffer")
    text = np.frombuffer(json.dumps(encoded).encode(), np.uint8)
    np.savez(file, allow_pickle=False, **{DESCRIPTION: text}, **arrays)


def read_buffer(file: IO[bytes], name: str) -> SequenceReplayBuffer:
    """Read a replay buffer, without running anything of the file.

    :param file: open for reading.
    :param name: of the file, for messages.
    :return: the buffer, on the CPU or the device that it names.
    :raises ValueError: if it is damaged or something else, such as a pickle, as SB3 writes them.
    """
    begin = file.tell()
    size = file.seek(0, io.SEEK_END) - begin
    file.seek(begin)
    arrays = read_npz(file, most_bytes=size)  # they are not compressed
    missing = [each for each in (DESCRIPTION, *RING_TENSORS) if each not in arrays]
    if missing:
        raise DamagedFile(name, f"expected a saved replay buffer, got one without {', '.join(missing)}")
    found = _decode(arrays.pop(DESCRIPTION).tobytes(), name)
    cls = plain.imported_class(str(found["class"]), (SequenceReplayBuffer,))
    if cls is None:
        raise ValueError(f"{name} is of the class `{found['class']}`, which is not there; import its module first")
    buffer: SequenceReplayBuffer = object.__new__(cls)
    buffer.__setstate__(found["state"] | {each: torch.from_numpy(arrays[each]) for each in RING_TENSORS})
    return buffer


def _decode(text: bytes, name: str) -> dict[str, Any]:
    try:
        found = plain.decode(json.loads(text), _INSTANCES.get)
    except (ValueError, RecursionError) as error:
        raise DamagedFile(name, f"expected a saved replay buffer, got another description: {error}") from error
    if not isinstance(found, dict) or not isinstance(found.get("state"), dict) or "class" not in found:
        raise DamagedFile(name, "expected a saved replay buffer, got another description")
    return found
