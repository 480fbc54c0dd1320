"""What the lock files say."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "requirements"


@dataclass(frozen=True)
class Locked:
    """One package of a lock file.

    :param name: normalised: lower case, with hyphens.
    :param hashes: sha256 of each file that may be installed.
    """

    name: str
    version: str
    hashes: tuple[str, ...]


def normalised(name: str) -> str:
    """Return a package's name as all spellings of it are compared."""
    return re.sub(r"[-_.]+", "-", name).lower()


def read_lock(path: Path) -> list[Locked]:
    """Return the packages of a lock file; raise ValueError for a line that is none."""
    text = re.sub(r"^#.*\n", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    found = []
    for block in text.replace("\\\n", " ").splitlines():
        match = re.fullmatch(r"([A-Za-z0-9._-]+)==(\S+)(?: ; [^-]+)?((?: +--hash=sha256:[0-9a-f]{64})+)", block)
        if match is None:
            raise ValueError(f"{path.name}: expected `name==version --hash=sha256:...`, got {block[:80]!r}")
        hashes = tuple(re.findall(r"sha256:([0-9a-f]{64})", match[3]))
        found.append(Locked(normalised(match[1]), match[2], hashes))
    return found


def read_pins(path: Path) -> set[tuple[str, str]]:
    """Return the packages of a file of constraints with their versions; Pythons may have one each."""
    pins = re.findall(r"^([\w.-]+)==([^\s;]+)", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {(normalised(name), version) for name, version in pins}
