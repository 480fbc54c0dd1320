"""What happens to files: bits flip, ends are missing, other bytes are there, or nothing, or a folder."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

FRACTIONS = (0.0, 0.3, 0.99)


def flip(path: Path, draw: random.Random) -> None:
    """Turn one bit of a file over."""
    content = bytearray(path.read_bytes())
    content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    path.write_bytes(content)


def truncate(path: Path, draw: random.Random) -> None:
    """Leave nothing of a file, or its first third, or almost all."""
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * draw.choice(FRACTIONS))])


def fill(path: Path, draw: random.Random) -> None:
    """Write random bytes of the same length."""
    path.write_bytes(draw.randbytes(path.stat().st_size))


def remove(path: Path, draw: random.Random) -> None:
    """Remove a file."""
    path.unlink()


def replace_by_folder(path: Path, draw: random.Random) -> None:
    """Put an empty folder in the place of a file."""
    path.unlink()
    path.mkdir()


Damage = Callable[[Path, random.Random], None]
KINDS: dict[str, Damage] = {
    "one bit flipped": flip,
    "cut off": truncate,
    "garbage of the same length": fill,
    "removed": remove,
}
